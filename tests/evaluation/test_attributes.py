import numpy as np

from onestep.evaluation.attributes import attribute_hits


def test_a_hit_is_the_likeliest_word_being_the_captions():
    probabilities = {"colour": np.array([[0.9, 0.1], [0.4, 0.6]])}
    found = attribute_hits(probabilities, {"colour": ["red", "red"]}, {"colour": ("red", "blue")})
    assert found["colour"].tolist() == [True, False]
