"""Numbers derived from a column as it grows: running mean, rolling share, distribution.

Each gives the same result however the column is cut into pieces, and never looks at a sample twice.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.generic]
Doubles = npt.NDArray[np.float64]


class Ema:
    """Exponential running mean: m = decay * m + (1 - decay) * x, beginning at the first sample.

    Samples that are not finite change nothing and get the mean before them; before the first
    finite one there is none (NaN).

    Args:
        decay: 0 (the samples themselves) to below 1.
    """

    def __init__(self, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError("decay must be at least 0 and below 1")
        self._decay = decay
        self._mean = math.nan
        # The recursion is computed as a sum of samples weighted with decay**-k, a stretch at a time
        # that keeps that weight below 1e100. All terms of positive samples are positive, so
        # nothing cancels and the result is the recursion's within a few roundings.
        self._stretch = 4096 if decay == 0 else min(4096, int(100 / -math.log10(decay)) + 1)

    def extend(self, values: Numbers) -> Doubles:
        """Give the mean after each of ``values`` (N,), float64."""
        samples = values.astype(np.float64)
        finite = np.isfinite(samples)
        if finite.all():
            return self._extend_finite(samples)
        before = np.array([self._mean])
        known = np.concatenate((before, self._extend_finite(samples[finite])))
        means: Doubles = known[np.cumsum(finite)]
        return means

    def _extend_finite(self, values: Doubles) -> Doubles:
        if self._decay == 0:
            self._mean = float(values[-1]) if len(values) else self._mean
            return values
        means = np.empty_like(values)
        for start in range(0, len(values), self._stretch):
            piece = values[start : start + self._stretch]
            if math.isnan(self._mean):
                self._mean = float(piece[0])
            powers = self._decay ** np.arange(1, len(piece) + 1)
            weighted = np.cumsum(piece * ((1 - self._decay) / powers))
            means[start : start + len(piece)] = (weighted + self._mean) * powers
            self._mean = float(means[start + len(piece) - 1])
        return means


class RollingShare:
    """Share of ones among the newest ``window`` samples (among all while there are fewer)."""

    def __init__(self, window: int) -> None:
        if window < 1:
            raise ValueError("window must be at least 1")
        self._window = window
        self._tail = np.empty(0, np.int64)

    def extend(self, flags: Numbers) -> Doubles:
        """Give the share after each of ``flags`` (N,) of 0 and 1, float64."""
        known = np.concatenate((self._tail, flags.astype(np.int64)))
        ends = np.arange(len(self._tail) + 1, len(known) + 1)
        starts = np.maximum(0, ends - self._window)
        ones = np.concatenate(([0], np.cumsum(known)))
        self._tail = (
            known[max(0, len(known) - self._window + 1) :] if self._window > 1 else known[:0]
        )
        shares: Doubles = (ones[ends] - ones[starts]) / (ends - starts)
        return shares


class LogHistogram:
    """Distribution of positive numbers over bins of equal width in the logarithm.

    Args:
        low_exponent: The first bin begins at ten to this power.
        high_exponent: The last bin ends at ten to this power.
        bins_per_decade: Bins for each power of ten.
    """

    def __init__(
        self, low_exponent: int = -6, high_exponent: int = 6, bins_per_decade: int = 10
    ) -> None:
        bins = (high_exponent - low_exponent) * bins_per_decade
        self.edges: Doubles = 10.0 ** np.linspace(low_exponent, high_exponent, bins + 1)
        self.counts: npt.NDArray[np.int64] = np.zeros(bins, np.int64)
        self.below = 0
        self.above = 0
        self.non_finite = 0

    def extend(self, values: Numbers) -> None:
        """Count ``values``: in its bin each, or as below, above or not finite."""
        samples = values.astype(np.float64)
        finite = samples[np.isfinite(samples)]
        self.non_finite += len(samples) - len(finite)
        places = np.searchsorted(self.edges, finite, side="right") - 1
        self.below += int((places < 0).sum())
        self.above += int((places >= len(self.counts)).sum())
        inside = places[(places >= 0) & (places < len(self.counts))]
        self.counts += np.bincount(inside, minlength=len(self.counts))

    @property
    def total(self) -> int:
        """How many values were counted, whatever they were."""
        return int(self.counts.sum()) + self.below + self.above + self.non_finite
