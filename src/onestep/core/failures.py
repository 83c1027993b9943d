"""How a command ends when something goes wrong: one sentence and an exit code; a traceback goes to a file.

Exit codes: 0 well; 1 it cannot be done, and the sentence says why; 2 wrong usage or settings; 3 to 8 as the command's help
says; 70 a fault of onestep itself; 75 the machine is at fault (disk, memory), so that the same command may work later;
130 interrupted; 141 the reader of the output closed it.
"""

import errno
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from onestep.core import paths
from onestep.core.disk import MachineFailed, machine_sentence, path_sentence, short_of_memory

USAGE, INTERNAL, INTERRUPTED, CLOSED = 2, 70, 130, 141
CRASHES = Path(paths.CRASHES)
_OURS = ("onestep", "flows", "benchmarks", "__main__")
_REMOTE = {
    "aiohttp",
    "aiobotocore",
    "botocore",
    "fsspec",
    "httpcore",
    "httpx",
    "huggingface_hub",
    "requests",
    "s3fs",
    "urllib3",
}
_LONGEST = 2000  # characters of a sentence


@contextmanager
def one_sentence(program: str, words: Sequence[str]) -> Iterator[None]:
    """Run the block as a whole command: whatever it raises becomes one line on standard error and `SystemExit`.

    words: the command line, for the report of an internal error. What is written to standard output is flushed inside.
    """
    _print_any_text()
    try:
        try:
            yield
        finally:
            _flush()
    except SystemExit:
        raise
    except KeyboardInterrupt:
        raise SystemExit(_say(program, "interrupted", INTERRUPTED)) from None
    except BrokenPipeError:
        _silence()
        raise SystemExit(CLOSED) from None
    except BaseException as error:
        sentence, code = explain(error, (program, *words))
        raise SystemExit(_say(program, sentence, code)) from None


def explain(error: BaseException, words: Sequence[str] = ()) -> tuple[str, int]:
    """The sentence and the exit code of whatever a command raised; an internal error's traceback is written to a file."""
    if _is_ours(error):
        return str(error) or type(error).__name__, getattr(error, "exit_code", 1)
    if (usage := _usage(error)) is not None:
        return usage, USAGE
    if short_of_memory(error):
        said = f"out of memory ({_first_line(error)}): ask for less at once, or for a smaller size"
        return said, MachineFailed.exit_code
    if (said_of_disk := machine_sentence(error)) is not None:
        return said_of_disk, MachineFailed.exit_code
    if (said_of_place := _outside(error)) is not None:
        return said_of_place, 1
    return _crashed(error, words), INTERNAL


def _outside(error: BaseException) -> str | None:
    """The sentence of what a path or a server refuses; null where the fault is in the program."""
    kind = type(error).__module__.partition(".")[0]
    if isinstance(error, OSError) and kind == "builtins" and error.errno is not None:
        return path_sentence(error)
    if kind in _REMOTE:
        return f"the remote storage refuses ({type(error).__name__}): {_first_line(error)}"
    return None


def one_line(text: str) -> str:
    """A message on one line of bounded length, control characters written out."""
    flat = " ".join(text.split())
    flat = "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in flat)
    half = _LONGEST // 2
    return flat if len(flat) <= _LONGEST else f"{flat[:half]} … {flat[-half:]}"


def _is_ours(error: BaseException) -> bool:
    return isinstance(error, Exception) and type(error).__module__.partition(".")[0] in _OURS


def _usage(error: BaseException) -> str | None:
    """The sentence of a wrong command line; null for anything else."""
    if not hasattr(error, "format_message"):  # click's, whichever copy of it typer carries
        return None
    context = getattr(error, "ctx", None)
    said = error.format_message().rstrip(".") or "a command is missing"
    return f"{said} (see {context.command_path} --help)" if context is not None else said


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _crashed(error: BaseException, words: Sequence[str]) -> str:
    name = _without_secrets(f"{type(error).__name__}: {_first_line(error)}"[:300])
    path = _write_report(error, words)
    where = (
        f"the traceback is in {path}: please report it with that file" if path else "the traceback could not be written"
    )
    return f"internal error, {name}; {where}"


def _write_report(error: BaseException, words: Sequence[str]) -> Path | None:
    moment = time.strftime("%Y%m%dT%H%M%S")
    text = _without_secrets(_report(error, words))
    here = (Path(paths.GRAPH).is_file() or CRASHES.parent.is_dir()) and os.access(".", os.W_OK)
    for folder in ([CRASHES] if here else []) + [Path(tempfile.gettempdir())]:
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            if folder == CRASHES:
                (folder / ".gitignore").write_text("*\n")
            handle, name = tempfile.mkstemp(dir=folder, prefix=f"onestep-{moment}-", suffix=".txt")
            os.close(handle)
            Path(name).write_text(text, encoding="utf-8", errors="backslashreplace")
            return Path(name) if folder != CRASHES else CRASHES / Path(name).name
    return None


def _report(error: BaseException, words: Sequence[str]) -> str:
    import platform
    import shlex
    from importlib import metadata

    versions = []
    for name in ("onestep", "torch", "diffusers", "transformers", "dvc", "prefect", "pandas", "pyarrow", "typer"):
        with suppress(metadata.PackageNotFoundError):
            versions.append(f"{name} {metadata.version(name)}")
    return "\n".join(
        [
            f"command   {shlex.join(words)}",
            f"time      {time.strftime('%Y-%m-%dT%H:%M:%S%z')}",
            f"python    {platform.python_version()}, {platform.platform()}",
            f"packages  {', '.join(versions)}",
            "",
            "".join(traceback.format_exception(error)),
        ]
    )


def _without_secrets(text: str) -> str:
    try:
        from onestep.core.redaction import without_secrets

        return without_secrets(text)
    except Exception:  # what tells of one failure must not fail by another
        return text


def _say(program: str, sentence: str, code: int) -> int:
    with suppress(OSError, ValueError):
        print(f"{program}: {one_line(_without_secrets(sentence))}", file=sys.stderr, flush=True)
    return code


def _print_any_text() -> None:
    """A name that is no text in the terminal's encoding is printed escaped, instead of ending the command."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _flush() -> None:
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError as error:
        _silence()
        if error.errno == errno.EPIPE:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) from None
        raise OSError(error.errno, error.strerror, "standard output") from None


def _silence() -> None:
    """Give what is still to be flushed at the end of the process nowhere to fail."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
