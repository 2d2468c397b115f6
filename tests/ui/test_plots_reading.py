"""Reading the plots: crosshair and ledger row, marks, epochs, legend, distribution, keys."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QAction, QGuiApplication, QImage
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLabel, QToolButton
from pytestqt.qtbot import QtBot

from app.help import ShortcutsDialog
from app.monitor.batch_row import full_row
from app.monitor.live_plot import SHARE_WINDOW, LivePlot
from app.monitor.monitor_view import MonitorView
from app.monitor.plot_bar import PLOT_KEYS, SMOOTHINGS
from app.theme import LIGHT
from core.analysis.smoothing import LogHistogram, RollingShare
from signscope.ledger import Ledger, LedgerReader
from signscope.records import EventKind, Outcome, RunEventRecord, StepRecord
from tests.ui.made_runs import BATCHES, bad_step, step_record

BAD = 41


@pytest.fixture
def view(qtbot: QtBot) -> Iterator[MonitorView]:
    follow, fit = QAction("follow"), QAction("fit")
    follow.setCheckable(True)
    view = MonitorView(follow, fit, LIGHT)
    follow.setParent(view)
    fit.setParent(view)
    qtbot.addWidget(view)
    view.resize(900, 700)
    with qtbot.waitExposed(view):
        view.show()
    yield view


def run(count: int = 200) -> list[StepRecord]:
    random = np.random.default_rng(4)
    norms = np.exp(random.normal(0.5, 0.6, count))
    return [
        bad_step(step)
        if step == BAD
        else step_record(
            step,
            grad_norm_pre=float(norms[step]),
            grad_norm_post=min(1.0, float(norms[step])),
            clip_coef=min(1.0, 1.0 / float(norms[step])),
            sample_ids=(f"S1/{step}", f"S2/{step}"),
        )
        for step in range(count)
    ]


def feed(view: MonitorView, records: list[StepRecord]) -> None:
    view.extend(records)
    view.redraw()
    QApplication.processEvents()


def write_ledger(path: Path, records: list[StepRecord]) -> Path:
    with Ledger(path, {}) as ledger:
        for record in records:
            ledger.append(record)
    return path


def pixel_of(plot: LivePlot, x: float) -> QPoint:
    """Where an x of a plot is on its canvas."""
    rect = plot.view.viewRect()
    scene = plot.view.mapViewToScene(QPointF(x, rect.center().y()))
    place: QPoint = plot.canvas.mapFromScene(scene)
    return place


def wait_for_row(view: MonitorView, qtbot: QtBot, step: int) -> None:
    qtbot.waitUntil(lambda: view.row.record is not None and view.row.record.step == step)


def pointed(view: MonitorView) -> int | None:
    return view.crosshair


def press(view: MonitorView, key: Qt.Key, times: int = 1, shift: bool = False) -> None:
    modifier = Qt.KeyboardModifier.ShiftModifier if shift else Qt.KeyboardModifier.NoModifier
    for _ in range(times):
        QTest.keyClick(view.loss.canvas, key, modifier)


def test_the_row_under_the_mouse_is_the_ledgers(
    view: MonitorView, qtbot: QtBot, tmp_path: Path
) -> None:
    records = run()
    path = write_ledger(tmp_path / "ledger.sqlite", records)
    with LedgerReader(path) as reader:
        view.clear()
        view.history.extend(records)  # as for a run that is read back: no record is in memory
        view.set_ledger(path)
        view.redraw()
        QApplication.processEvents()
        for step in (0, 7, BAD, 199):
            QTest.mouseMove(view.norms.canvas.viewport(), pixel_of(view.norms, step))
            wait_for_row(view, qtbot, step)
            assert view.row.record is not None
            expected = reader.step(step)
            assert expected is not None
            assert full_row(view.row.record) == full_row(expected)
            assert view.row.record.sample_ids == (records[step].sample_ids)
            for plot in view.plots:
                assert plot.crosshair.x == step
    assert "S2/199" in view.row.text
    assert "epoch 20, number 10" in view.row.text


def test_a_batch_left_out_says_why(view: MonitorView, qtbot: QtBot) -> None:
    feed(view, run())
    view.point_at(BAD, hold=True)
    qtbot.waitUntil(lambda: view.row.record is not None)
    assert "gradient not finite" in view.row.text
    assert "encoder.weight is NaN" in view.row.text
    assert "NaN → NaN" in view.row.text


def test_the_newest_rows_of_a_live_run_need_no_disk(
    view: MonitorView, qtbot: QtBot, tmp_path: Path
) -> None:
    records = run()
    view.set_ledger(write_ledger(tmp_path / "ledger.sqlite", records[:100]))
    feed(view, records)
    for position in (50, 150):
        view.point_at(position)
        wait_for_row(view, qtbot, position)
        assert view.row.record is not None
        assert full_row(view.row.record) == full_row(records[position])


def test_a_missing_ledger_leaves_what_the_curves_have(
    view: MonitorView, qtbot: QtBot, tmp_path: Path
) -> None:
    view.clear()
    view.history.extend(run())
    view.set_ledger(tmp_path / "gone.sqlite")
    view.redraw()
    view.point_at(3)
    qtbot.waitUntil(lambda: "no ledger" in view.row.toolTip())
    assert view.row.record is None
    assert "Batch 3" in view.row.text


def test_the_crosshair_goes_with_the_mouse_unless_it_was_put_down(view: MonitorView) -> None:
    feed(view, run())
    canvas = view.loss.canvas
    QTest.mouseMove(canvas.viewport(), pixel_of(view.loss, 60))
    assert pointed(view) == 60
    view.loss.canvas.left.emit()
    assert pointed(view) is None
    QTest.mouseClick(canvas.viewport(), Qt.MouseButton.LeftButton, pos=pixel_of(view.loss, 90))
    assert pointed(view) == 90
    view.loss.canvas.left.emit()
    assert pointed(view) == 90, "it was put down"
    press(view, Qt.Key.Key_Escape)
    assert pointed(view) is None
    assert view.loss.crosshair.x is None


def test_keys_move_the_crosshair_by_one_batch_and_keep_it_in_sight(view: MonitorView) -> None:
    feed(view, run())
    view.loss.canvas.setFocus()
    press(view, Qt.Key.Key_Left)
    assert pointed(view) == 199, "it begins at the newest in sight"
    press(view, Qt.Key.Key_Left, 3)
    assert pointed(view) == 196
    press(view, Qt.Key.Key_Right)
    press(view, Qt.Key.Key_Left, shift=True)
    assert pointed(view) == 187
    press(view, Qt.Key.Key_Plus, 6)
    first, last = view.loss.view.viewRange()[0]
    assert last - first < 40
    assert first <= 187 <= last, "zoomed about the crosshair"
    press(view, Qt.Key.Key_Left, 4, shift=True)
    first, last = view.loss.view.viewRange()[0]
    assert first <= 147 <= last
    press(view, Qt.Key.Key_Home)
    first, last = view.loss.view.viewRange()[0]
    assert pointed(view) == 0
    assert first <= 0 <= last
    press(view, Qt.Key.Key_End)
    assert pointed(view) == 199
    assert view.loss.view.viewRange()[0][1] >= 199
    press(view, Qt.Key.Key_Right)
    assert pointed(view) == 199, "there is nothing after it"


def test_every_other_key_does_what_the_list_says(view: MonitorView) -> None:
    feed(view, run(400))
    view.loss.canvas.setFocus()
    whole = view.loss.view.viewRange()[0]
    press(view, Qt.Key.Key_Plus)
    zoomed = view.loss.view.viewRange()[0]
    assert zoomed[1] - zoomed[0] == pytest.approx((whole[1] - whole[0]) / 1.5)
    press(view, Qt.Key.Key_PageUp)
    assert view.loss.view.viewRange()[0][0] < zoomed[0]
    press(view, Qt.Key.Key_F)
    assert view.loss.view.viewRange()[0][0] <= 0
    assert view.loss.view.viewRange()[0][1] >= 399
    press(view, Qt.Key.Key_L)
    press(view, Qt.Key.Key_N)
    assert (view.loss.log, view.norms.log) == (True, False)
    press(view, Qt.Key.Key_X)
    assert view.axis == "epoch"
    press(view, Qt.Key.Key_S, 2)
    assert view.smoothing == SMOOTHINGS[2]
    press(view, Qt.Key.Key_D)
    assert not view.norms.side.isVisible()
    press(view, Qt.Key.Key_C)
    assert view.share.isHidden()
    press(view, Qt.Key.Key_O)
    assert view.loss.all_values
    view.point_at(7)
    view._crosshair.ask_row()
    QTest.keyClick(view.loss.canvas, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    assert "S1/7" in QGuiApplication.clipboard().text()


def test_the_help_lists_the_keys_of_plots(qtbot: QtBot) -> None:
    dialog = ShortcutsDialog()
    qtbot.addWidget(dialog)
    texts = {label.text() for label in dialog.findChildren(QLabel)}
    for keys, what in PLOT_KEYS:
        assert {keys, what} <= texts


def test_events_are_marked_at_their_steps_and_told(view: MonitorView, qtbot: QtBot) -> None:
    feed(view, run())
    view.add_events(
        [
            RunEventRecord(150, EventKind.ALERT, "three in a row", 0.0),
            RunEventRecord(20, EventKind.CHECKPOINT, "kept", 0.0),
            RunEventRecord(90, EventKind.PAUSED, "asked", 0.0),
            RunEventRecord(95, EventKind.RESUMED, "asked", 0.0),
            RunEventRecord(120, EventKind.INFO, "not marked", 0.0),
            RunEventRecord(200, EventKind.ERROR, "after the newest", 0.0),
        ]
    )
    view.redraw()
    marks = view.loss.events
    assert marks.x_N.tolist() == [20, 90, 95, 150, 199]
    assert [event.kind for event in marks.events] == [
        EventKind.CHECKPOINT,
        EventKind.PAUSED,
        EventKind.RESUMED,
        EventKind.ALERT,
        EventKind.ERROR,
    ]
    assert [event.text for event in marks.near(150.4, 1.0)] == ["three in a row"]
    view.point_at(150)
    view._crosshair.ask_row()
    qtbot.waitUntil(lambda: "alert: three in a row" in view.row.text)
    view.set_axis("epoch")
    assert view.loss.events.x_N.tolist() == pytest.approx([2.0, 9.0, 9.5, 15.0, 19.9])
    image = view.loss.canvas.grab().toImage().convertToFormat(QImage.Format.Format_RGB32)
    pixels = np.frombuffer(image.constBits(), np.uint32) & 0xFFFFFF
    for color in (LIGHT.success, LIGHT.warning, LIGHT.error):
        assert (pixels == int(color[1:], 16)).sum() > 10, color


def test_non_finite_batches_and_epochs_stand_where_they_are(view: MonitorView) -> None:
    feed(view, run())
    assert view.norms.marks.count == 2, "one for each norm curve"
    assert set(view.norms.marks.positions.tolist()) == {BAD}
    epochs = view.loss.epoch_lines
    assert epochs.x_N.tolist() == [BATCHES * (epoch - 1) for epoch in epochs.epochs_N.tolist()]
    assert len(epochs.x_N) >= 5


def test_far_more_epochs_than_pixels_are_thinned(view: MonitorView) -> None:
    feed(view, [step_record(step, epoch=step + 1) for step in range(3000)])
    epochs = view.loss.epoch_lines.epochs_N.tolist()
    assert 5 < len(epochs) < 60
    assert len({b - a for a, b in itertools.pairwise(epochs)}) == 1


def test_the_legend_hides_a_curve_and_its_part_in_the_range(view: MonitorView) -> None:
    records = [step_record(step, grad_norm_pre=1e6) for step in range(50)]
    feed(view, records)
    high = view.norms.view.viewRange()[1][1]
    assert high > 6
    button = view.findChild(QToolButton, "legend.grad_norm_pre")
    assert button is not None
    button.click()
    assert not view.norms.curves["grad_norm_pre"].isVisible()
    assert view.norms.view.viewRange()[1][1] < 4
    button.click()
    assert view.norms.curves["grad_norm_pre"].isVisible()
    assert view.norms.view.viewRange()[1][1] > 6


def test_the_distribution_is_that_of_the_norms(view: MonitorView) -> None:
    records = run()
    feed(view, records)
    histogram = LogHistogram()
    histogram.extend(np.array([record.grad_norm_pre for record in records], np.float32))
    bars = view.norms.distribution.bars
    counts = histogram.counts[histogram.counts > 0]
    assert [bar.width() for bar in bars] == pytest.approx((counts / counts.max()).tolist())
    edges = np.log10(histogram.edges[:-1][histogram.counts > 0])
    assert [bar.y() for bar in bars] == pytest.approx(edges.tolist())
    assert view.norms.side.viewRange()[1] == view.norms.view.viewRange()[1], "beside the curve"


def test_the_share_of_clipped_batches_is_drawn(view: MonitorView) -> None:
    records = run(300)
    feed(view, records)
    clipped = np.array([record.clipped for record in records])
    expected = RollingShare(SHARE_WINDOW).extend(clipped)
    curve = view.share.curves["clipped_share"]
    assert curve.heights_N.tolist() == pytest.approx(expected.tolist(), abs=1e-6)
    assert view.share.view.viewRange()[1] == [-0.06, 1.06]
    view.bar.share.click()
    assert view.share.isHidden()
    assert view.norms.bottom.style["showValues"], "x is labelled below the lowest plot"


def test_a_resumed_run_forgets_the_rows_it_gave_up(view: MonitorView, qtbot: QtBot) -> None:
    feed(view, run(100))
    again = [step_record(step, loss=77.0) for step in range(60, 80)]
    feed(view, again)
    assert view.newest == 79
    view.point_at(65)
    qtbot.waitUntil(lambda: view.row.record is not None)
    assert view.row.record is not None
    assert view.row.record.loss == 77.0
    assert math.isclose(view.loss.curves["loss"].heights_N[-1], 77.0)


def test_outcomes_are_told_in_words(view: MonitorView) -> None:
    for outcome in Outcome:
        view.row.show_record(step_record(1, outcome=outcome))
        told = ("applied", "out", "discarded", "skipped", "left")
        assert any(word in view.row.text for word in told)
