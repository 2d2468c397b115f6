"""The live plots: every spike, every mark, the newest batch, and ranges that follow or hold still."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QAction, QColor, QImage, QWheelEvent
from PySide6.QtWidgets import QApplication, QToolButton
from pytestqt.qtbot import QtBot

from app.monitor.live_curve import DecadeAxis
from app.monitor.monitor_view import MonitorView
from app.monitor.pacing import LONGEST_S, SHARE, SHORTEST_S, Pacer
from app.theme import DARK, LIGHT
from tests.ui.made_runs import bad_step, step_record


@pytest.fixture
def view(qtbot: QtBot) -> Iterator[MonitorView]:
    follow, fit = QAction("follow"), QAction("fit")
    follow.setCheckable(True)
    view = MonitorView(follow, fit, LIGHT)
    view.follow_action = follow  # type: ignore[attr-defined]
    qtbot.addWidget(view)
    view.resize(900, 600)
    with qtbot.waitExposed(view):
        view.show()
    yield view


def feed(view: MonitorView, count: int, first: int = 0) -> None:
    view.extend([step_record(step) for step in range(first, first + count)])
    view.redraw()


def x_range(view: MonitorView) -> tuple[float, float]:
    first, last = view.norms.view.viewRange()[0]
    return first, last


def wheel(view: MonitorView, x_share: float, notches: int) -> None:
    """Turn the wheel over the loss plot, as Qt tells it."""
    QApplication.processEvents()  # the plots get their size when they are first shown
    canvas = view.loss.canvas.viewport()
    place = QPointF(canvas.width() * x_share, canvas.height() / 2)
    event = QWheelEvent(
        place,
        QPointF(canvas.mapToGlobal(place.toPoint())),
        QPoint(0, 0),
        QPoint(0, 120 * notches),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(canvas, event)


def count_color(image: QImage, color: str) -> int:
    wanted = QColor(color).rgb() & 0xFFFFFF
    pixels = np.frombuffer(image.convertToFormat(QImage.Format.Format_RGB32).constBits(), np.uint32)
    return int(((pixels & 0xFFFFFF) == wanted).sum())


def test_nothing_but_a_hint_is_shown_before_the_first_batch(view: MonitorView) -> None:
    view.redraw()
    assert not view.loss.isVisible()
    feed(view, 1)
    assert view.loss.isVisible()
    assert count_color(view.loss.canvas.grab().toImage(), LIGHT.loss) > 0, "one batch is seen"


def test_the_newest_batch_is_always_in_sight(view: MonitorView) -> None:
    for first in range(0, 5000, 37):
        feed(view, 37, first)
        left, right = x_range(view)
        assert left <= 0 <= view.newest <= right
    assert view.loss.view.viewRange()[0] == view.norms.view.viewRange()[0]


def test_a_spike_is_drawn_at_any_length(view: MonitorView) -> None:
    records = [step_record(step, grad_norm_pre=2.0) for step in range(100_000)]
    records[77_777] = step_record(77_777, grad_norm_pre=345.05)
    records[-1] = step_record(99_999, grad_norm_pre=222.0)
    view.extend(records)
    view.redraw()
    curve = view.norms.curves["grad_norm_pre"]
    assert curve.points <= 2 * view.norms.view.width() * view.devicePixelRatioF() + 2
    assert curve.highest == pytest.approx(math.log10(345.05))
    low, high = view.norms.view.viewRange()[1]
    assert low < curve.lowest
    assert curve.highest < high


def test_both_norm_curves_and_both_lines_are_painted(view: MonitorView) -> None:
    feed(view, 40)
    image = view.norms.canvas.grab().toImage()
    for color in (LIGHT.norm_pre, LIGHT.norm_post, LIGHT.limit, LIGHT.large):
        assert count_color(image, color) > 10, color
    assert set(view.norms.lines) == {"limit", "large"}
    view.set_max_norm(5.0)
    assert view.norms.lines["limit"].value() == pytest.approx(math.log10(5.0))
    assert "5" in view.norms.lines["limit"].label.format


def test_a_batch_that_is_no_number_gets_a_mark_and_hides_nothing(view: MonitorView) -> None:
    view.extend([step_record(0), bad_step(1), step_record(2, grad_norm_pre=300.0)])
    view.redraw()
    assert view.norms.marks.count >= 1
    assert view.loss.marks.count == 0, "its loss was a number"
    assert count_color(view.norms.canvas.grab().toImage(), LIGHT.mark) > 10
    assert view.norms.curves["grad_norm_pre"].highest == pytest.approx(math.log10(300.0))
    assert view.norms.curves["grad_norm_pre"].points == 2


def test_following_ends_when_the_person_looks_back_and_begins_again_on_demand(
    view: MonitorView,
) -> None:
    feed(view, 1000)
    for _ in range(3):
        wheel(view, 0.3, 4)
    held = x_range(view)
    assert held[1] < 999
    assert not view.follow_action.isChecked()  # type: ignore[attr-defined]
    feed(view, 500, 1000)
    assert x_range(view) == held
    view.follow_action.setChecked(True)  # type: ignore[attr-defined]
    left, right = x_range(view)
    assert left < 1499 <= right
    assert right - left == pytest.approx(held[1] - held[0]), "the zoom is kept"
    feed(view, 500, 1500)
    left, right = x_range(view)
    assert left < 1999 <= right


def test_zooming_about_the_newest_goes_on_following(view: MonitorView) -> None:
    feed(view, 1000)
    wheel(view, 0.82, 4)
    left, right = x_range(view)
    assert 0 < left < 999 < right, "the newest batch is in sight"
    assert view.follow_action.isChecked()  # type: ignore[attr-defined]
    feed(view, 1000, 1000)
    new_left, new_right = x_range(view)
    assert new_left <= 1999 <= new_right
    assert new_right - new_left == pytest.approx(right - left)


def test_fit_shows_the_whole_run(view: MonitorView) -> None:
    feed(view, 1000)
    for _ in range(3):
        wheel(view, 0.3, 4)
    view.loss.view.fit_asked.emit()
    left, right = x_range(view)
    assert left <= 0
    assert 999 <= right < 1100
    assert view.follow_action.isChecked()  # type: ignore[attr-defined]


def test_the_loss_axis_does_not_wobble(view: MonitorView) -> None:
    tops = set()
    for step in range(300):
        view.extend([step_record(step, loss=80.0 + 10.0 * math.sin(step))])
        view.redraw()
        tops.add(view.loss.view.viewRange()[1][1])
    assert len(tops) <= 2


def test_clearing_begins_anew(view: MonitorView) -> None:
    feed(view, 1000)
    view.clear()
    assert view.newest == -1
    assert not view.loss.isVisible()
    feed(view, 3)
    assert x_range(view)[1] < 100


def test_every_theme_recolours_the_curves(view: MonitorView) -> None:
    feed(view, 40)
    view.recolor(DARK)
    image = view.loss.canvas.grab().toImage()
    assert count_color(image, DARK.loss) > 10
    assert count_color(image, LIGHT.loss) == 0


def test_a_curve_is_hidden_by_its_legend(view: MonitorView) -> None:
    feed(view, 40)
    button = view.findChild(QToolButton, "legend.grad_norm_pre")
    assert button is not None
    button.click()
    assert not view.norms.curves["grad_norm_pre"].isVisible()
    assert count_color(view.norms.canvas.grab().toImage(), LIGHT.norm_pre) == 0


def test_decades_are_labelled_as_numbers(qtbot: QtBot) -> None:
    axis = DecadeAxis(orientation="left")
    (spacing, decades), (minor, between) = axis.tickValues(-1.2, 2.6, 300)
    assert axis.tickStrings(decades, 1.0, spacing) == ["0.1", "1", "10", "100"]
    assert set(axis.tickStrings(between, 1.0, minor)) == {""}
    assert all(-1.2 <= value <= 2.6 for value in decades + between)


def test_redraws_are_spaced_by_what_they_cost() -> None:
    pacer = Pacer()
    assert pacer.take_turn(0.0)
    assert pacer.interval_s == SHORTEST_S
    assert not pacer.take_turn(SHORTEST_S / 2)
    assert pacer.take_turn(SHORTEST_S)
    with pacer.measure():
        sum(range(300_000))
    assert SHORTEST_S < pacer.interval_s <= LONGEST_S
    spent_s = pacer.interval_s * SHARE
    assert spent_s > 0.0007
    for _ in range(20):
        with pacer.measure():
            sum(range(300_000))
    assert pacer.interval_s == LONGEST_S, "it never stands still"
