"""The command line: one module per group of commands; `main` joins them."""

from onestep.cli.main import app, main

__all__ = ["app", "main"]
