"""What `onestep ingest` makes of odd footage that this script writes itself: films and files as strangers have them.

python -m benchmarks.odd_footage                 # compare with what must become of each file; 1 where it differs
python -m benchmarks.odd_footage --write         # and write the table of docs/your-own-footage.md
python -m benchmarks.odd_footage --only '^sound/' --keep /tmp/odd --sheet /tmp/odd.png     # some; to look at
python -m benchmarks.odd_footage --mutations 800 --seed 1                                  # instead: mutated films
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from onestep.core.failures import one_sentence

from .judged import judge
from .mutations import fuzz
from .odd import MAIN
from .page import sheet, write_table


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.odd_footage", description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="a pattern of file names")
    parser.add_argument("--keep", type=Path, help="work in this new folder and leave it")
    parser.add_argument("--workers", type=int, default=1, help="processes of ingest; 0 = one per core")
    parser.add_argument("--quiet", action="store_true", help="name only what differs")
    parser.add_argument("--write", action="store_true", help="write the table of docs/your-own-footage.md")
    parser.add_argument("--sheet", type=Path, help="write a picture of the clips")
    parser.add_argument("--mutations", type=int, default=0, help="ingest so many mutated films instead")
    parser.add_argument("--seed", type=int, default=0, help="of the mutations")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = chosen.keep or Path(scratch)
        raise SystemExit(_mutations(work, chosen) if chosen.mutations else _compared(work, chosen))


def _compared(work: Path, chosen: argparse.Namespace) -> int:
    started = time.monotonic()
    outcomes = list(judge(work, chosen.workers, chosen.only))
    wrong = [outcome for outcome in outcomes if outcome.wrong]
    for outcome in outcomes:
        name = outcome.odd.name.encode("utf-8", "backslashreplace").decode()
        if not chosen.quiet or outcome.wrong:
            print(f"{name}: {outcome.words or 'no footage'}", *(f"    {fault}" for fault in outcome.wrong), sep="\n")
    print(f"{len(outcomes)} files in {time.monotonic() - started:.0f} s; {len(wrong)} are not what they must be")
    if chosen.sheet:
        sheet(work / f"clips-{MAIN}", chosen.sheet)
    if chosen.write and not wrong:
        write_table(outcomes)
    return 1 if wrong else 0


def _mutations(work: Path, chosen: argparse.Namespace) -> int:
    work.mkdir(parents=True, exist_ok=True)
    became, wrong = fuzz(work, chosen.mutations, chosen.seed, chosen.workers)
    print(*(f"{count:6d}  {what}" for what, count in became.most_common()), *wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    with one_sentence("odd_footage", sys.argv[1:]):
        main()
