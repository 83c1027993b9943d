"""The environment of a git command, by an allow-list.

A git hook hands its children `GIT_DIR`, `GIT_INDEX_FILE` and more, which turn every git below it on the hook's own
repository. So git gets those variables that say who a person is and how a server is reached.
"""

import os
from collections.abc import Mapping, MutableMapping

_NAMES = frozenset(
    {
        *("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"),
        *("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "GIT_CONFIG_COUNT", "GIT_ATTR_NOSYSTEM"),
        *("GIT_SSH", "GIT_SSH_COMMAND", "GIT_SSH_VARIANT", "GIT_ASKPASS", "GIT_TERMINAL_PROMPT"),
        *(
            "GIT_ALLOW_PROTOCOL",
            "GIT_PROTOCOL_FROM_USER",
            "GIT_PROXY_COMMAND",
            "GIT_CURL_VERBOSE",
            "GIT_CURL_FTP_NO_EPSV",
        ),
        *(
            "GIT_CEILING_DIRECTORIES",
            "GIT_DISCOVERY_ACROSS_FILESYSTEM",
            "GIT_EXEC_PATH",
            "GIT_TEST_ASSUME_DIFFERENT_OWNER",
        ),
    }
)
_BEGINNINGS = (
    "GIT_CONFIG_KEY_",
    "GIT_CONFIG_VALUE_",
    "GIT_SSL_",
    "GIT_HTTP_",
    "GIT_PROXY_SSL_",
    "GIT_TRACE",
    "GIT_TR2",
)


def git_environment(source: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a git command: all of `source` (default: this process's) but what points git elsewhere.

    Kept are a person's identity, settings, ways to a server, proxies and traces; dropped are repository, index, objects,
    dates, `git -c` of an outer command, and whatever git adds in days to come. Git speaks English, and takes no lock that
    it can do without.
    """
    source = os.environ if source is None else source
    kept = {name: value for name, value in source.items() if not name.startswith("GIT_") or _may_stay(name)}
    return {**kept, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}


def drop_git_variables(environment: MutableMapping[str, str] = os.environ) -> None:
    """Take what a git hook sets out of this process: DVC and all that it starts read these variables too."""
    for name in [name for name in environment if name.startswith("GIT_") and not _may_stay(name)]:
        del environment[name]


def _may_stay(name: str) -> bool:
    return name in _NAMES or name.startswith(_BEGINNINGS)
