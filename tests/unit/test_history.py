import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.analysis.history import Axis, History, LoadCancelled
from core.analysis.smoothing import Ema, LogHistogram, RollingShare
from signscope.errors import LedgerError
from signscope.ledger import Ledger, LedgerReader
from signscope.records import Outcome, StepRecord
from signscope.schema import CURVE_BLOCK, DTYPES, OUTCOMES, columns_of, pack, unpack
from tests.unit.made_records import make_step, non_finite_step


def history_of(steps: list[StepRecord]) -> History:
    history = History()
    for record in steps:
        history.append(record)
    return history


def same_history(left: History, right: History) -> bool:
    return all(
        np.array_equal(left.column(name), right.column(name), equal_nan=dtype.kind == "f")
        for name, dtype in DTYPES.items()
    )


def same_epochs(left: History, right: History) -> bool:
    places = np.arange(len(right), dtype=np.float64)
    return np.array_equal(left.to_axis(places, "epoch"), right.to_axis(places, "epoch"))


def test_columns_are_those_of_the_records() -> None:
    steps = [make_step(step) for step in range(1000)]
    steps[17] = non_finite_step(17)
    history = history_of(steps)
    assert len(history) == 1000
    for name in ("loss", "grad_norm_pre", "lr", "step_s"):
        expected = np.array([getattr(record, name) for record in steps], np.float32)
        assert np.array_equal(history.column(name), expected, equal_nan=True)
    assert np.array_equal(history.column("wall_time"), [record.wall_time for record in steps])
    assert [OUTCOMES[code] for code in history.column("outcome").tolist()] == [
        record.outcome for record in steps
    ]
    assert history.outcomes()[Outcome.APPLIED] == 999
    assert history.outcomes()[Outcome.SKIPPED_NON_FINITE_LOSS] == 1
    assert history.clipped_count() == sum(record.clipped for record in steps)
    assert list(history.series("loss").non_finite_positions(0, 999)) == [17]
    assert list(history.to_axis(np.array([0, 10, 20]), "epoch")) == [0, 1, 2]


def test_pack_and_unpack_are_inverse() -> None:
    columns = columns_of([make_step(step) for step in range(5)])
    again = unpack(pack(columns), 5)
    for name in DTYPES:
        assert np.array_equal(columns[name], again[name])
    with pytest.raises(ValueError, match="do not hold"):
        unpack(pack(columns), 4)


def test_the_ledger_gives_the_same_history(tmp_path: Path) -> None:
    steps = [make_step(step, batches_per_epoch=300) for step in range(2 * CURVE_BLOCK + 77)]
    steps[5] = non_finite_step(5, 300)
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as ledger:
        for record in steps:
            ledger.append(record)
    told: list[tuple[int, int]] = []
    with LedgerReader(path) as reader:
        history = History.from_ledger(reader, lambda done, total: told.append((done, total)))
        with pytest.raises(LoadCancelled):
            History.from_ledger(reader, cancelled=lambda: True)
    assert same_history(history, history_of(steps))
    assert same_epochs(history, history_of(steps))
    assert told[-1] == (len(steps), len(steps))


def test_a_damaged_ledger_is_not_drawn(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as ledger:
        for step in range(CURVE_BLOCK + 10):
            ledger.append(make_step(step))
    content = path.read_bytes()
    block = pack(columns_of([make_step(step) for step in range(CURVE_BLOCK)]))
    place = content.index(block[:200])
    path.write_bytes(content[:place] + b"\x55" + content[place + 1 :])
    with LedgerReader(path) as reader, pytest.raises(LedgerError, match="curves from step 0"):
        History.from_ledger(reader)


@pytest.mark.parametrize("back_to", [0, 3, 64, 150, 299])
def test_a_resumed_run_replaces_what_it_makes_again(back_to: int) -> None:
    first = [make_step(step, loss=5.0) for step in range(300)]
    again = [make_step(step, loss=7.0) for step in range(back_to, 400)]
    expected = history_of(first[:back_to] + again)
    in_one_go = History()
    in_one_go.extend(first + again)
    later = history_of(first)
    later.smoothed("loss", 0.9)
    later.histogram()
    later.extend(again)
    cut = history_of(first)
    cut.truncate_from(back_to)
    assert len(cut) == back_to
    cut.extend(again)
    for history in (in_one_go, later, cut):
        assert same_history(history, expected)
        assert same_epochs(history, expected)
        assert history.outcomes() == expected.outcomes()
        assert history.clipped_count() == expected.clipped_count()
        assert np.array_equal(
            history.smoothed("loss", 0.9).values, expected.smoothed("loss", 0.9).values
        )
        assert history.histogram().total == 400


def test_evicted_records_leave_a_gap_that_steps_tell() -> None:
    history = history_of([make_step(step) for step in (0, 1, 2, 7, 8)])
    assert history.position_of_step(7) == 3
    assert history.position_of_step(5) == 3
    x, _y = history.envelope("loss", 0, 4, 100)
    assert list(x) == [0, 1, 2, 7, 8]
    assert history.positions(6.5, 7.2) == (2, 4)


def test_axes_agree_with_the_records() -> None:
    steps = [make_step(step) for step in range(25)]
    history = history_of(steps)
    places = np.array([0.0, 10.0, 14.5, 24.0])
    assert list(history.to_axis(places, "step")) == [0, 10, 14.5, 24]
    assert list(history.to_axis(places, "epoch")) == [0, 1, 1.45, 2.4]
    time = history.to_axis(places, "time")
    assert time[0] == 0
    assert time[3] == pytest.approx(steps[24].wall_time - steps[0].wall_time)
    axes: tuple[Axis, ...] = ("step", "time", "epoch")
    for axis in axes:
        low, high = history.to_axis(np.array([9.5, 14.5]), axis)
        first, last = history.positions(low, high, axis)
        assert (first, last) == (9, 15)
        assert history.positions(-1e9, 1e9, axis) == (0, 24)


def test_an_empty_history_answers() -> None:
    history = History()
    assert len(history) == 0
    assert history.positions(0, 10, "epoch") == (0, -1)
    assert len(history.envelope("loss", 0, -1, 100, "time")[0]) == 0
    assert len(history.smoothed("loss", 0.5)) == 0
    assert list(history.to_axis(np.array([0.5]), "epoch")) == [0.5]


def test_time_never_goes_back_even_if_the_clock_does() -> None:
    steps = [make_step(step) for step in range(10)]
    steps[6] = dataclasses.replace(steps[6], wall_time=0.0)
    history = history_of(steps)
    assert np.all(np.diff(history.column("wall_time").astype(np.float64)) >= 0)


def test_pyramids_stay_under_a_quarter_of_the_columns() -> None:
    history = History()
    history.extend([make_step(step) for step in range(5000)])
    assert 0 < history.pyramid_nbytes < 0.25 * history.nbytes
    assert history.nbytes == 58 * 5000


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.floats(-1e4, 1e4, width=32) | st.sampled_from([math.nan, math.inf]), max_size=300),
    st.sampled_from([0.0, 0.01, 0.5, 0.9, 0.99, 0.9999]),
    st.integers(1, 50),
)
def test_smoothing_is_the_recursion_however_it_is_cut(
    values: list[float], decay: float, piece: int
) -> None:
    ema = Ema(decay)
    array = np.array(values, np.float32)
    found = np.concatenate(
        [ema.extend(array[start : start + piece]) for start in range(0, len(array), piece)]
        or [np.empty(0)]
    )
    mean = math.nan
    for value, smoothed in zip(array.astype(float), found, strict=True):
        if math.isfinite(value):
            mean = value if math.isnan(mean) else decay * mean + (1 - decay) * value
        assert smoothed == pytest.approx(mean, rel=1e-9, abs=1e-7, nan_ok=True)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.booleans(), max_size=200), st.integers(1, 60), st.integers(1, 50))
def test_the_rolling_share_is_the_mean_of_its_window(
    flags: list[bool], window: int, piece: int
) -> None:
    rolling = RollingShare(window)
    array = np.array(flags, np.uint8)
    found = np.concatenate(
        [rolling.extend(array[start : start + piece]) for start in range(0, len(array), piece)]
        or [np.empty(0)]
    )
    for place, share in enumerate(found):
        assert share == pytest.approx(np.mean(array[max(0, place + 1 - window) : place + 1]))


def test_the_histogram_counts_every_value_once() -> None:
    histogram = LogHistogram(-2, 2, 1)
    histogram.extend(np.array([0.05, 0.5, 5.0, 5.0]))
    histogram.extend(np.array([1e-3, 0.0, -1.0, 100.0, math.nan, math.inf]))
    assert list(histogram.counts) == [1, 1, 2, 0]
    assert (histogram.below, histogram.above, histogram.non_finite) == (3, 1, 2)
    assert histogram.total == 10


@pytest.mark.parametrize("bad", [-0.1, 1.0, math.nan])
def test_impossible_decays_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="decay"):
        Ema(bad)
    with pytest.raises(ValueError, match="window"):
        RollingShare(0)


def test_a_history_begins_anew_when_the_run_is_resumed_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as ledger:
        for step in range(CURVE_BLOCK + 10):
            ledger.append(make_step(step))
    calls: list[int] = []

    def resume_after_the_first_piece(done: int, total: int) -> None:
        calls.append(done)
        if len(calls) == 1:
            with Ledger(path) as ledger:
                ledger.truncate_from(10, 2)
                ledger.append(make_step(10, loss=1.0))

    with LedgerReader(path) as reader:
        history = History.from_ledger(reader, resume_after_the_first_piece)
    assert len(history) == 11
    assert history.column("loss")[10] == 1.0
