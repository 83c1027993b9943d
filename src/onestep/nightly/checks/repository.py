"""The project itself: git and its settings, DVC's lock table and remote, the signing key."""

import re
from collections.abc import Iterator
from pathlib import Path

from onestep.nightly.checks.result import CheckResult, Status, output_of
from onestep.vcs.git import GitError, Repository
from onestep.vcs.project import Project


def git(project: Project) -> Iterator[CheckResult]:
    """Git is new enough, and the repository has a commit, an identity, committed work and files without conversion."""
    from onestep.vcs.git_process import GIT

    version = output_of("git", "--version")
    number = tuple(map(int, re.findall(r"\d+", version)[:2]))
    needs = ".".join(map(str, GIT))
    status: Status = "ok" if number >= GIT else "error"
    yield CheckResult(
        "git", status, version or "not installed", f"install git {needs} or newer: apt install git, brew install git"
    )
    if not version:
        return
    repository = project.git
    try:
        commit = repository.resolve("HEAD^{commit}")
    except GitError as error:
        found, _, remedy = str(error).partition(": run ")
        yield CheckResult("repository", "error", found, remedy or "repair that first: nothing here can be recorded")
        return
    if commit is None:
        remedy = "git add --all && git commit --message Start"
        yield CheckResult("repository", "error", f"{project.root.resolve()} has no commit", remedy)
        return
    yield from _identity_and_changes(repository)
    yield from _line_ends(repository)


def _identity_and_changes(repository: Repository) -> Iterator[CheckResult]:
    name, email = (_config(repository, key) for key in ("user.name", "user.email"))
    remedy = "git config user.name '…' && git config user.email '…'; runs are recorded as onestep@localhost until then"
    known = f"{name} <{email}>" if name and email else "no name"
    yield CheckResult("identity", "ok" if name and email else "warning", known, remedy)
    open_work = repository.git("status", "--porcelain", "--untracked-files=no").splitlines()
    remedy = "commit what a night is to use: it starts from a commit, not from this working tree"
    yield CheckResult(
        "committed", "warning" if open_work else "ok", f"{len(open_work)} files with open changes", remedy
    )
    held = Path(repository.git("rev-parse", "--git-path", "index.lock"))
    if (repository.root / held).exists():
        remedy = f"if no git runs here (ps), rm {held}"
        yield CheckResult("index", "error", f"{held} is held by another git, or left by one that was killed", remedy)


def _line_ends(repository: Repository) -> Iterator[CheckResult]:
    """What git hashes is what is in the folder: line ends are not converted, in this checkout and in every clone."""
    converts = _config(repository, "core.autocrlf") in ("true", "input")
    asked = repository.git("check-attr", "text", "--", "dvc.lock")
    pinned = asked.endswith((": unset", ": unspecified")) and (asked.endswith(": unset") or not converts)
    remedy = "echo '* -text' >> .gitattributes, commit it, then git rm -r --cached --quiet . && git reset --hard"
    found = (
        "files stay as they were committed"
        if pinned
        else "git converts line ends here, so what is pinned by sha256 differs"
    )
    yield CheckResult("line ends", "ok" if pinned else "error", found, remedy)


def _config(repository: Repository, key: str) -> str:
    try:
        return repository.git("config", key)
    except GitError:
        return ""


def rwlock(project: Project) -> Iterator[CheckResult]:
    """DVC's lock table is whole; one that a killed process left is removed."""
    from onestep.vcs.rwlock import mend_rwlock

    mended = mend_rwlock(project.root)
    if mended is None or mended.endswith("end it"):
        yield CheckResult(
            "rwlock", "error" if mended else "ok", mended or "DVC's lock table is in order", "see `ps`, then ask again"
        )
    else:
        yield CheckResult("rwlock", "ok", mended)


def remote(project: Project) -> Iterator[CheckResult]:
    """The default DVC remote can be written to."""
    with project.graph() as repo:
        name = repo.config["core"].get("remote")
        if not name:
            remedy = "dvc remote add --default storage s3://… ; until then only this machine's cache holds the models"
            yield CheckResult("remote", "warning", "no DVC remote", remedy)
            return
        url = str(repo.config["remote"][name]["url"])
        try:
            odb = repo.cloud.get_remote_odb()
            probe = odb.fs.join(odb.path, ".onestep-doctor")
            odb.fs.makedirs(odb.path, exist_ok=True)
            odb.fs.pipe_file(probe, b"") if hasattr(odb.fs, "pipe_file") else odb.fs.fs.pipe_file(probe, b"")
            odb.fs.remove(probe)
        except Exception as error:  # every kind of remote fails in its own way
            remedy = f"check the address and the credentials: dvc remote modify --local {name} …; then dvc push"
            yield CheckResult("remote", "error", f"{name} ({url}) cannot be written to: {error}", remedy)
            return
    yield CheckResult("remote", "ok", f"{name} ({url}) takes data")


def keys(project: Project) -> Iterator[CheckResult]:
    """The signing key can be read, where one is named."""
    from onestep.provenance.signing import KEY_FILE, SigningError, find_key

    remedy = f"onestep keygen, and keep the key where only the scheduler reads it ({KEY_FILE} names it)"
    try:
        key = find_key(project)
    except SigningError as error:
        yield CheckResult("keys", "error", str(error), remedy)
        return
    found = f"signs with {key.public.fingerprint}" if key else "no signing key: records and promotions are unsigned"
    yield CheckResult("keys", "ok" if key else "warning", found, remedy)
