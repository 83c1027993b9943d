from tests.toy_project import (  # noqa: F401
    finished_project,
    project,
    remote,
    retrain,
    tools_of_this_environment,
)
