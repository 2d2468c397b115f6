"""Runs → Compare…: runs over each other by step, their figures against a baseline, their other settings."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PySide6.QtCore import QSize, Qt, Signal, Slot
from PySide6.QtGui import QColor
from PySide6.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QDialog,
    QDoubleSpinBox,
    QFileDialog,
    QFrame,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QSplitter,
    QTableWidget,
    QTableWidgetItem,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from app.background import Progress, WorkCancelled, with_progress
from app.messages import MessageBar, Severity
from app.runs.loading import batches_to_share, load_history
from app.runs.overlay import SWATCH_SIZE, OverlaidRun, OverlayPlots, swatch
from app.runs.picture import save_picture
from app.runs.run_table import percent, thousands
from app.theme import Colors
from app.training.progress import duration_text
from app.waiting import Tasks
from core.analysis.catalogue import RunSummary, summarize
from core.analysis.compare import differences, flat_settings
from core.analysis.history import History
from core.errors import ExportError
from signscope.errors import RunFolderError
from signscope.folder import RunFolder

_SHARE_PERCENT = 7.0
_MINUS = "\u2212"


@dataclass(frozen=True)
class ComparedRun:
    """One run with its curves and settings; ``settings`` is empty where they cannot be read."""

    summary: RunSummary
    history: History
    settings: dict[str, object]

    @property
    def key(self) -> str:
        """What tells this run from the others."""
        return str(self.summary.path)


def load_for_comparison(path: Path, progress: Progress | None = None) -> ComparedRun:
    """Read a run folder; raises RunFolderError when it is none or its ledger cannot be read."""
    RunFolder.open(path)
    history = load_history(path, progress)
    try:
        settings = flat_settings(path)
    except RunFolderError:
        settings = {}  # the curves are worth more than no comparison at all
    return ComparedRun(summarize(path), history, settings)


class ComparisonDialog(QDialog):
    """Any number of runs side by side. GUI thread only; runs are read in a thread.

    Args:
        colors: Colours of the theme in force.
        folder: Where the dialog for further runs begins.
    """

    loaded = Signal()
    """Runs were added, or could not be; what is shown is up to date."""

    def __init__(self, colors: Colors, folder: Path, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("comparison")
        self.setWindowTitle("Compare runs")
        self.setWindowFlag(Qt.WindowType.WindowMaximizeButtonHint)
        self.resize(1120, 800)
        self._colors = colors
        self._folder = folder
        self._runs: list[ComparedRun] = []
        self._tasks = Tasks(self)
        self.messages = MessageBar(colors)
        self.plots = OverlayPlots(colors)
        self.plots.tell_empty(
            "No runs to compare", "Add run folders, or choose runs in the browser."
        )

        self._baseline = QComboBox()
        self._baseline.setObjectName("baseline")
        self._baseline.setAccessibleName("Baseline")
        self._baseline.setToolTip("The run that the differences (Δ) are taken from")
        self._baseline.setMinimumContentsLength(24)
        self._baseline.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self._baseline.setIconSize(SWATCH_SIZE)
        self._baseline.currentIndexChanged.connect(self._show_figures)
        self._share = QDoubleSpinBox()
        self._share.setObjectName("compared_share")
        self._share.setAccessibleName("Loss to reach")
        self._share.setRange(0.1, 99.9)
        self._share.setDecimals(1)
        self._share.setValue(_SHARE_PERCENT)
        self._share.setSuffix(" % of the first loss")
        self._share.setToolTip("Counted are the batches until one had this share of the first loss")
        self._share.valueChanged.connect(self._show_figures)
        add = QPushButton("Add runs…")
        add.setAutoDefault(False)
        add.setToolTip("Add a run folder, also one from another computer")
        add.clicked.connect(self._choose_folder)
        self._remove = QPushButton("Remove hidden")
        self._remove.setAutoDefault(False)
        self._remove.setToolTip("Take the runs that are hidden in the plots out of the comparison")
        self._remove.clicked.connect(self._remove_hidden)
        top = QHBoxLayout()
        top.setSpacing(8)
        for text, field in (("&Baseline", self._baseline), ("&Loss to reach", self._share)):
            label = QLabel(text)
            label.setBuddy(field)
            top.addWidget(label)
            top.addWidget(field)
            top.addSpacing(10)
        top.addStretch(1)
        top.addWidget(self._remove)
        top.addWidget(add)

        self._figures = _table("figures", "Figures of each run")
        self._settings = _table("differences", "Settings that differ")
        self._same = QLabel()
        self._same.setObjectName("no_differences")
        self._same.setProperty("role", "muted")
        self._same.setAlignment(Qt.AlignmentFlag.AlignCenter)
        page = QWidget()
        pages = QVBoxLayout(page)
        pages.setContentsMargins(0, 0, 0, 0)
        pages.addWidget(self._settings)
        pages.addWidget(self._same, 1)
        self._tabs = QTabWidget()
        self._tabs.setObjectName("compared")
        self._tabs.setDocumentMode(True)
        self._tabs.addTab(self._figures, "Figures")
        self._tabs.addTab(page, "Settings that differ")
        split = QSplitter(Qt.Orientation.Vertical)
        split.setChildrenCollapsible(False)
        split.addWidget(self.plots)
        split.addWidget(self._tabs)
        split.setStretchFactor(0, 3)
        split.setStretchFactor(1, 1)
        split.setSizes([520, 200])
        self._save = QPushButton("Save picture…")
        self._close = QPushButton("Close")
        buttons = QHBoxLayout()
        buttons.setSpacing(8)
        buttons.addStretch(1)
        for button in (self._save, self._close):
            button.setProperty("role", "secondary")
            button.setAutoDefault(False)
            buttons.addWidget(button)
        self._save.clicked.connect(self._ask_picture)
        self._close.clicked.connect(self.reject)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(18, 16, 18, 14)
        outer.setSpacing(10)
        outer.addLayout(top)
        outer.addWidget(self.messages)
        outer.addWidget(split, 1)
        outer.addLayout(buttons)
        self.plots.legend.toggled.connect(self._on_toggled)
        self._show()

    @property
    def runs(self) -> tuple[ComparedRun, ...]:
        """The runs compared, in the order they were added."""
        return tuple(self._runs)

    @property
    def busy(self) -> bool:
        """Whether runs are being read."""
        return self._tasks.busy

    def add_runs(self, paths: Sequence[Path]) -> None:
        """Read further runs and show them; those that are there already are read anew."""
        self._tasks.start(self._add(tuple(paths)))

    def set_runs(self, paths: Sequence[Path]) -> None:
        """Compare exactly these runs."""
        wanted = {str(path) for path in paths}
        self._runs = [run for run in self._runs if run.key in wanted]
        self._show()
        self.add_runs(paths)

    async def _add(self, paths: tuple[Path, ...]) -> None:
        faults: list[str] = []
        for number, path in enumerate(paths):
            title = f"Reading run {number + 1} of {len(paths)}: {path.name}"
            try:
                run = await with_progress(title, "batches", self, _reader_of(path))
            except WorkCancelled:
                break
            except RunFolderError as error:
                faults.append(f"{path.name}: {error.what}. {error.hint}")
                continue
            self._put(run)
            self._show()
        if faults:
            self.messages.tell(
                "A run could not be read."
                if len(faults) == 1
                else f"{len(faults)} runs could not be read.",
                "\n".join(faults),
                Severity.ERROR,
            )
        self.loaded.emit()

    def _put(self, run: ComparedRun) -> None:
        for place, known in enumerate(self._runs):
            if known.key == run.key:
                self._runs[place] = run
                return
        self._runs.append(run)

    @Slot()
    def _choose_folder(self) -> None:
        dialog = QFileDialog(self, "Add a run folder", str(self._folder))
        dialog.setFileMode(QFileDialog.FileMode.Directory)
        dialog.setOption(QFileDialog.Option.ShowDirsOnly)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.fileSelected.connect(self._on_folder)
        dialog.open()

    @Slot(str)
    def _on_folder(self, folder: str) -> None:
        self._folder = Path(folder).parent
        self.add_runs([Path(folder)])

    @Slot()
    def _remove_hidden(self) -> None:
        self._runs = [run for run in self._runs if self.plots.legend.shown(run.key)]
        self._show()

    @Slot(str, bool)
    def _on_toggled(self, _key: str, _shown: bool) -> None:
        self._remove.setEnabled(not all(self.plots.legend.shown(run.key) for run in self._runs))

    # ------------------------------------------------------------ showing

    def _show(self) -> None:
        self.plots.set_runs(
            [OverlaidRun(run.key, run.summary.name, run.history) for run in self._runs]
        )
        self._save.setEnabled(bool(self._runs))
        self._on_toggled("", True)
        chosen = self._baseline.currentData()
        self._baseline.blockSignals(True)
        self._baseline.clear()
        for run in self._runs:
            self._baseline.addItem(swatch(self.plots.style_of(run.key)), run.summary.name, run.key)
        self._baseline.setCurrentIndex(max(0, self._baseline.findData(chosen)))
        self._baseline.blockSignals(False)
        self._baseline.setEnabled(len(self._runs) > 1)
        self._show_figures()
        self._show_settings()

    @Slot()
    def _show_figures(self) -> None:
        share = self._share.value() / 100
        columns = [
            ("Best WER", [_number(run.summary.best_wer) for run in self._runs], percent, _points),
            (
                "Held-out WER",
                [_number(run.summary.test_wer) for run in self._runs],
                percent,
                _points,
            ),
            (
                f"Batches to {self._share.value():g} %",
                [_number(batches_to_share(run.history, share)) for run in self._runs],
                _count,
                _signed_count,
            ),
            ("Batches", [float(len(run.history)) for run in self._runs], _count, None),
            (
                "Duration",
                [run.summary.duration_s or math.nan for run in self._runs],
                _duration,
                _signed_duration,
            ),
        ]
        titles = ["Run"]
        for title, _values, _text, delta in columns:
            titles += [title] if delta is None else [title, "Δ"]
        table = self._figures
        table.clear()
        table.setColumnCount(len(titles))
        table.setHorizontalHeaderLabels(titles)
        table.setRowCount(len(self._runs))
        base = self._baseline.currentIndex()
        for row, run in enumerate(self._runs):
            name = _item(run.summary.name, tip=str(run.summary.path), left=True)
            name.setIcon(swatch(self.plots.style_of(run.key)))
            table.setItem(row, 0, name)
            place = 1
            for _title, values, text, delta in columns:
                table.setItem(row, place, _item(text(values[row])))
                place += 1
                if delta is None:
                    continue
                difference = values[row] - values[base]
                shown = "baseline" if row == base else delta(difference)
                cell = _item(shown)
                cell.setForeground(self._delta_color(difference, row == base))
                table.setItem(row, place, cell)
                place += 1
        for place in range(len(titles)):
            header = table.horizontalHeaderItem(place)
            if header is not None and place:
                header.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            elif header is not None:
                header.setTextAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        _spread(table)

    def _delta_color(self, difference: float, baseline: bool) -> QColor:
        """Less is better in every column that has a difference; signs say the same without colour."""
        if baseline or not math.isfinite(difference) or difference == 0:
            return QColor(self._colors.muted)
        return QColor(self._colors.success if difference < 0 else self._colors.warning)

    def _show_settings(self) -> None:
        readable = [run for run in self._runs if run.settings]
        found = differences([run.settings for run in readable]) if readable else []
        found = [entry for entry in found if entry.key != "name"]  # it stands in the heading
        table = self._settings
        table.clear()
        table.setColumnCount(1 + len(readable))
        table.setHorizontalHeaderLabels(["Setting", *(run.summary.name for run in readable)])
        table.setRowCount(len(found))
        for row, entry in enumerate(found):
            table.setItem(row, 0, _item(entry.key, left=True))
            for place, value in enumerate(entry.values):
                table.setItem(row, place + 1, _item(_setting(value), left=True))
        for place in range(table.columnCount()):
            header = table.horizontalHeaderItem(place)
            if header is not None:
                header.setTextAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
                if place:
                    header.setIcon(swatch(self.plots.style_of(readable[place - 1].key)))
        _spread(table)
        missing = [run.summary.name for run in self._runs if not run.settings]
        note = f" The settings of {', '.join(missing)} cannot be read." if missing else ""
        if len(readable) < 2:
            text = f"Two runs or more have something to differ in.{note}"
        else:
            text = f"All settings are the same.{note}"
        self._same.setText(note.strip() if found else text)
        self._same.setVisible(bool(self._same.text()))
        table.setVisible(bool(found))
        self._tabs.setTabText(1, f"Settings that differ ({len(found)})")

    # ------------------------------------------------------------ picture and theme

    @Slot()
    def _ask_picture(self) -> None:
        dialog = QFileDialog(self, "Save picture", str(self._folder / "comparison.png"))
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.setNameFilter("Picture (*.png *.svg)")
        dialog.setDefaultSuffix("png")
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.fileSelected.connect(self.save_picture)
        dialog.open()

    @Slot(str)
    def save_picture(self, path: str) -> None:
        """Write the plots as PNG or SVG, or say why that cannot be."""
        try:
            save_picture(self.plots, Path(path), QSize(1600, 1000), 1.25)
        except ExportError as error:
            self.messages.tell_error(error)
            return
        self.messages.tell("Picture written.", path)

    def recolor(self, colors: Colors) -> None:
        """Take the colours of another theme."""
        self._colors = colors
        self.messages.recolor(colors)
        self.plots.recolor(colors)
        self._show()


def _reader_of(path: Path) -> Callable[[Progress], ComparedRun]:
    return lambda progress: load_for_comparison(path, progress)


def _table(name: str, accessible: str) -> QTableWidget:
    table = QTableWidget()
    table.setObjectName(name)
    table.setAccessibleName(accessible)
    table.setFrameShape(QFrame.Shape.NoFrame)
    table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
    table.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
    table.setTabKeyNavigation(False)
    table.setShowGrid(False)
    table.setAlternatingRowColors(True)
    table.setIconSize(SWATCH_SIZE)
    table.verticalHeader().hide()
    table.verticalHeader().setDefaultSectionSize(table.fontMetrics().height() + 10)
    table.horizontalHeader().setHighlightSections(False)
    table.horizontalHeader().setSectionsClickable(False)
    return table


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
