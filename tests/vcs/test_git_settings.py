"""Records, clones and pushes do not depend on a person's git settings, remote names, hooks, or on who calls."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from onestep.core.storage import sha256_folder
from onestep.core.yaml_files import read_yaml
from onestep.gate.pin import read_pin
from onestep.nightly.publish import enter_and_publish, merge_into, publish, publish_promotion, refresh
from onestep.nightly.workspace import WorkspaceError, open_workspace
from onestep.provenance import ledger
from onestep.provenance.ledger import LedgerMoved
from onestep.provenance.verify import UNSIGNED, verify
from onestep.registry.promotion import promote
from onestep.registry.recording import record
from onestep.registry.trials import due
from onestep.vcs.git import GitError, Repository
from onestep.vcs.graph import changes
from onestep.vcs.project import Project
from tests.night_project import ROOT
from tests.nightly.test_workspace import GATE, committed  # noqa: F401
from tests.registry.test_promotion import state
from tests.toy_project import reproduce, run

CONTRARY = {
    "clone": {"defaultRemoteName": "elsewhere", "rejectShallow": "true"},
    "color": {"ui": "always", "branch": "always", "status": "always"},
    "column": {"ui": "always", "tag": "always", "branch": "always"},
    "commit": {"gpgSign": "true", "verbose": "true"},
    "core": {
        "autocrlf": "true",
        "eol": "crlf",
        "safecrlf": "true",
        "quotePath": "true",
        "fsmonitor": "/nowhere/fsmonitor",
        "splitIndex": "true",
        "abbrev": "4",
        "pager": "false",
    },
    "diff": {"noprefix": "true", "renames": "copies", "external": "/nowhere/diff", "relative": "true"},
    "fetch": {"prune": "true", "pruneTags": "true", "fsckObjects": "true", "recurseSubmodules": "true"},
    "gpg": {"program": "/nowhere/gpg"},
    "i18n": {"commitEncoding": "ISO-8859-1", "logOutputEncoding": "ISO-8859-1"},
    "init": {"defaultBranch": "trunk"},
    "log": {"showSignature": "true", "date": "relative", "decorate": "full"},
    "merge": {"ff": "only", "renames": "false", "verifySignatures": "true", "conflictStyle": "diff3"},
    "pager": {"tag": "true", "diff": "true"},
    "protocol": {"allow": "never"},
    "pull": {"rebase": "true"},
    "push": {
        "default": "nothing",
        "gpgSign": "true",
        "followTags": "true",
        "recurseSubmodules": "check",
        "autoSetupRemote": "true",
    },
    "safe": {"bareRepository": "explicit"},
    "status": {"branch": "true", "showUntrackedFiles": "no", "short": "true", "relativePaths": "true"},
    "submodule": {"recurse": "true"},
    "tag": {"gpgSign": "true", "sort": "-version:refname"},
    "transfer": {"fsckObjects": "true"},
    "user": {"useConfigOnly": "true"},
}
REFUSES = "#!/bin/sh\necho 'no hook of a person may run here' >&2\nexit 1\n"


@pytest.fixture
def contrary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A person's own settings, each of which breaks plumbing that trusts git's defaults; and hooks that refuse all."""
    hooks, attributes, excludes = tmp_path / "hooks", tmp_path / "attributes", tmp_path / "ignore"
    hooks.mkdir()
    for name in ("pre-commit", "commit-msg", "pre-push", "post-checkout", "pre-merge-commit"):
        (hooks / name).write_text(REFUSES)
        (hooks / name).chmod(0o755)
    attributes.write_text("* text=auto eol=crlf\n")
    excludes.write_text("*.json\nreports/\n")
    settings = tmp_path / "gitconfig"
    lines = [f"[{part}]\n" + "".join(f"\t{k} = {v}\n" for k, v in keys.items()) for part, keys in CONTRARY.items()]
    lines += [f"[core]\n\thooksPath = {hooks}\n\tattributesFile = {attributes}\n\texcludesFile = {excludes}\n"]
    lines += ["[alias]\n\tst = status\n\trev-parse = !false\n", "[column]\n\tstatus = always\n"]
    settings.write_text("".join(lines))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    return settings


def environment_of_a_hook(root: Path) -> dict[str, str]:
    """What git sets for a hook of `git -c a.b=c commit` in a repository."""
    return {
        "GIT_DIR": str(root / ".git"),
        "GIT_INDEX_FILE": str(root / ".git" / "index"),
        "GIT_WORK_TREE": str(root),
        "GIT_PREFIX": "",
        "GIT_OBJECT_DIRECTORY": str(root / ".git" / "objects"),
        "GIT_AUTHOR_DATE": "@0 +0000",
        "GIT_COMMITTER_DATE": "@0 +0000",
        "GIT_CONFIG_PARAMETERS": "'core.bare'='true'",
        "GIT_EDITOR": ":",
        "GIT_REFLOG_ACTION": "push",
    }


def night(project: Path, upstream: str | None = None) -> str:
    """One run from its clone to its promotion and main; its branch."""
    opened = open_workspace(Project(project), upstream=upstream)
    (opened.clone.root / "params.yaml").write_text("learning_rate: 2\nverdict: promote\n")
    enter_and_publish(opened, GATE, None)
    reproduce(opened.clone.root)
    done = record(opened.clone, None)
    publish(opened, done.branch)
    second = open_workspace(Project(project), revision=done.branch, upstream=upstream)
    publish_promotion(second, promote(second.clone))
    refresh(second)
    assert merge_into(second, done.branch, "main").sentence == "merged into main"
    return done.branch


def test_clone_by_a_person_who_converts_line_ends_has_this_project_to_the_byte(tmp_path: Path) -> None:
    words = ("-c", "core.autocrlf=true", "-c", "core.eol=crlf")
    run(ROOT, "git", *words, "clone", "--quiet", "--no-local", "--depth=1", f"file://{ROOT}", str(tmp_path / "clone"))
    clone, pins = tmp_path / "clone", read_yaml(ROOT / "params.yaml")
    assert sha256_folder(clone / pins["base"]["url"]) == pins["base"]["sha256"]
    assert sha256_folder(clone / pins["judge"]["url"]) == pins["judge"]["sha256"]
    listed = run(clone, "git", "ls-tree", "-r", "HEAD", "--format=%(objectname) %(path)").splitlines()
    paths = "".join(line.split(" ", 1)[1] + "\n" for line in listed)
    question = ["git", "hash-object", "--no-filters", "--stdin-paths"]
    found = subprocess.run(question, cwd=clone, input=paths, text=True, capture_output=True, check=True)
    assert [line.split(" ", 1)[0] for line in listed] == found.stdout.split()


def test_night_goes_through_under_settings_that_contradict_every_default(
    committed: Path,  # noqa: F811
    contrary: Path,
) -> None:
    before = run(committed, "git", "status", "--porcelain")
    branch = night(committed)
    report = verify(Project(committed), "onestep")
    assert (report.broken, report.exit_code) == (None, UNSIGNED)
    assert run(committed, "git", "status", "--porcelain") == before
    assert run(committed, "git", "rev-parse", "main") == run(committed, "git", "rev-parse", branch)
    opened = open_workspace(Project(committed))
    assert changes(opened.clone) == ["gate (modified data/production.json)"]  # the promotion's own pin
    assert b"\r" not in (opened.clone.root / "dvc.lock").read_bytes()
    assert Repository(opened.clone.root).remotes() == ["origin"]


@pytest.mark.slow
def test_remote_of_another_name_and_a_bare_upstream_serve_as_well(
    committed: Path,  # noqa: F811
    contrary: Path,
    tmp_path: Path,
) -> None:
    upstream = tmp_path / "team.git"
    run(
        tmp_path, "git", "-c", "protocol.file.allow=always", "clone", "--quiet", "--bare", str(committed), str(upstream)
    )
    run(committed, "git", "remote", "add", "team/main", str(upstream))
    branch = night(committed, str(upstream))
    allowed = ("git", "-c", "protocol.file.allow=always")
    run(committed, *allowed, "fetch", "--quiet", "--tags", "team/main")
    repository = Repository(committed)
    assert repository.remote() == "team/main"
    assert [entry.kind for entry in ledger.read(repository)] == ["attempt", "verdict", "promotion"]
    report = verify(Project(committed), branch)
    assert (report.broken, report.exit_code) == (None, UNSIGNED)
    pin = committed / "data" / "production.json"
    pin.write_bytes(repository.read(f"refs/remotes/team/main/{branch}", "data/production.json"))
    assert read_pin(pin).champion is not None
    with pytest.raises(LedgerMoved, match="git fetch team/main ledger:ledger"):
        due(Project(committed), [])


def test_run_from_a_hook_leaves_head_index_and_branch_of_the_person_alone(
    committed: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (committed / "notes.txt").write_text("open work\n")
    run(committed, "git", "add", "notes.txt")
    before = state(committed)
    for name, value in environment_of_a_hook(committed).items():
        monkeypatch.setenv(name, value)
    opened = open_workspace(Project(committed))
    enter_and_publish(opened, GATE, None)
    date = Repository(opened.clone.root).git("log", "-1", "--format=%ct", "ledger")
    for name in environment_of_a_hook(committed):
        monkeypatch.delenv(name)
    assert int(date) > 1e9
    after = state(committed)
    assert {key: after[key] for key in after if key != "refs"} == {key: before[key] for key in before if key != "refs"}


@pytest.mark.parametrize("hook", ["post-commit", pytest.param("pre-push", marks=pytest.mark.slow)])
def test_record_from_a_real_hook_is_that_of_the_project(project: Path, tmp_path: Path, hook: str) -> None:
    script = f"#!/bin/sh\ncd {project} && exec {sys.executable} -m onestep.cli record --no-push\n"
    run(tmp_path, "git", "init", "--quiet", "--bare", "there.git")
    run(project, "git", "add", "--all")
    if hook == "pre-push":
        run(project, "git", "commit", "--quiet", "--message", "A run")
    (project / ".git" / "hooks").mkdir(exist_ok=True)
    (project / ".git" / "hooks" / hook).write_text(script)
    (project / ".git" / "hooks" / hook).chmod(0o755)
    (project / "notes.txt").write_text("open work\n")
    if hook == "post-commit":
        run(project, "git", "-c", "core.abbrev=9", "commit", "--quiet", "--message", "A run")
    else:
        run(project, "git", "push", "--quiet", str(tmp_path / "there.git"), "main")
    assert run(project, "git", "symbolic-ref", "HEAD").strip() == "refs/heads/main"
    assert run(project, "git", "status", "--porcelain").split() == ["M", "notes.txt"]
    (branch,) = run(project, "git", "branch", "--list", "runs/*", "--format=%(refname:short)").split()
    assert run(project, "git", "merge-base", "main", branch) == run(project, "git", "rev-parse", "main")


def declined(upstream: Path, words: str) -> None:
    hook = upstream / "hooks" / "pre-receive"
    hook.write_text(f"#!/bin/sh\necho '{words}' >&2\nexit 1\n")
    hook.chmod(0o755)


@pytest.fixture
def upstream(committed: Path, tmp_path: Path) -> Path:  # noqa: F811
    bare = tmp_path / "team.git"
    run(tmp_path, "git", "clone", "--quiet", "--bare", str(committed), str(bare))
    return bare


def test_what_a_hook_of_the_server_refuses_is_said_in_its_words_and_not_tried_again(
    committed: Path,  # noqa: F811
    upstream: Path,
) -> None:
    opened = open_workspace(Project(committed), upstream=str(upstream))
    (opened.clone.root / "params.yaml").write_text("learning_rate: 2\nverdict: promote\n")
    declined(upstream, "unsigned pushes are not taken: ask the platform team")
    refs = run(upstream, "git", "for-each-ref")
    with pytest.raises(WorkspaceError, match="ask the platform team") as refused:
        enter_and_publish(opened, GATE, None)
    assert "faster" not in str(refused.value)
    (upstream / "hooks" / "pre-receive").unlink()
    enter_and_publish(opened, GATE, None)
    reproduce(opened.clone.root)
    done = record(opened.clone, None)
    declined(upstream, "branches runs/ are protected")
    with pytest.raises(WorkspaceError, match="branches runs/ are protected"):
        publish(opened, done.branch)
    (upstream / "hooks" / "pre-receive").unlink()
    publish(opened, done.branch)
    second = open_workspace(Project(committed), revision=done.branch, upstream=str(upstream))
    promotion = promote(second.clone)
    declined(upstream, "tags are protected")
    with pytest.raises(WorkspaceError, match="tags are protected"):
        publish_promotion(second, promotion)
    assert "onestep@" not in run(upstream, "git", "for-each-ref")
    assert refs != run(upstream, "git", "for-each-ref")


@pytest.mark.slow
def test_server_that_denies_what_is_no_fast_forward_is_a_race_and_one_without_write_access_is_not(
    committed: Path,  # noqa: F811
    upstream: Path,
) -> None:
    run(upstream, "git", "config", "receive.denyNonFastForwards", "true")
    first, second = (open_workspace(Project(committed), upstream=str(upstream)) for _ in range(2))
    for opened, rate in ((first, 2), (second, 3)):
        (opened.clone.root / "params.yaml").write_text(f"learning_rate: {rate}\nverdict: promote\n")
    enter_and_publish(first, GATE, None)
    reproduce(first.clone.root)
    done = record(first.clone, None)
    enter_and_publish(second, GATE, None)
    with pytest.raises(LedgerMoved, match="another run was entered"):
        publish(first, done.branch)
    reproduce(second.clone.root)
    done = record(second.clone, None)
    shutil.rmtree(upstream)
    with pytest.raises(WorkspaceError, match=r"does not appear to be a git repository|does not exist"):
        publish(second, done.branch)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_server_that_may_not_be_written_to_is_named(committed: Path, upstream: Path) -> None:  # noqa: F811
    opened = open_workspace(Project(committed), upstream=str(upstream))
    (upstream / "objects").chmod(0o555)
    (upstream / "refs" / "heads").chmod(0o555)
    with pytest.raises(WorkspaceError, match=r"unpack|unable|denied"):
        enter_and_publish(opened, GATE, None)


def test_repository_of_another_user_is_named_with_the_command_that_allows_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    for ask in (
        lambda: Repository(project).head(),
        lambda: open_workspace(Project(project)),
        lambda: record(Project(project), None),
    ):
        with pytest.raises((GitError, WorkspaceError), match=r"git config --global --add safe\.directory"):
            ask()


def test_folder_outside_any_repository_and_one_without_a_commit_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(GitError, match="not in a git repository: run git init"):
        Repository(tmp_path).head()
    run(tmp_path, "git", "init", "--quiet")
    with pytest.raises(GitError, match="has no commit yet"):
        Repository(tmp_path).head()


def test_missing_git_damaged_object_held_index_and_broken_settings_each_have_their_remedy(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = Repository(project)
    (project / ".git" / "index.lock").touch()
    with pytest.raises(GitError, match=r"if none runs \(ps\), remove .*index.lock"):
        repository.git("update-index", "--refresh", "--really-refresh", "--add", "notes.txt")
    (project / ".git" / "index.lock").unlink()
    commit = repository.head()
    (project / "broken").write_text("[core\n")
    with monkeypatch.context() as patched:
        patched.setenv("GIT_CONFIG_GLOBAL", str(project / "broken"))
        with pytest.raises(GitError, match="git's settings cannot be read"):
            repository.head()
    with monkeypatch.context() as patched:
        patched.setenv("PATH", str(tmp_path))
        with pytest.raises(GitError, match="git is not installed"):
            repository.head()
    file = project / ".git" / "objects" / commit[:2] / commit[2:]
    file.chmod(0o644)
    file.write_bytes(b"")
    with pytest.raises(GitError, match=r"objects are damaged.*git fsck"):
        repository.git("cat-file", "commit", commit)
