"""What the table of a replay says of one policy, counted batch by batch while it runs."""

from __future__ import annotations

import math
from collections.abc import Iterable

from core.analysis.history import History
from signscope.records import EpochRecord, StepRecord


class PolicyFigures:
    """Figures of one policy so far, by the same rules as ``core.training.replay.measure_policy``.

    Args:
        share: Share of the first loss that is to be reached.
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self.batches = 0
        self.applied = 0
        self.non_finite = 0
        self.first_loss = math.nan
        self.last_loss = math.nan
        self.batches_to_share: int | None = None
        self.longest_gap = 0
        self.wer = math.nan
        self._gap = 0

    @property
    def target_loss(self) -> float:
        """The loss that is to be reached; NaN before the first batch."""
        return self.share * self.first_loss

    def add(self, record: StepRecord | EpochRecord) -> None:
        """Take one batch, or the evaluation at the end of an epoch, into account."""
        if isinstance(record, EpochRecord):
            if record.dev is not None:
                self.wer = record.dev.errors.wer
            return
        self.batches += 1
        if self.batches == 1:
            self.first_loss = record.loss
        self.last_loss = record.loss
        self.applied += record.outcome.applied
        self.non_finite += record.outcome.non_finite
        self._gap = 0 if record.outcome.applied else self._gap + 1
        self.longest_gap = max(self.longest_gap, self._gap)
        if self.batches_to_share is None and record.loss <= self.target_loss:
            self.batches_to_share = self.batches


class PolicyProgress:
    """One policy of a replay: its curves, its figures, and how far it is to go.

    Args:
        policy: Its name.
        share: Share of the first loss that is to be reached.
    """

    def __init__(self, policy: str, share: float) -> None:
        self.policy = policy
        self.history = History()
        self.figures = PolicyFigures(share)
        self.limit: int | None = None
        """Batches that it is given; None until its turn has come."""

    def extend(self, records: Iterable[StepRecord | EpochRecord]) -> None:
        """Take what came since the last time into account."""
        records = tuple(records)
        for record in records:
            self.figures.add(record)
        self.history.extend([record for record in records if isinstance(record, StepRecord)])

    @property
    def whole(self) -> bool:
        """Whether every batch that it was given is done."""
        return self.limit is not None and self.figures.batches >= self.limit
