"""DVC's table of who reads and writes what, `.dvc/tmp/rwlock`, mended after a kill or a full disk.

DVC writes this file in place: cut off there, it is empty or half a JSON, and every later `dvc repro` refuses to start until
a person deletes it. It can go where no DVC process works in the project. Entries of dead processes DVC removes itself, unless
another program has their number by now.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

NAME = "rwlock"


def mend_rwlock(folder: Path) -> str | None:
    """Remove the lock table of the DVC project at or above a folder where it is damaged, or what dead processes hold in it.

    Returns what was done in one sentence, null where nothing was to do, or a DVC process of this project may still need it.
    """
    temporary = _tmp_folder(folder)
    if temporary is None or not (temporary / NAME).is_file():
        return None
    path = temporary / NAME
    if (stale := _stale(path)) is None:
        return None
    if holders := list(_dvc_processes(temporary.parents[1])):
        return (
            None if stale else f"{path} is damaged, and process {holders[0]} may still use it: wait for it, or end it"
        )
    with _guarded(temporary) as free:
        if not free or _stale(path) is None:
            return None
        path.unlink(missing_ok=True)
    if stale:
        return f"{path} named dead processes ({', '.join(map(str, stale))}), and was removed"
    return f"{path} was left damaged by a kill or a full disk, and was removed: no DVC process uses this project"


def _tmp_folder(folder: Path) -> Path | None:
    here = folder.resolve()
    return next((above / ".dvc" / "tmp" for above in (here, *here.parents) if (above / ".dvc").is_dir()), None)


def _stale(path: Path) -> list[int] | None:
    """Processes in the table of which none is DVC's any more; empty where the table is damaged; null where it is in order."""
    try:
        table = json.loads(path.read_bytes())
        named = [
            *table.get("write", {}).values(),
            *(info for infos in table.get("read", {}).values() for info in infos),
        ]
        numbers = sorted({int(info["pid"]) for info in named})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError):
        return []
    return None if not numbers or any(_is_dvc(number) for number in numbers) else numbers


def _is_dvc(number: int) -> bool:
    """Whether a living process may be DVC: its command names it, or cannot be read, or it is this one."""
    import psutil

    if number == os.getpid():
        return True
    try:
        return any("dvc" in word for word in psutil.Process(number).cmdline())
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True


def _dvc_processes(top: Path) -> Iterator[int]:
    """Other living processes of DVC that work at or below a folder; those of other people cannot be asked and do not count."""
    import psutil

    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and Path(process.cwd()).is_relative_to(top):
                words = [Path(word).name for word in process.cmdline()[:4]]
                if {"dvc", "onestep"} & set(words):
                    yield process.pid


@contextmanager
def _guarded(folder: Path) -> Iterator[bool]:
    """DVC's own lock on the table, for as long as the block; false where another process has it."""
    from dvc.lock import LockError, make_lock

    lock: Any = make_lock(str(folder / f"{NAME}.lock"), tmp_dir=str(folder))
    try:
        lock.lock()
    except (LockError, OSError):
        yield False
        return
    try:
        yield True
    finally:
        lock.unlock()


if __name__ == "__main__":
    if said := mend_rwlock(Path()):
        print(said)
