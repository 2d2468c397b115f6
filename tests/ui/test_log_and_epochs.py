"""The log says what it leaves out, and the epoch table says what every epoch did."""

from __future__ import annotations

import math
from dataclasses import replace

from PySide6.QtCore import Qt
from PySide6.QtGui import QColor
from PySide6.QtWidgets import QPlainTextEdit
from pytestqt.qtbot import QtBot

from app.monitor.log_view import KEPT_LINES, LINES_PER_FLUSH, LogView
from app.training.epoch_table import COLUMNS, EpochTable
from tests.ui.made_runs import epoch_record


def cells(table: EpochTable, row: int) -> dict[str, str]:
    return {
        column.title: table.model.data(table.model.index(row, place))
        for place, column in enumerate(COLUMNS)
    }


def test_lines_are_shown_in_order(qtbot: QtBot) -> None:
    log = LogView()
    qtbot.addWidget(log)
    log.add(["one", "two"])
    assert log.text() == "", "they wait for their turn"
    log.flush()
    log.add(["three"])
    log.flush()
    assert log.text() == "one\ntwo\nthree"
    assert log.dropped == 0


def test_lines_too_fast_to_read_are_counted(qtbot: QtBot) -> None:
    log = LogView()
    qtbot.addWidget(log)
    count = LINES_PER_FLUSH + 17
    log.add([f"line {number}" for number in range(count)])
    log.lost(3)
    log.flush()
    first, *rest = log.text().split("\n")
    assert first.startswith("… 20 lines not shown")
    assert rest == [f"line {number}" for number in range(17, count)]
    assert log.dropped == 20
    log.clear()
    assert (log.text(), log.dropped) == ("", 0)


def test_the_log_is_bounded(qtbot: QtBot) -> None:
    log = LogView()
    qtbot.addWidget(log)
    for start in range(0, KEPT_LINES + 1000, 100):
        log.add([f"line {number}" for number in range(start, start + 100)])
        log.flush()
    lines = log.text().split("\n")
    assert len(lines) == KEPT_LINES
    assert lines[-1] == f"line {KEPT_LINES + 999}"


def test_the_end_stays_in_sight_unless_the_person_scrolled_up(qtbot: QtBot) -> None:
    log = LogView()
    qtbot.addWidget(log)
    log.resize(300, 300)
    log.show()
    log.add([f"line {number}" for number in range(100)])
    log.flush()
    bar = log.findChild(QPlainTextEdit, "log").verticalScrollBar()  # type: ignore[union-attr]
    assert bar.value() == bar.maximum() > 0
    log.resize(300, 150)
    qtbot.waitUntil(lambda: log.height() == 150 and bar.value() == bar.maximum())
    log.add(["one more"])
    log.flush()
    assert bar.value() == bar.maximum()
    bar.setValue(10)
    log.add(["more"])
    log.flush()
    assert bar.value() == 10


def test_an_epoch_is_one_row(qtbot: QtBot) -> None:
    table = EpochTable()
    qtbot.addWidget(table)
    table.add(epoch_record(1))
    assert cells(table, 0) == {
        "Epoch": "1",
        "Loss": "8.50",
        "WER": "75.0 %",
        "S / D / I": "40 / 30 / 5",
        "Blank": "90 %",
        "Applied": "284/284",
        "Clipped": "271",
        "Non-finite": "0",
        "Time": "12 s",
    }
    table.clear()
    assert table.model.rowCount() == 0


def test_an_epoch_without_evaluation_says_so(qtbot: QtBot) -> None:
    table = EpochTable()
    qtbot.addWidget(table)
    table.add(replace(epoch_record(1), dev=None, avg_loss=math.nan))
    shown = cells(table, 0)
    assert (shown["WER"], shown["S / D / I"], shown["Blank"]) == ("–", "–", "–")


def test_non_finite_batches_stand_out(qtbot: QtBot) -> None:
    table = EpochTable()
    qtbot.addWidget(table)
    table.model.warning_color = QColor("#123456")
    table.add(epoch_record(1))
    table.add(epoch_record(2, non_finite=3))
    place = [column.title for column in COLUMNS].index("Non-finite")
    role = Qt.ItemDataRole.ForegroundRole
    assert table.model.data(table.model.index(0, place), role) is None
    assert table.model.data(table.model.index(1, place), role) == QColor("#123456")
    assert table.model.data(table.model.index(1, 0), role) is None
