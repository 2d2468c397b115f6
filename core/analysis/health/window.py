"""The batches that the detectors of a run look at, as columns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from core.analysis.health.measures import Bools, Floats, median
from signscope.records import Outcome, StepRecord
from signscope.schema import OUTCOMES, AnyArray, columns_of

LOOK_BACK = 5000
"""Newest batches that the detectors are given; none needs more."""

START_BATCHES = 10
"""First batches of a run that say where its loss began; one batch alone may be half or twice that,
by the length of its sentences."""

COLUMNS = (
    "step",
    "epoch",
    "loss",
    "loss_per_gloss",
    "grad_norm_pre",
    "clip_coef",
    "lr",
    "blank_fraction",
    "data_s",
    "step_s",
    "outcome",
)
"""Columns that the detectors read, named and coded as in ``signscope.schema``."""


@dataclass(frozen=True, slots=True)
class StepWindow:
    """The first and the newest batches of a run as columns.

    ``start`` holds up to START_BATCHES batches from step 0 on, and none when the beginning of the run
    is not known (a window that was opened on a resumed run); ``recent`` ends with the newest batch.
    Both map each of COLUMNS to an array, with equal lengths within each.
    """

    start: Mapping[str, AnyArray]
    recent: Mapping[str, AnyArray]

    @classmethod
    def of(cls, columns: Mapping[str, AnyArray], look_back: int = LOOK_BACK) -> Self:
        """Take what the detectors need out of the columns of a whole run; copies nothing."""
        steps = columns["step"]
        known = START_BATCHES if len(steps) and steps[0] == 0 else 0
        return cls(
            {name: columns[name][:known] for name in COLUMNS},
            {name: columns[name][-look_back:] for name in COLUMNS},
        )

    @classmethod
    def of_records(cls, records: Sequence[StepRecord]) -> Self:
        """Take what the detectors need out of records, oldest first."""
        return cls.of(columns_of(records))

    def __len__(self) -> int:
        return len(self.recent["step"])

    def newest(self, name: str, batches: int | None = None) -> Floats:
        """Give the last ``batches`` values (all without it) of a column as float64."""
        values = self.recent[name] if batches is None else self.recent[name][-batches:]
        return values.astype(np.float64)

    def newest_outcome(self, outcome: Outcome, batches: int | None = None) -> Bools:
        """Tell for each of the last ``batches`` batches whether it ended with ``outcome``."""
        codes = self.recent["outcome"] if batches is None else self.recent["outcome"][-batches:]
        chosen: Bools = codes == OUTCOMES.index(outcome)
        return chosen

    def step_at(self, index: int) -> int:
        """Give the number of the batch at ``index`` of ``recent``; negative counts from its end."""
        return int(self.recent["step"][index])

    def start_loss_per_gloss(self) -> float:
        """Loss per gloss of the first batches; NaN when they are not known.

        The lower of their median, which evens out the lengths of sentences, and the very first, which
        no update has touched yet.
        """
        losses = self.start["loss_per_gloss"].astype(np.float64)
        return min(median(losses), median(losses[:1]), key=_nan_last)

    def warming_up(self, batches: int) -> bool:
        """Whether the learning rate still rose within the last ``batches`` batches."""
        lr = self.newest("lr", batches)
        return bool(lr[0] < lr.max())


def _nan_last(value: float) -> float:
    return math.inf if math.isnan(value) else value
