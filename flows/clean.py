"""Keep the disk: old clones go; of the cache, only what no registered version, branch or run needs."""

from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from onestep.nightly import workspace
from onestep.registry.gc import GcRefused, collect_garbage
from onestep.vcs.project import Project


@flow(name="clean")
def clean(project: str = ".", keep: int = 5) -> str:
    """Remove all but the newest `keep` clones that no process works in, then unneeded cache. Returns what was removed."""
    home = Project(Path(project).resolve())
    removed = remove_clones(home, keep)
    kept = remove_from_cache(home)
    return f"removed {len(removed)} clones ({', '.join(removed) or 'none'}); cache: {kept}"


@task(cache_policy=NO_CACHE)
def remove_clones(project: Project, keep: int) -> list[str]:
    """Remove old clones, never one in use; returns their ids."""
    removed = workspace.remove_old(project, keep)
    get_run_logger().info(f"removed {len(removed)} clones")
    return removed


@task(cache_policy=NO_CACHE)
def remove_from_cache(project: Project) -> str:
    """Remove what no registered version, recorded run, branch or tag needs; never while a run is at work."""
    try:
        with workspace.cache_lock(project):
            kept = collect_garbage(project)
    except (workspace.WorkspaceError, GcRefused) as refusal:
        get_run_logger().warning(f"nothing was removed from the cache: {refusal}")
        return f"left alone, {refusal}"
    return f"kept what {len(kept)} recorded runs need"


if __name__ == "__main__":
    clean()
