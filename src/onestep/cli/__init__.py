"""The command line: one module per group of commands; `main` joins them."""

from onestep.cli.entry import app, main

__all__ = ["app", "main"]
