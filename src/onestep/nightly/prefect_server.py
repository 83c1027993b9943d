"""What the project keeps on a Prefect server, and in which folders the flows of a server run."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

POOLS = ("cpu", "gpu")
GPU = "gpu"  # limit: one stage on the GPU
TRIAL = "trial"  # limit: one candidate between its entry in the ledger and its promotion
LIMITS = (GPU, TRIAL)
TIMEOUT_S = 5.0


def working_folders(deployments: Iterable[Mapping[str, Any]]) -> list[Path]:
    """The folders that deployments run in, as a server answers (`POST /deployments/filter`), each once."""
    found = set()
    for deployment in deployments:
        for step in deployment.get("pull_steps") or ():
            for name, inputs in step.items():
                if name.endswith("set_working_directory") and isinstance(inputs, Mapping) and inputs.get("directory"):
                    found.add(Path(str(inputs["directory"])))
        if not deployment.get("pull_steps") and deployment.get("path") and Path(deployment["path"]).is_absolute():
            found.add(Path(deployment["path"]))
    return sorted(found)


def folders_served(url: str) -> list[Path] | None:
    """The working folders of the Prefect server whose API is at `url`; null where no Prefect server answers there."""
    import httpx

    try:
        if httpx.get(f"{url}/health", timeout=TIMEOUT_S).json() is not True:
            return None
        answer = httpx.post(f"{url}/deployments/filter", json={}, timeout=TIMEOUT_S)
        return working_folders(answer.raise_for_status().json())
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, AttributeError, TypeError):
        return None
