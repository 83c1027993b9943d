"""Numbers as reports in git hold them: the digits that machines agree on."""

from typing import Any

DIGITS = 6  # the most that are kept of a measured number
_ZERO = 1e-12  # what is smaller is the rest of a sum that is zero, and differs in sign and size between libraries


def significant(number: float, digits: int = DIGITS) -> float:
    """The number to so many significant digits; not finite ones stay."""
    if abs(number) < _ZERO:
        return 0.0
    return float(f"{number:.{digits}g}")


def rounded(content: Any, digits: int = DIGITS) -> Any:
    """JSON-able content with every float in it rounded; whole numbers, words and the shape stay."""
    if isinstance(content, float):
        return significant(content, digits)
    if isinstance(content, dict):
        return {key: rounded(value, digits) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [rounded(value, digits) for value in content]
    return content
