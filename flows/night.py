"""The sentences that flows are made of: a run in a clone of its own, and what is done in it."""

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

from flows import page
from flows.stages import Book, run_stages
from onestep.core.params import load_group
from onestep.gate.settings import GateSettings
from onestep.gate.verdict import read_verdict
from onestep.models.settings import FetchSettings
from onestep.nightly import workspace
from onestep.nightly.publish import enter_and_publish, publish
from onestep.nightly.retrain_policy import Decision, decide, look
from onestep.nightly.settings import RetrainSettings
from onestep.nightly.summary import Morning, still, write_morning
from onestep.nightly.workspace import Run
from onestep.provenance import ledger
from onestep.provenance.signing import find_key
from onestep.registry.history import pin_champion, waiting
from onestep.registry.recording import record
from onestep.vcs.git import Repository
from onestep.vcs.graph import PlannedStage, leading_to, plan
from onestep.vcs.imports import update_imports

PARAMS = "params.yaml"
CANDIDATE = "onestep.candidate"
AGAIN_S = 20  # seconds before something that was away is asked again
BEFORE_DECISION = "decision"  # in a stage's `meta:`: whether to retrain depends on it


@dataclass
class Night:
    """One run in its clone: what it is to do, what it did, and what the morning page will say."""

    run: Run
    morning: Morning
    book: Book
    decision: Decision | None = None

    def bring_in_footage(self) -> None:
        """Look for new footage at the source of every import, and pin the champion that this run is judged against."""
        moved = bring_in_footage(self.run.root)
        self.book.planned = plan(self.run.root)
        self.morning.notes.append(f"footage changed: {', '.join(moved)}" if moved else "no import brought new footage")

    def check_and_compare(self) -> None:
        """Run what the decision depends on: clips, validation, drift."""
        run_stages(self.run.root, leading_to(self.book.planned, BEFORE_DECISION), self.book)

    def decide(self, by_hand: bool) -> Decision:
        """Whether to retrain, with reasons."""
        self.decision = decide_whether_to_retrain(self.run.root, by_hand)
        self.morning.decision = self.decision
        return self.decision

    def train_and_judge(self) -> str:
        """Enter the attempt in the ledger, then run all that is left of the graph; the verdict in one word."""
        enter_attempt(self.run)
        self.book.planned = plan(self.run.root)
        run_stages(self.run.root, [s for s in self.book.planned if _waits(s, self.book)], self.book)
        verdict = read_verdict(self.run.root)
        self.morning.verdict = verdict
        page.show_verdict(self.run.root, verdict)
        page.show_samples(still(self.run.root))
        return str(verdict["verdict"])

    def find_waiting_candidate(self) -> bool:
        """Whether the last candidate may be promoted and was not: the night before ended too early, or nobody answered."""
        run = waiting(ledger.read(Repository(self.run.root)))
        if run is None:
            return False
        self.morning.branch = f"runs/{run}"
        self.morning.notes.append(f"{self.morning.branch} was waiting for its promotion")
        return True

    def publish(self) -> None:
        """Record the run, refused or not: data to the remote, then the branch `runs/<id>` and the ledger."""
        self.morning.branch = publish_run(self.run)

    def announce(self) -> None:
        """Let the world know that a candidate waits for its promotion; the deployment `promote` listens."""
        emit_event(
            CANDIDATE,
            resource={
                "prefect.resource.id": f"{CANDIDATE}.{self.run.id}",
                "prefect.resource.name": self.morning.branch,
            },
            payload={"branch": self.morning.branch, "run": self.run.id},
        )


@contextmanager
def a_run(flow: str, project: str, revision: str, upstream: str | None, notify: str | None = None) -> Iterator[Night]:
    """A run in a clone of its own; whatever happens in it, the morning page is written and people are told."""
    home = Path(project).resolve()
    clock = time.monotonic()
    morning = Morning(run=workspace.new_id(), flow=flow, started=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
    night: Night | None = None
    try:
        run = open_clone(home, morning.run, revision, upstream)
        morning.commit = run.commit
        night = Night(run, morning, Book([]))
        yield night
    except TerminationSignal:
        morning.ended("failed", "Cancelled before its end; nothing was promoted.")
        raise
    except BaseException as error:
        morning.ended("failed", f"{error or type(error).__name__}")
        raise
    finally:
        morning.minutes = (time.monotonic() - clock) / 60
        if night is not None:
            morning.stages = night.book.table()
            page.show_stages(morning.stages)
            workspace.close(night.run)
        written = morning.page(home)
        with page.not_fatal("the page"):
            write_morning(written, morning, night.run.root if night else None)
        page.show_morning(morning, written)
        page.tell(notify, f"onestep {flow}: {morning.kind}", morning.headline)


@task(cache_policy=NO_CACHE)
def open_clone(project: Path, id: str, revision: str, upstream: str | None) -> Run:
    """A clone at a pinned commit, with the project's cache."""
    run = workspace.open_run(project, id, revision, upstream)
    get_run_logger().info(f"run {run.id} at commit {run.commit[:12]} in {run.root}")
    return run


@task(cache_policy=NO_CACHE, retries=2, retry_delay_seconds=AGAIN_S)
def bring_in_footage(root: Path) -> list[str]:
    """Ask the sources of all imports for what is new; a source can be away for a moment."""
    if pin_champion(root):
        get_run_logger().info("the champion has changed since this commit: pinned the one in production")
    return update_imports(root)


@task(cache_policy=NO_CACHE)
def decide_whether_to_retrain(root: Path, by_hand: bool) -> Decision:
    """The decision, as an artifact and in the log."""
    settings = load_group(GateSettings, root / PARAMS, "gate")
    decision = decide(look(root, settings, by_hand), load_group(RetrainSettings, root / PARAMS, "retrain"))
    page.show_decision(decision)
    get_run_logger().info(decision.says)
    return decision


@task(cache_policy=NO_CACHE, retries=2, retry_delay_seconds=AGAIN_S)
def enter_attempt(run: Run) -> None:
    """The attempt enters the ledger before anybody can see its result; alpha and noise are offered to it."""
    settings = load_group(GateSettings, run.root / PARAMS, "gate")
    judge = load_group(FetchSettings, run.root / PARAMS, "judge").sha256
    pin = enter_and_publish(run, settings, judge)
    get_run_logger().info(f"comparison {pin.comparison}: alpha {pin.alpha:.3g}, seed {pin.seed}")


@task(cache_policy=NO_CACHE, retries=2, retry_delay_seconds=AGAIN_S)
def publish_run(run: Run) -> str:
    """Data first, then the branch, which is returned: a remote that is away for a moment is asked again."""
    done = record(run.root, find_key(run.project), flow_run=runtime.flow_run.get_id())
    publish(run, done.branch)
    get_run_logger().info(f"recorded on {done.branch}; {'signed' if done.signer else 'UNSIGNED: onestep keygen'}")
    return done.branch


def _waits(stage: PlannedStage, book: Book) -> bool:
    """Not done yet tonight, or changed since by what the attempt wrote."""
    return stage.name not in book.runs or stage.affected
