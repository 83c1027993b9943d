"""The card and the bill of materials: drawn from the record, and in the formats that they say they are in."""

import json
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from huggingface_hub import EvalResult, ModelCard
from license_expression import get_spdx_licensing

from onestep.provenance.model_card import bom, model_card, write_card
from onestep.provenance.record import Licence
from onestep.provenance.signing import SigningKey
from onestep.provenance.store import Found, find, sources
from onestep.registry.recording import record
from onestep.vcs.project import Project
from tests.audited import train
from tests.toy_project import run

MODEL = "models/onestep"


def with_(found: Found, **changes: Any) -> Found:
    """The same record with other fields."""
    return Found(found.name, found.commit, found.record.model_copy(update=changes), found.signer, found.envelope_sha256)


def licensed(found: Found, words: str | None) -> Found:
    """The same record with another licence of everything."""
    licences = [Licence(**part.model_dump() | {"licence": words}) for part in found.record.licences]
    return with_(found, licences=licences)


def problems(bill: dict[str, Any]) -> list[str]:
    """What CycloneDX's own JSON schema (strict, as it ships with `cyclonedx-python-lib`) says against a bill."""
    found = JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bill), all_errors=True)
    return [f"{list(error.data.absolute_path)}: {error.data.message}" for error in found or ()]


@pytest.fixture
def found(audited: Path) -> Found:
    return find(Project(audited), "onestep")


def test_bill_of_materials_is_valid_cyclonedx(found: Found, audited: Path, tmp_path: Path) -> None:
    _, written = write_card(Project(audited), found, tmp_path / "card")
    bill = json.loads(written.read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert problems(bill) == []
    assert problems(bill | {"serialNumber": "1"})  # what it is held against does refuse
    assert problems(bill | {"components": [{"type": "weights", "name": "x"}]})


@pytest.mark.parametrize("words", ["Apache-2.0", "mit or cc0-1.0", "rendered-by-us", "Our own terms, 2026", None])
def test_every_licence_gives_a_valid_bill_and_card(found: Found, audited: Path, words: str | None) -> None:
    other = licensed(found, words)
    bill = bom(other)
    assert problems(bill) == []
    component = bill["metadata"]["component"]
    for stated in component["licenses"]:
        if "expression" in stated:
            assert get_spdx_licensing().validate(stated["expression"]).errors == []
        else:
            assert stated["license"]["name"] == words
    data = ModelCard(model_card(other, sources(Project(audited), found))).data
    expected = {"Apache-2.0": "apache-2.0", None: None}.get(words, "other")
    assert data.license == expected
    assert data.license_name == (words if expected == "other" else None)


def test_every_reference_of_the_bill_is_there_once_and_the_model_depends_on_it(found: Found) -> None:
    bill = bom(found)
    component, record = bill["metadata"]["component"], found.record
    refs = [component["bom-ref"], *(part["bom-ref"] for part in bill["components"])]
    assert len(set(refs)) == len(refs)
    assert {"judge", "clips", f"pkg:pypi/dvc@{record.environment.packages['dvc']}"} <= set(refs)
    assert {dataset["ref"] for dataset in component["modelCard"]["modelParameters"]["datasets"]} == {"clips"}
    (depends,) = bill["dependencies"]
    assert depends["ref"] == component["bom-ref"] == "onestep"
    assert set(depends["dependsOn"]) <= set(refs)
    assert {"judge", "clips"} <= set(depends["dependsOn"])
    assert component["hashes"] == [{"alg": "SHA-256", "content": record.sha256}]


def test_version_of_a_local_build_is_a_valid_purl(found: Found) -> None:
    environment = found.record.environment.model_copy(update={"packages": {"torch": "2.13.0+cpu"}})
    bill = bom(with_(found, environment=environment))
    assert problems(bill) == []
    (torch,) = (part for part in bill["components"] if part["name"] == "torch")
    assert (torch["purl"], torch["version"]) == ("pkg:pypi/torch@2.13.0%2Bcpu", "2.13.0+cpu")


def test_card_is_read_by_the_hub_with_its_results(found: Found, audited: Path, tmp_path: Path) -> None:
    card, _ = write_card(Project(audited), found, tmp_path / "card")
    read = ModelCard.load(card)
    assert (read.data.library_name, read.data.pipeline_tag, read.data.license) == (
        "diffusers",
        "text-to-video",
        "apache-2.0",
    )
    (result,) = read.data.eval_results
    assert isinstance(result, EvalResult)
    assert (result.task_type, result.metric_type) == ("text-to-video", "accuracy")
    assert result.metric_value == found.record.metrics["accuracy"]["value"]
    assert read.data.model_name == "onestep"
    assert f"# {found.title}" in read.text
    assert ModelCard(f"---\n{read.data.to_yaml()}\n---\n{read.text}").data.eval_results == [result]


def test_card_counts_the_licences_that_the_footage_states(
    audited: Path, key: SigningKey, tools_of_this_environment: None
) -> None:
    assert "by the column `licence`" not in model_card(find(Project(audited), "onestep"), [])
    make = audited / "make.py"
    stating = '"split": split, "licence": "CC-BY-4.0" if path.stem != "1" else ""}'
    make.write_text(make.read_text().replace('"split": split}', stating))
    run(audited, "git", "commit", "--quiet", "--all", "--message", "The footage states its licences")
    train(audited, train={"learning_rate": 0.4})
    found = find(Project(audited), record(Project(audited), key).branch)
    text = model_card(found, sources(Project(audited), found))
    assert "| CC-BY-4.0 | 3 | 3 |\n| **not stated** | 1 | 1 |" in text


def test_number_that_was_not_computed_is_no_result_and_breaks_neither_format(found: Found, audited: Path) -> None:
    metrics = {"accuracy": {"value": float("nan"), "low": None, "high": None}, "bare": 0.5, "none": None}
    other = with_(found, metrics=metrics)
    assert problems(bom(other)) == []
    text = model_card(other, sources(Project(audited), found))
    assert ModelCard(text).data.eval_results is None
    assert "model-index" not in text
