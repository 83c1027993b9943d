"""An honest record passes; each tampering is caught and named."""

import json
import shutil
from pathlib import Path

import pytest

from onestep.core.paths import LATENCY, MACHINE, SIGNING_KEY
from onestep.core.storage import read_json, write_json
from onestep.provenance.check import CheckFailed
from onestep.provenance.check_verdict import name_the_machine
from onestep.provenance.record import from_statement, to_statement
from onestep.provenance.signing import SigningError, find_key, make_key, seal, unseal
from onestep.provenance.store import everything, find
from onestep.provenance.verify import BROKEN, OTHER_COPY, PASSED, UNKNOWN_SIGNER, UNSIGNED, verify
from onestep.registry.champion import champion
from onestep.registry.recording import record
from onestep.vcs import graph
from onestep.vcs.project import Project
from tamperings import TAMPERINGS, Target, flip, rewrite_branch, tamper_and_verify
from tests.toy_project import reproduce, run

ENVELOPE = "records/onestep.intoto.json"


def refused_run(root: Path) -> str:
    """The branch of the newest run, which was refused and is the one in the working copy."""
    return everything(Project(root))[-1].title


@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_tampering_is_caught_and_named(audited: Path, keys: Path, tampering: str) -> None:
    found = tamper_and_verify(Target(audited, keys, refused_run(audited), "onestep@v1.1.0"), tampering)
    assert found["caught"], found
    assert found["check"] == TAMPERINGS[tampering][0]


def test_honest_records_pass_every_check(audited: Path, keys: Path) -> None:
    for name in ("onestep", "onestep@v1.0.0", "onestep#prod#2", refused_run(audited)):
        report = verify(Project(audited), name, keys / "own.pub", copy=name.startswith("runs/"))
        assert (report.broken, report.exit_code) == (None, PASSED)
        assert [check for check, _ in report.passed][-2:] == ["files of DVC", "verdict"]


@pytest.mark.parametrize(
    "path", ["params.yaml", "reports/metrics.json", "models/onestep/model.safetensors", "dvc.lock"]
)
def test_changed_working_copy_is_named_beside_a_record_that_holds(audited: Path, keys: Path, path: str) -> None:
    (audited / path).chmod(0o644)
    (audited / path).write_bytes((audited / path).read_bytes() + b" ")
    report = verify(Project(audited), refused_run(audited), keys / "own.pub")
    assert report.broken is None
    assert report.exit_code == OTHER_COPY
    assert path in report.summary


def test_data_that_is_only_in_a_remote_passes_and_data_that_is_nowhere_is_named(
    audited: Path, keys: Path, tmp_path: Path
) -> None:
    branch = refused_run(audited)
    (audited / ".dvc/config.local").write_text(f"['remote \"storage\"']\n    url = {tmp_path / 'remote'}\n")
    run(audited, "dvc", "push", "--quiet", "--remote", "storage")
    shutil.rmtree(audited / ".dvc/cache")
    assert verify(Project(audited), branch, keys / "own.pub").exit_code == PASSED
    flip(min(path for path in (tmp_path / "remote").rglob("*[0-9a-f]") if path.is_file()))
    assert verify(Project(audited), branch, keys / "own.pub").exit_code == BROKEN
    shutil.rmtree(tmp_path / "remote")
    report = verify(Project(audited), branch, keys / "own.pub")
    assert report.broken is not None
    assert "it is in none of: the cache, the remote 'storage'" in report.broken[1]


def test_whose_signature_it_is_has_to_be_said_and_from_outside(audited: Path, keys: Path) -> None:
    assert verify(Project(audited), "onestep", copy=False).exit_code == UNKNOWN_SIGNER
    inside = audited / "keys.pub"
    shutil.copyfile(keys / "own.pub", inside)
    run(audited, "git", "add", "keys.pub")
    with pytest.raises(SigningError, match="is a file of this repository"):
        verify(Project(audited), "onestep", inside)
    (audited / ".onestep").mkdir(exist_ok=True)
    shutil.copyfile(keys / "own.pub", audited / ".onestep/signing-key.pub")
    assert verify(Project(audited), "onestep", copy=False).exit_code == PASSED


def test_unsigned_record_is_whole_but_says_so(audited: Path, keys: Path) -> None:
    branch = refused_run(audited)
    statement, _ = unseal(run(audited, "git", "show", f"{branch}:{ENVELOPE}").encode())
    rewrite_branch(audited, branch, ENVELOPE, seal(statement, None))
    report = verify(Project(audited), branch)
    assert report.exit_code == UNSIGNED
    assert report.summary.startswith("UNSIGNED")
    assert verify(Project(audited), branch, keys / "own.pub").exit_code == BROKEN


def test_model_by_name_is_the_champion_else_the_newest_run(audited: Path) -> None:
    now = champion(Project(audited))
    assert now is not None
    assert find(Project(audited), "onestep").title == now.version_tag == "onestep@v1.1.0"
    for tag in run(audited, "git", "tag").split():
        run(audited, "git", "tag", "--delete", tag)
    assert find(Project(audited), "onestep").title == refused_run(audited)


def test_fresh_clone_verifies_from_the_remote_branches(audited: Path, keys: Path, tmp_path: Path) -> None:
    run(audited, "dvc", "remote", "add", "--quiet", "--default", "storage", str(tmp_path / "remote"))
    shutil.copytree(audited / ".dvc/cache/files", tmp_path / "remote/files")
    run(audited, "git", "commit", "--quiet", "--all", "--message", "Remote")
    clone = tmp_path / "clone"
    run(tmp_path, "git", "clone", "--quiet", str(audited), str(clone))
    assert verify(Project(clone), "onestep", keys / "own.pub", copy=False).exit_code == PASSED


def test_a_run_is_complete_without_the_file_that_stays_on_its_machine_and_not_with_another_machines(
    audited: Path, keys: Path
) -> None:
    (audited / MACHINE).unlink()
    assert graph.changes(Project(audited)) == []
    assert verify(Project(audited), refused_run(audited), keys / "own.pub").exit_code == PASSED
    (audited / MACHINE).write_text("{}")
    assert [change.partition(" ")[0] for change in graph.changes(Project(audited))] == ["gate", "latency"]


def test_another_machine_measures_anew_and_the_same_one_does_not(
    audited: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = tmp_path / "elsewhere"
    run(tmp_path, "git", "clone", "--quiet", "--branch", refused_run(audited), str(audited), str(clone))
    run(clone, "dvc", "cache", "dir", "--local", str(audited / ".dvc" / "cache"))
    run(clone, "dvc", "checkout")
    before = (clone / LATENCY).read_bytes()
    monkeypatch.setenv("PROCESSOR", "another")
    reproduce(clone)
    assert read_json(clone / LATENCY)["machine"]["cpu"] == "another" != json.loads(before)["machine"]["cpu"]
    assert graph.changes(Project(clone)) == []
    again = (clone / LATENCY).read_bytes()
    reproduce(clone)
    assert (clone / LATENCY).read_bytes() == again


def test_timings_of_another_machine_than_the_runs_break_its_verdict(audited: Path, tmp_path: Path) -> None:
    stage = find(Project(audited), refused_run(audited)).record.stage("gate")
    assert stage is not None
    timed = read_json(audited / LATENCY)
    write_json(tmp_path / LATENCY, timed)
    name_the_machine(stage, tmp_path)
    assert read_json(tmp_path / MACHINE) == timed["machine"]
    (tmp_path / MACHINE).unlink()
    write_json(tmp_path / LATENCY, timed | {"machine": timed["machine"] | {"cpu": "another"}})
    with pytest.raises(CheckFailed, match="another, 2 cores, no GPU, 1 threads, which is not the machine of the run"):
        name_the_machine(stage, tmp_path)


def test_record_holds_no_secret_and_no_machine_path(audited: Path) -> None:
    text = json.dumps(to_statement(find(Project(audited), "onestep").record))
    assert "https://example.org/clips" in text
    assert "person:secret" not in text
    assert "token=abc" not in text
    assert "pytest-of-" not in text
    assert str(Path.home()) not in text


def test_statement_that_contradicts_its_record_is_refused(audited: Path) -> None:
    statement = to_statement(find(Project(audited), "onestep").record)
    statement["subject"][0]["digest"]["sha256"] = "0" * 64
    with pytest.raises(Exception, match="'subject' contradicts the record"):
        from_statement(statement)


def test_a_second_record_of_the_same_run_changes_nothing(audited: Path, keys: Path) -> None:
    before = run(audited, "git", "for-each-ref")
    again = record(Project(audited), find_key(Project(keys), keys / "own"))
    assert not again.new
    assert run(audited, "git", "for-each-ref") == before
    reproduce(audited)
    run(audited, "git", "commit", "--quiet", "--all", "--message", "My commit of the same results")
    assert record(Project(audited), find_key(Project(keys), keys / "own")).branch == again.branch


def test_the_verdict_is_computed_by_the_runs_own_package_and_not_by_the_installed_one(project: Path) -> None:
    package = project / "src" / "onestep"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()  # no stage depends on it
    (project / "make.py").rename(package / "of_that_day.py")
    graph = (project / "dvc.yaml").read_text()
    graph = graph.replace("make.py,", "src/onestep/of_that_day.py,").replace(
        "[make.py]", "[src/onestep/of_that_day.py]"
    )
    (project / "dvc.yaml").write_text(graph.replace("python make.py", "PYTHONPATH=src python -m onestep.of_that_day"))
    run(project, "git", "add", "--all")
    run(project, "git", "commit", "--quiet", "--message", "A package")
    reproduce(project)
    make_key(project / SIGNING_KEY)
    record(Project(project), find_key(Project(project), None))
    shutil.rmtree(project / "src")
    report = verify(Project(project), "onestep", copy=False)
    assert (report.broken, report.exit_code) == (None, PASSED)
