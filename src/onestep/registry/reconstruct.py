"""A registered version's model as it was: for the graph to judge against, or in the place of the candidate."""

from pathlib import Path

from onestep.core.paths import MODEL
from onestep.core.redaction import SafeError
from onestep.core.storage import replacing_folder, sha256_folder
from onestep.vcs.project import Project
from onestep.vcs.versions import versions


class ReconstructError(SafeError):
    """A version's model cannot be had as it was registered; the message names the version."""


def export_model(project: Project, tag: str, commit: str, sha256: str, target: Path) -> None:
    """Put the files of a version's model into an empty folder, from the cache or a remote.

    tag: `onestep@v1.2.0`, whose commit it is; raises `ReconstructError` where the bytes are lost or have another sha256.
    """
    model = project.artifact(tag.partition("@")[0], commit)
    try:
        project.files_at(commit).get(model, str(target / "model"), recursive=True)
        for path in (target / "model").iterdir():
            path.rename(target / path.name)
        (target / "model").rmdir()
    except Exception as error:  # every kind of cache and remote fails in its own way
        raise ReconstructError(f"{model} of {tag} is neither in the cache nor in a remote: {error}") from error
    if (found := sha256_folder(target)) != sha256:
        raise ReconstructError(f"{model} of {tag} has sha256 {found}, but {sha256} is registered")


def reconstruct(project: Project, version: str) -> str:
    """Put a registered version's model where the graph makes its own; the name of the stage that would have made it.

    version: its tag, `onestep@v1.2.0`. Raises `ReconstructError` where it is not registered, its bytes are lost, or
    they are not those that were registered.
    """
    known = {each.tag: each for each in versions(project.git, MODEL)}
    if version not in known:
        raise ReconstructError(f"{version} is not registered here; registered are {', '.join(known) or 'none'}")
    target = project.root / project.artifact(MODEL)
    with replacing_folder(target) as partial:
        export_model(project, version, known[version].commit, known[version].sha256, partial)
    with project.graph() as repo:
        (out,) = repo.find_outs_by_path(str(target.resolve()))
        return str(out.stage.addressing.rsplit(":", 1)[-1])
