"""Parts of pages that a benchmark writes: each stands between `<!-- python benchmarks/NAME.py -->` and `<!-- end -->`."""

from pathlib import Path

from onestep.core.storage import replacing

END = "<!-- end -->"


class PageError(ValueError):
    """A page has no place for what is written; the message names the marks that it lacks."""


def mark(script: str) -> str:
    """The line before the part that a script of this folder writes."""
    return f"<!-- python benchmarks/{script}.py -->"


def fill(page: Path, script: str, part: str) -> None:
    """Write a script's part of a page anew; what stands around it stays. Raises `PageError`."""
    before, start, rest = page.read_text(encoding="utf-8").partition(mark(script))
    _, end, after = rest.partition(END)
    if not start or not end:
        raise PageError(f"{page} has no place for the table: write {mark(script)} and {END} where it shall stand")
    with replacing(page) as partial:
        partial.write_text(f"{before}{start}\n{part}\n{END}{after}", encoding="utf-8")
