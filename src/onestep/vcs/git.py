"""Git plumbing for records: reads any revision and writes commits, tags and refs beside the user's branch.

Nothing here touches `HEAD`, the index or the working tree of the repository that it works on.
"""

import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from onestep.core.git_environment import git_environment
from onestep.vcs.git_failures import GitError, GitUnusable, PushRefused, failure, not_started, push_refused
from onestep.vcs.git_process import AS_BYTES, settings

_WHOLE = ("-c", "core.sparseCheckout=false", "-c", "index.sparse=false")  # records are of the whole project
UNNAMED = ("-c", "user.name=onestep", "-c", "user.email=onestep@localhost")
ORIGIN = "origin"
__all__ = ["ORIGIN", "UNNAMED", "GitError", "GitUnusable", "PushRefused", "RefUpdate", "Repository", "git_environment"]


@dataclass(frozen=True)
class RefUpdate:
    """One ref to move from `old` (null = it must not exist yet) to `new`."""

    name: str
    new: str
    old: str | None = None

    @property
    def line(self) -> str:
        """The instruction for `git update-ref --stdin`."""
        return f"update {self.name} {self.new} {self.old}" if self.old else f"create {self.name} {self.new}"


@dataclass(frozen=True)
class Repository:
    """A git working copy, seen from `root`: the folder that holds `dvc.yaml`, at or below the top."""

    root: Path

    def git(self, *arguments: str, stdin: str | bytes | None = None, env: Mapping[str, str] | None = None) -> str:
        """Standard output of one git command, without the last newline; raises `GitError`."""
        return self.git_bytes(*arguments, stdin=stdin, env=env).decode(errors="surrogateescape").rstrip("\n")

    def git_bytes(
        self, *arguments: str, stdin: str | bytes | None = None, env: Mapping[str, str] | None = None
    ) -> bytes:
        """The same as `git`, byte for byte."""
        done = self._run(arguments, stdin, env)
        if done.returncode:
            raise failure(self.root, arguments, done.returncode, done.stderr.decode(errors="replace"))
        return done.stdout

    def resolve(self, revision: str) -> str | None:
        """The object that a revision names, or null when there is none; raises `GitError` where git cannot look."""
        question = ("rev-parse", "--quiet", "--verify", "--end-of-options", revision)
        done = self._run(question)
        if done.returncode == 0:
            return done.stdout.decode().strip()
        if done.returncode != 1 or re.search(rb"^(fatal|error):", done.stderr, flags=re.MULTILINE):
            raise failure(self.root, question, done.returncode, done.stderr.decode(errors="replace"))
        return None

    def remotes(self) -> list[str]:
        """The names of the remotes, whatever they are called; `origin` first, then by name."""
        return sorted(self.git("remote").splitlines(), key=lambda name: (name != ORIGIN, name))

    def remote(self) -> str:
        """What to call the remote in a command for people: the first, `origin` where there is none yet."""
        return next(iter(self.remotes()), ORIGIN)

    def branch(self, name: str) -> str | None:
        """The commit of a branch here, else of a remote's branch of that name; null where there is neither."""
        for ref in (f"refs/heads/{name}", *self.on_remotes(name)):
            if commit := self.resolve(f"{ref}^{{commit}}"):
                return commit
        return None

    def on_remotes(self, name: str) -> list[str]:
        """The refs that a branch (or a folder of branches, `runs/`) has on every remote, there or not."""
        return [f"refs/remotes/{remote}/{name}" for remote in self.remotes()]

    def refs(self, format: str, *patterns: str) -> str:
        """What `git for-each-ref` prints of these patterns; nothing without any."""
        return self.git("for-each-ref", f"--format={format}", *patterns) if patterns else ""

    def clone(self, source: str, target: Path, *options: str) -> "Repository":
        """Clone without a checkout, hooks or conversions of bytes; the remote is `origin`, whatever the person's setting."""
        fixed = (*settings({"core.hooksPath": os.devnull}), *AS_BYTES)
        self.git(
            *("clone", "--quiet", "--no-checkout", "--origin", ORIGIN, "--template="),
            *(f"--config={word}" for word in fixed if word != "-c"),
            *(*options, "--", source, str(target)),
        )
        return Repository(target)

    def push(self, *refs: str) -> None:
        """Push refs to `origin`, all or none. Raises `PushRefused` where the server says no, else `GitError`."""
        arguments = ("push", "--quiet", "--porcelain", "--atomic", ORIGIN, *refs)
        done = self._run(arguments)
        if done.returncode:
            said = done.stderr.decode(errors="replace")
            where = self.git("remote", "get-url", ORIGIN)
            refused = push_refused(where, done.stdout.decode(errors="replace"), said)
            raise refused or failure(self.root, arguments, done.returncode, said)

    def head(self) -> str:
        """The commit the user stands on; raises `GitError` before the first commit."""
        commit = self.resolve("HEAD^{commit}")
        if commit is None:
            raise GitError(f"{self.root} has no commit yet: commit the project first")
        return commit

    def read(self, revision: str, path: str) -> bytes:
        """A file below `root` as it is at a revision; raises `GitError` when it is not there."""
        return self.git_bytes("cat-file", "blob", f"{revision}:./{path}")

    def tags(self, pattern: str) -> list[str]:
        """Names of the tags that match a glob, sorted by name."""
        return self.refs("%(refname:lstrip=2)", f"refs/tags/{pattern}").splitlines()

    def tag_message(self, tag: str) -> str:
        """The message of an annotated tag; the empty string for a plain one."""
        if self.git("cat-file", "-t", f"refs/tags/{tag}") != "tag":
            return ""
        return self.git("cat-file", "tag", f"refs/tags/{tag}").partition("\n\n")[2]

    def tree(self, base: str, paths: Iterable[str]) -> str:
        """A tree like that of commit `base`, with the working copy's state of `paths` instead.

        Paths are files or folders relative to `root`; what git ignores stays out.
        """
        with tempfile.TemporaryDirectory(prefix="onestep-index-") as folder:
            env = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
            self.git(*_WHOLE, "read-tree", base, env=env)
            listed = "\0".join(f":(literal){path}" for path in self._not_ignored(paths))
            add = ("add", "--all", "--pathspec-from-file=-", "--pathspec-file-nul")
            self.git(*_WHOLE, *AS_BYTES, *add, stdin=listed, env=env)
            return self.git("write-tree", env=env)

    def tree_with(self, base: str, path: str, content: bytes) -> str:
        """A tree like that of `base` in which one file (relative to `root`) has other content."""
        with tempfile.TemporaryDirectory(prefix="onestep-index-") as folder:
            env = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
            self.git("read-tree", base, env=env)
            blob = self.git("hash-object", "-w", "--stdin", stdin=content)
            prefix = self.git("rev-parse", "--show-prefix")
            self.git("update-index", "--add", "--cacheinfo", f"100644,{blob},{prefix}{path}", env=env)
            return self.git("write-tree", env=env)

    def tree_of(self, files: Mapping[str, bytes]) -> str:
        """A tree of these files alone, by name; no folders."""
        blobs = {name: self.git("hash-object", "-w", "--stdin", stdin=content) for name, content in files.items()}
        return self.git("mktree", stdin="".join(f"100644 blob {blob}\t{name}\n" for name, blob in blobs.items()))

    def commit(self, tree: str, parent: str | None, message: str) -> str:
        """Write a commit object that no ref names yet; without a parent it begins a history of its own."""
        parents = ("-p", parent) if parent else ()
        return self.git(*self._identity(), "commit-tree", tree, *parents, "-F", "-", stdin=message)

    def tag_content(self, name: str, target: str, message: str) -> str:
        """The content of an annotated tag, before it is signed."""
        tagger = self.git(*self._identity(), "var", "GIT_COMMITTER_IDENT")
        return f"object {target}\ntype commit\ntag {name}\ntagger {tagger}\n\n{message}\n"

    def write_tag(self, content: str) -> str:
        """Write an annotated tag object that no ref names yet."""
        return self.git("mktag", stdin=content)

    def update(self, updates: Sequence[RefUpdate]) -> None:
        """Move all refs in one transaction, or none: raises `GitError` when any is not where `old` says."""
        lines = ["start", *(update.line for update in updates), "prepare", "commit"]
        self.git("update-ref", "--stdin", stdin="\n".join(lines) + "\n")

    def _run(
        self, arguments: Sequence[str], stdin: str | bytes | None = None, env: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[bytes]":
        try:
            return subprocess.run(
                ["git", *settings(), *arguments],
                cwd=self.root,
                input=stdin.encode(errors="surrogateescape") if isinstance(stdin, str) else stdin,
                stdin=subprocess.DEVNULL if stdin is None else None,
                capture_output=True,
                env={**git_environment(), **(env or {})},
                check=False,
            )
        except OSError as error:
            raise not_started(self.root, error) from error

    def _not_ignored(self, paths: Iterable[str]) -> list[str]:
        listed = sorted(paths)
        try:
            question = ("check-ignore", "-z", "--stdin")
            ignored = self.git(*AS_BYTES, *question, stdin="\0".join(listed)).split("\0")
        except GitUnusable:
            raise
        except GitError:
            return listed
        return [path for path in listed if path not in set(ignored)]

    def _identity(self) -> tuple[str, ...]:
        try:
            self.git("-c", "user.useConfigOnly=true", "var", "GIT_COMMITTER_IDENT")
            self.git("-c", "user.useConfigOnly=true", "var", "GIT_AUTHOR_IDENT")
        except GitError:
            return UNNAMED
        return ()
