"""Which heights a plot shows: everything usual, and not one outlier's idea of it."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.number]

_ENOUGH = 60
"""With fewer points nothing can be called unusual."""
LOG_MARGINS = (0.2, 0.25)
"""Decades left free at least below and above what a logarithmic plot shows."""
_RARE = 200
"""At most one point in so many is left out of the range."""


def usual_range(
    heights_N: Numbers, low: float = math.inf, high: float = -math.inf
) -> tuple[float, float]:
    """Give a range that holds ``low``, ``high`` and all of ``heights_N`` except a few far outliers.

    Points are outliers on one side when they are at most 1 in 200 and the range would have to more
    than double for them. Without any height and bound the range is (inf, -inf).

    Args:
        heights_N: Finite heights as drawn (logarithms on a log scale), any order.
        low: A height that is always within the range.
        high: Another one.
    """
    if not len(heights_N):
        return low, high
    lowest, highest = float(heights_N.min()), float(heights_N.max())
    if len(heights_N) < _ENOUGH:
        return min(low, lowest), max(high, highest)
    rare = max(2, len(heights_N) // _RARE)
    inner_N = np.partition(heights_N, (rare, len(heights_N) - 1 - rare))
    inner_low = min(low, float(inner_N[rare]))
    inner_high = max(high, float(inner_N[-1 - rare]))
    span = inner_high - inner_low
    if span <= 0.0:  # a curve that stands still: whatever leaves it is shown
        return min(low, lowest), max(high, highest)
    return (
        lowest if inner_low - span <= lowest < inner_low else inner_low,
        highest if inner_high < highest <= inner_high + span else inner_high,
    )


def nice_ceiling(value: float) -> float:
    """Give the next larger number of a row that reads well on an axis."""
    if not math.isfinite(value) or value <= 0.0:
        return 1.0
    decade = 10.0 ** math.floor(math.log10(value))
    for factor in (1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10):
        if factor * decade >= value:
            return factor * decade
    return 10.0 * decade


def linear_range(low: float, high: float, now: tuple[float, float]) -> tuple[float, float]:
    """Give a steady range from 0 (or below) to a round number; ``now`` stays while it fits."""
    top_now = now[1] / 1.04
    top = nice_ceiling(high)
    if top_now > 0.0 and high <= top_now and top > 0.6 * top_now:
        top = top_now
    bottom = min(0.0, low * 1.05)
    return bottom - 0.02 * (top - bottom), 1.04 * top


def log_range(low: float, high: float, now: tuple[float, float]) -> tuple[float, float]:
    """Give a steady range of logarithms in quarter decades; ``now`` stays while it fits."""
    low = math.floor((low - LOG_MARGINS[0]) * 4) / 4
    high = math.ceil((high + LOG_MARGINS[1]) * 4) / 4
    if 0.0 <= low - now[0] <= 0.5:
        low = now[0]
    if 0.0 <= now[1] - high <= 0.5:
        high = now[1]
    return low, high
