"""One reader of YAML, DVC's own: every value is what it is to DVC, and what is no plain YAML ends in one sentence."""

import contextlib
import os
import re
from datetime import date, datetime
from pathlib import Path

import pytest

from onestep.core import yaml_files
from onestep.core.yaml_files import YamlError, dump_yaml, parse_document, parse_yaml, plain, read_yaml
from tests.audited import ODD

ROOT = Path(__file__).parents[2]


def refusal(text: str | bytes) -> str:
    with pytest.raises(YamlError) as caught:
        parse_yaml(text, "x.yaml")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_lock_that_dvc_wrote_says_what_the_settings_say(tmp_path: Path) -> None:
    from dvc.repo import Repo

    (tmp_path / "odd.yaml").write_text(ODD.replace("  nothing: .nan\n", ""))  # nan is equal to nothing, itself included
    (tmp_path / "dvc.yaml").write_text("stages: {one: {cmd: echo, params: [odd.yaml: [odd]]}}\n")
    with contextlib.chdir(tmp_path), Repo.init(no_scm=True) as repo:
        repo.reproduce()
    written = (tmp_path / "dvc.lock").read_text()
    assert "rate: 3e-05" in written
    locked = read_yaml(tmp_path / "dvc.lock")["stages"]["one"]["params"]["odd.yaml"]
    assert locked == read_yaml(tmp_path / "odd.yaml")
    assert locked["odd"]["rate"] == 3e-5
    assert (locked["odd"]["octal"], locked["odd"]["word"], locked["odd"]["time"]) == (15, "yes", "12:30:45")


def test_dates_are_dates_in_what_dvc_writes() -> None:  # though no stage can depend on one
    from dvc.utils.serialize import dumps_yaml

    content = {"day": date(2026, 1, 31), "moment": datetime(2026, 1, 31, 12, 30, 45)}
    assert parse_yaml(dumps_yaml(content), "x.yaml") == content
    assert plain(content) == {"day": "2026-01-31", "moment": "2026-01-31T12:30:45"}


@pytest.mark.parametrize("name", ["params.yaml", "dvc.yaml", "dvc.lock", "prefect.yaml", "data/bundled/params.yaml"])
def test_the_projects_files_are_to_us_what_they_are_to_dvc(name: str) -> None:
    from dvc.utils.serialize import load_yaml

    assert read_yaml(ROOT / name) == load_yaml(ROOT / name)


def test_no_other_module_reads_or_writes_yaml() -> None:
    own = ROOT / "src/onestep/core/yaml_files.py"
    assert "ruamel.yaml" in own.read_text()
    folders = [ROOT / name for name in ("src", "flows", "tests", "benchmarks", ".ci")]
    others = [path for folder in folders for path in folder.rglob("*.py") if path != own]
    imports = re.compile(
        r"^\s*(import|from)\s+(yaml|ruamel|dvc\.utils\.serialize|dvc\.utils\.strictyaml)\b", re.MULTILINE
    )
    found = {path.relative_to(ROOT).as_posix() for path in others if imports.search(path.read_text())}
    # the first holds DVC's reader against ours; the second's stage runs where onestep is not installed
    assert found == {"tests/core/test_yaml_files.py", "tests/audited.py"}


@pytest.mark.parametrize(
    "value", ["yes", "on", "No", "0o17", "017", "1_000", "12:30:45", "3e-05", "2026-01-31", "~", "=", "<<", ""]
)
def test_a_text_is_written_so_that_no_reader_takes_it_for_something_else(value: str) -> None:
    written = dump_yaml({value: value})
    assert parse_yaml(written, "x.yaml") == {value: value}
    assert written.count(f"'{value}'") == 2


def test_a_small_number_is_written_so_that_every_reader_takes_it_for_one() -> None:
    assert dump_yaml({"rate": 3e-05, "huge": 1e300, "whole": 1.0}) == "rate: 3.0e-05\nhuge: 1.0e+300\nwhole: 1.0\n"


def test_a_value_that_is_used_twice_is_written_out_and_keys_keep_their_order() -> None:
    shared = [1, 2]
    assert dump_yaml({"b": shared, "a": shared}) == "b:\n- 1\n- 2\na:\n- 1\n- 2\n"


def test_a_key_that_stands_twice_is_named_with_both_lines() -> None:
    assert refusal("a: 1\nb:\n  c: 2\n  c: 3\n") == "x.yaml, line 4: b.c stands twice, first on line 3: keep one"
    assert parse_yaml("a: &a {b: 1}\nc: {<<: *a, b: 2}\n", "x.yaml")["c"] == {"b": 2}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "line 2 is not valid YAML"),
        ("a:\n\tb: 1", "line 2 is not valid YAML: a tab; indent with spaces"),
        ("--- 1\n--- 2\n", "expected a single document in the stream"),
        (
            "b: 1\na: !!python/object:os.system x",
            "line 2 is not valid YAML: could not determine a constructor for the tag",
        ),
        ("a: !mine 1", "could not determine a constructor for the tag '!mine'"),
        ("b: 1\na: 2026-13-45", "line 2: 2026-13-45 is no timestamp: month must be in 1..12"),
        ("b: 1\na: !!bool x", "line 2: x is no bool"),
        ("a: " + "1" * 5000, "is no int"),
        ("a: &a [*a]", "line 1: a value that holds itself by an alias"),
        ("<<: *x", "found undefined alias"),
        ("a: \x00", "control characters are not allowed"),
        ("a: 1\n<<<<<<< HEAD\nb: 1\n=======\nb: 2\n>>>>>>> x\n", "line 2: the marks of a merge that was not finished"),
        (b"a: 1\nb: caf\xe9", "line 2: byte 0xe9 is not UTF-8"),
        ("[" * 200_000, "more than 100 deep"),
        ("- " * 200_000, "more than 100 deep"),
        ("{a: " * 150 + "1" + "}" * 150, "more than 100 deep"),
    ],
)
def test_what_is_no_plain_yaml_ends_in_one_sentence(text: str | bytes, words: str) -> None:
    assert refusal(text).startswith("x.yaml")
    assert words in refusal(text)


@pytest.mark.parametrize("step", ["[*a{}, *a{}]", "{{<<: [*a{}, *a{}]}}"], ids=["lists", "merged keys"])
def test_aliases_of_aliases_are_counted_before_they_are_followed(step: str) -> None:
    rungs = [f"a{i}: &a{i} {step.format(i - 1, i - 1)}" for i in range(1, 60)]
    assert "aliases of aliases stand for more than 1,000,000 values" in refusal("\n".join(["a0: &a0 {x: 1}", *rungs]))


def test_only_a_regular_file_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for path, words in {
        tmp_path: "is a folder",
        tmp_path / "pipe": "is not a regular file",
        Path("/dev/zero"): "is not a regular file",
        tmp_path / "none": "does not exist",
        tmp_path / "loop": "cannot be read: Too many levels of symbolic links",
        tmp_path / "none\0": "cannot be read: embedded null byte",
    }.items():
        with pytest.raises(YamlError, match=words):
            read_yaml(path)


def test_an_enormous_file_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "big.yaml").open("wb") as writer:
        writer.truncate(yaml_files.MOST_BYTES + 1)  # sparse: it takes no room on the disk
    with pytest.raises(YamlError, match="is larger than 64 MiB"):
        read_yaml(tmp_path / "big.yaml")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").touch(mode=0)
    with pytest.raises(YamlError, match=r"x\.yaml cannot be read: Permission denied"):
        read_yaml(tmp_path / "x.yaml")


def test_a_value_is_found_on_its_line() -> None:
    found = parse_document("a: &x {b: 1}\nc: {<<: *x,\n  b: 2}\nl: [1,\n 2]", "x.yaml")
    assert [found.line(keys) for keys in (["c", "b"], ["l", 1], ["a", "missing"], ["missing"])] == [3, 5, 1, None]
