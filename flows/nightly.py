"""Every night: bring in footage, check it, compare it, and where there is reason to, retrain, judge and promote."""

from typing import Literal

from prefect import flow

from flows.catching_up import cancel_missed_nights
from flows.night import Night, a_run
from flows.promote import candidate_of, promote_candidate
from flows.turns import ATTEMPT, in_turn

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
        if decision.retrain:
            return train_judge_promote(night, promotion, revision)
        if night.find_waiting_candidate():
            return conclude(night, promotion, revision)
        return night.morning.ended("stopped" if decision.bad_clips else "nothing", decision.says)


def train_judge_promote(night: Night, promotion: Promotion, into: str) -> str:
    """What follows a decision to retrain, one candidate at a time; returns the headline."""
    with in_turn(ATTEMPT):
        verdict = night.train_and_judge()
        night.publish()
        if verdict != "promote":
            return night.morning.ended(verdict, night.morning.verdict_says)
        return conclude(night, promotion, into)


def conclude(night: Night, promotion: Promotion, into: str) -> str:
    """A recorded candidate may be promoted: at once, by whoever listens for it, or not now; returns the headline."""
    branch = night.morning.branch
    if promotion == "at once":
        with candidate_of(night.run.project, branch, night.run.upstream) as clone:
            done = promote_candidate(clone, branch, into)
        night.morning.notes += done.notes
        return night.morning.ended(done.kind, done.says)
    if promotion == "by event":
        night.announce()
    return night.morning.ended("waiting", f"{branch} may be promoted: {night.morning.verdict_says}")


if __name__ == "__main__":
    nightly()
