"""Missed runs: after a reboot several may be overdue, and the first that starts cancels the others."""

from datetime import UTC, datetime
from typing import Any, cast

from prefect import get_client, get_run_logger
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.context import FlowRunContext
from prefect.states import Cancelled


def cancel_missed_runs() -> int:
    """Cancel the runs of this deployment that were due before now and have not started; returns how many."""
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is None or run.deployment_id is None:
        return 0
    waiting = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
        expected_start_time=FlowRunFilterExpectedStartTime(before_=cast(Any, datetime.now(UTC))),
    )
    with get_client(sync_client=True) as client:
        missed = client.read_flow_runs(
            flow_run_filter=waiting,
            deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[run.deployment_id])),
        )
        for other in missed:
            client.set_flow_run_state(
                other.id, Cancelled(message=f"missed; the run {run.name} takes its place"), force=True
            )
    if missed:
        get_run_logger().info(f"{len(missed)} missed runs were cancelled: this one takes their place")
    return len(missed)
