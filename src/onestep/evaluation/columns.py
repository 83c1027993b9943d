"""The columns that a table of clips gets for each attribute of the footage."""

ACCURACY = "attribute_accuracy"
PER_ATTRIBUTE = f"{ACCURACY}_"  # and the attribute: whether the judge named it rightly
ASKED = "asked_"  # and the attribute: the caption's word
NAMED = "seen_"  # and the attribute: the word that the judge named
