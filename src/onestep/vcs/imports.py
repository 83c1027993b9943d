"""Footage that others put somewhere: an import is frozen until it is updated, and a run updates it here."""

from pathlib import Path

from onestep.vcs.project import GraphError, Project


def update_imports(project: Project) -> list[str]:
    """Look at every import's source (`dvc update`) and return the paths whose content moved; none without imports.

    Raises `GraphError` where a source cannot be read.
    """
    moved = []
    with project.graph() as repo:
        for stage in [stage for stage in repo.index.stages if stage.is_import]:
            before = [str(out.hash_info) for out in stage.outs]
            try:
                updated = repo.update([stage.relpath])
            except Exception as error:  # every kind of source fails in its own way
                raise GraphError(f"{stage.relpath}: its source cannot be read: {error}") from error
            after = [str(out.hash_info) for new in updated for out in new.outs]
            if before != after:
                moved += [Path(out.fs_path).relative_to(repo.root_dir).as_posix() for out in stage.outs]
    return sorted(moved)
