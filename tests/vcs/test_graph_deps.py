"""The code of a stage is written into the text of `dvc.yaml`; what a person wrote there stays as it was."""

import pytest

from onestep.core.yaml_files import parse_yaml
from onestep.vcs.graph_deps import with_code
from onestep.vcs.project import GraphError

CODE = {
    "train": ["src/pkg/core/disk.py", "src/pkg/training/losses.py", "src/pkg/training/train.py"],
    "show": ["src/pkg/core/disk.py"],
}
GRAPH = """# what runs
stages:
  train:  # the long one
    cmd: >-
      pkg train data/clips
      --out model
    params: [train]
    deps: [data/clips, "data/odd, name", constraints.txt,
      src/pkg/core/disk.py,
      src/pkg/training/losses.py, src/pkg/training/train.py]

  other:
    cmd: python make.py
    deps:
      - src/make.py  # by hand
artifacts: {}
"""


def code_of(words: list[str]) -> list[str] | None:
    return CODE[words[1]] if words[0] == "pkg" else None


def test_graph_that_is_right_stays_as_it_is() -> None:
    assert with_code(GRAPH, code_of, "dvc.yaml") == GRAPH


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("      src/pkg/core/disk.py,\n", ""),
        ("      src/pkg/core/disk.py,\n", "      src/pkg/core/gone.py,\n"),
        (", constraints.txt,\n      src/pkg/core", ",\n      src/pkg/core"),
        ("[data/clips, ", "[src/pkg/training/more.py, data/clips, "),
    ],
)
def test_code_is_replaced_and_data_stays(right: str, wrong: str) -> None:
    assert GRAPH.replace(right, wrong) != GRAPH
    assert with_code(GRAPH.replace(right, wrong), code_of, "dvc.yaml") == GRAPH


def test_deps_in_lines_of_their_own_become_one_list() -> None:
    """As a person may write them, and as `dvc remove` leaves a file."""
    start, end = GRAPH.index("    deps: [data"), GRAPH.index("\n\n  other")
    lines = '    deps:\n    - data/clips\n    - "data/odd, name"\n    - src/pkg/core/disk.py'
    assert with_code(GRAPH[:start] + lines + GRAPH[end:], code_of, "dvc.yaml") == GRAPH


def test_stage_without_deps_gets_them() -> None:
    text = "stages:\n  show:\n    cmd: pkg show\n    outs: [page]\n"
    expected = "stages:\n  show:\n    cmd: pkg show\n    deps: [constraints.txt,\n      src/pkg/core/disk.py]\n    outs: [page]\n"
    assert with_code(text, code_of, "dvc.yaml") == expected
    alone = with_code("stages:\n  show:\n    cmd: pkg show\n", code_of, "dvc.yaml")
    assert parse_yaml(alone, "")["stages"]["show"]["deps"] == ["constraints.txt", *CODE["show"]]


def test_stage_of_several_commands_and_of_several_names_depends_on_all_of_their_code() -> None:
    text = "stages:\n  all:\n    foreach: [a, b]\n    do:\n      cmd: [pkg train, pkg show]\n      deps: [x]\n"
    written = parse_yaml(with_code(text, code_of, "dvc.yaml"), "")["stages"]["all"]["do"]["deps"]
    assert written == ["x", "constraints.txt", *CODE["train"]]


def test_comment_inside_deps_is_not_lost() -> None:
    with pytest.raises(GraphError, match="a comment stands inside the deps of train"):
        with_code(GRAPH.replace("[data/clips, ", "[data/clips,  # why\n      "), code_of, "dvc.yaml")


def test_graph_without_stages_stays_as_it_is() -> None:
    assert with_code("artifacts: {}\n", code_of, "dvc.yaml") == "artifacts: {}\n"
