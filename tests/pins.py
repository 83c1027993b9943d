"""`data/production.json` as tests need it."""

from typing import Any

FIRST: dict[str, Any] = {
    "champion": None,
    "ledger": "0" * 64,
    "comparison": 1,
    "alpha": 0.006,
    "seed": 99,
    "judge": None,
    "last_data": None,
}
CHAMPION = {"tag": "onestep@v1.0.0", "sha256": "a" * 64}
