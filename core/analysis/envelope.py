"""Columns that grow, and the min/max pyramid that draws any stretch of them without losing a spike.

A curve of ten million points on a thousand pixels cannot show them all, but it can show the smallest
and the largest of every pixel. The pyramid keeps those extremes for buckets of 64, 128, 256 ... samples.
Buckets begin at multiples of their size counted from the first sample, so a bucket that is full
never changes again: a growing curve does not wobble. NaN and infinite samples are left out of the
extremes and counted for themselves, so one of them hides nothing beside it.

Nothing here is locked: a series belongs to one thread.
"""

from __future__ import annotations

import math
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Positions = npt.NDArray[np.int64]
Coordinates = npt.NDArray[np.float64]
Scalar = TypeVar("Scalar", bound=np.generic)

BASE_BITS = 6
"""Samples in the smallest kept bucket, as a power of two. 64 makes a pyramid 9.4 % of its column."""

_BASE = 1 << BASE_BITS
_BEHIND = 16 * _BASE
"""Samples that may wait before they enter the pyramid: many at once cost a fraction each."""


class GrowingArray(Generic[Scalar]):
    """A one-dimensional array that is appended to; its room doubles when it is full.

    Args:
        dtype: Type of the samples.
        room: Samples that fit before the first growth. Columns that grow together are given
            different rooms, so that their copies do not fall into the same moment.
    """

    def __init__(self, dtype: npt.DTypeLike, room: int = 1024) -> None:
        self._data: npt.NDArray[Scalar] = np.empty(room, dtype)
        self._length = 0

    def __len__(self) -> int:
        return self._length

    @property
    def view(self) -> npt.NDArray[Scalar]:
        """All samples, without a copy and read-only; old views keep showing what they showed."""
        view = self._data[: self._length]
        view.flags.writeable = False
        return view

    @property
    def nbytes(self) -> int:
        """Bytes of the samples held, without the room ahead of them."""
        return self._length * self._data.itemsize

    def extend(self, values: npt.NDArray[np.generic]) -> None:
        """Add samples at the end; amortised constant time each."""
        end = self._length + len(values)
        room = max(1, len(self._data))
        while room < end:
            room *= 2
        self.reserve(room)
        self._data[self._length : end] = values
        self._length = end

    def reserve(self, room: int) -> None:
        """Make room for ``room`` samples in all; never makes less."""
        if room > len(self._data):
            grown = np.empty(room, self._data.dtype)
            grown[: self._length] = self._data[: self._length]
            self._data = grown

    def truncate(self, length: int) -> None:
        """Forget every sample from ``length`` on. Views of them must not be used any more."""
        self._length = min(self._length, length)


class MinMaxPyramid:
    """Extremes and non-finite counts of full buckets of 64, 128, 256 ... samples of one column."""

    def __init__(self) -> None:
        self._levels: list[_Level] = []

    @property
    def nbytes(self) -> int:
        """Bytes of all levels, without the room ahead of them."""
        return sum(level.nbytes for level in self._levels)

    @property
    def covered(self) -> int:
        """How many samples are in its buckets."""
        return len(self._levels[0]) << BASE_BITS if self._levels else 0

    def update(self, samples_N: Floats) -> None:
        """Take in what is new in ``samples_N``, the whole column; amortised constant time a sample."""
        done = self.covered >> BASE_BITS
        full = len(samples_N) >> BASE_BITS
        if full == done:
            return
        level = self._level(0)
        level.extend(*_extremes(samples_N[done << BASE_BITS : full << BASE_BITS], _BASE))
        number = 1
        while len(level) >= 2:
            above = self._level(number)
            start, end = 2 * len(above), len(level) & ~1
            if start == end:
                return
            above.extend(*level.pairs(start, end))
            level = above
            number += 1

    def truncate(self, length: int) -> None:
        """Forget every bucket that holds a sample from ``length`` on."""
        for number, level in enumerate(self._levels):
            level.truncate(length >> (BASE_BITS + number))

    def buckets(self, bits: int, start: int, end: int) -> tuple[Floats, Floats, Positions]:
        """Minima, maxima and non-finite counts of the full buckets [start, end) of 2**bits samples."""
        return self._levels[bits - BASE_BITS].slice(start, end)

    def _level(self, number: int) -> _Level:
        while number >= len(self._levels):
            self._levels.append(_Level())
        return self._levels[number]


class Series:
    """One drawn curve: a float32 column with its pyramid. Positions count from 0.

    Ranges are ``first`` to ``last``, both included, and are cut to what exists.
    """

    def __init__(self, room: int = 1024) -> None:
        self._samples: GrowingArray[np.float32] = GrowingArray(np.float32, room)
        self._pyramid = MinMaxPyramid()

    def __len__(self) -> int:
        return len(self._samples)

    @property
    def values(self) -> Floats:
        """All samples (N,), float32, read-only and without a copy."""
        return self._samples.view

    @property
    def nbytes(self) -> int:
        """Bytes of the samples."""
        return self._samples.nbytes

    @property
    def pyramid_nbytes(self) -> int:
        """Bytes of the pyramid over them."""
        self._pyramid.update(self._samples.view)
        return self._pyramid.nbytes

    def extend(self, values: npt.NDArray[np.generic]) -> None:
        """Add samples at the end."""
        self._samples.extend(values)
        if len(self._samples) - self._pyramid.covered >= _BEHIND:
            self._pyramid.update(self._samples.view)

    def reserve(self, room: int) -> None:
        """Make room for ``room`` samples in all, so that a load does not grow in steps."""
        self._samples.reserve(room)

    def truncate(self, length: int) -> None:
        """Forget every sample from ``length`` on."""
        self._samples.truncate(length)
        self._pyramid.truncate(length)

    def envelope(self, first: int, last: int, pixels: int) -> tuple[Coordinates, Floats]:
        """Give at most two points a pixel that show every extreme between ``first`` and ``last``.

        Few samples come as they are. Many come as the minimum and maximum of buckets whose size is
        a power of two and which begin at multiples of it; the buckets at both ends are cut to the
        range. So the smallest and largest y are exactly those of the finite samples of the range.
        Sample ``last`` is always the last point, unless it is not finite. Non-finite samples
        give no point; :meth:`non_finite_marks` tells of them.

        Args:
            first: First position.
            last: Last position, included.
            pixels: Width to draw on; less than 2 counts as 2.

        Returns:
            x: Positions (M,) float64, rising: the middle of its bucket for an extreme.
            y: Values (M,) float32, M <= 2 * pixels.
        """
        x_M, y_M, _marks = self.picture(first, last, pixels)
        return x_M, y_M

    def picture(
        self, first: int, last: int, pixels: int
    ) -> tuple[Coordinates, Floats, Coordinates]:
        """Give :meth:`envelope` and the x of :meth:`non_finite_marks` with one look at the range."""
        first, last = self._cut(first, last)
        pixels = max(2, pixels)
        if last - first < 2 * pixels:
            y = self.values[first : last + 1]
            x = np.arange(first, last + 1, dtype=np.float64)
            finite = np.isfinite(y)
            if finite.all():
                return x, y, np.empty(0)
            return x[finite], y[finite], x[~finite]
        low_M, high_M, count_M, x_M = self._bucketed(first, last, pixels - 1)
        marks = x_M[count_M > 0]
        if len(marks):
            some = low_M <= high_M  # a bucket without a finite sample has low = inf, high = -inf
            low_M, high_M, x_M = low_M[some], high_M[some], x_M[some]
        newest = self.values[last]
        ends = 1 if math.isfinite(newest) else 0
        y = np.empty(2 * len(x_M) + ends, np.float32)
        x = np.empty(len(y))
        y[: 2 * len(x_M) : 2], y[1 : 2 * len(x_M) : 2] = low_M, high_M
        x[: 2 * len(x_M) : 2] = x[1 : 2 * len(x_M) : 2] = x_M
        if ends:
            x[-1], y[-1] = last, newest
        return x, y, marks

    def extremes(self, first: int, last: int) -> tuple[float, float, int]:
        """Give (smallest, largest, non-finite samples) of a range; (inf, -inf, n) without a finite one."""
        first, last = self._cut(first, last)
        if last < first:
            return math.inf, -math.inf, 0
        parts = [self._reduced(bits, start, end) for bits, start, end in _pieces(first, last + 1)]
        lows, highs, counts = zip(*parts, strict=True)
        return min(lows), max(highs), sum(counts)

    def non_finite_positions(self, first: int, last: int, limit: int = 1 << 62) -> Positions:
        """Positions in the range whose sample is NaN or infinite, rising, at most ``limit`` of them."""
        first, last = self._cut(first, last)
        found: list[Positions] = []
        count = 0
        for start, end in self._suspects(first, last + 1):
            wrong = np.flatnonzero(~np.isfinite(self.values[start:end])) + start
            found.append(wrong)
            count += len(wrong)
            if count >= limit:
                break
        return np.concatenate(found)[:limit] if found else np.empty(0, np.int64)

    def non_finite_marks(self, first: int, last: int, pixels: int) -> tuple[Coordinates, Positions]:
        """Where to mark non-finite samples: (x, how many there), at most one mark a pixel."""
        first, last = self._cut(first, last)
        if last - first < max(2, pixels):
            x = self.non_finite_positions(first, last).astype(np.float64)
            return x, np.ones(len(x), np.int64)
        _low_M, _high_M, count_M, x_M = self._bucketed(first, last, max(2, pixels))
        some = count_M > 0
        return x_M[some], count_M[some]

    def _cut(self, first: int, last: int) -> tuple[int, int]:
        """The part of a range that exists; every question begins here, so the pyramid is whole."""
        self._pyramid.update(self._samples.view)
        return max(0, first), min(last, len(self) - 1)

    def _bucketed(
        self, first: int, last: int, most: int
    ) -> tuple[Floats, Floats, Positions, Coordinates]:
        """At most ``most`` buckets over the range: minima, maxima, non-finite counts, middles."""
        bits = bucket_bits(first, last, most)
        inner_start = -(-first >> bits)  # the first bucket that begins within the range
        inner_end = (last + 1) >> bits
        if inner_start > inner_end:  # the range lies within one bucket
            inner_start = inner_end
        parts = []
        if first < inner_start << bits:
            parts.append(self._one_bucket(first, min(last + 1, inner_start << bits)))
        if inner_start < inner_end:
            low_M, high_M, count_M = self._full_buckets(bits, inner_start, inner_end)
            middle = ((1 << bits) - 1) / 2
            x_M = np.arange(inner_start, inner_end, dtype=np.float64) * (1 << bits) + middle
            parts.append((low_M, high_M, count_M, x_M))
        rest = max(first, inner_end << bits)
        if rest <= last:
            parts.append(self._one_bucket(rest, last + 1))
        low, high, count, x = zip(*parts, strict=True)
        return np.concatenate(low), np.concatenate(high), np.concatenate(count), np.concatenate(x)

    def _one_bucket(self, start: int, end: int) -> tuple[Floats, Floats, Positions, Coordinates]:
        low, high, count = self.extremes(start, end - 1)
        return (
            np.array([low], np.float32),
            np.array([high], np.float32),
            np.array([count], np.int64),
            np.array([(start + end - 1) / 2]),
        )

    def _full_buckets(self, bits: int, start: int, end: int) -> tuple[Floats, Floats, Positions]:
        if bits >= BASE_BITS:
            return self._pyramid.buckets(bits, start, end)
        return _extremes(self.values[start << bits : end << bits], 1 << bits)

    def _reduced(self, bits: int, start: int, end: int) -> tuple[float, float, int]:
        if bits:
            low_M, high_M, count_M = self._pyramid.buckets(bits, start, end)
            return float(low_M.min()), float(high_M.max()), int(count_M.sum())
        low_M, high_M, count_M = _extremes(self.values[start:end], end - start)
        return float(low_M[0]), float(high_M[0]), int(count_M[0])

    def _suspects(self, start: int, end: int) -> list[tuple[int, int]]:
        """Stretches of at most 64 samples within [start, end) that may hold a non-finite sample."""
        if end <= start:
            return []
        first_full, end_full = -(-start >> BASE_BITS), end >> BASE_BITS
        if first_full >= end_full:
            return [(start, end)]
        count_M = self._pyramid.buckets(BASE_BITS, first_full, end_full)[2]
        places = np.flatnonzero(count_M) + first_full
        inner = [(int(place) << BASE_BITS, int(place + 1) << BASE_BITS) for place in places]
        return [(start, first_full << BASE_BITS), *inner, (end_full << BASE_BITS, end)]


def bucket_bits(first: int, last: int, most: int) -> int:
    """Power of two of the smallest buckets of which the range touches at most ``most``.

    It depends on the range alone, so equal views of a growing column use equal buckets.
    """
    bits = max(0, ((last - first + 1) // max(1, most)).bit_length() - 1)
    while (last >> bits) - (first >> bits) + 1 > most:
        bits += 1
    return bits


class _Level:
    """The buckets of one size."""

    def __init__(self) -> None:
        self._low: GrowingArray[np.float32] = GrowingArray(np.float32, 16)
        self._high: GrowingArray[np.float32] = GrowingArray(np.float32, 16)
        self._count: GrowingArray[np.uint32] = GrowingArray(np.uint32, 16)

    def __len__(self) -> int:
        return len(self._low)

    @property
    def nbytes(self) -> int:
        return self._low.nbytes + self._high.nbytes + self._count.nbytes

    def extend(self, low: Floats, high: Floats, count: Positions) -> None:
        self._low.extend(low)
        self._high.extend(high)
        self._count.extend(count)

    def slice(self, start: int, end: int) -> tuple[Floats, Floats, Positions]:
        count = self._count.view[start:end].astype(np.int64)
        return self._low.view[start:end], self._high.view[start:end], count

    def pairs(self, start: int, end: int) -> tuple[Floats, Floats, Positions]:
        """Buckets of twice the size over the buckets [start, end) of this level, an even number."""
        low, high, count = self.slice(start, end)
        return (
            np.minimum(low[::2], low[1::2]),
            np.maximum(high[::2], high[1::2]),
            count[::2] + count[1::2],
        )

    def truncate(self, length: int) -> None:
        self._low.truncate(length)
        self._high.truncate(length)
        self._count.truncate(length)


def _extremes(samples: Floats, size: int) -> tuple[Floats, Floats, Positions]:
    """Minima, maxima of the finite and counts of the non-finite samples of each ``size`` samples."""
    buckets = samples.reshape(-1, size)
    if size <= 32 and not size & (size - 1):  # halving is quicker than reducing many short rows
        low = high = samples
        while len(low) > len(buckets):
            low, high = np.minimum(low[::2], low[1::2]), np.maximum(high[::2], high[1::2])
    else:
        low, high = buckets.min(axis=1), buckets.max(axis=1)
    if size == 1:
        low, high = samples.copy(), samples.copy()
    count = np.zeros(len(low), np.int64)
    spoilt = np.flatnonzero(~(np.isfinite(low) & np.isfinite(high)))
    if len(spoilt):
        rows = buckets[spoilt]
        finite = np.isfinite(rows)
        low[spoilt] = np.where(finite, rows, np.float32(np.inf)).min(axis=1)
        high[spoilt] = np.where(finite, rows, np.float32(-np.inf)).max(axis=1)
        count[spoilt] = size - finite.sum(axis=1)
    return low, high, count


def _pieces(start: int, end: int) -> list[tuple[int, int, int]]:
    """Cut [start, end) into (bits, first bucket, end bucket): samples (bits 0) and full kept buckets.

    Works up to larger buckets as far as they fit, as in a segment tree, so there are at most two
    pieces a level and no piece holds more than a few buckets or 64 samples.
    """
    inner_start, inner_end = -(-start >> BASE_BITS), end >> BASE_BITS
    if inner_start >= inner_end:
        return [(0, start, end)]
    pieces = []
    if start < inner_start << BASE_BITS:
        pieces.append((0, start, inner_start << BASE_BITS))
    if inner_end << BASE_BITS < end:
        pieces.append((0, inner_end << BASE_BITS, end))
    bits = BASE_BITS
    low, high = inner_start, inner_end
    while low < high:
        if high - low <= 64:
            pieces.append((bits, low, high))
            break
        if low & 1:
            pieces.append((bits, low, low + 1))
            low += 1
        if high & 1:
            high -= 1
            pieces.append((bits, high, high + 1))
        low, high, bits = low >> 1, high >> 1, bits + 1
    return pieces
