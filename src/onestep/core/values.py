"""What a single setting may be: every number has a lower and an upper bound with its reason, every name is a known one.

A refused value is named with the nearest legal one.
"""

import math
import re
from collections.abc import Callable, Hashable, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import AfterValidator


def within(low: float, high: float, why: str) -> AfterValidator:
    """A number from `low` to `high`; why: the reason of the bounds."""

    def check(number: float) -> float:
        if low <= number <= high:
            return number
        nearest = low if number < low else high
        raise ValueError(
            f"must be from {_said(low)} to {_said(high)} ({why}); the nearest legal value is {_said(nearest)}"
        )

    return AfterValidator(check)


def one_of(known: Sequence[str], what: str, prefix: str | None = None) -> AfterValidator:
    """One of the names that are known; what: what they name; prefix: whatever begins with it is known too."""

    def check(name: str) -> str:
        if name in known or (prefix and name.startswith(prefix) and name != prefix):
            return name
        meant = get_close_matches(name, known, n=1)
        hint = f"did you mean {meant[0]}?" if meant else f"known are {', '.join(known)}"
        raise ValueError(f"is not {what}; {hint}")

    return AfterValidator(check)


def distinct(named: Callable[[Any], Hashable] = lambda entry: entry) -> AfterValidator:
    """A list with an entry, and none of them twice; named: what makes two entries the same."""

    def check(entries: Sequence[Any]) -> Sequence[Any]:
        if not entries:
            raise ValueError("is empty: give at least one")
        seen: set[Hashable] = set()
        for entry in entries:
            if named(entry) in seen:
                raise ValueError(f"has {named(entry)} twice: keep one")
            seen.add(named(entry))
        return entries

    return AfterValidator(check)


def rising(pair: tuple[float, float]) -> tuple[float, float]:
    """A range whose lower end comes first."""
    if pair[0] > pair[1]:
        raise ValueError(
            f"is reversed, its lower end comes first: the nearest legal value is [{pair[1]:g}, {pair[0]:g}]"
        )
    return pair


def legal_url(url: str) -> str:
    """A local path, or a URL of a scheme that fsspec knows, whether its package is installed or not."""
    if not url.strip() or url != url.strip() or not url.isprintable():
        raise ValueError("is empty or holds spaces around it or control characters: give a path or a URL")
    for part in url.split("::"):
        scheme = re.match(r"([\w+.-]*)://", part)
        if scheme:
            known = _schemes()
            if scheme[1] not in known:
                meant = get_close_matches(scheme[1], known, n=1)
                hint = (
                    f"did you mean {meant[0]}://?" if meant else "give a local path, s3://, hf://, https:// or the like"
                )
                raise ValueError(f"has a scheme that fsspec does not know, {scheme[1]}://; {hint}")
    return url


def legal_sha256(sha256: str) -> str:
    """64 hexadecimal digits in lower case."""
    if re.fullmatch(r"[0-9a-f]{64}", sha256):
        return sha256
    if re.fullmatch(r"[0-9a-f]{64}", sha256.strip().lower()):
        raise ValueError(f"is not in lower case: the nearest legal value is {sha256.strip().lower()}")
    raise ValueError("is not a sha256, which has 64 hexadecimal digits; null accepts any")


def _schemes() -> list[str]:
    from fsspec.registry import known_implementations, registry

    return sorted({*known_implementations, *registry})


def _said(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:.12g}"


MOST = 1_000_000_000  # beyond what any run of this project counts

Share = Annotated[float, within(0, 1, "it is a share")]
Decay = Annotated[float, within(0, 0.9999999, "an average that decays by 1 never moves")]
Rate = Annotated[float, within(1e-12, 10, "a learning rate: less changes no float32 weight, more diverges")]
Strength = Annotated[float, within(0, 1e6, "the weight of a term; more drowns every other one")]
Guidance = Annotated[float, within(1, 100, "1 is none, and samples burn out long before 100")]
Count = Annotated[int, within(1, MOST, "it is a count")]
CountOrNone = Annotated[int, within(0, MOST, "it is a count")]
Batch = Annotated[int, within(1, 65_536, "clips at once, which must fit the memory")]
Updates = Annotated[int, within(1, 100_000_000, "updates of a run that ends")]
UpdatesOrNone = Annotated[int, within(0, 100_000_000, "updates of a run that ends")]
Seed = Annotated[int, within(0, 2**63 - 2, "NumPy takes no negative seed, and PyTorch 64 bits")]
Steps = Annotated[int, within(1, 1000, "the steps that a sampler's schedule has")]
FramesPerSecond = Annotated[int, within(1, 240, "frames per second of a video")]
TextTokens = Annotated[int, within(1, 4096, "tokens of one caption")]
Url = Annotated[str, AfterValidator(legal_url)]
Sha256 = Annotated[str, AfterValidator(legal_sha256)]
Range = Annotated[tuple[Share, Share], AfterValidator(rising)]
Precision = Literal["auto", "fp32", "bf16"]
Optimizer = Literal["adamw", "muon"]


def nearest_power_of_two(number: int) -> int:
    """The nearest power of two, from 2 on."""
    return int(max(2 ** round(math.log2(number)), 2))
