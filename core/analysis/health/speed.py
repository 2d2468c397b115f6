"""Whether the trainer is kept busy."""

from __future__ import annotations

import numpy as np

from core.analysis.health.findings import Finding, FindingKind, Severity
from core.analysis.health.measures import lasting_since, median
from core.analysis.health.window import StepWindow

STARVATION_WINDOW = 100
STARVATION_SHARE = 0.5
"""Waiting half as long as computing is a third of the time lost. Healthy runs wait for less than 10 %."""
STARVATION_LEAST_S = 1e-3
"""Below a millisecond a batch there is nothing to gain; a hand-over between threads may take that."""


def data_starvation(window: StepWindow) -> Finding | None:
    """Speak when the trainer waits for most of its batches.

    Most, because the first batch of each epoch always waits and one hiccup of the disk may too.
    """
    n = STARVATION_WINDOW
    if len(window) < n:
        return None
    waited, worked = window.newest("data_s"), window.newest("step_s")
    waiting = waited > np.maximum(STARVATION_LEAST_S, STARVATION_SHARE * worked)
    if waiting[-n:].mean() <= 0.5:
        return None
    data_s, step_s = median(waited[-n:]), median(worked[-n:])
    share = data_s / (data_s + step_s)
    return Finding(
        FindingKind.DATA_STARVATION,
        Severity.WARNING,
        f"Training waits for data {share:.0%} of the time",
        f"In the last {n} batches the median wait for a batch was {1000 * data_s:.1f} ms, the median step "
        f"{1000 * step_s:.1f} ms; {int(waiting[-n:].sum())} of them waited for more than half a step.",
        "Keep the corpus on a local disk, raise prefetch (0 prepares batches in line), weaken "
        "augmentation, or leave more cores to the program.",
        window.step_at(lasting_since(waiting, n)),
    )
