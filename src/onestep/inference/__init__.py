"""Samples of a model: generation by hand, the samples of every comparison, latency."""
