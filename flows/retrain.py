"""Retrain on demand, where a person has a reason that no rule has."""

from prefect import flow

from flows.nightly import PromotionMode, train_judge_promote
from flows.pipeline_run import pipeline_run


@flow(name="retrain")
def retrain(
    project: str = ".",
    revision: str = "main",
    upstream: str | None = None,
    promotion: PromotionMode = "by event",
    notify: str | None = None,
) -> str:
    """The same as `nightly`, except that no rule has to ask for it. Returns the outcome in one sentence."""
    with pipeline_run("retrain", project, revision, upstream, notify) as run:
        run.bring_in_footage()
        run.check_and_compare()
        decision = run.decide(by_hand=True)
        if not decision.retrain:
            return run.summary.ended("stopped" if decision.bad_clips else "nothing", decision.sentence)
        return train_judge_promote(run, promotion, revision)


if __name__ == "__main__":
    retrain()
