"""What made a model, is that still true, and does it come out again? Answered from its record, from git and from DVC."""
