"""Bring in footage and say what it is like, without training: what the night would decide."""

from prefect import flow

from flows.night import a_run


@flow(name="ingest")
def ingest(project: str = ".", revision: str = "main", upstream: str | None = None, notify: str | None = None) -> str:
    """Update footage, cut it into clips, check and compare them. Returns what a night would do with them."""
    with a_run("ingest", project, revision, upstream, notify) as night:
        night.bring_in_footage()
        night.check_and_compare()
        decision = night.decide(by_hand=False)
        return night.morning.ended("stopped" if decision.bad_clips else "ready", decision.says)


if __name__ == "__main__":
    ingest()
