"""Is every file what it was, in git, in `dvc.lock`, in the cache or a remote, and in the working copy?"""

import hashlib
from collections.abc import Container, Mapping
from typing import Any

from onestep.core.paths import LOCK, PIN
from onestep.core.redaction import harmless
from onestep.core.storage import sha256_file
from onestep.core.yaml_files import parse_yaml, plain
from onestep.provenance.check import CheckContext, CheckFailed
from onestep.provenance.collect import as_first_recorded, clean
from onestep.provenance.record import Item, from_lines, paths, sha256_of
from onestep.vcs import blobs
from onestep.vcs.objects import ObjectError


def files_in_git(context: CheckContext) -> str:
    """Code, settings, locks and reports are the recorded ones, in the run's commit and where the record is."""
    record, repository = context.record, context.project.git
    if repository.resolve(f"{record.run_commit}^{{commit}}") is None:
        raise CheckFailed(f"the run's commit {record.run_commit} is not here: run git fetch, or it was removed")
    if repository.git("merge-base", record.run_commit, context.found.commit) != record.run_commit:
        raise CheckFailed(
            f"{context.found.name} does not come from the run's commit {record.run_commit[:12]}: it was moved"
        )
    for commit in (record.run_commit, context.found.commit):
        there = blobs.sha256s(repository, commit, record.in_git)
        for path, sha256 in record.in_git.items():
            repinned = commit == context.found.commit and "@" not in context.found.name and _is_pin(path)
            if there.get(path) != sha256 and not repinned:
                state = "is missing" if path not in there else f"has sha256 {there[path]}, not {sha256}"
                raise CheckFailed(f"{path} {state} at commit {commit[:12]}")
    return f"{len(record.in_git)} files at commit {record.run_commit[:12]}"


def lists_of_files(context: CheckContext) -> str:
    """The manifest and the list of sources beside the record are those that it names."""
    record = context.record
    for which, expected in (("manifest", record.manifest_sha256), ("sources", record.sources_sha256)):
        path = paths(record.model)[which]
        found = hashlib.sha256(context.project.git.read(context.found.commit, path)).hexdigest()
        if found != expected:
            raise CheckFailed(f"{path} has sha256 {found}, not {expected}")
    return "manifest and sources"


def lock_says_the_same(context: CheckContext) -> str:
    """Commands, parameters, dependencies and outputs are those of `dvc.lock`; each input is some stage's output."""
    record = context.record
    lock = parse_yaml(context.project.git.read(record.run_commit, LOCK), LOCK)["stages"]
    for stage in record.stages:
        if stage.name in lock:
            _require_locked(stage.name, lock[stage.name], stage.model_dump())
        elif stage.cmd is not None and "/" not in stage.name:
            raise CheckFailed(f"{LOCK} has no stage {stage.name!r}")
    outs = record.outs()
    for stage in record.stages:
        for dep in stage.deps:
            made = outs.get(dep.path)
            if made is not None and (made.md5, made.sha256) != (dep.md5, dep.sha256):
                raise CheckFailed(f"the stage {stage.name!r} read another {dep.path} than the one that was made")
    model = outs.get(record.path)
    if model is None or model.sha256 != record.sha256 or sha256_of(record.files) != record.sha256:
        raise CheckFailed(f"no stage made {record.path} with sha256 {record.sha256}")
    return f"{len(record.stages)} stages, each input some stage's output or in git"


def files_of_dvc(context: CheckContext) -> str:
    """Every file from footage to weights lies in the cache or a remote with its md5 and sha256."""
    rows = {row["path"]: row for row in from_lines(_manifest(context))}
    checked, size = 0, 0
    for stage in context.record.stages:
        for item in stage.outs:
            if item.kept != "dvc" or item.md5 is None:
                continue
            found = _rehash(context, item, rows)
            checked, size = checked + len(found), size + sum(row["size"] for row in found)
            listing = {row["path"].removeprefix(item.path).lstrip("/"): row["sha256"] for row in found}
            total = listing[""] if "" in listing else sha256_of(listing)
            if total != item.sha256:
                raise CheckFailed(f"{item.path} has sha256 {total}, not {item.sha256}")
    for path, sha256 in context.record.files.items():
        name = f"{context.record.path}/{path}" if path else context.record.path
        if rows.get(name, {}).get("sha256") != sha256:
            raise CheckFailed(f"{name} is a subject of the record with sha256 {sha256}, and not in its manifest")
    return f"{checked} files, {size / 1e6:.1f} MB, in the cache or a remote"


def working_copy(context: CheckContext) -> str:
    """What differs from the record in the working copy, the empty string where nothing does; what is absent is no matter."""
    root, record = context.project.root, context.record
    wanted = dict(record.in_git)
    wanted |= {row["path"]: row["sha256"] for row in from_lines(_manifest(context))}
    present = {path: sha256 for path, sha256 in wanted.items() if (root / path).is_file() and not _is_pin(path)}
    differs = [path for path, sha256 in present.items() if sha256_file(root / path) != sha256]
    differs += [
        f"{path} (missing)"
        for path in wanted
        if any((root / out.path).is_dir() and path.startswith(f"{out.path}/") for out in record.outs().values())
        and not (root / path).exists()
    ]
    shown = sorted(set(differs))
    return ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")


def _manifest(context: CheckContext) -> bytes:
    return context.project.git.read(context.found.commit, paths(context.record.model)["manifest"])


def _rehash(context: CheckContext, item: Item, rows: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    try:
        listing = context.objects.listing(str(item.md5))
    except ObjectError as error:
        raise CheckFailed(f"{item.path}: {error}") from error
    found = []
    for relative, md5 in sorted(listing.items()):
        path = f"{item.path}/{relative}" if relative else item.path
        try:
            hashes = context.objects.hashes(md5)
        except ObjectError as error:
            raise CheckFailed(f"{path}: {error}") from error
        row = {"path": path, "md5": hashes.md5, "sha256": hashes.sha256, "size": hashes.size}
        if rows.get(path) != row:
            raise CheckFailed(f"{path} has md5 {hashes.md5} and sha256 {hashes.sha256}: {_said(rows.get(path))}")
        found.append(row)
    return found


def _said(row: Mapping[str, Any] | None) -> str:
    return f"the record says {row['md5']} and {row['sha256']}" if row else "the record does not know it"


def _require_locked(name: str, locked: Mapping[str, Any], stage: Mapping[str, Any]) -> None:
    cmd = locked.get("cmd")
    cmd = cmd if isinstance(cmd, str) or cmd is None else " && ".join(cmd)
    if cmd is not None and not _same(cmd, stage["cmd"]):
        raise CheckFailed(f"{LOCK}: the stage {name!r} has another command than the record")
    params = {key: value for group in locked.get("params", {}).values() for key, value in group.items()}
    for key in sorted({*params, *stage["params"]}):
        if not _same(params.get(key), stage["params"].get(key), key):
            raise CheckFailed(f"{LOCK}: the stage {name!r} ran with another {key} than the record says")
    for kind in ("deps", "outs"):
        said = {entry["path"]: entry["md5"] for entry in stage[kind]}
        found = {_recorded_path(entry["path"], said): _hash(entry) for entry in locked.get(kind, [])}
        for path in sorted({*found, *said}):
            if found.get(path) != said.get(path):
                raise CheckFailed(
                    f"{LOCK}: {path} of the stage {name!r} is {found.get(path)}, recorded {said.get(path)}"
                )


def _same(locked: Any, recorded: Any, key: str = "") -> bool:
    """Whether a record holds what the lock holds, as records leave out secrets now or as the first ones did."""
    return plain(recorded) in (clean(locked, key), as_first_recorded(locked))


def _recorded_path(locked: str, said: Container[str]) -> str:
    return next((path for path in (locked, harmless(locked), as_first_recorded(locked)) if path in said), locked)


def _hash(entry: Mapping[str, Any]) -> str | None:
    return entry.get("md5") or entry.get("etag") or entry.get("checksum")


def _is_pin(path: str) -> bool:
    """The pin moves with every promotion: the run's commit alone holds the one that the run was judged against."""
    return path == PIN
