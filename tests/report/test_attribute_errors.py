import pandas as pd

from onestep.report.attribute_errors import attribute_errors


def table(shares: dict[str, dict[str, list[float]]]) -> pd.DataFrame:
    """`{model: {motion asked for: hit of each clip}}` as `per_prompt.parquet` has it."""
    rows = [
        {"model": model, "asked_motion": word, "attribute_accuracy_motion": hit, "asked_place": "sea"}
        for model, words in shares.items()
        for word, hits in words.items()
        for hit in hits
    ]
    return pd.DataFrame(rows)


SEEN = table(
    {
        "ours": {"rising": [1.0, 0.0], "bouncing": [0.0, 0.0, 1.0, 0.0], "falling": [1.0, 1.0]},
        "teacher": {"rising": [1.0, 0.0], "bouncing": [1.0, 0.0, 1.0, 1.0], "falling": [0.0, 1.0]},
    }
)


def test_the_word_that_costs_most_clips_against_the_other_model_comes_first() -> None:
    first, second = attribute_errors(SEEN, ["ours", "teacher"], 8)
    assert (first.word, first.attribute, first.clips) == ("bouncing", "motion", 4)
    assert first.shares == {"ours": 0.25, "teacher": 0.75}
    assert second.word == "rising"  # as often as the teacher; "falling" it never misses


def test_a_model_alone_is_held_against_every_clip_and_no_more_words_are_told_than_asked_for() -> None:
    (first,) = attribute_errors(SEEN, ["ours"], 1)
    assert (first.word, first.shares) == ("bouncing", {"ours": 0.25})


def test_an_attribute_that_was_not_measured_is_passed_over() -> None:
    assert {word.attribute for word in attribute_errors(SEEN, ["ours"], 8)} == {"motion"}
