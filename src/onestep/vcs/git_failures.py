"""What git's words mean, and what to do: one sentence for each kind of failure that people meet."""

import re
from collections.abc import Sequence
from pathlib import Path

from onestep.core.redaction import SafeError
from onestep.vcs.git_process import GIT

_MACHINE = 75  # EX_TEMPFAIL of sysexits.h


class GitError(SafeError):
    """A git command failed; the message holds what git said, or what it means. `code`: git's own exit code."""

    exit_code = 1
    code = 128


class GitUnusable(GitError):
    """Git cannot work here at all: not installed, no repository, another user's, or its settings are broken."""


class PushRefused(GitError):
    """A push was refused whole. `stale`: only because what is there is newer; what the server said is in the message."""

    def __init__(self, message: str, stale: bool) -> None:
        super().__init__(message)
        self.stale = stale


_UNUSABLE = (
    (
        r"detected dubious ownership in repository at '([^']+)'",
        "{0} belongs to another user, so git does not work there: run git config --global --add safe.directory '{0}', or make "
        "its files yours (chown)",
    ),
    (
        r"not a git repository: '?([^'\n]+/worktrees/[^'\n]+?)'?$",
        "{root} is a worktree of a repository that is not at {0} any more: run git worktree repair in that repository",
    ),
    (
        r"not a git repository \(or any",
        "{root} is not in a git repository: run git init, git add --all and git commit there, or go to the project's folder",
    ),
    (
        r"this operation must be run in a work tree|cannot use bare repository '([^']+)'",
        "{root} is a repository without a working tree: work in a clone of it",
    ),
    (
        r"bad (?:numeric |boolean )?config (?:line \d+|value|variable)[^\n]*|unable to (?:access|read)[^\n]*config[^\n]*",
        "git's settings cannot be read ({all}): mend that file, git config --list --show-origin shows which are read",
    ),
)
_KNOWN = (
    (
        r"Unable to create '([^']+index\.lock)': File exists",
        "another git works in {root}, or one was killed there: if none runs (ps), remove {0}",
    ),
    (
        r"(?:object file|loose object) (\S+)[^\n]* (?:is empty|is corrupt)|inflate: [^\n]*|"
        r"pack(?:file)? [^\n]*(?:corrupt|cannot be|is truncated)[^\n]*",
        "git's objects are damaged ({all}), by a full disk or a crash as a rule: git fsck --full names them; remove the empty "
        "ones (find .git/objects -type f -empty -delete), then git fetch takes them from a remote again",
    ),
    (
        r"(?:bad object|missing (?:blob|tree|commit|object)|unable to read (?:tree|sha1 file)|not our ref|shallow update not "
        r"allowed)[^\n]*",
        "git lacks an object here ({all}){shallow}",
    ),
    (
        r"Permission to \S+ denied[^\n]*|[^\n]*(?:insufficient permission|unable to (?:create|write)|Permission denied|"
        r"Read-only file system)[^\n]*",
        "git may not write, or not sign in ({all}): check who owns the folder, or the key or token for that server",
    ),
    (
        r"transport '([^']+)' not allowed",
        "git's settings forbid {0} addresses (protocol.{0}.allow, GIT_ALLOW_PROTOCOL): allow them for this user",
    ),
    (
        r"Could not resolve host[^\n]*|[Cc]onnection (?:refused|timed out|reset)[^\n]*|unable to access '[^']*'[^\n]*",
        "the server cannot be reached ({all}): check the address and the network, then try again",
    ),
    (
        r"Authentication failed[^\n]*|could not read (?:Username|Password)[^\n]*|Host key verification failed[^\n]*",
        "the server does not let git in ({all}): check the key or token, git ls-remote tells whether it works",
    ),
)
_FULL = re.compile(r"No space left on device|Disk quota exceeded")


def failure(folder: Path, arguments: Sequence[str], code: int, said: str) -> GitError:
    """The error of a git command that ended with a code other than 0; said: its standard error."""
    error = _explained(folder, arguments, code, said.strip())
    error.code = code
    return error


def _explained(folder: Path, arguments: Sequence[str], code: int, said: str) -> GitError:
    where = f"git {' '.join(_words(arguments)[:3])} in {folder}"
    if _FULL.search(said):
        error = GitError(f"{where}: no space is left on the device: make room, then do the same again")
        error.exit_code = _MACHINE
        return error
    for kind, table in ((GitUnusable, _UNUSABLE), (GitError, _KNOWN)):
        for pattern, sentence in table:
            if found := re.search(pattern, said, flags=re.MULTILINE):
                named = next((group for group in found.groups() if group), "")
                text = sentence.format(named, root=folder, all=found.group(0).strip(), shallow=_shallow(folder))
                return kind(text if kind is GitUnusable else f"{where}: {text}")
    if said.startswith("usage: ") or "unknown option" in said or "is not a git command" in said:
        needs = ".".join(map(str, GIT))
        return GitError(f"{where}: this git does not know that command: git {needs} or newer is needed (git --version)")
    return GitError(f"{where}: {said or f'exit code {code}'}")


def not_started(folder: Path, error: OSError) -> GitError:
    """The error of a git that could not be started."""
    if not folder.is_dir():
        return GitUnusable(f"{folder} is not a folder, so git cannot work there")
    if isinstance(error, FileNotFoundError):
        return GitUnusable("git is not installed, or not on the PATH: install git (apt install git, brew install git)")
    return GitUnusable(f"git cannot be started: {error.strerror or error}")


def push_refused(upstream: str, told: str, said: str) -> PushRefused | None:
    """What a push's report (`git push --porcelain`) means; null where it holds no refusal.

    Stale are refs that moved or exist on the server meanwhile: there another try on top of them makes sense. What a hook, a
    protected branch or a missing permission refuses stays refused, and the server's words say why.
    """
    reasons = []
    for line in told.splitlines():
        if line.startswith("!\t"):
            refs, summary = line.split("\t")[1:3]
            if "atomic push fail" not in summary:
                reasons.append((refs.rpartition(":")[2], summary))
    if not reasons:
        return None
    overtaken = _OVERTAKEN.search(said) is not None
    stale = all(_STALE.search(text) or (overtaken and "failed to update ref" in text) for _, text in reasons)
    words = [line.removeprefix("remote:").strip() for line in said.splitlines() if line.startswith("remote:")]
    listed = "; ".join(f"{ref} {summary}" for ref, summary in reasons)
    quoted = f": {' '.join(word for word in words if word)}" if any(words) else ""
    return PushRefused(f"{upstream} refused {listed}{quoted}", stale)


_STALE = re.compile(
    r"^\[rejected\] \((?:non-fast-forward|fetch first|already exists|needs force|stale info|would clobber)|"
    r"^\[remote rejected\] \((?:non-fast-forward|incorrect old value|reference already exists|cannot lock ref)"
)
_OVERTAKEN = re.compile(r"is at [0-9a-f]+ but expected|reference already exists|\.lock': File exists")


def _words(arguments: Sequence[str]) -> list[str]:
    """The command without the settings before it."""
    words = list(arguments)
    while words[:1] == ["-c"]:
        words = words[2:]
    return words


def _shallow(folder: Path) -> str:
    for above in (folder, *folder.resolve().parents):
        if (above / ".git" / "shallow").is_file():
            return ": this is a shallow clone, run git fetch --unshallow"
    return ": run git fetch --tags, or git fsck --full where that does not help"
