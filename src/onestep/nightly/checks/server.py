"""The Prefect server: whether it answers, and whether pools, limits and deployments are there."""

from collections.abc import Iterator
from typing import Any

from onestep.nightly.checks.result import CheckResult
from onestep.nightly.prefect_server import LIMITS, POOLS, working_folders
from onestep.vcs.project import Project


def server(url: str, project: Project | None = None) -> Iterator[CheckResult]:
    """The server answers; pools have workers; limits and deployments are there, and run in the project where it is given."""
    import httpx

    try:
        healthy = httpx.get(f"{url}/health", timeout=3).status_code == 200
    except httpx.HTTPError as error:
        remedy = "make server; on another machine: export PREFECT_API_URL=http://HOST:4200/api"
        yield CheckResult("server", "warning", f"no Prefect server at {url} ({type(error).__name__})", remedy)
        return
    page = url.removesuffix("/api")
    yield CheckResult("server", "ok" if healthy else "error", f"{page} answers", "look at .onestep/server/server.log")
    pools = {pool["name"]: pool.get("status") for pool in _post(url, "work_pools/filter")}
    for pool in POOLS:
        if pool not in pools:
            yield CheckResult(
                f"pool {pool}", "error", "does not exist", f"prefect work-pool create {pool} --type process"
            )
        else:
            ready = pools[pool] == "READY"
            found = "a worker is there" if ready else "no worker: its runs wait"
            yield CheckResult(f"pool {pool}", "ok" if ready else "error", found, f"prefect worker start --pool {pool}")
    limits = {limit["name"]: limit["limit"] for limit in _post(url, "v2/concurrency_limits/filter")}
    for name in LIMITS:
        found = f"{limits[name]} at a time" if name in limits else "no limit: runs do not wait for each other"
        yield CheckResult(
            f"limit {name}", "ok" if name in limits else "error", found, f"prefect gcl create {name} --limit 1"
        )
    deployments = _post(url, "deployments/filter")
    folders = working_folders(deployments)
    if project is not None and folders and project.root.resolve() not in [folder.resolve() for folder in folders]:
        others = ", ".join(map(str, folders))
        remedy = "make server ARGS='--port N' here, then export PREFECT_API_URL=http://127.0.0.1:N/api"
        yield CheckResult(
            "project", "error", f"the server's deployments run in {others}, not in {project.root.resolve()}", remedy
        )
    names = {deployment["name"] for deployment in deployments}
    found = f"{len(names)} deployments" if "nightly" in names else "the deployment nightly is missing"
    yield CheckResult("deployments", "ok" if "nightly" in names else "error", found, "prefect --no-prompt deploy --all")


def _post(url: str, path: str) -> list[dict[str, Any]]:
    import httpx

    answer = httpx.post(f"{url}/{path}", json={}, timeout=10)
    answer.raise_for_status()
    return list(answer.json())
