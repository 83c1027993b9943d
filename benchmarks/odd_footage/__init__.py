"""Odd footage: files as strangers have them, what `onestep ingest` must make of each, and what it made."""
