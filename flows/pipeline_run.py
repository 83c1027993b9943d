"""A run of the pipeline in a clone of its own, and the steps that flows are made of."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from prefect import get_run_logger, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event
from prefect.exceptions import TerminationSignal

from flows import artifacts
from flows.stages import StageResults, run_stages
from onestep.core.params import load_group
from onestep.core.paths import PARAMS, VERDICT
from onestep.gate.settings import GateSettings
from onestep.gate.verdict import read_verdict
from onestep.models.settings import FetchSettings
from onestep.nightly.publish import enter_and_publish, publish
from onestep.nightly.retrain_policy import Decision, decide, situation_of
from onestep.nightly.settings import RetrainSettings
from onestep.nightly.summary import RunSummary, first_frame, write_summary
from onestep.nightly.workspace import Workspace, new_id, open_workspace
from onestep.provenance import ledger
from onestep.provenance.signing import find_key
from onestep.registry.history import pin_champion, waiting
from onestep.registry.recording import record
from onestep.vcs.graph import PlannedStage, leading_to, plan
from onestep.vcs.imports import update_imports
from onestep.vcs.project import Project

CANDIDATE_EVENT = "onestep.candidate"
RETRY_S = 20  # until what could not be reached is asked again
BEFORE_DECISION = "decision"  # in a stage's `meta:`: whether to retrain depends on it


@dataclass
class PipelineRun:
    """One run: its clone, the stages with their results, and the summary that people read."""

    workspace: Workspace
    summary: RunSummary
    stages: StageResults

    def bring_in_footage(self) -> None:
        """Look for new footage at the source of every import, and pin the champion that this run is judged against."""
        changed = bring_in_footage(self.workspace.clone)
        self.stages.planned = plan(self.workspace.clone)
        note = f"footage changed: {', '.join(changed)}" if changed else "no import brought new footage"
        self.summary.notes.append(note)

    def check_and_compare(self) -> None:
        """Run what the decision depends on: clips, validation, drift."""
        run_stages(self.workspace.clone, leading_to(self.stages.planned, BEFORE_DECISION), self.stages)

    def decide(self, by_hand: bool) -> Decision:
        """Whether to retrain, with reasons."""
        self.summary.decision = decide_whether_to_retrain(self.workspace.clone, by_hand)
        return self.summary.decision

    def train_and_judge(self) -> str:
        """Enter the trial in the ledger, then run all that is left of the graph; the verdict in one word."""
        enter_trial(self.workspace)
        clone = self.workspace.clone
        self.stages.planned = plan(clone)
        run_stages(clone, [stage for stage in self.stages.planned if _is_left(stage, self.stages)], self.stages)
        verdict = read_verdict(clone.root / VERDICT)
        self.summary.verdict = verdict
        artifacts.show_verdict(clone, verdict)
        artifacts.show_samples(first_frame(clone))
        return str(verdict["verdict"])

    def find_waiting_candidate(self) -> bool:
        """Whether the last candidate may be promoted and was not: its run ended too early, or the approver did not answer."""
        recorded = waiting(ledger.read(self.workspace.clone.git))
        if recorded is None:
            return False
        self.summary.branch = f"runs/{recorded}"
        self.summary.notes.append(f"{self.summary.branch} was waiting for its promotion")
        return True

    def publish(self) -> None:
        """Record the run, refused or not: data to the remote, then the branch `runs/<id>` and the ledger."""
        self.summary.branch = publish_run(self.workspace)

    def emit_candidate(self) -> None:
        """Emit the event that a candidate waits for its promotion, which starts the deployment `promote`."""
        emit_event(
            CANDIDATE_EVENT,
            resource={
                "prefect.resource.id": f"{CANDIDATE_EVENT}.{self.workspace.id}",
                "prefect.resource.name": self.summary.branch,
            },
            payload={"branch": self.summary.branch, "run": self.workspace.id},
        )


@contextmanager
def pipeline_run(
    flow: str, project: str, revision: str, upstream: str | None, notify: str | None = None
) -> Iterator[PipelineRun]:
    """A run in a clone of its own; however it ends, its summary is written and a notification is sent."""
    home = Project(Path(project).resolve())
    clock = time.monotonic()
    summary = RunSummary(run=new_id(), flow=flow, started=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
    run: PipelineRun | None = None
    try:
        workspace = clone_project(home, summary.run, revision, upstream)
        summary.commit = workspace.commit
        run = PipelineRun(workspace, summary, StageResults([]))
        yield run
    except TerminationSignal:
        summary.ended("failed", "Cancelled before its end; nothing was promoted.")
        raise
    except BaseException as error:
        summary.ended("failed", f"{error or type(error).__name__}")
        raise
    finally:
        summary.minutes = (time.monotonic() - clock) / 60
        if run is not None:
            summary.stages = run.stages.table()
            artifacts.show_stages(summary.stages)
            run.workspace.close()
        page = summary.page(home)
        with artifacts.not_fatal("the summary page"):
            write_summary(page, summary, run.workspace.clone if run else None)
        artifacts.show_summary(summary, page)
        artifacts.send_notification(notify, f"onestep {flow}: {summary.kind}", summary.headline)


@task(cache_policy=NO_CACHE)
def clone_project(project: Project, id: str, revision: str, upstream: str | None) -> Workspace:
    """A clone at a pinned commit, with the project's cache."""
    workspace = open_workspace(project, id, revision, upstream)
    get_run_logger().info(f"run {workspace.id} at commit {workspace.commit[:12]} in {workspace.clone.root}")
    return workspace


@task(cache_policy=NO_CACHE, retries=2, retry_delay_seconds=RETRY_S)
def bring_in_footage(clone: Project) -> list[str]:
    """Update all imports, and pin the champion; returns the imports that changed."""
    if pin_champion(clone):
        get_run_logger().info("the champion has changed since this commit: pinned the one in production")
    return update_imports(clone)


@task(cache_policy=NO_CACHE)
def decide_whether_to_retrain(clone: Project, by_hand: bool) -> Decision:
    """The decision, as an artifact and in the log."""
    gate = load_group(GateSettings, clone.root / PARAMS, "gate")
    decision = decide(situation_of(clone, gate, by_hand), load_group(RetrainSettings, clone.root / PARAMS, "retrain"))
    artifacts.show_decision(decision)
    get_run_logger().info(decision.sentence)
    return decision


@task(cache_policy=NO_CACHE, retries=2, retry_delay_seconds=RETRY_S)
def enter_trial(workspace: Workspace) -> None:
    """Enter the trial in the ledger before it has a result; the entry fixes its alpha and its noise."""
    gate = load_group(GateSettings, workspace.clone.root / PARAMS, "gate")
    judge = load_group(FetchSettings, workspace.clone.root / PARAMS, "judge").sha256
    pin = enter_and_publish(workspace, gate, judge)
    get_run_logger().info(f"comparison {pin.comparison}: alpha {pin.alpha:.3g}, seed {pin.seed}")


@task(cache_policy=NO_CACHE, retries=2, retry_delay_seconds=RETRY_S)
def publish_run(workspace: Workspace) -> str:
    """Push the run's data, then its branch, which is returned; a remote that cannot be reached is asked again."""
    done = record(workspace.clone, find_key(workspace.home), flow_run=runtime.flow_run.get_id())
    publish(workspace, done.branch)
    get_run_logger().info(f"recorded on {done.branch}; {'signed' if done.signer else 'UNSIGNED: onestep keygen'}")
    return done.branch


def _is_left(stage: PlannedStage, results: StageResults) -> bool:
    """Whether a stage was not run yet, or has changed since by what the trial's entry wrote."""
    return stage.name not in results.done or stage.affected
