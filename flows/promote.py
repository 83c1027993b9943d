"""A candidate goes into production: at once, or after a named person's yes."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from uuid import UUID

import httpx
from prefect import flow, get_client, get_run_logger, pause_flow_run, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.input import RunInput

from flows import page
from onestep.gate.verdict import as_markdown, read_verdict
from onestep.nightly import workspace
from onestep.nightly.publish import offer, publish_promotion, publish_refusal
from onestep.nightly.workspace import Run
from onestep.provenance.ledger import LedgerMoved
from onestep.provenance.signing import find_key
from onestep.registry import promotion as registry
from onestep.registry.promotion import AlreadyChampion, NotReproduced, PromotionRefused
from onestep.registry.trials import AttemptRefused

SPARE_S = 3600  # how much longer than its answer the pause itself may last, should the server be away just then
AGAIN_S = 10


class Approval(RunInput):
    """A person's answer in the Prefect page."""

    promote: bool
    name: str
    reason: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of a candidate: `promoted`, `hold` or `reject`, a sentence, and what else to know."""

    kind: str
    says: str
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
) -> Outcome:
    """Promote the candidate of `runs/<id>`, and offer lock and pin to the branch `into`; a conflict delays only that.

    approver: whose yes is asked for in the Prefect page, null = nobody's. wait_h: hours until silence counts as its
    own answer.
    """
    with candidate_of(Path(project).resolve(), branch, upstream) as run:
        if approver is not None:
            page.tell(notify, f"onestep: {branch} waits for {approver}", f"Answer within {wait_h:g} hours.")
            answer = ask(approver, branch, as_markdown(read_verdict(run.root)), wait_h, silence)
            if answer.kind == "reject":
                record_refusal(run, answer.says)
            if answer.kind != "promoted":
                page.tell(notify, f"onestep promote: {answer.kind}", answer.says)
                return answer
        done = promote_candidate(run, branch, into)
    if approver is not None:
        page.tell(notify, f"onestep promote: {done.kind}", done.says)
    return done


@contextmanager
def candidate_of(project: Path, branch: str, upstream: str | None) -> Iterator[Run]:
    """A clone of a recorded run."""
    run = workspace.open_run(project, f"promote-{workspace.new_id()}", branch, upstream)
    try:
        yield run
    finally:
        workspace.close(run)


def ask(approver: str, branch: str, verdict: str, wait_h: float, silence: str) -> Outcome:
    """Pause for the named person's yes or no; anybody else's answer is no answer, and is logged."""
    log = get_run_logger()
    question = f"May `{branch}` go into production? {approver} is asked.\n\n{verdict}"
    form = Approval.with_initial_data(description=question, promote=False, name="")
    deadline = time.monotonic() + wait_h * 3600
    for attempt in range(3):
        left_s = max(1.0, deadline - time.monotonic())
        with silence_answers(left_s):
            answer = pause_flow_run(wait_for_input=form, timeout=round(left_s + SPARE_S), key=f"approval-{attempt}")
        if not answer.name and time.monotonic() >= deadline:
            says = f"{approver} did not answer within {wait_h:g} hours: {silence}"
            log.info(says)
            return Outcome("promoted" if silence == "promote" else "hold", says)
        if answer.name.strip().lower() == approver.strip().lower():
            log.info(f"{approver} says {'yes' if answer.promote else 'no'}: {answer.reason or 'no reason given'}")
            if answer.promote:
                return Outcome("promoted", f"approved by {approver}")
            return Outcome("reject", f"{approver} says no: {answer.reason or 'no reason given'}")
        log.warning(f"{answer.name!r} answered, but {approver} was asked: asking again")
    return Outcome("hold", f"three answers, none of them by {approver}")


@contextmanager
def silence_answers(after_s: float) -> Iterator[None]:
    """Fill in the form in nobody's name, once it has waited for so long.

    The timeout of a pause will not do: when it is over, the server fails the run, whatever the flow makes of it.
    """
    run, over = UUID(str(runtime.flow_run.get_id())), threading.Event()

    def speak() -> None:
        wait_s = after_s
        while not over.wait(wait_s):
            with suppress(httpx.HTTPError), get_client(sync_client=True) as client:
                client.resume_flow_run(run, run_input={"promote": False, "name": ""})
            wait_s = AGAIN_S

    threading.Thread(target=copy_context().run, args=(speak,), daemon=True).start()
    try:
        yield
    finally:
        over.set()


@task(cache_policy=NO_CACHE)
def record_refusal(run: Run, says: str) -> None:
    """A person's no is a verdict too, and stands in the ledger."""
    publish_refusal(run, says)


@task(cache_policy=NO_CACHE)
def promote_candidate(run: Run, branch: str, into: str) -> Outcome:
    """Tags first: they are the truth. Then main is offered lock and pin."""
    log = get_run_logger()
    try:
        done = registry.promote(run.root, find_key(run.project), flow_run=runtime.flow_run.get_id())
        publish_promotion(run, done)
    except AlreadyChampion as known:
        return Outcome("promoted", str(known))
    except (PromotionRefused, NotReproduced, AttemptRefused, LedgerMoved) as refusal:
        log.warning(str(refusal))
        return Outcome("hold", f"not promoted: {refusal}")
    says = f"{done.version_tag} is in production ({done.stage_tag}), recorded on {done.branch}; " + (
        "signed" if done.signer else "UNSIGNED: anybody could have written this record (onestep keygen makes a key)"
    )
    log.info(says)
    merged = offer(run, branch, into)
    (log.info if merged.merged else log.warning)(merged.says)
    return Outcome("promoted", says, [merged.says])
