import pytest

from onestep.evaluation.names import better


def test_an_attribute_of_any_footage_has_an_accuracy_and_more_of_it_is_better():
    assert better("attribute_accuracy_breed") == "higher"
    assert better("frechet_video_distance") == "lower"
    for unknown in ("beauty", "attribute_accuracy_"):
        with pytest.raises(KeyError):
            better(unknown)
