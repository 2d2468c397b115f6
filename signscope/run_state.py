"""The states of a run, the one table of transitions, and the control that both threads share.

::

    idle -> running -> pausing -> paused -> running ... -> stopping -> finished
                 any of running, pausing, paused, stopping -> failed

What a person asks for (START, PAUSE, RESUME, STOP) and what the worker reports (PAUSED, FINISHED,
FAILED) are both events. The state lives behind one Condition; nobody polls, nobody keeps flags.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class RunState(StrEnum):
    """Where a run is."""

    IDLE = "idle"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    STOPPING = "stopping"
    FINISHED = "finished"
    FAILED = "failed"

    @property
    def active(self) -> bool:
        """Whether a trainer thread exists for the run."""
        return self not in (RunState.IDLE, RunState.FINISHED, RunState.FAILED)


class RunEvent(StrEnum):
    """What can happen to a run."""

    START = "start"
    PAUSE = "pause"
    RESUME = "resume"
    STOP = "stop"
    PAUSED = "paused"  # reported by the worker at a batch boundary
    FINISHED = "finished"  # reported when the worker thread is gone
    FAILED = "failed"  # reported when the worker thread is gone


_S, _E = RunState, RunEvent
TRANSITIONS: dict[tuple[RunState, RunEvent], RunState] = {
    (_S.IDLE, _E.START): _S.RUNNING,
    (_S.FINISHED, _E.START): _S.RUNNING,
    (_S.FAILED, _E.START): _S.RUNNING,
    (_S.RUNNING, _E.PAUSE): _S.PAUSING,
    (_S.PAUSING, _E.PAUSED): _S.PAUSED,
    (_S.PAUSING, _E.RESUME): _S.RUNNING,
    (_S.PAUSED, _E.RESUME): _S.RUNNING,
    (_S.RUNNING, _E.STOP): _S.STOPPING,
    (_S.PAUSING, _E.STOP): _S.STOPPING,
    (_S.PAUSED, _E.STOP): _S.STOPPING,
    (_S.RUNNING, _E.FINISHED): _S.FINISHED,
    (_S.PAUSING, _E.FINISHED): _S.FINISHED,
    (_S.STOPPING, _E.FINISHED): _S.FINISHED,
    (_S.RUNNING, _E.FAILED): _S.FAILED,
    (_S.PAUSING, _E.FAILED): _S.FAILED,
    (_S.PAUSED, _E.FAILED): _S.FAILED,
    (_S.STOPPING, _E.FAILED): _S.FAILED,
}
"""Every allowed transition; a pair that is not here raises InvalidTransition."""


class InvalidTransition(Exception):
    """An event came in a state that does not allow it: a mistake of the caller, not of a person."""

    def __init__(self, state: RunState, event: RunEvent) -> None:
        super().__init__(f"{event} is not allowed while {state}")
        self.state = state
        self.event = event


@dataclass(frozen=True, slots=True)
class RunSnapshot:
    """The state at one moment, safe to keep and to hand to any thread."""

    state: RunState

    def allows(self, event: RunEvent) -> bool:
        """Whether ``event`` may be applied now; buttons and menus are enabled by this."""
        return (self.state, event) in TRANSITIONS


class RunControl:
    """The state of one run behind one lock. All methods may be called from any thread.

    Args:
        listener: Called after every transition with the new snapshot, in the thread that caused it
            and without the lock held.
    """

    def __init__(self, listener: Callable[[RunSnapshot], None] | None = None) -> None:
        self._condition = threading.Condition()
        self._state = RunState.IDLE
        self._listener = listener

    def snapshot(self) -> RunSnapshot:
        """Give the state as it is now."""
        with self._condition:
            return RunSnapshot(self._state)

    def apply(self, event: RunEvent) -> RunSnapshot:
        """Make the transition for ``event``; raises InvalidTransition when there is none."""
        with self._condition:
            try:
                self._state = TRANSITIONS[self._state, event]
            except KeyError:
                raise InvalidTransition(self._state, event) from None
            snapshot = RunSnapshot(self._state)
            self._condition.notify_all()
        self._announce(snapshot)
        return snapshot

    def apply_if_allowed(self, event: RunEvent) -> bool:
        """Make the transition if the state allows it, in one go; say whether it was made."""
        try:
            self.apply(event)
        except InvalidTransition:
            return False
        return True

    def wants_pause(self) -> bool:
        """Whether the worker should come to rest at this batch boundary."""
        return self.snapshot().state is RunState.PAUSING

    def wants_stop(self) -> bool:
        """Whether the worker should leave its loop at this batch boundary."""
        return self.snapshot().state is RunState.STOPPING

    def wait_while_paused(self) -> None:
        """Rest as PAUSED until someone resumes or stops. Called by the worker only."""
        if not self.apply_if_allowed(RunEvent.PAUSED):
            return
        with self._condition:
            self._condition.wait_for(lambda: self._state is not RunState.PAUSED)

    def wait_for(self, *states: RunState, timeout_s: float) -> bool:
        """Wait until the state is one of ``states``; say whether it came before the limit."""
        with self._condition:
            return self._condition.wait_for(lambda: self._state in states, timeout_s)

    def _announce(self, snapshot: RunSnapshot) -> None:
        if self._listener is not None:
            self._listener(snapshot)
