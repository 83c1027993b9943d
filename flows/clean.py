"""Keep the disk: old clones go; of the cache, only what no registered version, branch or run needs."""

from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from onestep.nightly import workspace
from onestep.registry.gc import KeepingRefused, collect_garbage


@flow(name="clean")
def clean(project: str = ".", keep: int = 5) -> str:
    """Remove all but the newest `keep` clones that nobody works in, then what nothing needs. Returns what went."""
    home = Path(project).resolve()
    gone = remove_clones(home, keep)
    kept = remove_from_cache(home)
    return f"removed {len(gone)} clones ({', '.join(gone) or 'none'}); cache: {kept}"


@task(cache_policy=NO_CACHE)
def remove_clones(project: Path, keep: int) -> list[str]:
    """Old clones, never one in use."""
    gone = workspace.clean(project, keep)
    get_run_logger().info(f"removed {len(gone)} clones")
    return gone


@task(cache_policy=NO_CACHE)
def remove_from_cache(project: Path) -> str:
    """All that no registered version, recorded run, branch or tag needs; not while a run is at work."""
    try:
        with workspace.cache_alone(project):
            kept = collect_garbage(project)
    except (workspace.RunError, KeepingRefused) as refusal:
        get_run_logger().warning(f"nothing was removed from the cache: {refusal}")
        return f"left alone, {refusal}"
    return f"kept what {len(kept)} recorded runs need"


if __name__ == "__main__":
    clean()
