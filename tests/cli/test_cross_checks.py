"""`params.yaml`: what is legal passes, and everything else is refused in one sentence with its nearest legal value."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from onestep.cli.params import Params, load_params, overrides
from onestep.core.params import SettingsError, merged, parse_settings
from onestep.core.yaml_files import parse_yaml, read_yaml
from onestep.models.sizes import nearest_frames, nearest_side

SHIPPED = Path(__file__).parents[2] / "params.yaml"


@pytest.fixture
def content() -> dict[str, Any]:
    return read_yaml(SHIPPED)


def refusal(content: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        parse_settings(Params, content, "params.yaml")
    return str(caught.value)


def test_the_shipped_settings_are_legal() -> None:
    assert load_params(SHIPPED).ingest.frames == nearest_frames(load_params(SHIPPED).ingest.frames)


@pytest.mark.parametrize("name", ["full", "long"])
def test_the_shipped_profiles_are_legal_and_change_what_they_name(name: str, content: dict[str, Any]) -> None:
    said = overrides(SHIPPED.parent / "profiles" / f"{name}.yaml", SHIPPED)
    for change in said:
        key, value = change.split("=", 1)
        before = content
        for part in key.split("."):
            before = before[part]
        assert before != parse_yaml(value, key), f"{key} is what it is without the profile"


def test_a_profile_changes_a_group_within_a_group_key_by_key(tmp_path: Path) -> None:
    profile = tmp_path / "short.yaml"
    profile.write_text("consistency: {updates: 99, dmd: {updates: 0}}\nadversarial: {heads: [0.5, 1.0]}\n")
    said = ["consistency.updates=99", "consistency.dmd.updates=0", "adversarial.heads=[0.5,1.0]"]
    assert overrides(profile, SHIPPED) == said


def test_merged_settings_keep_what_is_not_changed_and_leave_both_sides_alone() -> None:
    below, above = {"a": {"b": {"c": 1, "d": [1]}}, "e": 2}, {"a": {"b": {"d": [2]}}, "f": {"g": 3}}
    assert merged(below, above) == {"a": {"b": {"c": 1, "d": [2]}}, "e": 2, "f": {"g": 3}}
    assert below == {"a": {"b": {"c": 1, "d": [1]}}, "e": 2}


def test_an_unknown_key_is_refused_with_the_key_that_was_meant(content: dict[str, Any]) -> None:
    content["adversarial"]["update"] = 5
    assert (
        refusal(content) == "params.yaml: adversarial.update is not a known setting; did you mean adversarial.updates?"
    )


def test_an_unknown_group_is_refused_with_the_group_that_was_meant(content: dict[str, Any]) -> None:
    content["validation"] = {}
    assert refusal(content) == "params.yaml: validation is not a known setting; did you mean validate?"


def test_an_unknown_key_that_is_like_no_other_is_refused_with_the_known_ones(content: dict[str, Any]) -> None:
    content["machine"]["colour"] = "red"
    assert refusal(content) == "params.yaml: machine.colour is not a known setting; known are threads"


def test_a_missing_key_is_named(content: dict[str, Any]) -> None:
    del content["encode"]["batch"]
    assert refusal(content) == "params.yaml: encode.batch is missing"


def test_frames_that_the_autoencoder_would_drop_are_refused_with_the_nearest_legal_number(content) -> None:
    content["ingest"]["frames"] = 16
    assert "ingest.frames = 16" in refusal(content)
    assert refusal(content).endswith("the nearest legal value is 17")


@pytest.mark.parametrize("side", ["height", "width"])
def test_sides_that_the_autoencoder_would_cut_are_refused_with_the_nearest_legal_one(content, side: str) -> None:
    content["ingest"][side] = 60
    assert f"ingest.{side} = 60" in refusal(content)
    assert refusal(content).endswith("the nearest legal value is 64")


@pytest.mark.parametrize(("frames", "nearest"), [(1, 1), (2, 1), (4, 5), (16, 17), (17, 17), (81, 81), (0, 1)])
def test_nearest_frames_are_4k_plus_1(frames: int, nearest: int) -> None:
    assert nearest_frames(frames) == nearest


@pytest.mark.parametrize(("pixels", "nearest"), [(1, 16), (60, 64), (64, 64), (480, 480), (854, 848)])
def test_nearest_sides_are_multiples_of_16(pixels: int, nearest: int) -> None:
    assert nearest_side(pixels) == nearest


def test_two_wrong_keys_are_both_named(content: dict[str, Any]) -> None:
    content["ingest"]["frames"] = 16
    content["adversarial"]["loss"] = "hinge"
    assert "ingest.frames" in refusal(content)
    assert "adversarial.loss = 'hinge'" in refusal(content)
    assert "'non-saturating' or 'relativistic'" in refusal(content)


def test_splits_that_leave_nothing_to_train_on_are_refused(content: dict[str, Any]) -> None:
    content["ingest"] |= {"dev_share": 0.5, "test_share": 0.5}
    assert "keep the sum below 1" in refusal(content)


def test_a_file_that_is_not_there_or_not_yaml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="does not exist"):
        load_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("a: [")
    with pytest.raises(SettingsError, match="not valid YAML"):
        load_params(tmp_path / "params.yaml")


def test_settings_cannot_be_changed_by_a_stage() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_params(SHIPPED).ingest.frames = 5
