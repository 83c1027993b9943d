"""The settings that git is called with, so that what it prints, prunes, signs and converts is the same for every caller."""

import os
from collections.abc import Mapping

GIT = (2, 38)  # the oldest: `git merge-tree --write-tree`

_PLAIN = {
    "core.quotePath": "false",
    "color.ui": "false",
    "column.ui": "never",
    "log.showSignature": "false",
    "i18n.commitEncoding": "utf-8",
    "i18n.logOutputEncoding": "utf-8",
    "core.fsmonitor": "false",  # no daemon that outlives the call
    "core.splitIndex": "false",  # an index of ours leaves no part of it in the person's repository
    "gc.auto": "0",
    "maintenance.auto": "false",
    "commit.gpgSign": "false",  # records and tags are signed with the project's own key
    "tag.gpgSign": "false",
    "push.gpgSign": "false",
    "push.followTags": "false",  # exactly the refs that are named
    "push.recurseSubmodules": "no",
    "submodule.recurse": "false",
    "fetch.recurseSubmodules": "false",
    "fetch.prune": "false",
    "fetch.pruneTags": "false",
    "protocol.file.allow": "always",  # a run's clone comes from the person's own checkout
    "clone.rejectShallow": "false",
}
BYTES = {
    "core.autocrlf": "false",
    "core.eol": "lf",
    "core.safecrlf": "false",
    "core.attributesFile": os.devnull,
    "core.excludesFile": os.devnull,
}


def settings(chosen: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Options that set git's settings for one call, `-c` before each."""
    return tuple(
        word for key, value in (_PLAIN if chosen is None else chosen).items() for word in ("-c", f"{key}={value}")
    )


# what is added and checked out is the bytes that are pinned, whatever the person converts or ignores elsewhere
AS_BYTES = settings(BYTES)
