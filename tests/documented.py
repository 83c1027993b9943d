"""What README and docs tell their reader to type, and a shell that types it: a command at a time, as it stands."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from select import select
from types import TracebackType
from typing import Self

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md", "CONTRIBUTING.md", "docs/ablations.md", "docs/audit.md", "docs/gate.md", "docs/method.md",
    "docs/nightly.md", "docs/results.md", "docs/your-own-footage.md", "data/bundled/README.md", "data/seeds/README.md",
)  # fmt: skip
WITHOUT_COMMANDS = ("CHANGELOG.md",)
PROGRAMS = ("onestep", "dvc", "make", "python", "python3", "prefect", "git", "pip", "ssh-keygen", "du", "systemctl")
READER_STOPPED = 128 + signal.SIGPIPE  # `… | head -n 1` ends the command before it: no failure


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    section: str
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Command:
    """What is typed at once: a line of a shell block with those that continue it, or a command in a sentence or table."""

    page: str
    line: int
    text: str
    inline: bool = False

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"


def parsed(page: str) -> list:
    return MarkdownIt("commonmark").enable("table").parse((ROOT / page).read_text())


def blocks(page: str) -> list[Block]:
    """All fenced and indented blocks of a page, in its order."""
    found, section, tokens = [], "", parsed(page)
    for number, token in enumerate(tokens):
        if token.type == "heading_open":
            section = tokens[number + 1].content
        if token.type in ("fence", "code_block"):
            found.append(Block(page, token.map[0] + 1, section, token.info.strip(), token.content))
    return found


def all_blocks(language: str | None = None) -> list[Block]:
    return [block for page in PAGES for block in blocks(page) if language in (None, block.language)]


def block_that_starts(page: str, start: str) -> Block:
    """The block of a page that starts with these words."""
    (found,) = [block for block in blocks(page) if block.text.startswith(start)]
    return found


def commands(page: str) -> list[Command]:
    """All that a page says to type, in its order; a command in a sentence only where no block before or after has it."""
    shell = [command for block in blocks(page) if block.language == "sh" for command in _split(block)]
    typed = [_bare(command.text) for command in shell]
    found, seen = list(shell), set()
    for token in parsed(page):
        for child in token.children or []:
            text = child.content
            if child.type != "code_inline" or not is_command(text) or text in seen:
                continue
            if not any(line == text or line.startswith(f"{text} ") for line in typed):
                seen.add(text)
                found.append(Command(page, token.map[0] + 1, text, inline=True))
    return sorted(found, key=lambda command: command.line)


def inline_code(page: str) -> list[tuple[int, str]]:
    """All inline code of a page, with its paragraph's line."""
    return [
        (token.map[0] + 1, child.content)
        for token in parsed(page)
        for child in token.children or []
        if child.type == "code_inline"
    ]


def links(page: str) -> list[tuple[int, str]]:
    """Where the links and pictures of a page lead, with their paragraph's line."""
    found = []
    for token in parsed(page):
        for child in token.children or []:
            target = child.attrGet("href") or child.attrGet("src")
            if target:
                found.append((token.map[0] + 1, str(target)))
        if token.type == "html_block":
            found += [(token.map[0] + 1, target) for target in re.findall(r'(?:src|href)="([^"]+)"', token.content)]
    return found


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    tokens = MarkdownIt("commonmark").parse(page.read_text())
    titles = [tokens[i + 1].content for i, token in enumerate(tokens) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def all_commands() -> list[Command]:
    return [command for page in PAGES for command in commands(page)]


def is_command(text: str) -> bool:
    """Whether inline code is something to type: a program of ours with at least one more word, or with its settings before."""
    program, *words = re.sub(r"^(\w+=\S+ +)*(\.venv/bin/)?", "", text).split(" ")
    return program in PROGRAMS and bool(words)


def _bare(line: str) -> str:
    """A line without its comment and the folder of its program."""
    return re.sub(r"^\.venv/bin/", "", re.sub(r"\s+#\s.*", "", line)).strip()


def _split(block: Block) -> Iterator[Command]:
    """The complete commands of a shell block, as bash understands them."""
    waiting: list[str] = []
    for number, line in enumerate(block.text.splitlines(), start=block.line + 1):
        waiting.append(line)
        text = "\n".join(waiting)
        if _complete(text):
            if text.strip() and not text.lstrip().startswith("#"):
                yield Command(block.page, number - len(waiting) + 1, text)
            waiting = []
    assert not waiting, f"{block} ends within a command: {waiting}"


def _complete(text: str) -> bool:
    if text.endswith("\\"):
        return False
    done = subprocess.run(["bash", "-n"], input=f"{text}\n", capture_output=True, text=True, check=False)
    return done.returncode == 0 and not done.stderr  # an unfinished here-document is a warning


@dataclass(frozen=True)
class Typed:
    """What came of a command: its exit status and all that it wrote."""

    text: str
    status: int
    said: str

    @property
    def failed(self) -> bool:
        return self.status not in (0, READER_STOPPED)

    def __str__(self) -> str:
        return f"$ {self.text}\n{self.said}[{self.status}]"


class Shell:
    """A bash that stays open, as a reader's terminal: variables and the folder last from one command to the next."""

    def __init__(self, folder: Path, environment: dict[str, str], log: Path) -> None:
        self.log = log
        log.mkdir(parents=True, exist_ok=True)
        self._typed = 0
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.type("set -o pipefail -o nounset", 10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def type(self, text: str, seconds: float = 1200) -> Typed:
        """Type a command and wait for its end; no standard input, since a test has none to give."""
        self._typed += 1
        command, said = (self.log / f"{self._typed:03d}.{kind}" for kind in ("sh", "txt"))
        command.write_text(f"{text}\n")
        assert self._bash.stdin is not None and self._bash.stdout is not None
        self._bash.stdin.write(
            f'eval "$(cat {shlex.quote(str(command))})" >{shlex.quote(str(said))} 2>&1 </dev/null; echo $?\n'
        )
        self._bash.stdin.flush()
        ready, _, _ = select([self._bash.stdout], [], [], seconds)
        answer = self._bash.stdout.readline().strip() if ready else ""
        out = said.read_text(errors="replace") if said.exists() else ""
        if not answer:
            self.close()
            raise AssertionError(
                f"$ {text}\n{out}\n{'ended the shell' if ready else f'has not ended after {seconds} s'}"
            )
        return Typed(text, int(answer), out)

    def close(self) -> None:
        """End the shell and all that it started: asked first, since a server has processes in groups of their own."""
        for number, wait_s in ((signal.SIGTERM, 30), (signal.SIGKILL, 10)):
            with suppress(ProcessLookupError):
                os.killpg(self._bash.pid, number)
            self._bash.wait()
            deadline = time.monotonic() + wait_s
            while time.monotonic() < deadline and _group_lives(self._bash.pid):
                time.sleep(0.1)
        for stream in (self._bash.stdin, self._bash.stdout):
            with suppress(BrokenPipeError):
                stream.close()


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def started(words: str, folder: Path, environment: dict[str, str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A command that stays until Ctrl-C, which ends it with the block."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            ["bash", "-c", f"exec {words}"],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGINT)  # as the terminal does, to all of the job
        try:
            process.wait(90)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise


def readers_environment(home: Path) -> dict[str, str]:
    """What a reader's terminal has: a home with a git identity, and none of the settings of this test run."""
    home.mkdir(parents=True, exist_ok=True)
    (home / ".gitconfig").write_text("[user]\n\tname = A Person\n\temail = person@example.org\n")
    own = str(Path(sys.executable).parent)
    path = os.pathsep.join(folder for folder in os.environ["PATH"].split(os.pathsep) if folder != own)
    kept = {name: os.environ[name] for name in ("LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH") if name in os.environ}
    quiet = {"CI": "true", "DVC_NO_ANALYTICS": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
    threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}  # this test run has other processes beside it
    return {"PATH": path, "HOME": str(home), "PREFECT_HOME": str(home / ".prefect"), **threads, **kept, **quiet}


def lend_environment(project: Path) -> None:
    """What `make setup` makes, in a second instead of minutes: a `.venv` whose packages are those of this test run.

    The project itself is imported from the project's own `src`.
    """
    shutil.rmtree(project / ".venv", ignore_errors=True)
    own, base = Path(sys.executable).parent, Path(sys._base_executable)  # type: ignore[attr-defined]
    subprocess.run([base, "-m", "venv", "--without-pip", project / ".venv"], check=True)
    packages = sysconfig.get_path("purelib")
    lent = Path(
        sysconfig.get_path("purelib", "venv", {"base": str(project / ".venv"), "platbase": str(project / ".venv")})
    )
    (lent / "lent.pth").write_text(f"{project / 'src'}\n{packages}\n")
    for script in own.iterdir():
        target = project / ".venv" / "bin" / script.name
        if target.exists() or not script.is_file():
            continue
        content = script.read_bytes()
        if content.startswith(b"#!"):
            target.write_bytes(content.replace(os.fsencode(own), os.fsencode(target.parent)))
            target.chmod(0o755)
        else:
            target.symlink_to(script)
    (project / ".venv" / ".installed").write_text(f"{project.resolve()}\n")


def working_tree(into: Path) -> None:
    """The files of this checkout, open changes too, as the first commit of a repository."""
    names = run(ROOT, "git", "ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")
    for name in names:
        if (ROOT / name).is_file():
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, into / name, follow_symlinks=False)
    run(into, "git", "init", "--quiet", "--initial-branch=main")
    commit(into, "Start")


def commit(project: Path, message: str) -> None:
    run(project, "git", "add", "--all", "--force")
    run(project, "git", "-c", "user.name=A Person", "-c", "user.email=person@example.org", "commit", "-qm", message)


def run(folder: Path, *words: str) -> str:
    """Run a command at a folder, without the settings of a git that this test run may be in; what it printed."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return subprocess.run(words, cwd=folder, env=clean, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":  # python documented.py PROJECT CACHE: an environment, and the cache that a project shares
    lend_environment(Path(sys.argv[1]).resolve())
    (Path(sys.argv[1]) / ".dvc" / "config.local").write_text(f"[cache]\n    dir = {sys.argv[2]}\n")
