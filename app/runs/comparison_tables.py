"""The two tables of a comparison: figures against a baseline, and the settings that differ."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from PySide6.QtCore import Qt
from PySide6.QtGui import QColor
from PySide6.QtWidgets import QAbstractItemView, QFrame, QHeaderView, QTableWidget, QTableWidgetItem

from app.runs.compared_run import ComparedRun
from app.runs.loading import batches_to_share
from app.runs.run_colors import RunStyle
from app.runs.run_legend import SWATCH_SIZE, swatch
from app.runs.run_table import percent, thousands
from app.theme import Colors
from app.training.progress import duration_text
from core.analysis.compare import differences

_MINUS = "\u2212"
StyleOf = Callable[[str], RunStyle]
"""Gives the line that the run of a key is drawn with."""


class _Table(QTableWidget):
    def __init__(self, name: str, accessible: str) -> None:
        super().__init__()
        self.setObjectName(name)
        self.setAccessibleName(accessible)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.setTabKeyNavigation(False)
        self.setShowGrid(False)
        self.setAlternatingRowColors(True)
        self.setIconSize(SWATCH_SIZE)
        self.verticalHeader().hide()
        self.verticalHeader().setDefaultSectionSize(self.fontMetrics().height() + 10)
        self.horizontalHeader().setHighlightSections(False)
        self.horizontalHeader().setSectionsClickable(False)


class FiguresTable(_Table):
    """What came of each run, and how far that is from the baseline's. GUI thread only."""

    def __init__(self) -> None:
        super().__init__("figures", "Figures of each run")

    def fill(
        self,
        runs: Sequence[ComparedRun],
        style_of: StyleOf,
        colors: Colors,
        *,
        baseline: int,
        share: float,
    ) -> None:
        """Show the figures of ``runs``.

        Args:
            runs: One row each.
            style_of: Gives the line of a run.
            colors: Of the theme in force.
            baseline: Number of the run that differences are taken from.
            share: Share of the first loss that is to be reached.
        """
        columns = [
            ("Best WER", [_number(run.summary.best_wer) for run in runs], percent, _points),
            (
                "Held-out WER",
                [_number(run.summary.test_wer) for run in runs],
                percent,
                _points,
            ),
            (
                f"Batches to {100 * share:g} %",
                [_number(batches_to_share(run.history, share)) for run in runs],
                _count,
                _signed_count,
            ),
            ("Batches", [float(len(run.history)) for run in runs], _count, None),
            (
                "Duration",
                [run.summary.duration_s or math.nan for run in runs],
                _duration,
                _signed_duration,
            ),
        ]
        titles = ["Run"]
        for title, _values, _text, delta in columns:
            titles += [title] if delta is None else [title, "Δ"]
        self.clear()
        self.setColumnCount(len(titles))
        self.setHorizontalHeaderLabels(titles)
        self.setRowCount(len(runs))
        for row, run in enumerate(runs):
            name = _item(run.summary.name, tip=str(run.summary.path), left=True)
            name.setIcon(swatch(style_of(run.key)))
            self.setItem(row, 0, name)
            place = 1
            for _title, values, text, delta in columns:
                self.setItem(row, place, _item(text(values[row])))
                place += 1
                if delta is None:
                    continue
                difference = values[row] - values[baseline]
                shown = "baseline" if row == baseline else delta(difference)
                cell = _item(shown)
                cell.setForeground(_delta_color(colors, difference, row == baseline))
                self.setItem(row, place, cell)
                place += 1
        for place in range(len(titles)):
            header = self.horizontalHeaderItem(place)
            if header is not None and place:
                header.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            elif header is not None:
                header.setTextAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        _spread(self)


class SettingsTable(_Table):
    """The settings that are not the same in all runs. GUI thread only."""

    def __init__(self) -> None:
        super().__init__("differences", "Settings that differ")

    def fill(self, readable: Sequence[ComparedRun], style_of: StyleOf) -> int:
        """Show where the settings of these runs differ; give the number of such settings."""
        found = differences([run.settings for run in readable]) if readable else []
        found = [entry for entry in found if entry.key != "name"]  # it stands in the heading
        self.clear()
        self.setColumnCount(1 + len(readable))
        self.setHorizontalHeaderLabels(["Setting", *(run.summary.name for run in readable)])
        self.setRowCount(len(found))
        for row, entry in enumerate(found):
            self.setItem(row, 0, _item(entry.key, left=True))
            for place, value in enumerate(entry.values):
                self.setItem(row, place + 1, _item(_setting(value), left=True))
        for place in range(self.columnCount()):
            header = self.horizontalHeaderItem(place)
            if header is not None:
                header.setTextAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
                if place:
                    header.setIcon(swatch(style_of(readable[place - 1].key)))
        _spread(self)
        return len(found)


def _delta_color(colors: Colors, difference: float, baseline: bool) -> QColor:
    """Less is better in every column that has a difference; signs say the same without colour."""
    if baseline or not math.isfinite(difference) or difference == 0:
        return QColor(colors.muted)
    return QColor(colors.success if difference < 0 else colors.warning)


def _spread(table: QTableWidget) -> None:
    header = table.horizontalHeader()
    header.setMinimumSectionSize(70)
    header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
    if table.columnCount():
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)


def _item(text: str, *, tip: str = "", left: bool = False) -> QTableWidgetItem:
    item = QTableWidgetItem(text)
    side = Qt.AlignmentFlag.AlignLeft if left else Qt.AlignmentFlag.AlignRight
    item.setTextAlignment(side | Qt.AlignmentFlag.AlignVCenter)
    item.setToolTip(tip)
    return item


def _number(value: float | int | None) -> float:
    return math.nan if value is None else float(value)


def _setting(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value) or "empty"


def _count(value: float) -> str:
    return "never" if math.isnan(value) else thousands(int(value))


def _duration(value: float) -> str:
    return "–" if math.isnan(value) else duration_text(value)


def _sign(value: float) -> str:
    return "±" if value == 0 else "+" if value > 0 else _MINUS


def _points(value: float) -> str:
    return "–" if math.isnan(value) else f"{_sign(value)}{abs(100 * value):.1f}"


def _signed_count(value: float) -> str:
    return "–" if math.isnan(value) else f"{_sign(value)}{thousands(int(abs(value)))}"


def _signed_duration(value: float) -> str:
    return "–" if math.isnan(value) else f"{_sign(value)}{duration_text(abs(value))}"
