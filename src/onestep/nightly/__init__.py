"""A scheduled run without a scheduler: whether to retrain, its clone, publishing, summary, doctor."""
