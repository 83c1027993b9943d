"""Promote a candidate: at once, or after a named person's approval."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from uuid import UUID

import httpx
from prefect import flow, get_client, get_run_logger, pause_flow_run, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.input import RunInput

from flows import artifacts
from flows.after_promotion import Promoted, follow_up
from onestep.core.paths import VERDICT
from onestep.gate.verdict import as_markdown, read_verdict
from onestep.nightly.publish import publish_promotion, publish_refusal
from onestep.nightly.workspace import Workspace, new_id, open_workspace
from onestep.provenance.ledger import LedgerMoved
from onestep.provenance.signing import find_key
from onestep.registry import promotion as registry
from onestep.registry.change import AlreadyChampion, PromotionRefused
from onestep.registry.recording import NotReproduced
from onestep.registry.trials import TrialRefused
from onestep.vcs.project import Project

SPARE_S = 3600  # how much longer than its answer the pause itself may last, should the server be unreachable just then
RETRY_S = 10


class Approval(RunInput):
    """A person's answer in the Prefect page."""

    promote: bool
    name: str
    reason: str = ""


@dataclass(frozen=True)
class PromotionResult:
    """The outcome of a candidate: `promoted`, `hold` or `reject`, a sentence, and notes for the summary."""

    kind: str
    sentence: str
    notes: list[str] = field(default_factory=list)


@flow(name="promote")
def promote(
    project: str,
    branch: str,
    into: str = "main",
    upstream: str | None = None,
    approver: str | None = None,
    wait_h: float = 24.0,
    silence: Literal["hold", "promote"] = "hold",
    notify: str | None = None,
) -> PromotionResult:
    """Promote the candidate of `runs/<id>`, then merge lock and pin into the branch `into`.

    approver: whose approval is asked for in the Prefect page, null = none is needed. wait_h: hours after which
    `silence` is the answer.
    """
    with candidate_of(Project(Path(project).resolve()), branch, upstream) as workspace:
        if approver is not None:
            artifacts.send_notification(
                notify, f"onestep: {branch} waits for {approver}", f"Answer within {wait_h:g} hours."
            )
            answer = ask(approver, branch, as_markdown(read_verdict(workspace.clone.root / VERDICT)), wait_h, silence)
            if answer.kind == "reject":
                record_refusal(workspace, answer.sentence)
            if answer.kind != "promoted":
                artifacts.send_notification(notify, f"onestep promote: {answer.kind}", answer.sentence)
                return answer
        done = promote_candidate(workspace, branch, into)
    if approver is not None:
        artifacts.send_notification(notify, f"onestep promote: {done.kind}", done.sentence)
    return done


def candidate_of(project: Project, branch: str, upstream: str | None) -> closing[Workspace]:
    """A clone of a recorded run, for a `with` block."""
    return closing(open_workspace(project, f"promote-{new_id()}", branch, upstream))


def ask(approver: str, branch: str, verdict: str, wait_h: float, silence: str) -> PromotionResult:
    """Pause until the approver answers; an answer under another name is logged and does not count."""
    log = get_run_logger()
    question = f"May `{branch}` go into production? {approver} is asked.\n\n{verdict}"
    form = Approval.with_initial_data(description=question, promote=False, name="")
    deadline = time.monotonic() + wait_h * 3600
    for attempt in range(3):
        left_s = max(1.0, deadline - time.monotonic())
        with answered_after(left_s):
            answer = pause_flow_run(wait_for_input=form, timeout=round(left_s + SPARE_S), key=f"approval-{attempt}")
        if not answer.name and time.monotonic() >= deadline:
            sentence = f"{approver} did not answer within {wait_h:g} hours: {silence}"
            log.info(sentence)
            return PromotionResult("promoted" if silence == "promote" else "hold", sentence)
        if answer.name.strip().lower() == approver.strip().lower():
            log.info(f"{approver} says {'yes' if answer.promote else 'no'}: {answer.reason or 'no reason given'}")
            if answer.promote:
                return PromotionResult("promoted", f"approved by {approver}")
            return PromotionResult("reject", f"{approver} says no: {answer.reason or 'no reason given'}")
        log.warning(f"{answer.name!r} answered, but {approver} was asked: asking again")
    return PromotionResult("hold", f"three answers, none of them by {approver}")


@contextmanager
def answered_after(wait_s: float) -> Iterator[None]:
    """Fill in the form without a name, once it has waited for so long.

    The timeout of a pause does not do: when it is over, the server fails the run, whatever the flow makes of it.
    """
    run, over = UUID(str(runtime.flow_run.get_id())), threading.Event()

    def answer() -> None:
        left_s = wait_s
        while not over.wait(left_s):
            with suppress(httpx.HTTPError), get_client(sync_client=True) as client:
                client.resume_flow_run(run, run_input={"promote": False, "name": ""})
            left_s = RETRY_S

    threading.Thread(target=copy_context().run, args=(answer,), daemon=True).start()
    try:
        yield
    finally:
        over.set()


@task(cache_policy=NO_CACHE)
def record_refusal(workspace: Workspace, reason: str) -> None:
    """Enter the approver's no in the ledger, as a verdict of its own."""
    publish_refusal(workspace, reason)


@task(cache_policy=NO_CACHE)
def promote_candidate(workspace: Workspace, branch: str, into: str) -> PromotionResult:
    """Publish the promotion's tags, which are the truth; then take the steps after it (`after_promotion.py`)."""
    log = get_run_logger()
    try:
        done = registry.promote(workspace.clone, find_key(workspace.home), flow_run=runtime.flow_run.get_id())
        publish_promotion(workspace, done)
    except AlreadyChampion as known:
        return PromotionResult("promoted", str(known))
    except (PromotionRefused, NotReproduced, TrialRefused, LedgerMoved) as refusal:
        log.warning(str(refusal))
        return PromotionResult("hold", f"not promoted: {refusal}")
    sentence = f"{done.version_tag} is in production ({done.stage_tag}), recorded on {done.branch}; " + (
        "signed" if done.signer else "UNSIGNED, so its origin cannot be verified (onestep keygen makes a key)"
    )
    log.info(sentence)
    return PromotionResult("promoted", sentence, follow_up(Promoted(workspace, done, into), log))
