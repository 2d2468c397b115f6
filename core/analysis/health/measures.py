"""Small measures of columns that several detectors take."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

LOW_LOSS = 0.5
"""In nats per gloss: below it the usual gloss has a probability above 0.6. Gradients may be small and
curves flat there, because little is left to learn."""


def median(values: Floats) -> float:
    """Median of the finite values; NaN when there are none."""
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else math.nan


def span(values: Floats) -> str:
    """Say from where to where ``values`` (at least one) reach, and their median."""
    return f"{values.min():.3g} to {values.max():.3g}, median {np.median(values):.3g}"


def halves(values: Floats) -> tuple[float, float]:
    """Medians of the first and of the second half."""
    middle = len(values) // 2
    return median(values[:middle]), median(values[middle:])


def lasting_since(chosen: Bools, window: int) -> int:
    """Give where the state that ``chosen`` tells of began, when single batches may miss it.

    From the end backwards as long as most batches of ten are True, and at least to the start of the
    last ``window`` batches, which the caller found to be of that state; then on to the first True.
    """
    tens = chosen[len(chosen) % 10 :].reshape(-1, 10).mean(axis=1) > 0.5
    misses = np.flatnonzero(~tens)
    begin = len(chosen) % 10 + 10 * (int(misses[-1]) + 1) if len(misses) else 0
    begin = min(begin, max(0, len(chosen) - window))
    return begin + int(np.argmax(chosen[begin:]))
