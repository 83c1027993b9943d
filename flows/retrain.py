"""Retrain on demand: somebody has a reason of their own."""

from prefect import flow

from flows.night import a_run
from flows.nightly import Promotion, train_judge_promote


@flow(name="retrain")
def retrain(
    project: str = ".",
    revision: str = "main",
    upstream: str | None = None,
    promotion: Promotion = "by event",
    notify: str | None = None,
) -> str:
    """Retrain by hand: the same as a night, except that no rule has to ask for it. Returns what came of it."""
    with a_run("retrain", project, revision, upstream, notify) as night:
        night.bring_in_footage()
        night.check_and_compare()
        decision = night.decide(by_hand=True)
        if not decision.retrain:
            return night.morning.ended("stopped" if decision.bad_clips else "nothing", decision.says)
        return train_judge_promote(night, promotion, revision)


if __name__ == "__main__":
    retrain()
