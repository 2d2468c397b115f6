"""Ranges and scales of the plots: following, fitting, outliers, axes, logarithms, smoothing."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QAction
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from app.monitor.axes import HeightAxis, XAxis, clock
from app.monitor.monitor_view import MonitorView
from app.monitor.plot_bar import AXES, SMOOTHINGS, decay_of
from app.monitor.ranges import linear_range, log_range, usual_range
from app.theme import LIGHT
from core.analysis.smoothing import Ema
from signscope.records import StepRecord
from tests.ui.made_runs import step_record


@pytest.fixture
def view(qtbot: QtBot) -> Iterator[MonitorView]:
    follow, fit = QAction("follow"), QAction("fit")
    follow.setCheckable(True)
    view = MonitorView(follow, fit, LIGHT)
    follow.setParent(view)
    fit.setParent(view)
    follow.setObjectName("follow")
    qtbot.addWidget(view)
    view.resize(900, 700)
    with qtbot.waitExposed(view):
        view.show()
    yield view


def follows(view: MonitorView) -> bool:
    action = view.findChild(QAction, "follow")
    assert isinstance(action, QAction)
    return action.isChecked()


def steady(count: int, first: int = 0) -> list[StepRecord]:
    return [
        step_record(step, loss=6.0 + math.sin(step), grad_norm_pre=2.0 + math.cos(step))
        for step in range(first, first + count)
    ]


def feed(view: MonitorView, records: list[StepRecord]) -> None:
    view.extend(records)
    view.redraw()
    QApplication.processEvents()


def x_range(view: MonitorView) -> tuple[float, float]:
    ranges = {tuple(plot.view.viewRange()[0]) for plot in view.plots}
    assert len(ranges) == 1, "all plots show the same x"
    first, last = ranges.pop()
    return first, last


def drag(view: MonitorView, start: float, end: float, *, shift: bool = False) -> None:
    """Drag with the left button over the loss plot, from and to shares of its width."""
    canvas = view.loss.canvas.viewport()
    modifier = Qt.KeyboardModifier.ShiftModifier if shift else Qt.KeyboardModifier.NoModifier
    y = canvas.height() // 2
    places = [QPoint(round(canvas.width() * share), y) for share in (start, (start + end) / 2, end)]
    QTest.mousePress(canvas, Qt.MouseButton.LeftButton, modifier, places[0])
    for place in (*places[1:], places[-1]):
        QTest.mouseMove(canvas, place)
        QApplication.processEvents()
    QTest.mouseRelease(canvas, Qt.MouseButton.LeftButton, modifier, places[-1])
    QApplication.processEvents()


def test_panning_back_ends_following_and_the_button_begins_it_again(view: MonitorView) -> None:
    feed(view, steady(1000))
    view.zoom(0.1)
    assert follows(view)
    drag(view, 0.3, 0.6)
    assert not follows(view)
    held = x_range(view)
    feed(view, steady(300, 1000))
    assert x_range(view) == held
    action = view.findChild(QAction, "follow")
    assert isinstance(action, QAction)
    action.trigger()
    first, last = x_range(view)
    assert first < 1299 <= last
    assert last - first == pytest.approx(held[1] - held[0])
    feed(view, steady(300, 1300))
    first, last = x_range(view)
    assert first < 1599 <= last


def test_dragging_with_shift_zooms_to_the_stretch(view: MonitorView) -> None:
    feed(view, steady(1000))
    before = x_range(view)
    drag(view, 0.3, 0.5, shift=True)
    first, last = x_range(view)
    assert 0 < first < last < 999
    width = (before[1] - before[0]) * view.loss.canvas.width() / view.loss.view.width()
    assert last - first == pytest.approx(0.2 * width, rel=0.05)
    drag(view, 0.5, 0.501, shift=True)
    assert x_range(view) == (first, last), "a slip of the hand changes nothing"


def test_a_double_click_fits_the_whole_run(view: MonitorView) -> None:
    feed(view, steady(1000))
    view.move_x(100.0, 150.0)
    view.loss.y_held = True
    view.loss.view.setYRange(0, 1, padding=0)
    canvas = view.norms.canvas.viewport()
    centre = canvas.rect().center()
    QTest.mouseDClick(canvas, Qt.MouseButton.LeftButton, pos=centre)
    QTest.mouseRelease(canvas, Qt.MouseButton.LeftButton, pos=centre)  # else it counts as held down
    first, last = x_range(view)
    assert first <= 0
    assert 999 <= last < 1100
    assert follows(view)
    assert view.loss.view.viewRange()[1][1] >= 7


def test_panning_and_zooming_never_lose_the_run(view: MonitorView) -> None:
    feed(view, steady(1000))
    for _ in range(30):
        view.pan(0.8)
    first, last = x_range(view)
    assert first < 999
    for _ in range(60):
        view.pan(-0.8)
    assert x_range(view)[1] > 0
    for _ in range(60):
        view.zoom(1 / 1.5)
    first, last = x_range(view)
    assert last - first == pytest.approx(4.0)
    for _ in range(60):
        view.zoom(1.5)
    first, last = x_range(view)
    assert last - first <= 1500


def test_one_outlier_does_not_press_the_curves_flat(view: MonitorView) -> None:
    feed(view, steady(1000))
    before = view.loss.view.viewRange()[1]
    assert view.loss.outside.above == 0
    feed(view, [step_record(1000, loss=1e6, grad_norm_pre=1e9), *steady(99, 1001)])
    assert view.loss.view.viewRange()[1] == before
    assert view.loss.outside.above == 1, "an arrow says that there is more"
    assert view.norms.view.viewRange()[1][1] < 4
    assert view.norms.outside.above == 1
    assert view.loss.curves["loss"].highest == 1e6, "it is still drawn to the border"
    view.bar.outliers.click()
    assert view.loss.view.viewRange()[1][1] >= 1e6
    assert view.norms.view.viewRange()[1][1] >= 9
    assert view.loss.outside.above == 0
    view.bar.outliers.click()
    assert view.loss.view.viewRange()[1][1] < 100


def test_the_first_batches_of_the_story_are_in_range(view: MonitorView) -> None:
    records = [
        step_record(
            step, loss=6 + 85 * math.exp(-step / 20), grad_norm_pre=345.05 if step < 5 else 2.5
        )
        for step in range(284)
    ]
    feed(view, records)
    assert view.loss.view.viewRange()[1][1] >= 91
    assert view.norms.view.viewRange()[1][1] >= math.log10(345.05)
    assert view.norms.outside.above == view.loss.outside.above == 0


@given(
    st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=400),
    st.floats(1e6, 1e9, width=32),
)
def test_the_usual_range_leaves_out_only_few_points_far_away(
    values: list[float], far: float
) -> None:
    heights = np.array(values, np.float32)
    low, high = usual_range(heights)
    out = (heights < low) | (heights > high)
    assert out.sum() <= 2 * max(2, len(values) // 200)
    assert low <= high
    if len(values) >= 60 and heights.max() > heights.min():
        spiked = np.append(heights, np.float32(far))
        assert usual_range(spiked, float(heights.min()), float(heights.max()))[1] == heights.max()
    else:
        assert (low, high) == (heights.min(), heights.max())


@given(st.floats(-5, 5), st.floats(0.01, 7), st.floats(-4, 4), st.floats(0.1, 8))
def test_ranges_hold_what_they_are_for(low: float, span: float, at: float, wide: float) -> None:
    high = low + span
    first, last = log_range(low, high, (at, at + wide))
    assert first <= low < high <= last
    first, last = linear_range(low, high, (at, at + wide))
    assert first <= min(low, 0.0)
    assert last >= high


@pytest.mark.parametrize("axis", [axis for axis, _ in AXES])
def test_x_counts_batches_epochs_or_time(view: MonitorView, axis: str) -> None:
    feed(view, steady(100))  # ten batches an epoch, a tenth of a second each
    view.set_axis(axis)
    curve = view.loss.curves["loss"]
    scale = {"step": 1.0, "epoch": 0.1, "time": 0.1}[axis]
    assert curve.x_N.tolist() == pytest.approx([scale * step for step in range(100)], abs=1e-5)
    assert view.loss.curves["loss"].heights_N.tolist() == pytest.approx(
        [6.0 + math.sin(step) for step in range(100)], rel=1e-6
    )
    first, last = x_range(view)
    assert first <= 0
    assert last >= 99 * scale
    assert view.bar.axis.currentText() == dict(AXES)[axis]  # type: ignore[index]


def test_another_x_keeps_the_batches_in_sight(view: MonitorView) -> None:
    feed(view, steady(1000))
    view.move_x(200.0, 300.0)
    for axis, scale in (("time", 0.1), ("epoch", 0.1), ("step", 1.0)):
        view.set_axis(axis)
        first, last = x_range(view)
        assert first == pytest.approx(200 * scale, abs=6 * scale)
        assert last == pytest.approx(300 * scale, abs=6 * scale)
    feed(view, steady(10, 1000))
    assert not follows(view)


def test_scales_are_linear_or_logarithmic(view: MonitorView) -> None:
    feed(view, [step_record(step, loss=10.0 ** (step % 4)) for step in range(40)])
    curve = view.loss.curves["loss"]
    assert curve.heights_N.max() == 1000
    view.loss.log_button.click()
    assert curve.heights_N.tolist() == pytest.approx([step % 4 for step in range(40)])
    assert view.loss.view.viewRange()[1][1] < 4
    assert view.norms.lines["limit"].value() == 0.0
    view.norms.log_button.click()
    assert view.norms.lines["limit"].value() == 1.0
    assert view.norms.lines["large"].value() == 200.0
    assert view.norms.curves["grad_norm_pre"].heights_N[0] == pytest.approx(2.0)


@pytest.mark.parametrize("batches", SMOOTHINGS[1:3])
def test_the_running_mean_is_drawn_over_the_raw_curve(view: MonitorView, batches: int) -> None:
    records = steady(300)
    feed(view, records)
    view.bar.smoothing.setCurrentIndex(SMOOTHINGS.index(batches))
    expected = Ema(decay_of(batches)).extend(np.array([r.loss for r in records], np.float32))
    assert view.loss.smooth["loss"].heights_N.tolist() == pytest.approx(expected.tolist(), rel=1e-6)
    assert view.loss.smooth["loss"].isVisible()
    assert view.loss.curves["loss"].isVisible()
    assert view.loss.curves["loss"].heights_N.tolist() == pytest.approx([r.loss for r in records])
    view.set_smoothing(0)
    assert not view.loss.smooth["loss"].isVisible()


def test_computed_curves_of_a_long_run_come_a_stretch_at_a_time(
    view: MonitorView, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.monitor.live_plot.AT_ONCE", 100)
    records = steady(1000)
    view.extend(records)
    view.set_smoothing(10)
    assert view.loss.smooth["loss"].points < 1000
    qtbot.waitUntil(lambda: view.loss.smooth["loss"].points == 1000)
    qtbot.waitUntil(lambda: view.share.curves["clipped_share"].points == 1000)


def test_ticks_read_as_numbers_and_times(qtbot: QtBot) -> None:
    axis = HeightAxis(orientation="left")
    axis.log = True
    for low, high in ((-1.0, 2.6), (0.2, 0.9), (0.30, 0.31), (-6.0, 9.0)):
        (spacing, values), *_ = axis.tickValues(low, high, 200.0)
        texts = axis.tickStrings(values, 1.0, spacing)
        assert 2 <= len(texts) <= 14, (low, high)
        assert len(set(texts)) == len(texts)
        for value, text in zip(values, texts, strict=True):
            assert low <= value <= high
            assert float(text) == pytest.approx(10.0**value, rel=1e-4)
    assert [clock(s) for s in (0, 59, 60, 3599, 3661)] == [
        "0 s",
        "59 s",
        "1:00",
        "59:59",
        "1:01:01",
    ]
    assert clock(-5.0) == ""
    x = XAxis()
    x.mode = "time"
    assert x.tickSpacing(0, 7200, 900)[0][0] == 900
    x.mode = "step"
    assert x.tickSpacing(0, 3, 900)[0][0] == 1.0
    assert x.tickStrings([-1.0, 0.0, 12000.0], 1.0, 1.0) == ["", "0", "12\u2009000"]


def test_redraws_alone_never_widen_a_range(view: MonitorView) -> None:
    view.resize(500, 330)
    feed(view, steady(300))
    ranges = [tuple(plot.view.viewRange()[1]) for plot in view.plots]
    for first in range(300, 600, 10):
        feed(view, steady(10, first))
    assert [tuple(plot.view.viewRange()[1]) for plot in view.plots] == ranges
    low, high = ranges[1]
    assert high - low < 5, "four decades are plenty for norms about 2 and two lines"
