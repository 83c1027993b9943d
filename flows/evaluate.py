"""Measure any registered model again: today's prompts and judge, the model as it was."""

from dataclasses import replace

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows import artifacts
from flows.pipeline_run import RETRY_S, PipelineRun, pipeline_run
from flows.stages import run_stages
from onestep.core.paths import VERDICT
from onestep.gate.verdict import read_verdict
from onestep.registry.reconstruct import reconstruct
from onestep.vcs.graph import depending_on, plan
from onestep.vcs.project import Project


@flow(name="evaluate")
def evaluate(
    version: str,
    project: str = ".",
    revision: str = "main",
    upstream: str | None = None,
    notify: str | None = None,
) -> str:
    """Measure a registered version (`onestep@v1.2.0`) at a revision of the project; promotes and records nothing."""
    with pipeline_run("evaluate", project, revision, upstream, notify) as run:
        stage = bring_model(run.workspace.clone, version)
        measure_again(run, stage)
        return run.summary.ended("ready", f"{version}, measured at {revision}: {run.summary.verdict_reason}")


@task(cache_policy=NO_CACHE, retries=2, retry_delay_seconds=RETRY_S)
def bring_model(clone: Project, version: str) -> str:
    """Put the version's model in the place of the candidate; returns the stage whose output that is."""
    stage = reconstruct(clone, version)
    get_run_logger().info(f"{version} stands in the place of the output of {stage}")
    return stage


def measure_again(run: PipelineRun, stage: str) -> None:
    """Run every stage that depends on the output of this one."""
    clone = run.workspace.clone
    run.stages.planned = plan(clone)
    dependent = [replace(each, affected=True) for each in depending_on(run.stages.planned, stage)]
    run_stages(clone, dependent, run.stages)
    run.summary.verdict = read_verdict(clone.root / VERDICT)
    artifacts.show_verdict(clone, run.summary.verdict)
