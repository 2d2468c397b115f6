"""The state table, as a table and under random events from two threads."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signscope.run_state import (
    TRANSITIONS,
    InvalidTransition,
    RunControl,
    RunEvent,
    RunSnapshot,
    RunState,
)


@given(st.lists(st.sampled_from(RunEvent)))
def test_random_events_follow_the_table_and_nothing_else(events: list[RunEvent]) -> None:
    seen: list[RunState] = []
    control = RunControl(lambda snapshot: seen.append(snapshot.state))
    state = RunState.IDLE
    for event in events:
        expected = TRANSITIONS.get((state, event))
        assert control.snapshot().allows(event) is (expected is not None)
        if expected is None:
            with pytest.raises(InvalidTransition):
                control.apply(event)
        else:
            assert control.apply(event).state is expected
            state = expected
        assert control.snapshot().state is state
    assert all(before in RunState for before in seen)


def test_every_active_state_can_fail_and_be_left() -> None:
    for state in RunState:
        snapshot = RunSnapshot(state)
        assert snapshot.allows(RunEvent.FAILED) is state.active
        assert snapshot.allows(RunEvent.START) is not state.active
    assert {state for state in RunState if RunSnapshot(state).allows(RunEvent.STOP)} == {
        RunState.RUNNING,
        RunState.PAUSING,
        RunState.PAUSED,
    }


def test_a_resume_that_overtakes_the_pause_leaves_the_worker_running() -> None:
    control = RunControl()
    control.apply(RunEvent.START)
    control.apply(RunEvent.PAUSE)
    control.apply(RunEvent.RESUME)
    control.wait_while_paused()
    assert control.snapshot().state is RunState.RUNNING


@pytest.mark.parametrize(
    ("event", "after"), [(RunEvent.RESUME, RunState.RUNNING), (RunEvent.STOP, RunState.STOPPING)]
)
def test_a_paused_worker_wakes_at_once(event: RunEvent, after: RunState) -> None:
    control = RunControl()
    control.apply(RunEvent.START)
    control.apply(RunEvent.PAUSE)
    worker = threading.Thread(target=control.wait_while_paused)
    worker.start()
    assert control.wait_for(RunState.PAUSED, timeout_s=10)
    control.apply(event)
    worker.join(10)
    assert not worker.is_alive()
    assert control.snapshot().state is after


def test_a_paused_worker_rests_until_it_is_resumed() -> None:
    control = RunControl()
    control.apply(RunEvent.START)
    control.apply(RunEvent.PAUSE)
    worker = threading.Thread(target=control.wait_while_paused)
    worker.start()
    assert control.wait_for(RunState.PAUSED, timeout_s=10)
    worker.join(0.3)
    rested = worker.is_alive()
    control.apply(RunEvent.RESUME)
    worker.join(10)
    assert rested


def test_applying_if_allowed_says_whether_it_was() -> None:
    control = RunControl()
    assert control.apply_if_allowed(RunEvent.START) is True
    assert control.apply_if_allowed(RunEvent.START) is False
    assert control.snapshot().state is RunState.RUNNING


def test_waiting_for_a_state_that_does_not_come_ends_at_its_limit() -> None:
    assert RunControl().wait_for(RunState.FINISHED, timeout_s=0.01) is False


def test_the_listener_may_ask_for_the_state() -> None:
    seen: list[bool] = []
    control: RunControl
    control = RunControl(lambda snapshot: seen.append(control.snapshot() == snapshot))
    control.apply(RunEvent.START)
    control.apply(RunEvent.FAILED)
    assert seen == [True, True]
