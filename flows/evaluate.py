"""Measure any registered model again: today's prompts, today's judge, the model as it was."""

from dataclasses import replace
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows import page
from flows.night import AGAIN_S, Night, a_run
from flows.stages import run_stages
from onestep.gate.verdict import read_verdict
from onestep.registry.reconstruct import take_model
from onestep.vcs.graph import depending_on, plan


@flow(name="evaluate")
def evaluate(
    version: str,
    project: str = ".",
    revision: str = "main",
    upstream: str | None = None,
    notify: str | None = None,
) -> str:
    """Measure a registered version (`onestep@v1.2.0`) at a revision of the project; promotes and records nothing."""
    with a_run("evaluate", project, revision, upstream, notify) as night:
        maker = bring_model(night.run.root, version)
        judge_again(night, maker)
        return night.morning.ended("ready", f"{version}, measured at {revision}: {night.morning.verdict_says}")


@task(cache_policy=NO_CACHE, retries=2, retry_delay_seconds=AGAIN_S)
def bring_model(root: Path, version: str) -> str:
    """The version's model in the place of the candidate; the name of the stage that would have made it."""
    maker = take_model(root, version)
    get_run_logger().info(f"{version} stands in the place of the output of {maker}")
    return maker


def judge_again(night: Night, maker: str) -> None:
    """Run every stage that depends on the model."""
    night.book.planned = plan(night.run.root)
    stages = [replace(stage, affected=True) for stage in depending_on(night.book.planned, maker)]
    run_stages(night.run.root, stages, night.book)
    night.morning.verdict = read_verdict(night.run.root)
    page.show_verdict(night.run.root, night.morning.verdict)
