"""Good films with bytes changed, cut out, doubled or spliced: each must end as clips or as a row of the quarantine."""

import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil

from onestep.data.clips import load_frames, read_index, read_quarantine
from onestep.data.ingest import ingest

from .card import faults
from .judged import everything, settings_of
from .odd import MAIN, Odd

_KINDS = ("sound", "cut", "start", "track", "gop", "rate", "codec", "depth", "hdr", "interlaced", "turned", "gif")
_LARGEST = 300_000  # bytes of a film that is mutated
_EXTREMES = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\0\0\0\x01")


def mutated(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """One film, changed in one of nine ways."""
    at, length = rng.randrange(len(data)), rng.randrange(1, max(len(data) // 4, 2))
    changed = bytearray(data)

    def overwrite(place: int, filling: bytes) -> None:
        changed[place : place + len(filling)] = filling[: len(changed) - place]

    def flip() -> None:
        for _ in range(rng.choice((1, 4, 16, 64))):
            changed[rng.randrange(len(changed))] = rng.randrange(256)

    def flip_head() -> None:
        for _ in range(8):
            changed[rng.randrange(min(len(changed), 1024))] = rng.randrange(256)

    def extremes() -> None:
        for _ in range(4):
            overwrite(rng.randrange(len(changed)), rng.choice(_EXTREMES))

    def insert() -> None:
        changed[at:at] = rng.randbytes(rng.randrange(1, 64))

    def splice() -> None:
        changed[at:] = other[len(other) * at // len(data) :]

    ways: tuple[Callable[[], None], ...] = (
        flip, flip_head, extremes, insert, splice,
        lambda: overwrite(at, bytes(length)),
        lambda: overwrite(at, rng.randbytes(length)),
        lambda: changed.__delitem__(slice(at, at + length)),
        lambda: changed.__delitem__(slice(at, None)),
    )  # fmt: skip
    rng.choice(ways)()
    return bytes(changed)


def fuzz(work: Path, count: int, seed: int, workers: int) -> tuple[Counter[str], list[str]]:
    """Ingest `count` mutated films: how many became what, and what was lost or not bounded (empty when all is well)."""
    films = _films(work)
    rng = random.Random(seed)
    folder = work / "mutated"
    folder.mkdir()
    origins: dict[str, Odd] = {}
    for number in range(count):
        odd, data = films[rng.randrange(len(films))]
        other = next((more for _, more in rng.sample(films, len(films)) if more[:3] == data[:3]), data)
        name = f"{number:05d}-{Path(odd.name).name}"
        origins[name] = odd
        (folder / name).write_bytes(mutated(data, other, rng))
    rows = [f'"{name}",mutation of {name}' for name in origins]
    (folder / "metadata.csv").write_text("\n".join(["file_name,caption", *rows, ""]), encoding="utf-8")
    settings = settings_of(MAIN, workers)
    settings = settings.model_copy(update={"limits": settings.limits.model_copy(update={"deadline_s": 60.0})})
    started = time.monotonic()
    ingest(str(folder), work / "clips-mutated", settings)
    took = time.monotonic() - started
    index, quarantine = read_index(work / "clips-mutated"), read_quarantine(work / "clips-mutated")
    became = Counter(str(reason) for reason in quarantine["reason"])
    for row in index.to_dict("records"):
        frames, odd = load_frames(work / "clips-mutated", [row["clip_id"]])[0], origins[row["source"]]
        known = faults(frames, odd.picture, row["start_s"], settings.fps, odd.looks, None)
        became["clips that show the film" if not known else "clips that show something else"] += 1
    found = {*index["source"], *quarantine["source"]}
    wrong = [f"{name} became nothing" for name in origins if name not in found]
    wrong += [f"{child} is left over" for child in psutil.Process().children() if _works(child)]
    print(f"{count} mutations in {took:.0f} s")
    return became, wrong


def _films(work: Path) -> list[tuple[Odd, bytes]]:
    films = []
    for one in everything():
        kind = one.name.partition("/")[0]
        if one.clips and not one.refused and one.looks != "unknown" and kind in _KINDS:
            path = work / "films" / one.name
            path.parent.mkdir(parents=True, exist_ok=True)
            one.make(path, one.picture)
            data = path.read_bytes()
            if len(data) <= _LARGEST and path.suffix:
                films.append((one, data))
    return films


def _works(process: psutil.Process) -> bool:
    return any("ffmpeg" in part for part in process.cmdline())
