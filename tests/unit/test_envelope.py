import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.analysis.envelope import GrowingArray, Series, bucket_bits

Floats = npt.NDArray[np.float32]


def random_samples(seed: int, length: int, spoilt: int) -> Floats:
    """Noise with a few spikes, and ``spoilt`` samples that are NaN or infinite."""
    random = np.random.default_rng(seed)
    samples = random.normal(size=length).astype(np.float32)
    samples[random.integers(length, size=3)] = [1e6, -1e6, 4e5]
    places = random.integers(length, size=spoilt)
    samples[places] = random.choice(np.array([np.nan, np.inf, -np.inf], np.float32), size=spoilt)
    return samples


def series_of(samples: Floats, seed: int = 0) -> Series:
    """The samples in a series, appended in pieces of random length."""
    random = np.random.default_rng(seed)
    series = Series(room=int(random.integers(1, 50)))
    start = 0
    while start < len(samples):
        end = start + int(random.integers(1, 700))
        series.extend(samples[start:end])
        start = end
    return series


cases = st.tuples(
    st.integers(0, 2**32 - 1),  # seed
    st.integers(1, 20_000),  # length
    st.integers(0, 40),  # non-finite samples
    st.floats(0, 1),  # where the view begins and ends, as shares
    st.floats(0, 1),
    st.integers(1, 1500),  # pixels
)


@settings(deadline=None, max_examples=150)
@given(cases)
def test_the_envelope_shows_exactly_the_extremes_of_its_range(
    case: tuple[int, int, int, float, float, int],
) -> None:
    seed, length, spoilt, one, other, pixels = case
    samples = random_samples(seed, length, spoilt)
    series = series_of(samples, seed)
    first, last = sorted((int(one * (length - 1)), int(other * (length - 1))))
    x, y = series.envelope(first, last, pixels)
    raw = samples[first : last + 1]
    finite = raw[np.isfinite(raw)]
    assert len(x) == len(y) <= 2 * max(2, pixels)
    assert np.all(np.diff(x) >= 0)
    assert np.all((x >= first) & (x <= last))
    if len(finite):
        assert (y.min(), y.max()) == (finite.min(), finite.max())
    else:
        assert len(y) == 0
    if math.isfinite(samples[last]):
        assert (x[-1], y[-1]) == (last, samples[last])
    low, high, count = series.extremes(first, last)
    assert count == len(raw) - len(finite)
    assert (low, high) == ((finite.min(), finite.max()) if len(finite) else (math.inf, -math.inf))
    spoilt_places = first + np.flatnonzero(~np.isfinite(raw))
    assert np.array_equal(series.non_finite_positions(first, last), spoilt_places)
    mark_x, mark_count = series.non_finite_marks(first, last, pixels)
    assert mark_count.sum() == len(spoilt_places)
    assert len(mark_x) <= max(2, pixels)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(300, 20_000), st.integers(1, 3000))
def test_full_buckets_stay_as_they_are_while_the_curve_grows(
    seed: int, length: int, more: int
) -> None:
    samples = random_samples(seed, length + more, 5)
    series = series_of(samples[:length], seed)
    pixels = 50
    before_x, before_y = series.envelope(0, length - 1, pixels)
    bits = bucket_bits(0, length - 1, pixels - 1)
    series.extend(samples[length:])
    after_x, after_y = series.envelope(0, length + more - 1, pixels)
    if bucket_bits(0, length + more - 1, pixels - 1) == bits:
        full = before_x < (length >> bits) << bits
        full[-1] = False  # the newest sample, shown as well
        count = int(full.sum())
        assert count >= 2 * (pixels // 2 - 3)
        assert np.array_equal(before_x[:count], after_x[:count])
        assert np.array_equal(before_y[:count], after_y[:count])


def test_buckets_grow_only_when_the_range_doubles() -> None:
    sizes = [bucket_bits(0, last, 99) for last in range(200, 60_000)]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == sizes[-1] - sizes[0] + 1 <= 10


@given(st.integers(0, 10**7), st.integers(0, 10**6), st.integers(2, 3000))
def test_buckets_are_the_smallest_that_fit_wherever_the_range_lies(
    first: int, length: int, most: int
) -> None:
    def touched(bits: int) -> int:
        return ((first + length) >> bits) - (first >> bits) + 1

    bits = bucket_bits(first, first + length, most)
    assert touched(bits) <= most
    assert bits == 0 or touched(bits - 1) > most


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5000), st.floats(0, 1))
def test_truncated_and_refilled_equals_never_truncated(
    seed: int, length: int, where: float
) -> None:
    samples = random_samples(seed, length, 10)
    series = series_of(samples[::-1].copy(), seed)
    cut = int(where * length)
    series.truncate(cut)
    series.extend(samples[cut:])
    expected = series_of(np.concatenate((samples[::-1][:cut], samples[cut:])))
    for first, last, pixels in ((0, length - 1, 37), (length // 3, length - 1, 5)):
        found_x, found_y = series.envelope(first, last, pixels)
        wanted_x, wanted_y = expected.envelope(first, last, pixels)
        assert np.array_equal(found_x, wanted_x)
        assert np.array_equal(found_y, wanted_y)


@pytest.mark.parametrize("place", [0, 1, 63, 64, 5000, 99_998, 99_999])
@pytest.mark.parametrize("neighbour", [None, math.nan, math.inf])
def test_a_single_spike_is_seen_at_every_zoom(place: int, neighbour: float | None) -> None:
    samples = np.ones(100_000, np.float32)
    samples[place] = 1000.0
    if neighbour is not None:
        samples[place + 1 if place + 1 < len(samples) else place - 1] = neighbour
    series = series_of(samples)
    for width in (10, 100, 3000, 40_000, 100_000):
        first = max(0, min(place - width // 3, len(samples) - width))
        _x, y = series.envelope(first, first + width - 1, 800)
        assert y.max() == 1000.0


def test_a_series_of_only_nan_draws_nothing_and_marks_everything() -> None:
    series = series_of(np.full(10_000, np.nan, np.float32))
    x, y = series.envelope(0, 9_999, 100)
    assert len(x) == len(y) == 0
    mark_x, mark_count = series.non_finite_marks(0, 9_999, 100)
    assert mark_count.sum() == 10_000
    assert len(mark_x) <= 100
    assert list(series.non_finite_positions(0, 9_999, limit=3)) == [0, 1, 2]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_newest_sample_that_is_alone_in_its_bucket_is_marked_when_it_is_not_finite(
    value: float,
) -> None:
    """It gives no point of its own, so the bucket that has just begun is all that tells of it."""
    samples = np.ones(1025, np.float32)
    samples[1024] = value  # 1024 begins a bucket of any size
    series = series_of(samples)
    _x, _y, marks = series.picture(0, 1024, 20)
    assert list(marks) == [1024]
    mark_x, mark_count = series.non_finite_marks(0, 1024, 20)
    assert (list(mark_x), list(mark_count)) == ([1024], [1])


def test_ranges_outside_are_cut_and_an_empty_series_is_empty() -> None:
    series = Series()
    assert len(series.envelope(0, 100, 10)[0]) == 0
    assert len(series.non_finite_positions(0, 100)) == 0
    assert len(series.non_finite_marks(0, 100, 10)[0]) == 0
    assert series.extremes(0, 100) == (math.inf, -math.inf, 0)
    series.extend(np.arange(5, dtype=np.float32))
    assert list(series.envelope(-7, 99, 10)[0]) == [0, 1, 2, 3, 4]
    assert len(series.envelope(50, 99, 10)[0]) == 0


def test_the_pyramid_is_small() -> None:
    series = series_of(np.zeros(100_000, np.float32))
    assert 0 < series.pyramid_nbytes < 0.1 * series.nbytes


def test_a_view_cannot_be_written() -> None:
    array: GrowingArray[np.int64] = GrowingArray(np.int64, 2)
    array.extend(np.arange(5))
    view = array.view
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1
    array.extend(np.arange(100))
    assert list(view) == [0, 1, 2, 3, 4]
    assert len(array) == 105
