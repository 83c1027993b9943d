"""An earlier version in the place of the candidate, so that the graph measures it again."""

from pathlib import Path

from onestep.core.storage import replacing_folder, sha256_folder
from onestep.registry.champion import MODEL, ProductionError, registered
from onestep.vcs.git import Repository
from onestep.vcs.graph import artifact_path, open_graph


def take_model(root: Path, version: str) -> str:
    """Put a registered version's model where the graph makes its own; the name of the stage that would have made it.

    version: its tag, `onestep@v1.2.0`. Raises `ProductionError` where it is not registered, its bytes are lost, or
    they are not those that were registered.
    """
    from dvc.api import DVCFileSystem

    repository = Repository(root)
    known = {each.tag: each for each in registered(root, MODEL)}
    if version not in known:
        raise ProductionError(f"{version} is not registered here; registered are {', '.join(known) or 'none'}")
    target = root / artifact_path(repository, MODEL)
    source = artifact_path(repository, MODEL, known[version].commit)
    with replacing_folder(target) as partial:
        try:
            DVCFileSystem(str(root), rev=known[version].commit).get(source, str(partial / "model"), recursive=True)
        except Exception as error:  # every kind of cache and remote fails in its own way
            raise ProductionError(f"{source} of {version} is neither in the cache nor in a remote: {error}") from error
        for path in (partial / "model").iterdir():
            path.rename(partial / path.name)
        (partial / "model").rmdir()
        if (found := sha256_folder(partial)) != known[version].sha256:
            raise ProductionError(f"{source} of {version} has sha256 {found}, registered is {known[version].sha256}")
    with open_graph(root) as repo:
        (out,) = repo.find_outs_by_path(str(target.resolve()))
        return str(out.stage.addressing.rsplit(":", 1)[-1])
