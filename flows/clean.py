"""Keep the disk: old clones go; of the cache, only what no registered version, branch or run needs."""

from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from onestep.registry import runs


@flow(name="clean")
def clean(project: str = ".", keep: int = 5) -> str:
    """Remove all but the newest `keep` clones that nobody works in. Returns what went."""
    gone = remove_clones(Path(project).resolve(), keep)
    return f"removed {len(gone)} clones: {', '.join(gone) or 'none'}"


@task(cache_policy=NO_CACHE)
def remove_clones(project: Path, keep: int) -> list[str]:
    """Old clones, never one in use."""
    gone = runs.clean(project, keep)
    get_run_logger().info(f"removed {len(gone)} clones")
    return gone


if __name__ == "__main__":
    clean()
