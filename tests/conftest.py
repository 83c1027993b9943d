"""Projects that several folders of tests work on: one template of each in a session, whoever asks for it."""

from tests.toy_project import (  # noqa: F401
    finished_project,
    project,
    remote,
    retrain,
    tools_of_this_environment,
)
