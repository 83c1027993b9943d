"""The demo's footage: scenes of `world.py` as real video files, good ones and bad ones, with their `metadata.csv`.

A team's own footage takes the place of this stage: the same folder with other files.
"""

import csv
import functools
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onestep.core.processes import map_in_processes
from onestep.core.storage import replacing_folder
from onestep.demo import world
from onestep.demo.settings import FootageSettings
from onestep.media.video import write_video

COLUMNS = ("file_name", "caption", "start_s", "end_s", *world.ATTRIBUTES, "split", "held_out")
SHOT_FRAMES = (15, 19)  # shortest and longest shot
SHOTS_PER_FILE = (1, 3)
_CRF = 10
_SHORT_FRAMES = 8


@dataclass(frozen=True)
class File:
    """One file of footage to render: its shots in order, and where its random numbers come from."""

    name: str
    scenes: tuple[world.Scene, ...]
    seed: tuple[int, int]
    evaluation: bool = False


def render_footage(out: Path, settings: FootageSettings) -> None:
    """Fill `out` with video files and `metadata.csv`, a row per shot; the same settings give the same bytes.

    Training and dev shots lie in `shots/` and never show a held-out combination; `evaluation/` shows nothing else.
    `bad/` holds one file of each kind that ingest must refuse.
    """
    files = [
        *plan("shots", world.scenes(held_out=False), settings.shots, settings.seed),
        *plan("evaluation", world.scenes(held_out=True), settings.evaluation_shots, settings.evaluation_seed),
    ]
    with replacing_folder(out) as folder:
        for name in ("shots", "evaluation"):
            (folder / name).mkdir()
        render = functools.partial(_render, folder=folder, side=settings.side, fps=settings.fps)
        rows = [row for rows in map_in_processes(render, files, 0, "footage") for row in rows]
        if settings.bad_files:
            rows += _write_bad_files(folder, files[0], settings)
        with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as handle:
            writer = csv.DictWriter(handle, COLUMNS, lineterminator="\n", restval="")
            writer.writeheader()
            writer.writerows(rows)


def plan(folder: str, scenes: list[world.Scene], shots: int, seed: int) -> list[File]:
    """Files of one to three shots that together show every scene equally often, give or take one.

    Neighbouring shots of a file differ in background, so that every cut can be seen.
    """
    rng = np.random.default_rng(seed)
    pending = [scenes[i] for i in _balanced(len(scenes), shots, rng)]
    files: list[File] = []
    while pending:
        shown = [pending.pop(0)]
        wanted = int(rng.integers(SHOTS_PER_FILE[0], SHOTS_PER_FILE[1] + 1))
        while len(shown) < wanted:
            fit = next((i for i, scene in enumerate(pending) if scene.background != shown[-1].background), None)
            if fit is None:
                break
            shown.append(pending.pop(fit))
        index = len(files)
        files.append(File(f"{folder}/{index:05d}.mp4", tuple(shown), (seed, index), folder == "evaluation"))
    return files


def _balanced(scenes: int, shots: int, rng: np.random.Generator) -> Iterator[int]:
    while shots > 0:
        for index in rng.permutation(scenes)[:shots]:
            yield int(index)
        shots -= scenes


def _draw(file: File, side: int) -> list[np.ndarray]:
    rng = np.random.default_rng(file.seed)
    return [
        world.draw(scene, int(rng.integers(SHOT_FRAMES[0], SHOT_FRAMES[1] + 1)), side, rng) for scene in file.scenes
    ]


def _render(file: File, folder: Path, side: int, fps: int) -> list[dict[str, object]]:
    shots = _draw(file, side)
    write_video(np.concatenate(shots), folder / file.name, fps, _CRF)
    return _rows(file, [len(shot) for shot in shots], fps)


def _rows(file: File, lengths: list[int], fps: int) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    start = 0
    for scene, frames in zip(file.scenes, lengths, strict=True):
        row: dict[str, object] = {name: getattr(scene, name) for name in world.ATTRIBUTES}
        row |= {"file_name": file.name, "caption": scene.caption}
        row |= {"start_s": f"{start / fps:.6f}", "end_s": f"{(start + frames) / fps:.6f}"}
        row |= {"split": "test" if file.evaluation else "", "held_out": str(scene.held_out).lower()}
        rows.append(row)
        start += frames
    return rows


def _write_bad_files(folder: Path, first: File, settings: FootageSettings) -> list[dict[str, object]]:
    """One file of each kind of fault in `bad/`, and their rows as a team would have written them."""
    bad = folder / "bad"
    bad.mkdir()
    scene = world.scenes(held_out=False)[0]
    good = world.draw(scene, 3 * SHOT_FRAMES[1], settings.side, np.random.default_rng((settings.seed, 0, 1)))
    made = {
        "static": np.repeat(good[:1], SHOT_FRAMES[1], axis=0),
        "black": np.zeros_like(good[: SHOT_FRAMES[1]]),
        "too-short": good[:_SHORT_FRAMES],
        "no-caption": good[: SHOT_FRAMES[1]],
        "truncated": good,
    }
    for name, frames in made.items():
        write_video(frames, bad / f"{name}.mp4", settings.fps, _CRF)
    whole = (bad / "truncated.mp4").read_bytes()
    (bad / "truncated.mp4").write_bytes(whole[: len(whole) * 6 // 10])
    (bad / "zero-bytes.mp4").write_bytes(b"")
    (bad / "not-a-video.mp4").write_text("These are the minutes of a meeting, renamed by mistake.\n" * 20)

    rows: list[dict[str, object]] = []
    for name in (*made, "zero-bytes", "not-a-video"):
        row: dict[str, object] = {word: getattr(scene, word) for word in world.ATTRIBUTES}
        caption = "" if name == "no-caption" else scene.caption
        rows.append(row | {"file_name": f"bad/{name}.mp4", "caption": caption, "held_out": "false"})

    shots = _draw(first, settings.side)
    shutil.copyfile(folder / first.name, bad / "duplicate.mp4")
    write_video(np.concatenate(shots), bad / "duplicate-again.mp4", settings.fps, _CRF + 8)
    for name in ("duplicate", "duplicate-again"):
        copy = File(f"bad/{name}.mp4", first.scenes, first.seed)
        rows += _rows(copy, [len(shot) for shot in shots], settings.fps)
    return rows
