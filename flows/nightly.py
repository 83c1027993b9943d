"""Every night: bring in footage, check it, compare it, and where there is reason to, retrain, judge and promote."""

from typing import Literal

from prefect import flow
from prefect.concurrency.sync import concurrency

from flows.catching_up import cancel_missed_nights
from flows.night import Night, a_run
from flows.promote import promote
from flows.stages import GPU_LEASE_S

Promotion = Literal["at once", "by event", "never"]


@flow(name="nightly")
def nightly(
    project: str = ".",
    revision: str = "main",
    upstream: str | None = None,
    promotion: Promotion = "at once",
    notify: str | None = None,
) -> str:
    """Update footage, validate, compare; retrain where there is reason to; judge; promote. Returns what came of it.

    project: the folder that holds dvc.yaml. revision: branch or tag that runs start from and main is. upstream: the
    repository to clone and to publish to, null = the project. promotion: at once, by the deployment `promote` that
    listens for candidates (for approval by a person), or never. notify: a notification block, `type/name`.
    """
    cancel_missed_nights()
    with a_run("nightly", project, revision, upstream, notify) as night:
        night.bring_in_footage()
        night.check_and_compare()
        decision = night.decide(by_hand=False)
        if not decision.retrain:
            return night.morning.ended("stopped" if decision.bad_clips else "nothing", decision.says)
        return train_judge_promote(night, promotion, revision)


def train_judge_promote(night: Night, promotion: Promotion, into: str) -> str:
    """What follows a decision to retrain, one run at a time; returns the headline."""
    with concurrency("attempt", occupy=1, lease_duration=GPU_LEASE_S):
        verdict = night.train_and_judge()
        night.publish()
        if verdict != "promote":
            return night.morning.ended(verdict, night.morning.verdict_says)
        if promotion == "at once":
            done = promote(str(night.run.project), night.morning.branch, into, night.run.upstream)
            night.morning.notes += done.notes
            return night.morning.ended(done.kind, done.says)
    if promotion == "by event":
        night.announce()
    return night.morning.ended("waiting", f"{night.morning.branch} may be promoted: {night.morning.verdict_says}")


if __name__ == "__main__":
    nightly()
