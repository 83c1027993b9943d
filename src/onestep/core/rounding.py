"""Numbers as reports in git hold them: as many digits as machines agree on."""

from typing import Any

DECIMALS = 6  # the most that a measured number has in a report
_ZERO = 1e-12  # what is smaller is the rest of a sum that is zero, and differs in sign and size between libraries


def significant(number: float, digits: int, decimals: int | None = None) -> float:
    """The number to so many significant digits and no more than so many decimals; what is not finite stays."""
    if abs(number) < _ZERO:
        return 0.0
    found = float(f"{number:.{digits}g}")
    return found if decimals is None else round(found, decimals) + 0.0  # + 0.0: no -0.0


def rounded(content: Any, digits: int, decimals: int | None = None) -> Any:
    """JSON-able content with every float in it rounded; whole numbers, words and the shape stay."""
    if isinstance(content, float):
        return significant(content, digits, decimals)
    if isinstance(content, dict):
        return {key: rounded(value, digits, decimals) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [rounded(value, digits, decimals) for value in content]
    return content
