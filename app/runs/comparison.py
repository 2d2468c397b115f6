"""Runs → Compare…: runs over each other by step, their figures against a baseline, their other settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from PySide6.QtCore import QSize, Qt, QTimer, Signal, Slot
from PySide6.QtGui import QHideEvent, QShowEvent
from PySide6.QtWidgets import (
    QComboBox,
    QDialog,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSplitter,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from app.background import Progress, WorkCancelled, background, with_progress
from app.messages import MessageBar, Severity
from app.runs.compared_run import (
    ComparedRun,
    RunNews,
    follow,
    load_for_comparison,
    read_news,
)
from app.runs.comparison_tables import FiguresTable, SettingsTable
from app.runs.curve_bar import CurveBar
from app.runs.overlay import OverlayPlots
from app.runs.overlay_plot import OverlaidRun
from app.runs.picture import save_picture
from app.runs.run_legend import SWATCH_SIZE, swatch
from app.theme import Colors
from app.waiting import Tasks
from app.wheel import ComboBox, DoubleSpinBox
from core.errors import ExportError
from signscope.errors import RunFolderError

_SHARE_PERCENT = 7.0
_FOLLOW_MS = 1000  # between two looks for what running runs have written


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
        self._following = Tasks(self)
        self._clock = QTimer(self)
        self._clock.setInterval(_FOLLOW_MS)
        self._clock.timeout.connect(self._look_for_news)
        self.messages = MessageBar(colors)
        self.plots = OverlayPlots(colors)
        self.plots.tell_empty(
            "No runs to compare", "Add run folders, or choose runs in the browser."
        )

        self._baseline = ComboBox()
        self._baseline.setObjectName("baseline")
        self._baseline.setAccessibleName("Baseline")
        self._baseline.setToolTip("The run that the differences (Δ) are taken from")
        self._baseline.setMinimumContentsLength(24)
        self._baseline.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self._baseline.setIconSize(SWATCH_SIZE)
        self._baseline.currentIndexChanged.connect(self._show_figures)
        self._share = DoubleSpinBox()
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

        self._figures = FiguresTable()
        self._settings = SettingsTable()
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
        self.bar = CurveBar(self.plots)
        outer.addWidget(self.bar)
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

    # ------------------------------------------------------------ runs that are being written

    def showEvent(self, event: QShowEvent) -> None:
        """Follow the runs while they are to be seen."""
        super().showEvent(event)
        self._clock.start()

    def hideEvent(self, event: QHideEvent) -> None:
        """Follow nothing while nobody looks."""
        super().hideEvent(event)
        self._clock.stop()
        self._following.cancel()

    @Slot()
    def _look_for_news(self) -> None:
        if not self.busy and not self._following.busy:
            self._following.start(self._follow())

    async def _follow(self) -> None:
        for run in tuple(self._runs):
            try:
                news = await background(self, _news_reader_of(run), "following a run")
            except WorkCancelled:
                return
            except RunFolderError:
                continue  # what was read of it stays: it may be moved, or a share out of reach
            # A run that was taken out or read anew meanwhile has no use for it.
            place = next((i for i, known in enumerate(self._runs) if known is run), None)
            if place is not None and (news.batches or _other_than(run, news)):
                self._runs[place] = follow(run, news)
                self._show_news()

    def _show_news(self) -> None:
        self.plots.update_runs([_overlaid(run) for run in self._runs])
        self._show_figures()

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
        self.plots.set_runs([_overlaid(run) for run in self._runs])
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
        self._figures.fill(
            self._runs,
            self.plots.style_of,
            self._colors,
            baseline=self._baseline.currentIndex(),
            share=self._share.value() / 100,
        )

    def _show_settings(self) -> None:
        readable = [run for run in self._runs if run.settings]
        found = self._settings.fill(readable, self.plots.style_of)
        missing = [run.summary.name for run in self._runs if not run.settings]
        note = f" The settings of {', '.join(missing)} cannot be read." if missing else ""
        if len(readable) < 2:
            text = f"Two runs or more have something to differ in.{note}"
        else:
            text = f"All settings are the same.{note}"
        self._same.setText(note.strip() if found else text)
        self._same.setVisible(bool(self._same.text()))
        self._settings.setVisible(bool(found))
        self._tabs.setTabText(1, f"Settings that differ ({found})")

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


def _overlaid(run: ComparedRun) -> OverlaidRun:
    return OverlaidRun(run.key, run.summary.name, run.history, run.wer)


def _other_than(run: ComparedRun, news: RunNews) -> bool:
    return news.summary != run.summary or news.wer != run.wer


def _news_reader_of(run: ComparedRun) -> Callable[[Progress], RunNews]:
    path, place = run.summary.path, run.place
    return lambda progress: read_news(path, place, lambda: progress.cancelled)


def _reader_of(path: Path) -> Callable[[Progress], ComparedRun]:
    return lambda progress: load_for_comparison(path, progress)
