"""The ledger: every candidate that was ever judged, refused ones too, in an append-only chain beside the project.

It is the branch `ledger`, which shares no history with the user's; its tree holds one file, and
`git show ledger:ledger.jsonl` reads it; its lines are a chain (`entries.py`). What a chain alone cannot show is that its
last entries were cut off; so tags and `runs/*` commits carry its head (`trailer`), and `require_contains` looks for it.

Appending prepares objects and returns one ref update with compare-and-swap, so that a promotion moves the ledger, its
tags and its branch in a single transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from onestep.provenance.entries import GENESIS, Content, Entry, LedgerBroken, chained, head_of, next_entry
from onestep.vcs.git import GitError, RefUpdate, Repository

REF = "refs/heads/ledger"
FILE = "ledger.jsonl"
_TRAILER = "ledger: "


class LedgerMoved(RuntimeError):
    """Another process appended first, or a remote knows entries that this clone lacks; nothing was written."""

    exit_code = 5


@dataclass(frozen=True)
class Appended(RefUpdate):
    """The ref update that appends, the head after it, and all entries after it."""

    head: str = GENESIS
    entries: tuple[Entry, ...] = ()


def read(repository: Repository) -> list[Entry]:
    """All entries, verified from the first to the last; none where there is no ledger yet. Raises `LedgerBroken`."""
    return _read_at(repository, commit_of(repository))


def head(repository: Repository) -> str:
    """The sha256 of the last line, 64 zeros before the first. Raises `LedgerBroken`."""
    return head_of(read(repository))


def appended(
    repository: Repository, *contents: Content, expected: str | None = None, time: str | None = None
) -> Appended:
    """Prepare the ledger with more entries and return the update that makes it so; no ref moves here.

    expected: the head that these entries were decided on; time: UTC, ISO 8601, default now. Raises `LedgerMoved` when
    the head is another or a remote is ahead, `LedgerError` when an entry does not follow from those before it,
    `LedgerBroken` when the chain is.
    """
    local, tip = repository.resolve(REF), commit_of(repository)
    _require_no_remote_ahead(repository, tip)
    entries = _read_at(repository, tip)
    if expected is not None and head_of(entries) != expected:
        raise LedgerMoved(
            f"the ledger's head is {head_of(entries)[:12]}, no longer {expected[:12]}: nothing was written"
        )
    moment = time or datetime.now(UTC).isoformat(timespec="seconds")
    for content in contents:
        entries.append(next_entry(entries, content, moment))
    text = "".join(f"{entry.line}\n" for entry in entries)
    kinds = ", ".join(content.kind for content in contents)
    message = f"Ledger entries to {len(entries)}: {kinds}\n\n{trailer(head_of(entries))}\n"
    commit = repository.commit(repository.tree_of({FILE: text.encode()}), tip, message)
    return Appended(REF, commit, local, head_of(entries), tuple(entries))


def append(
    repository: Repository, *contents: Content, expected: str | None = None, time: str | None = None
) -> list[Entry]:
    """The same as `appended`, and move the ref; all entries as they are now. Raises what `appended` raises."""
    update = appended(repository, *contents, expected=expected, time=time)
    try:
        repository.update([update])
    except GitError as error:
        if repository.resolve(REF) == update.old:
            raise
        raise LedgerMoved(f"another entry was appended first, nothing was written ({error})") from error
    return list(update.entries)


def trailer(head: str) -> str:
    """The line by which a commit or tag carries the ledger's head."""
    return f"{_TRAILER}{head}"


def carried_head(message: str) -> str | None:
    """The head in the message of a commit or tag, null where it carries none."""
    found = [line.removeprefix(_TRAILER).strip() for line in message.splitlines() if line.startswith(_TRAILER)]
    return found[-1] if found else None


def require_contains(entries: Sequence[Entry], head: str) -> None:
    """Raise `LedgerBroken` where no entry has this head, which a tag or commit carries: then the tail was cut off."""
    if head != GENESIS and head not in {entry.sha256 for entry in entries}:
        raise LedgerBroken(
            len(entries) + 1, f"it is missing: an entry with sha256 {head} was there, so the last entries were cut off"
        )


def _read_at(repository: Repository, tip: str | None) -> list[Entry]:
    if tip is None:
        return []
    try:
        text = repository.git_bytes("cat-file", "blob", f"{tip}:{FILE}").decode()
    except (GitError, UnicodeDecodeError) as error:
        raise LedgerBroken(1, f"{FILE} of the branch ledger cannot be read: {error}") from error
    if not text:
        raise LedgerBroken(1, f"{FILE} of the branch ledger is empty")
    if not text.endswith("\n"):
        raise LedgerBroken(text.count("\n") + 1, "its line has no end")
    return chained(text[:-1].split("\n"))


def commit_of(repository: Repository) -> str | None:
    """The commit of the ledger here, or of a remote's where this clone has made none of its own."""
    local = repository.resolve(f"{REF}^{{commit}}")
    remotes = _remote_tips(repository)
    if local is None and len(set(remotes.values())) > 1:
        raise LedgerMoved(f"{', '.join(remotes)} are different ledgers: run git branch ledger with the right one")
    return local or next(iter(remotes.values()), None)


def _remote_tips(repository: Repository) -> dict[str, str]:
    listed = repository.refs("%(refname) %(objectname)", *repository.on_remotes("ledger"))
    return dict(line.split(" ", 1) for line in listed.splitlines())


def _require_no_remote_ahead(repository: Repository, tip: str | None) -> None:
    for name, remote in _remote_tips(repository).items():
        if tip is None or repository.git("merge-base", "--all", tip, remote).strip() != remote:
            remote_name = name.removeprefix("refs/remotes/").removesuffix("/ledger")
            raise LedgerMoved(
                f"{name} has entries that the branch ledger lacks: run git fetch {remote_name} ledger:ledger"
            )
