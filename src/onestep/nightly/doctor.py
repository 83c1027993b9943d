"""`onestep doctor`: is this machine ready for a night? Every check says what it found and how to mend it."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from onestep.vcs.git import Repository

from onestep.core.redaction import without_secrets

State = Literal["ok", "note", "bad"]

PYTHON = (3, 11)
SPARE_GB = 5.0  # beside three times the data of one run
DEFAULT_SERVER = "http://127.0.0.1:4200/api"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: `ok`, `note` (works, but know it) or `bad` (a night would fail), and the remedy."""

    name: str
    state: State
    found: str
    mend: str = ""


def examine(root: Path, server: str | None = None) -> list[Finding]:
    """All findings on a project and the machine under it; a check that itself breaks is a bad finding, not an error."""
    checks: tuple[tuple[str, Callable[[], Iterator[Finding]]], ...] = (
        ("python", lambda: _python(root)),
        ("code", lambda: _code(root)),
        ("home", _home),
        ("git", lambda: _git(root)),
        ("rwlock", lambda: _rwlock(root)),
        ("remote", lambda: _remote(root)),
        ("disk", lambda: _disk(root)),
        ("links", lambda: _links(root)),
        ("gpu", lambda: _gpu(root)),
        ("keys", lambda: _keys(root)),
        ("server", lambda: _server(server or os.environ.get("PREFECT_API_URL") or DEFAULT_SERVER, root)),
    )
    found: list[Finding] = []
    for name, check in checks:
        try:
            found += [replace(each, found=without_secrets(each.found)) for each in check()]
        except Exception as error:
            found.append(
                Finding(
                    name,
                    "bad",
                    f"could not be checked: {without_secrets(str(error))}",
                    "mend this first, then ask again",
                )
            )
    return found


def table(found: list[Finding]) -> str:
    """The findings as text, remedies below what they mend."""
    marks = {"ok": "ok  ", "note": "note", "bad": "BAD "}
    lines = []
    for finding in found:
        lines.append(f"{marks[finding.state]}  {finding.name:<12} {finding.found}")
        if finding.mend and finding.state != "ok":
            lines.append(f"{'':<18} -> {finding.mend}")
    bad = sum(finding.state == "bad" for finding in found)
    lines.append("ready for a night" if not bad else f"{bad} to mend before a night")
    return "\n".join(lines)


def _python(root: Path) -> Iterator[Finding]:
    from importlib.metadata import PackageNotFoundError, version

    has = sys.version_info[:3]
    said = ".".join(map(str, has))
    needs = ".".join(map(str, PYTHON))
    yield Finding("python", "ok" if has >= PYTHON else "bad", said, f"install Python {needs} or newer; make setup")
    lock = root / "constraints.txt"
    if not lock.is_file():
        yield Finding("environment", "note", f"{lock.name} is not here", "run from the folder that holds dvc.yaml")
        return
    others = []
    for name, pinned in re.findall(r"^([\w.\[\]-]+)==(\S+)", lock.read_text(), flags=re.MULTILINE):
        with suppress(PackageNotFoundError):
            installed = version(name)
            if installed.split("+")[0] != pinned.split("+")[0]:
                others.append(f"{name} {installed} instead of {pinned}")
    shown = "; ".join(others[:5]) + (f" and {len(others) - 5} more" if len(others) > 5 else "")
    yield Finding("environment", "bad" if others else "ok", shown or "as constraints.txt says", "make setup")


def _code(root: Path) -> Iterator[Finding]:
    from onestep.core.environment import OtherCode, require_own_code

    mend = "make setup in this checkout, and use its .venv; PYTHONPATH names another checkout where it is set"
    try:
        require_own_code(root)
    except OtherCode as error:
        yield Finding("code", "bad", str(error), mend)
        return
    yield Finding("code", "ok", f"runs from {Path(__file__).resolve().parents[1]}")


def _home() -> Iterator[Finding]:
    home = Path.home()
    mend = (
        "export HOME to a folder of this user's (docker run -e HOME=…): git, DVC and caches keep their settings there"
    )
    if home.name.startswith("onestep-home-"):
        yield Finding("home", "note", f"this user has no home that can be written to: {home} serves instead", mend)
    else:
        writable = os.access(home, os.W_OK)
        yield Finding(
            "home", "ok" if writable else "note", f"{home}{'' if writable else ' cannot be written to'}", mend
        )


def _git(root: Path) -> Iterator[Finding]:
    from onestep.vcs.git import GitError, Repository
    from onestep.vcs.git_process import GIT

    said = _run("git", "--version")
    number = tuple(map(int, re.findall(r"\d+", said)[:2]))
    needs = ".".join(map(str, GIT))
    state: State = "ok" if number >= GIT else "bad"
    yield Finding(
        "git", state, said or "not installed", f"install git {needs} or newer: apt install git, brew install git"
    )
    if not said:
        return
    repository = Repository(root)
    try:
        commit = repository.resolve("HEAD^{commit}")
    except GitError as error:
        found, _, mend = str(error).partition(": run ")
        yield Finding("repository", "bad", found, mend or "mend that first: nothing here can be recorded")
        return
    if commit is None:
        mend = "git add --all && git commit --message Start"
        yield Finding("repository", "bad", f"{root.resolve()} has no commit", mend)
        return
    yield from _person_and_work(repository)
    yield from _bytes(repository)


def _person_and_work(repository: "Repository") -> Iterator[Finding]:
    name, email = (_config(repository, key) for key in ("user.name", "user.email"))
    mend = "git config user.name '…' && git config user.email '…'; runs are recorded as onestep@localhost until then"
    known = f"{name} <{email}>" if name and email else "no name"
    yield Finding("identity", "ok" if name and email else "note", known, mend)
    open_work = repository.git("status", "--porcelain", "--untracked-files=no").splitlines()
    mend = "commit what a night is to use: it starts from a commit, not from this working tree"
    yield Finding("committed", "note" if open_work else "ok", f"{len(open_work)} files with open changes", mend)
    held = Path(repository.git("rev-parse", "--git-path", "index.lock"))
    if (repository.root / held).exists():
        mend = f"if no git runs here (ps), rm {held}"
        yield Finding("index", "bad", f"{held} is held by another git, or left by one that was killed", mend)


def _bytes(repository: "Repository") -> Iterator[Finding]:
    """What git hashes is what lies here: line ends are not converted, in this checkout and in every clone."""
    converts = _config(repository, "core.autocrlf") in ("true", "input")
    asked = repository.git("check-attr", "text", "--", "dvc.lock")
    pinned = asked.endswith((": unset", ": unspecified")) and (asked.endswith(": unset") or not converts)
    mend = "echo '* -text' >> .gitattributes, commit it, then git rm -r --cached --quiet . && git reset --hard"
    found = (
        "files stay as they were committed"
        if pinned
        else "git converts line ends here, so what is pinned by sha256 differs"
    )
    yield Finding("line ends", "ok" if pinned else "bad", found, mend)


def _config(repository: "Repository", key: str) -> str:
    from onestep.vcs.git import GitError

    try:
        return repository.git("config", key)
    except GitError:
        return ""


def _rwlock(root: Path) -> Iterator[Finding]:
    from onestep.vcs.rwlock import mend_rwlock

    mended = mend_rwlock(root)
    if mended is None or mended.endswith("end it"):
        yield Finding(
            "rwlock", "bad" if mended else "ok", mended or "DVC's lock table is in order", "see `ps`, then ask again"
        )
    else:
        yield Finding("rwlock", "ok", mended)


def _remote(root: Path) -> Iterator[Finding]:
    from onestep.vcs.graph import open_graph

    with open_graph(root) as repo:
        name = repo.config["core"].get("remote")
        if not name:
            mend = "dvc remote add --default storage s3://… ; until then only this machine's cache holds the models"
            yield Finding("remote", "note", "no DVC remote", mend)
            return
        url = str(repo.config["remote"][name]["url"])
        try:
            odb = repo.cloud.get_remote_odb()
            probe = odb.fs.join(odb.path, ".onestep-doctor")
            odb.fs.makedirs(odb.path, exist_ok=True)
            odb.fs.pipe_file(probe, b"") if hasattr(odb.fs, "pipe_file") else odb.fs.fs.pipe_file(probe, b"")
            odb.fs.remove(probe)
        except Exception as error:  # every kind of remote fails in its own way
            mend = f"check the address and the credentials: dvc remote modify --local {name} …; then dvc push"
            yield Finding("remote", "bad", f"{name} ({url}) cannot be written to: {error}", mend)
            return
    yield Finding("remote", "ok", f"{name} ({url}) takes data")


def _disk(root: Path) -> Iterator[Finding]:
    from onestep.core.yaml_files import read_yaml

    lock = root / "dvc.lock"
    stages = (read_yaml(lock) or {}).get("stages", {}) if lock.is_file() else {}
    data = sum(out.get("size", 0) for stage in stages.values() for out in stage.get("outs", [])) / 1e9
    needed, free = 3 * data + SPARE_GB, shutil.disk_usage(root).free / 1e9
    found = f"{free:.1f} GB free; one run holds {data:.2f} GB, so {needed:.1f} GB is a good reserve"
    mend = "prefect deployment run clean/clean, or onestep gc, or a larger disk under .dvc/cache"
    yield Finding("disk", "ok" if free >= needed else "bad", found, mend)


def _links(root: Path) -> Iterator[Finding]:
    from onestep.nightly.workspace import FOLDER, cache_folder
    from onestep.vcs.graph import open_graph

    with open_graph(root) as repo:
        cache = cache_folder(repo)
    runs = root / FOLDER
    cache.mkdir(parents=True, exist_ok=True)
    runs.mkdir(parents=True, exist_ok=True)
    probe, link = cache / ".onestep-doctor", runs / ".onestep-doctor"
    link.unlink(missing_ok=True)
    try:
        probe.touch()
        link.hardlink_to(probe)
        yield Finding("links", "ok", "clones share the cache's files by links")
    except OSError as error:
        mend = (
            "keep .dvc/cache and .onestep/runs on one file system (dvc cache dir …); until then clones copy their data"
        )
        yield Finding("links", "note", f"no link from cache to clone: {error.strerror}", mend)
    finally:
        link.unlink(missing_ok=True)
        probe.unlink(missing_ok=True)


def _gpu(root: Path) -> Iterator[Finding]:
    import torch

    if torch.cuda.is_available():
        yield Finding("gpu", "ok", f"{torch.cuda.device_count()} × {torch.cuda.get_device_name(0)}")
    elif shutil.which("nvidia-smi") and "GPU" in _run("nvidia-smi", "-L"):
        mend = f"pip install 'torch=={torch.__version__.split('+')[0]}' for CUDA: this is the CPU build, or the driver is older"
        yield Finding("gpu", "bad", f"a GPU is here, but torch {torch.__version__} cannot use it", mend)
    else:
        yield Finding("gpu", "note", "none: training runs on the CPU", "fine for the bundled model, not for a real one")


def _keys(root: Path) -> Iterator[Finding]:
    from onestep.provenance.signing import KEY_FILE, SigningError, find_key

    mend = f"onestep keygen, and keep the key where only the scheduler reads it ({KEY_FILE} names it)"
    try:
        key = find_key(root)
    except SigningError as error:
        yield Finding("keys", "bad", str(error), mend)
        return
    found = f"signs with {key.public.fingerprint}" if key else "no signing key: records and promotions are unsigned"
    yield Finding("keys", "ok" if key else "note", found, mend)


def _server(url: str, root: Path | None = None) -> Iterator[Finding]:
    import httpx

    from onestep.nightly.prefect_server import LIMITS, POOLS, working_folders

    try:
        healthy = httpx.get(f"{url}/health", timeout=3).status_code == 200
    except httpx.HTTPError as error:
        mend = "make server; on another machine: export PREFECT_API_URL=http://HOST:4200/api"
        yield Finding("server", "note", f"no Prefect server at {url} ({type(error).__name__})", mend)
        return
    page = url.removesuffix("/api")
    yield Finding("server", "ok" if healthy else "bad", f"{page} answers", "look at .onestep/server/server.log")
    pools = {pool["name"]: pool.get("status") for pool in _post(url, "work_pools/filter")}
    for pool in POOLS:
        if pool not in pools:
            yield Finding(f"pool {pool}", "bad", "does not exist", f"prefect work-pool create {pool} --type process")
        else:
            ready = pools[pool] == "READY"
            found = "a worker is there" if ready else "no worker: its runs wait"
            yield Finding(f"pool {pool}", "ok" if ready else "bad", found, f"prefect worker start --pool {pool}")
    limits = {limit["name"]: limit["limit"] for limit in _post(url, "v2/concurrency_limits/filter")}
    for name in LIMITS:
        found = f"{limits[name]} at a time" if name in limits else "no limit: runs do not wait for each other"
        yield Finding(f"limit {name}", "ok" if name in limits else "bad", found, f"prefect gcl create {name} --limit 1")
    deployments = _post(url, "deployments/filter")
    folders = working_folders(deployments)
    if root is not None and folders and root.resolve() not in [folder.resolve() for folder in folders]:
        others = ", ".join(map(str, folders))
        mend = "make server ARGS='--port N' here, then export PREFECT_API_URL=http://127.0.0.1:N/api"
        yield Finding("project", "bad", f"the server's deployments run in {others}, not in {root.resolve()}", mend)
    names = {deployment["name"] for deployment in deployments}
    found = f"{len(names)} deployments" if "nightly" in names else "the deployment nightly is missing"
    yield Finding("deployments", "ok" if "nightly" in names else "bad", found, "prefect --no-prompt deploy --all")


def _post(url: str, path: str) -> list[dict[str, Any]]:
    import httpx

    answer = httpx.post(f"{url}/{path}", json={}, timeout=10)
    answer.raise_for_status()
    return list(answer.json())


def _run(*command: str) -> str:
    """What a command says; nothing where it fails or does not exist."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
