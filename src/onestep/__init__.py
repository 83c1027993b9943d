"""One-step video generators by adversarial post-training. `CONTRIBUTING.md` says what is in which room."""
