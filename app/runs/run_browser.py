"""Runs → Browse runs…: every run of a folder, to open, compare, resume, name, note and throw away."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import (
    QItemSelectionModel,
    QModelIndex,
    QPoint,
    Qt,
    QTimer,
    QUrl,
    Signal,
    Slot,
)
from PySide6.QtGui import QAction, QDesktopServices, QHideEvent, QKeySequence, QShowEvent
from PySide6.QtWidgets import (
    QAbstractItemView,
    QDialog,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMenu,
    QPushButton,
    QStackedLayout,
    QVBoxLayout,
    QWidget,
)

from app.background import background
from app.messages import MessageBar, Severity, confirmed
from app.runs.bin import Trash, move_to_bin
from app.runs.browser_actions import ACTIONS, NEEDS_ONE, NEEDS_READABLE
from app.runs.run_list import RunList
from app.runs.run_table import ACTIVE_STATES, NAME, NOTE, RunFilter, RunTableModel
from app.theme import Colors
from app.waiting import Tasks
from core.analysis.catalogue import RunSummary, list_runs, rename_run, set_note
from signscope.errors import RunFolderError
from signscope.folder import RunFolder

REFRESH_MS = 2000


class RunBrowser(QDialog):
    """The runs of a folder. GUI thread only, inside the qasync loop; the folder is read in a thread.

    Args:
        runs_dir: Folder whose runs are listed.
        colors: Colours of the theme in force.
        trash: Moves a folder into the bin.
    """

    open_asked = Signal(object)
    """Path of a run whose curves are wanted in the window."""
    compare_asked = Signal(object)
    """Tuple of the paths of runs to compare."""
    resume_asked = Signal(object)
    """Path of a run to go on with."""
    export_asked = Signal(object)
    """Path of a run to export."""

    def __init__(
        self,
        runs_dir: Path,
        colors: Colors,
        trash: Trash = move_to_bin,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.setObjectName("run_browser")
        self.setWindowTitle("Runs")
        self.setWindowFlag(Qt.WindowType.WindowMaximizeButtonHint)
        self.resize(1120, 560)
        self._runs_dir = runs_dir
        self._trash = trash
        self._reading = False
        self._read_once = False
        self._tasks = Tasks(self)
        self._timer = QTimer(self)
        self._timer.setInterval(REFRESH_MS)
        self._timer.timeout.connect(self.refresh)
        self.model = RunTableModel(colors)
        self.filter = RunFilter(self.model)
        self.model.renamed.connect(self._on_renamed)
        self.model.noted.connect(self._on_noted)
        self.messages = MessageBar(colors)
        self._make_actions()

        outer = QVBoxLayout(self)
        outer.setContentsMargins(18, 16, 18, 14)
        outer.setSpacing(10)
        outer.addLayout(self._make_top())
        outer.addWidget(self.messages)
        middle = QWidget()
        self._stack = QStackedLayout(middle)
        self._view = RunList(self.filter)
        self._stack.addWidget(self._view)
        self._empty = QLabel()
        self._empty.setObjectName("no_runs")
        self._empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._empty.setProperty("role", "muted")
        self._empty.setWordWrap(True)
        self._stack.addWidget(self._empty)
        outer.addWidget(middle, 1)
        self._details = QLabel()
        self._details.setObjectName("run_details")
        self._details.setProperty("role", "muted")
        self._details.setWordWrap(True)
        # As high with one line as with two: the table does not jump when another run is chosen.
        self._details.setMinimumHeight(2 * self._details.fontMetrics().lineSpacing())
        self._details.setAlignment(Qt.AlignmentFlag.AlignTop)
        self._details.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        outer.addWidget(self._details)
        outer.addLayout(self._make_buttons())
        view = self._view
        view.customContextMenuRequested.connect(self._on_menu)
        view.doubleClicked.connect(self._on_double_click)
        view.selectionModel().selectionChanged.connect(self._on_selected)
        view.entered.connect(self._on_enter)
        self._show_list()
        self._on_selected()

    # ------------------------------------------------------------ building

    def _make_actions(self) -> None:
        self.actions_: dict[str, QAction] = {}
        for spec in ACTIONS:
            action = QAction(spec.text, self)
            action.setObjectName(f"browser.{spec.key}")
            action.setShortcut(QKeySequence(spec.shortcut))
            native = action.shortcut().toString(QKeySequence.SequenceFormat.NativeText)
            action.setToolTip(f"{spec.tip} ({native})")
            action.triggered.connect(getattr(self, f"_{spec.key}"))
            self.actions_[spec.key] = action
            self.addAction(action)

    def _make_top(self) -> QHBoxLayout:
        self._search = QLineEdit()
        self._search.setObjectName("run_filter")
        self._search.setAccessibleName("Filter")
        self._search.setPlaceholderText("Filter by name, state, corpus, note…")
        self._search.setClearButtonEnabled(True)
        self._search.setMaximumWidth(340)
        self._search.textChanged.connect(self._on_filter)
        self._where = QLabel()
        self._where.setObjectName("runs_folder")
        self._where.setProperty("role", "muted")
        self._where.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        other = QPushButton("Other folder…")
        other.setAutoDefault(False)
        other.setToolTip("List the runs of another folder, for example from another computer")
        other.clicked.connect(self._choose_folder)
        row = QHBoxLayout()
        row.setSpacing(10)
        row.addWidget(self._search, 1)
        row.addStretch(1)
        row.addWidget(self._where)
        row.addWidget(other)
        return row

    def _make_buttons(self) -> QHBoxLayout:
        row = QHBoxLayout()
        row.setSpacing(8)
        for spec in ACTIONS:
            action = self.actions_[spec.key]
            button = QPushButton(action.text())
            button.setObjectName(f"button.browser.{spec.key}")
            button.setToolTip(action.toolTip())
            button.setProperty("role", "primary" if spec.key == "open" else "secondary")
            button.setAutoDefault(False)
            button.clicked.connect(action.trigger)
            action.enabledChanged.connect(button.setEnabled)
            if spec.key == "rename":
                row.addSpacing(14)
            row.addWidget(button)
        row.addStretch(1)
        close = QPushButton("Close")
        close.setProperty("role", "secondary")
        close.setAutoDefault(False)
        close.clicked.connect(self.reject)
        row.addWidget(close)
        return row

    # ------------------------------------------------------------ reading the folder

    @property
    def runs_dir(self) -> Path:
        """Folder whose runs are listed."""
        return self._runs_dir

    def showEvent(self, event: QShowEvent) -> None:
        """Read the folder now, and again while the browser is open."""
        super().showEvent(event)
        self.refresh()
        self._timer.start()

    def hideEvent(self, event: QHideEvent) -> None:
        """Leave the folder alone."""
        self._timer.stop()
        super().hideEvent(event)

    @Slot()
    def refresh(self) -> None:
        """Read the folder anew, in a thread; a reading in progress is not joined by another."""
        if not self._reading:
            self._reading = True
            self._tasks.start(self._read())

    async def _read(self) -> None:
        folder = self._runs_dir
        try:
            runs = await background(self, lambda _: list_runs(folder), "reading runs")
        except RunFolderError as error:
            self.messages.tell_error(error)
            runs = []
        finally:
            self._reading = False
        if folder != self._runs_dir:
            self.refresh()
            return
        self._read_once = True
        if self._view.state() != QAbstractItemView.State.EditingState:
            self.model.set_runs(runs)
        self._show_list()
        self._on_selected()

    def _show_list(self) -> None:
        self._where.setText(_shortened(str(self._runs_dir)))
        self._where.setToolTip(str(self._runs_dir))
        if self.filter.rowCount():
            self._stack.setCurrentIndex(0)
            return
        if not self._read_once:
            text = "Reading the folder…"
        elif self.model.rowCount():
            text = f"No run holds “{self._search.text().strip()}”."
        else:
            text = "No runs in this folder yet.\nPress Start (F5) in the window to make one."
        self._empty.setText(text)
        self._stack.setCurrentIndex(1)

    @Slot()
    def _choose_folder(self) -> None:
        dialog = QFileDialog(self, "Folder of runs", str(self._runs_dir))
        dialog.setFileMode(QFileDialog.FileMode.Directory)
        dialog.setOption(QFileDialog.Option.ShowDirsOnly)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.fileSelected.connect(self.use_folder)
        dialog.open()

    @Slot(str)
    def use_folder(self, folder: str) -> None:
        """List the runs of another folder; a run folder itself stands for the folder that it is in."""
        path = Path(folder)
        self._runs_dir = path.parent if (path / "run.json").exists() else path
        self._read_once = False
        self.model.set_runs([])
        self._show_list()
        self.refresh()

    # ------------------------------------------------------------ what is chosen

    def chosen(self) -> list[RunSummary]:
        """Give the chosen runs, from the top of the table."""
        rows = sorted(self._view.selectionModel().selectedRows(), key=lambda index: index.row())
        return [self.model.run(self.filter.mapToSource(row)) for row in rows]

    def choose(self, *paths: Path) -> None:
        """Choose the runs in these folders."""
        selection = self._view.selectionModel()
        selection.clearSelection()
        for row in range(self.filter.rowCount()):
            index = self.filter.index(row, NAME)
            if self.filter.path(index) in paths:
                flags = QItemSelectionModel.SelectionFlag
                selection.setCurrentIndex(index, flags.Select | flags.Rows)

    @Slot()
    def _on_selected(self) -> None:
        runs = self.chosen()
        for key, action in self.actions_.items():
            enabled = bool(runs)
            if key in NEEDS_ONE:
                enabled = len(runs) == 1
            if key in NEEDS_READABLE:
                enabled = enabled and all(run.readable for run in runs)
            if key == "resume":
                enabled = enabled and runs[0].state not in (*ACTIVE_STATES, "finished")
            action.setEnabled(enabled)
        self._details.setText(_details(runs))

    @Slot(str)
    def _on_filter(self, text: str) -> None:
        self.filter.set_text(text)
        self._show_list()

    @Slot(QModelIndex)
    def _on_double_click(self, index: QModelIndex) -> None:
        if index.column() == NOTE:
            self._note()
        elif self.actions_["open"].isEnabled():
            self._open()

    @Slot()
    def _on_enter(self) -> None:
        if self.actions_["open"].isEnabled():
            self._open()

    @Slot(QPoint)
    def _on_menu(self, place: QPoint) -> None:
        if not self._view.indexAt(place).isValid():
            return
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        for key, action in self.actions_.items():
            if key in ("rename", "delete"):
                menu.addSeparator()
            menu.addAction(action)
        menu.popup(self._view.viewport().mapToGlobal(place))

    # ------------------------------------------------------------ actions

    @Slot()
    def _open(self) -> None:
        self.open_asked.emit(self.chosen()[0].path)

    @Slot()
    def _compare(self) -> None:
        self.compare_asked.emit(tuple(run.path for run in self.chosen()))

    @Slot()
    def _resume(self) -> None:
        self.resume_asked.emit(self.chosen()[0].path)

    @Slot()
    def _export(self) -> None:
        self.export_asked.emit(self.chosen()[0].path)

    @Slot()
    def _folder(self) -> None:
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(self.chosen()[0].path)))

    @Slot()
    def _rename(self) -> None:
        self._edit(NAME)

    @Slot()
    def _note(self) -> None:
        self._edit(NOTE)

    def _edit(self, column: int) -> None:
        rows = self._view.selectionModel().selectedRows(column)
        if len(rows) == 1:
            self._view.scrollTo(rows[0])
            self._view.edit(rows[0])

    @Slot(object, str)
    def _on_renamed(self, path: Path, name: str) -> None:
        self._tasks.start(self._write(rename_run, path, name))

    @Slot(object, str)
    def _on_noted(self, path: Path, note: str) -> None:
        self._tasks.start(self._write(set_note, path, note))

    async def _write(self, write: Callable[[Path, str], None], path: Path, text: str) -> None:
        try:
            await background(self, lambda _: write(path, text), "writing a run's name")
        except RunFolderError as error:
            self.messages.tell_error(error)
        self.refresh()

    @Slot()
    def _delete(self) -> None:
        self._tasks.start(self._ask_and_delete(self.chosen()))

    async def _ask_and_delete(self, runs: list[RunSummary]) -> None:
        active = [run.name for run in runs if run.state in ACTIVE_STATES]
        if active:
            self._refuse_active(active)
            return
        if not await self._confirm_delete(runs):
            return
        for run in runs:
            if not await self._move_to_bin(run):
                break
        self.refresh()

    async def _move_to_bin(self, run: RunSummary) -> bool:
        """Move one run, or tell why not; say whether there is a bin."""
        if await background(self, lambda _: RunFolder(run.path).in_use(), "asking for a lock"):
            self._refuse_active([run.name])
            return True
        if await background(self, lambda _: self._trash(run.path), "bin"):
            return True
        self.messages.tell(
            f"“{run.name}” could not be moved into the bin.",
            "This system has no bin for its disk, or the folder is in use. Open the folder and "
            f"delete it there if you are sure:\n{run.path}",
            Severity.ERROR,
        )
        return False

    def _refuse_active(self, names: list[str]) -> None:
        self.messages.tell(
            f"“{names[0]}” is being trained and stays where it is.",
            "Stop the run first, then move it to the bin.",
            Severity.WARNING,
        )

    async def _confirm_delete(self, runs: list[RunSummary]) -> bool:
        what = f"“{runs[0].name}”" if len(runs) == 1 else f"{len(runs)} runs"
        shown = "" if len(runs) == 1 else "\n".join(run.name for run in runs[:8]) + "\n"
        more = f"and {len(runs) - 8} more\n" if len(runs) > 8 else ""
        return await confirmed(
            self,
            name="confirm_delete",
            title="Move to bin",
            text=f"Move {what} to the bin?",
            detail=f"{shown}{more}Settings, ledger, log and checkpoints go with it. "
            "The bin gives them back until it is emptied.",
            yes="Move to bin",
            no="Keep",
        )

    def recolor(self, colors: Colors) -> None:
        """Take the colours of another theme."""
        self.model.recolor(colors)
        self.messages.recolor(colors)


def _details(runs: list[RunSummary]) -> str:
    if not runs:
        return "Choose a run, or several to compare them."
    if len(runs) > 1:
        return f"{len(runs)} runs chosen"
    run = runs[0]
    return f"{run.path}\n{run.problem}" if run.problem else str(run.path)


def _shortened(path: str, most: int = 60) -> str:
    return path if len(path) <= most else f"…{path[-most + 1 :]}"
