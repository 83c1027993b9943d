"""The project that a command works on: the one in whose folder it runs."""

from pathlib import Path

from onestep.vcs.project import Project


def here() -> Project:
    """The project of the working directory, opened anew for each command."""
    return Project(Path())
