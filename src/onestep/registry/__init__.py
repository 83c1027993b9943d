"""Which model is which: promotion and rollback by git tags, champion, trials, garbage collection."""
