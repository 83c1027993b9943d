"""What `onestep ingest` makes of odd footage that this script writes itself: films and files as strangers have them.

python -m benchmarks.odd_footage                        # compare with what must become of each file; 1 where it differs
python -m benchmarks.odd_footage --write                # and write the table of docs/your-own-footage.md
python -m benchmarks.odd_footage --only '^sound/' --keep /tmp/odd    # some of them, and keep the folders to look at
"""

import argparse
import tempfile
import time
from pathlib import Path

from .judged import judge


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.odd_footage", description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="a pattern of file names")
    parser.add_argument("--keep", type=Path, help="work in this new folder and leave it")
    parser.add_argument("--workers", type=int, default=1, help="processes of ingest; 0 = one per core")
    parser.add_argument("--quiet", action="store_true", help="name only what differs")
    chosen = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        outcomes = list(judge(chosen.keep or Path(scratch), chosen.workers, chosen.only))
    wrong = [outcome for outcome in outcomes if outcome.wrong]
    for outcome in outcomes:
        name = outcome.odd.name.encode("utf-8", "backslashreplace").decode()
        if not chosen.quiet or outcome.wrong:
            print(f"{name}: {outcome.words}", *(f"    {fault}" for fault in outcome.wrong), sep="\n")
    print(f"{len(outcomes)} files in {time.monotonic() - started:.0f} s; {len(wrong)} are not what they must be")
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
