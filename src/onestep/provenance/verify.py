"""`onestep lineage verify`: is what the record says still true? One check after the other, up to the first break.

Each check is one function of one signature: it returns what it looked at, and raises `CheckFailed` that names what is not as
it was recorded. A check trusts only what those before it have shown.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from onestep.core.paths import SIGNING_KEY
from onestep.provenance import ledger
from onestep.provenance.check import CheckContext, CheckFailed
from onestep.provenance.check_chain import heads_are_carried, ledger_knows_the_run, tags_name_the_run
from onestep.provenance.check_files import (
    files_in_git,
    files_of_dvc,
    lists_of_files,
    lock_says_the_same,
    working_copy,
)
from onestep.provenance.check_verdict import verdict_comes_out_again
from onestep.provenance.entries import LedgerBroken
from onestep.provenance.record import RecordError
from onestep.provenance.signing import PublicKey, SigningError, read_trusted, trusted
from onestep.provenance.store import Found, find
from onestep.vcs.git import GitError
from onestep.vcs.objects import ObjectError, open_objects
from onestep.vcs.project import Project
from onestep.vcs.versions import VersionError

PASSED, BROKEN, UNSIGNED, UNKNOWN_SIGNER, OTHER_COPY = 0, 3, 4, 5, 6


@dataclass(frozen=True)
class Report:
    """What was checked, in order; the first break by its check and reason; and the command's exit code."""

    title: str
    passed: list[tuple[str, str]]
    broken: tuple[str, str] | None
    exit_code: int
    summary: str


CHECKS: tuple[tuple[str, Callable[[CheckContext], str]], ...] = (
    ("ledger's heads", heads_are_carried),
    ("ledger's entries", ledger_knows_the_run),
    ("tags", tags_name_the_run),
    ("files in git", files_in_git),
    ("lists of files", lists_of_files),
    ("dvc.lock", lock_says_the_same),
    ("files of DVC", files_of_dvc),
    ("verdict", verdict_comes_out_again),
)

BREAKS = (
    CheckFailed,
    SigningError,
    RecordError,
    ObjectError,
    VersionError,
    LedgerBroken,
    ledger.LedgerMoved,
    GitError,
)


def verify(project: Project, name: str, trust: Path | None = None, copy: bool = True) -> Report:
    """Check a model's record against everything that it names.

    trust: a file of public keys from outside the repository; without it the machine's own key, where there is one.
    copy: whether to compare the working copy with the record too. Raises `NoRecord` where there is nothing to check.
    """
    keys = _trusted_keys(project, trust)
    passed: list[tuple[str, str]] = []
    check = "record"
    try:
        found = find(project, name)
        passed.append((check, f"run {found.record.run} of {found.record.recorded_at}"))
        check = "signature"
        passed.append((check, _signature(found, keys, demanded=trust is not None)))
        check = "ledger"
        entries = ledger.read(project.git)
        passed.append((check, f"{len(entries)} entries, chained"))
        with open_objects(project) as objects:
            context = CheckContext(project, found, entries, objects, keys)
            for check, function in CHECKS:
                passed.append((check, function(context)))
    except BREAKS as error:
        return Report(name, passed, (check, str(error)), BROKEN, f"broken: {check}: {error}")
    if found.signer is None:
        code, summary = UNSIGNED, "UNSIGNED: everything fits together, but who wrote it is not proven"
    elif not keys:
        code = UNKNOWN_SIGNER
        summary = f"everything fits together, signed by {found.signer.fingerprint}: say whose keys you trust (--trust)"
    else:
        code, summary = PASSED, f"passed: {found.title} is what its record says, signed by {found.signer.fingerprint}"
    if copy and (differs := working_copy(context)):
        summary = f"{summary}; but the working copy is not what was recorded: {differs}"
        code = code or OTHER_COPY
    return Report(found.title, passed, None, code, summary)


def _trusted_keys(project: Project, trust: Path | None) -> Sequence[PublicKey]:
    if trust is None:
        own = project.root / f"{SIGNING_KEY}.pub"
        return read_trusted(own) if own.is_file() else ()
    inside = project.git.git("ls-files", "--", str(trust.resolve())) if _below(project, trust) else ""
    if inside:
        raise SigningError(f"{trust} is a file of this repository: who can change a record can change it too")
    return read_trusted(trust)


def _below(project: Project, path: Path) -> bool:
    return path.resolve().is_relative_to(project.top.root.resolve())


def _signature(found: Found, keys: Sequence[PublicKey], demanded: bool) -> str:
    if found.signer is None:
        if demanded:
            raise CheckFailed("the record is not signed, and it should be by a trusted key")
        return "none"
    if keys and not trusted(found.signer, keys):
        raise CheckFailed(
            f"the record is signed by another key, {found.signer.fingerprint}, which is not a trusted one"
        )
    return f"by {found.signer.fingerprint}"
