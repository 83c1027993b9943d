"""Bring in footage, check and compare it, and decide as `nightly` would, without training."""

from prefect import flow

from flows.pipeline_run import pipeline_run


@flow(name="ingest")
def ingest(project: str = ".", revision: str = "main", upstream: str | None = None, notify: str | None = None) -> str:
    """Update footage, cut it into clips, check and compare them. Returns what `nightly` would decide."""
    with pipeline_run("ingest", project, revision, upstream, notify) as run:
        run.bring_in_footage()
        run.check_and_compare()
        decision = run.decide(by_hand=False)
        return run.summary.ended("stopped" if decision.bad_clips else "ready", decision.sentence)


if __name__ == "__main__":
    ingest()
