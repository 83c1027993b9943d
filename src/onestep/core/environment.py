"""What a process starts from: the project's own code, a name and a home, threads that give up their core while they wait."""

import getpass
import os
import stat
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from onestep.core.git_environment import drop_git_variables

_CACHES = {
    "XDG_CACHE_HOME": "cache",
    "MPLCONFIGDIR": "matplotlib",
    "HF_HOME": "huggingface",
    "TORCH_HOME": "torch",
    "PREFECT_HOME": "prefect",
}
# OpenMP's threads spin briefly and then sleep; benchmarks/waiting.py measures this beside spinning and sleeping
WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "10000"}
# they look at a project with code that is trusted more than the project's own
_FROM_OUTSIDE = ("doctor", "lineage")


def settle() -> None:
    """Make this process's environment fit to work in; called once, before anything is imported that reads it.

    Lets OpenMP's threads spin only briefly while they wait: two that spin for long share cores with other processes badly,
    and two that sleep at once are slow on an idle machine. Gives a user without a name one, and a user without a writable
    home one below the temporary folder. Takes out what a git hook sets: DVC and all that it starts would work on the hook's
    repository.
    """
    drop_git_variables()
    if not WAITING.keys() & os.environ.keys():
        os.environ.update(WAITING)
    _give_a_name()
    _give_a_home()


def _give_a_name() -> None:
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["USER"] = os.environ["LOGNAME"] = f"uid-{os.getuid()}"


def _give_a_home() -> None:
    """A home that is there and cannot be written to stays, since keys and settings are read from it: caches go elsewhere."""
    home = _home()
    if os.access(home, os.W_OK | os.X_OK) and home.is_absolute():
        return
    with suppress(OSError):  # without any place to write, what needs one says so by itself
        folder = _private_folder()
        if home.is_absolute() and home != Path("/") and os.access(home, os.R_OK | os.X_OK):
            for name, below in _CACHES.items():
                os.environ.setdefault(name, str(folder / below))
        else:
            os.environ["HOME"] = str(folder)


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:
        return Path("/")


def _private_folder() -> Path:
    """The same folder below the temporary one each time, unless another user took its name."""
    folder = Path(tempfile.gettempdir()) / f"onestep-home-{os.getuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    there = folder.lstat()
    if stat.S_ISDIR(there.st_mode) and there.st_uid == os.getuid() and not there.st_mode & 0o022:
        return folder
    return Path(tempfile.mkdtemp(prefix=f"{folder.name}-"))


class OtherCode(RuntimeError):
    """The code that runs is not that of the project that it would work in, so what `dvc.lock` pins would not be true."""

    exit_code = 2


def require_own_code(folder: Path, words: Sequence[str] = ()) -> None:
    """Raise `OtherCode` where a project at or above `folder` holds other code of this package than the one that runs.

    words: the command line; an auditor's `lineage` may come from elsewhere, and `doctor` says so among its findings.

    Two working copies that share a virtual environment run the code of the one that was installed last. A copy with the
    same bytes is as good as its own, as in the temporary folders of `dvc exp run --queue`.
    """
    if words and words[0] in _FROM_OUTSIDE:
        return
    package = Path(__file__).resolve().parents[1]
    for project in (folder.resolve(), *folder.resolve().parents):
        own = project / "src" / package.name
        if (own / "__init__.py").is_file():
            if own.resolve() != package and _code(own) != _code(package):
                raise OtherCode(
                    f"{package} would run, and {project} holds its own code in {own}: run make setup in {project} and use its "
                    f".venv, or set PYTHONPATH={own.parent}"
                )
            return


def _code(package: Path) -> dict[str, bytes]:
    """The files of a package that decide what it does."""
    files = [path for path in package.rglob("*") if path.suffix in (".py", ".j2")]
    return {path.relative_to(package).as_posix(): path.read_bytes() for path in files}
