"""Every option of every command, found by walking the command line itself, is given what it must refuse."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from onestep.cli import entry
from onestep.core.yaml_files import dump_yaml, read_yaml

ROOT = Path(__file__).parents[2]
EXIT_CODES = {0, 1, 2, 3, 4, 5, 6, 7, 8, 75}  # and neither 70, an internal error, nor anything else
NUMBERS = ("-1", "0", "1" + 20 * "0", "nan", "inf", "-inf", "1e999", "yes", "", "0x10", "١٢")
TEXTS = ("", " ", "\x1b[31m", "two\nlines", "x" * 100_000, "-dash", "\udcff", "--", "../../x", "a b'c\"d$(e)", "é")
PATHS = (
    "", "missing/deep", "folder", "file", "file/below", "dangling", "loop", "pipe", "-dash", "name\udcff", "/dev/full",
    "/dev/zero", "x" * 300, "y/" * 3000, "folder/../file", "unreadable", ".", "..", "/", "two\nlines", "~nobody/x",
)  # fmt: skip
PLAIN = {"FILE": "file", "FOLDER": "folder", "FOLDER_OR_URL": "folder"}
SECONDS = 120  # that one command line may take, first imports on a busy machine included


def _settings() -> str:
    """Small, and without models, for where a hostile place is a good one after all."""
    settings = read_yaml(ROOT / "params.yaml")
    settings["footage"] |= {"shots": 1, "evaluation_shots": 0, "bad_files": False}
    settings["base"] = settings["judge"] = {"url": "nowhere", "sha256": None}
    return dump_yaml(settings)


SETTINGS = _settings()


def commands(group: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*words, name))
        else:
            yield (*words, name), command


COMMANDS = dict(commands(typer.main.get_command(entry.app)))


def kind_of(parameter: Any) -> str:
    """FILE, FOLDER or FOLDER_OR_URL of a path; FLAG, NUMBER or TEXT."""
    declared = getattr(parameter, "type_descriptor", None)
    if declared is None or declared.annotation is bool:
        return "FLAG"
    if declared.annotation in (int, float):
        return "NUMBER"
    parser = declared.parameter_info.parser
    return parser.__name__.upper() if parser is not None else "TEXT"


def hostile(parameter: Any) -> tuple[str, ...]:
    kind = kind_of(parameter)
    return PATHS if kind in PLAIN else {"FLAG": (), "NUMBER": NUMBERS, "TEXT": TEXTS}[kind]


def plain(parameter: Any) -> str:
    kind = kind_of(parameter)
    if parameter.param_type_name == "option" and kind in PLAIN and "out" in parameter.name:
        return f"made/{parameter.name}"
    return PLAIN.get(kind, "1" if kind == "NUMBER" else "onestep")


def lines(words: tuple[str, ...], command: Any, every: int = 1) -> Iterator[list[str]]:
    """Command lines: each parameter in turn with hostile values, the required others with plausible ones.

    every: take one value in so many, another first one for each parameter.
    """
    for number, tried in enumerate(command.params):
        for value in hostile(tried)[(number + len(words[-1])) % every :: every]:
            options, arguments = [], []
            for other in command.params:
                given = value if other is tried else plain(other) if other.required else None
                if given is None:
                    continue
                if other.param_type_name == "argument":
                    arguments.append(given)
                else:
                    options.append(f"{max(other.opts, key=len)}={given}")
            yield [*words, *options, "--", *arguments]


def furnish(here: Path) -> None:
    (here / "params.yaml").write_text(SETTINGS)
    for name in ("made", "missing", "folder", "y", "-dash", "two\nlines", ".onestep"):
        shutil.rmtree(here / name, ignore_errors=True)
    for name in ("dangling", "loop", "pipe", "unreadable", "-dash", "two\nlines"):
        (here / name).unlink(missing_ok=True)
    (here / "folder").mkdir()
    (here / "file").write_text("no JSON, no parquet, no weights\n")
    (here / "dangling").symlink_to("nowhere")
    (here / "loop").symlink_to("loop")
    os.mkfifo(here / "pipe")
    (here / "unreadable").touch(0)


@contextlib.contextmanager
def within(seconds: int, words: list[str]) -> Iterator[None]:
    def late(*_: object) -> None:
        raise AssertionError(f"{words} hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def ends_well(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["onestep", *words])
    shown = [word[:60] for word in words]
    with within(SECONDS, shown), pytest.raises(SystemExit) as ended:
        entry.main()
    said = capsys.readouterr()
    assert ended.value.code in EXIT_CODES, (shown, ended.value.code, said.err)
    assert "Traceback" not in said.err + said.out, shown
    if ended.value.code in (1, 2, 75) and words[0] not in ("doctor",):
        told = [line for line in said.err.splitlines() if line.strip()]
        assert told and told[-1].startswith("onestep: ") and len(told) <= 3, (shown, said.err)
        assert (len(said.err) < 5000 and said.err.isprintable()) or "\n" in said.err, shown


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder with a few odd things, beside a fence that shows whether anything was written outside."""
    place = tmp_path / "fence" / "here"
    place.mkdir(parents=True)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv("HOME", str(tmp_path / "temporary"))
    furnish(place)
    monkeypatch.chdir(place)
    yield place
    assert [path.name for path in (tmp_path / "fence").iterdir()] == ["here"]


SLOW = {("doctor",)}  # asks the network and git


@pytest.mark.parametrize("words", [words for words in COMMANDS if words not in SLOW], ids=" ".join)
def test_whatever_an_option_is_given_the_command_ends_in_a_sentence(words, here, monkeypatch, capsys) -> None:
    for line in lines(words, COMMANDS[words], every=11):
        furnish(here)
        ends_well(line, monkeypatch, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("words", [words for words in COMMANDS if words not in SLOW], ids=" ".join)
def test_three_times_as_much_that_an_option_is_given(words, here, monkeypatch, capsys) -> None:
    for line in lines(words, COMMANDS[words], every=3):
        furnish(here)
        ends_well(line, monkeypatch, capsys)


@pytest.mark.parametrize("words", [words for words in COMMANDS if words not in SLOW], ids=" ".join)
def test_a_command_without_arguments_ends_in_a_sentence_where_there_is_no_project(
    words, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    ends_well(list(words), monkeypatch, capsys)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_parameter_says_what_it_is(words: tuple[str, ...]) -> None:
    for parameter in COMMANDS[words].params:
        assert parameter.help, (words, parameter.name)


@pytest.mark.parametrize(
    "words",
    [
        ["generate", "x", "--model", "folder", "--out", "-dash.mp4"],
        ["ingest", "pipe", "--out", "clips"],
        ["params", "pipe"],
        ["lineage", "reproduce", "--tolerance", "nan"],
        ["encode", "folder", "folder", "/dev/zero", "--out", "latents"],
    ],
    ids=" ".join,
)
def test_the_same_as_a_process_of_its_own(words: list[str], here: Path) -> None:
    program = Path(sys.executable).with_name("onestep")
    done = subprocess.run([program, *words], capture_output=True, text=True, check=False, timeout=SECONDS)
    assert done.returncode in (1, 2)
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("onestep: ")
