"""Every night: bring in footage, check it, compare it, and where there is reason to, retrain, judge and promote."""

from typing import Literal

from prefect import flow

from flows.concurrency import concurrency_slot
from flows.missed_runs import cancel_missed_runs
from flows.pipeline_run import PipelineRun, pipeline_run
from flows.promote import candidate_of, promote_candidate
from onestep.nightly.prefect_server import TRIAL

PromotionMode = Literal["at once", "by event", "never"]


@flow(name="nightly")
def nightly(
    project: str = ".",
    revision: str = "main",
    upstream: str | None = None,
    promotion: PromotionMode = "at once",
    notify: str | None = None,
) -> str:
    """Update footage, validate, compare; retrain where there is reason to; judge; promote. Returns the outcome in one sentence.

    project: the folder that holds dvc.yaml. revision: branch or tag that runs start from and main is. upstream: the
    repository to clone and to publish to, null = the project. promotion: at once, by the deployment `promote`, which
    an event of the candidate starts (for approval by a person), or never. notify: a notification block, `type/name`.
    """
    cancel_missed_runs()
    with pipeline_run("nightly", project, revision, upstream, notify) as run:
        run.bring_in_footage()
        run.check_and_compare()
        decision = run.decide(by_hand=False)
        if decision.retrain:
            return train_judge_promote(run, promotion, revision)
        if run.find_waiting_candidate():
            return conclude(run, promotion, revision)
        return run.summary.ended("stopped" if decision.bad_clips else "nothing", decision.sentence)


def train_judge_promote(run: PipelineRun, promotion: PromotionMode, into: str) -> str:
    """What follows a decision to retrain, one candidate at a time; returns the outcome."""
    with concurrency_slot(TRIAL):
        verdict = run.train_and_judge()
        run.publish()
        if verdict != "promote":
            return run.summary.ended(verdict, run.summary.verdict_reason)
        return conclude(run, promotion, into)


def conclude(run: PipelineRun, promotion: PromotionMode, into: str) -> str:
    """Promote a recorded candidate that may be promoted, emit its event, or leave it waiting; returns the outcome."""
    branch = run.summary.branch
    if promotion == "at once":
        with candidate_of(run.workspace.home, branch, run.workspace.upstream) as candidate:
            done = promote_candidate(candidate, branch, into)
        run.summary.notes += done.notes
        return run.summary.ended(done.kind, done.sentence)
    if promotion == "by event":
        run.emit_candidate()
    return run.summary.ended("waiting", f"{branch} may be promoted: {run.summary.verdict_reason}")


if __name__ == "__main__":
    nightly()
