"""What a process starts from: the project's own code, a name and a home, threads that sleep while they wait."""

import getpass
import os
import pwd
import tempfile
from contextlib import suppress
from pathlib import Path


def settle() -> None:
    """Make this process's environment fit to work in; called once, before anything is imported that reads it.

    Lets OpenMP's threads sleep while they wait: two that spin share a core with
    other processes badly. Gives a user without an entry in the passwd file a name, and a home below the temporary folder.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _give_a_name()


def _give_a_name() -> None:
    try:
        name, home = getpass.getuser(), Path.home()
    except (KeyError, OSError, RuntimeError):
        name = f"uid-{os.getuid()}"
        os.environ["USER"] = os.environ["LOGNAME"] = name
        home = Path(os.environ.get("HOME", "/"))
    if not _known() and not os.access(home, os.W_OK):
        folder = Path(tempfile.gettempdir()) / f"onestep-home-{os.getuid()}"
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        if folder.stat().st_uid == os.getuid() and not folder.is_symlink():
            os.environ["HOME"] = str(folder)


def _known() -> bool:
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        return False
    return True


class OtherCode(RuntimeError):
    """The code that runs is not that of the project that it would work in, so what `dvc.lock` pins would not be true."""

    exit_code = 2


def require_own_code(folder: Path) -> None:
    """Raise `OtherCode` where a project at or above `folder` holds other code of this package than the one that runs.

    Two working copies that share a virtual environment run the code of the one that was installed last. A copy with the
    same bytes is as good as its own, as in the temporary folders of `dvc exp run --queue`.
    """
    package = Path(__file__).resolve().parent
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
