"""What became of every gradient of a training loop, told from the order of its own calls.

A loop calls ``backward``, perhaps clips, and then steps an optimizer or clears the gradients. This module
keeps, for each optimizer, the backward passes whose gradients wait in it, and says how they ended: as one
:class:`Attempt`. It knows nothing of torch; :mod:`signscope.watching.hooks` calls it.

::

    backward --> pending --step-------------------> applied
                    |  \\-- the scaler did not step --> skipped by the scaler
                    |---- cleared, no step ---------> discarded
                    \\---- the script ended ----------> left at the end

A backward pass that reached several optimizers is used as soon as one of them steps: clearing what it left in
the others (a GAN's discriminator after the generator's step) discards nothing. Not thread-safe: it belongs to
the thread that trains.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from signscope.records import Outcome

Value = TypeVar("Value")

_MOST_WAITING = 10_000
"""Backward passes kept of a loop that never steps nor clears; older ones are forgotten."""


@dataclass(frozen=True, slots=True)
class Clip(Generic[Value]):
    """One call that clipped waiting gradients.

    Args:
        limit: The norm or, clipping by value, the absolute value that was asked for.
        total: The norm that the call found before it clipped; None where it has none (by value).
        whole: Whether every parameter of the optimizer was among the clipped ones.
        exact: Whether, besides, no other parameter was, and ``total`` is an L2 norm.
        before_unscaling: Whether the gradients were still multiplied by a GradScaler's scale.
    """

    limit: float
    total: Value | None
    whole: bool
    exact: bool
    before_unscaling: bool = False


@dataclass(slots=True)
class _Backward(Generic[Value]):
    loss: Value | None
    used_by: set[Hashable] = field(default_factory=set)
    waiting_in: set[Hashable] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Attempt(Generic[Value]):
    """The gradients of an optimizer from their first backward pass to their end.

    Args:
        optimizer: Whose gradients.
        outcome: How they ended.
        losses: What each of the accumulated backward passes began from, oldest first; None where it was not
            one number. Of a closure that is called several times, those of its first call.
        clips: The calls that clipped them, in their order.
        unclipped: Whether no call clipped them although an earlier gradient of this optimizer was.
        added_to: Whether a backward pass came after a clip, so that the clips do not tell the norm before them.
        closures: How often the step called its closure; 0 without one.
    """

    optimizer: Hashable
    outcome: Outcome
    losses: tuple[Value | None, ...]
    clips: tuple[Clip[Value], ...]
    unclipped: bool
    added_to: bool = False
    closures: int = 0


@dataclass(slots=True)
class _Waiting(Generic[Value]):
    backwards: list[_Backward[Value]] = field(default_factory=list)
    clips: list[Clip[Value]] = field(default_factory=list)
    ever_clipped: bool = False
    added_to: bool = False
    stepping: bool = False  # with a closure
    probing: bool = False  # the closure evaluates other weights than those the step began with
    closures: int = 0


@dataclass(frozen=True, slots=True)
class Told:
    """What a script says of an update by itself: ``epoch`` is 0 where it says nothing."""

    samples: tuple[str, ...] = ()
    epoch: int = 0


class Updates(Generic[Value]):
    """Follows the gradients of any number of optimizers. ``Value`` is whatever stands for a number."""

    def __init__(self) -> None:
        self._waiting: dict[Hashable, _Waiting[Value]] = {}

    def backward(self, loss: Value | None, reached: Iterable[Hashable]) -> None:
        """A backward pass left gradients in the optimizers ``reached``."""
        passed = _Backward(loss)
        for optimizer in reached:
            waiting = self._of(optimizer)
            if waiting.stepping and waiting.probing:
                passed.used_by.add(optimizer)
                continue
            waiting.added_to = waiting.added_to or bool(waiting.clips)
            waiting.backwards.append(passed)
            if len(waiting.backwards) > _MOST_WAITING:
                waiting.backwards.pop(0).waiting_in.discard(optimizer)
            passed.waiting_in.add(optimizer)
            if waiting.stepping:
                passed.used_by.add(optimizer)

    def clipped(self, optimizer: Hashable, clip: Clip[Value]) -> None:
        """The waiting gradients of ``optimizer`` were clipped."""
        waiting = self._of(optimizer)
        waiting.clips.append(clip)
        waiting.ever_clipped = True

    def pending(self, optimizer: Hashable) -> bool:
        """Whether gradients of ``optimizer`` wait for their end."""
        return bool(self._of(optimizer).backwards)

    def discards(self, optimizer: Hashable) -> bool:
        """Whether clearing the gradients of ``optimizer`` now would throw away what nobody used."""
        waiting = self._of(optimizer)
        return not waiting.stepping and any(
            not passed.used_by and passed.waiting_in == {optimizer} for passed in waiting.backwards
        )

    def step_begins(self, optimizer: Hashable, *, closure: bool) -> None:
        """``optimizer.step`` was entered; with a ``closure``, backward passes until it ends belong to it."""
        waiting = self._of(optimizer)
        waiting.stepping = closure
        waiting.closures = 0
        for passed in waiting.backwards:
            passed.used_by.add(optimizer)

    def closure_called(self, optimizer: Hashable) -> int:
        """The closure of the step in progress returned; gives how often it has."""
        waiting = self._of(optimizer)
        waiting.closures += 1
        return waiting.closures

    def step_ended(self, optimizer: Hashable, *, had_gradient: bool) -> Attempt[Value] | None:
        """The step was made; None when there was nothing to step with."""
        self._of(optimizer).stepping = False
        return self._end(optimizer, Outcome.APPLIED, unseen=had_gradient)

    def skipped(self, optimizer: Hashable) -> Attempt[Value] | None:
        """A GradScaler found infinite gradients and did not step."""
        for passed in self._of(optimizer).backwards:
            passed.used_by.add(optimizer)
        return self._end(optimizer, Outcome.SKIPPED_BY_SCALER)

    def cleared(self, optimizer: Hashable) -> Attempt[Value] | None:
        """The gradients of ``optimizer`` were cleared; an Attempt when that discarded something."""
        waiting = self._of(optimizer)
        if waiting.stepping:  # by the closure, for its next evaluation
            waiting.probing = bool(waiting.backwards)
            return None
        if self.discards(optimizer):
            return self._end(optimizer, Outcome.DISCARDED)
        self._forget(optimizer)
        return None

    def stepping(self, optimizer: Hashable) -> bool:
        """Whether a step with a closure is in progress."""
        return self._of(optimizer).stepping

    def ended(self) -> list[Attempt[Value]]:
        """The script ended: what still waits and was used by nobody, one Attempt an optimizer."""
        return [attempt for optimizer in list(self._waiting) for attempt in self.gone(optimizer)]

    def gone(self, optimizer: Hashable) -> list[Attempt[Value]]:
        """``optimizer`` no longer exists: its Attempt, if what waited in it was used by nobody."""
        unused = any(not passed.used_by for passed in self._of(optimizer).backwards)
        attempt = self._end(optimizer, Outcome.LEFT_AT_END) if unused else None
        self._forget(optimizer)
        del self._waiting[optimizer]
        return [] if attempt is None else [attempt]

    def _of(self, optimizer: Hashable) -> _Waiting[Value]:
        return self._waiting.setdefault(optimizer, _Waiting())

    def _end(
        self, optimizer: Hashable, outcome: Outcome, *, unseen: bool = False
    ) -> Attempt[Value] | None:
        waiting = self._of(optimizer)
        backwards, clips = tuple(waiting.backwards), tuple(waiting.clips)
        # What a backward pass for another optimizer left here is no loss of this one, unless they share all.
        own = [passed for passed in backwards if not passed.used_by - {optimizer}]
        for passed in backwards:
            passed.used_by.add(optimizer)
        added_to = waiting.added_to
        self._forget(optimizer)
        if not backwards and not unseen:
            return None
        return Attempt(
            optimizer=optimizer,
            outcome=outcome,
            losses=tuple(passed.loss for passed in own or backwards),
            clips=clips,
            unclipped=waiting.ever_clipped and not clips,
            added_to=added_to,
            closures=waiting.closures,
        )

    def _forget(self, optimizer: Hashable) -> None:
        waiting = self._of(optimizer)
        for passed in waiting.backwards:
            passed.waiting_in.discard(optimizer)
        waiting.backwards, waiting.clips = [], []
        waiting.added_to = waiting.probing = False
