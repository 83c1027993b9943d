import pytest

from onestep.evaluation.names import METRICS
from onestep.report.metric_definitions import DEFINITIONS, definition_of, in_order_of_definition


def test_every_metric_says_what_it_is():
    assert tuple(DEFINITIONS) == METRICS
    for name, metric in DEFINITIONS.items():
        assert metric.name == name
        assert metric.better in ("higher", "lower") and metric.kind in ("per clip", "per set")
        assert metric.title and metric.unit and metric.definition.endswith(".")


def test_an_attribute_of_any_footage_has_a_definition_too():
    assert definition_of("attribute_accuracy_breed").title == "Accuracy: breed"
    with pytest.raises(KeyError):
        definition_of("beauty")


def test_accuracies_of_attributes_stand_after_that_of_all():
    names = ["motion", "attribute_accuracy_breed", "attribute_accuracy", "attribute_accuracy_age"]
    assert in_order_of_definition(names) == [names[2], names[3], names[1], names[0]]
