"""`onestep gc`: `dvc gc` that never removes what a registered version or a recorded run needs."""

from onestep.core.paths import RUNS
from onestep.provenance.record import Record, RecordError
from onestep.provenance.store import everything, manifest
from onestep.vcs.objects import DIRECTORY, Objects, open_objects
from onestep.vcs.project import Project


class GcRefused(RuntimeError):
    """Nothing was removed; the message says why not."""


def collect_garbage(project: Project, cloud: bool = False, dry: bool = False) -> list[str]:
    """Remove from the cache (and, if `cloud`, from the default remote) what nothing needs; the runs that were kept.

    Needed is what the working copy, every tag, every branch, every DVC experiment, and every recorded run here or on a
    remote uses. Raises `GcRefused` where a recorded run's commit cannot be read, so that what it needs is unknown.
    """
    repository, runs = project.git, everything(project)
    for found in runs:
        if repository.resolve(f"{found.record.run_commit}^{{commit}}") is None:
            raise GcRefused(f"the commit of {found.title} is not here: run git fetch --tags, or remove the run")
    remote = repository.refs("%(refname)", *repository.on_remotes(RUNS))
    with project.graph() as repo:
        repo.gc(
            workspace=True,
            all_tags=True,
            all_branches=True,
            all_commits=bool(remote),  # branches of a remote are no branches here: then every commit counts
            all_experiments=True,
            cloud=cloud,
            force=True,
            dry=dry,
        )
    return [found.title for found in runs]


def missing(project: Project) -> dict[str, list[str]]:
    """What registered versions and recorded runs need and neither the cache nor a remote has, by run."""
    found = {}
    with open_objects(project) as objects:
        for run in everything(project):
            try:
                rows = manifest(project, run)
            except RecordError as error:
                found[run.title] = [str(error)]
                continue
            lacking = [row["path"] for row in rows if not objects.has(row["md5"])]
            lacking += _listings(objects, run.record)
            if lacking:
                found[run.title] = lacking
    return found


def _listings(objects: Objects, record: Record) -> list[str]:
    folders = [item for stage in record.stages for item in stage.outs if item.md5 and item.md5.endswith(DIRECTORY)]
    return [item.path for item in folders if item.kept == "dvc" and not objects.has(str(item.md5))]
