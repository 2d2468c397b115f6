"""File → Export…: the plots as a picture, the ledger for other programs, the run as a page."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import Qt, QUrl, Slot
from PySide6.QtGui import QCloseEvent, QDesktopServices
from PySide6.QtWidgets import (
    QButtonGroup,
    QDialog,
    QFileDialog,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QRadioButton,
    QVBoxLayout,
    QWidget,
)

from app.background import Job, Progress, WorkCancelled, background
from app.messages import MessageBar, Severity, confirmed
from app.runs.export_kinds import KINDS, ExportKind, LedgerKind
from app.runs.picture import PictureSource, save_picture
from app.runs.picture_size import PictureSize
from app.runs.run_table import thousands
from app.theme import Colors
from app.waiting import Tasks
from signscope.errors import SignScopeError
from signscope.folder import safe_name

_BAR_STEPS = 1000


class ExportDialog(QDialog):
    """Exports one run. GUI thread only, inside the qasync loop; ledgers are written in a thread.

    Args:
        run: Folder of the run, None where only a picture can be had.
        name: Name of the run.
        colors: Colours of the theme in force.
        folder: Where the target is suggested.
        picture: The plots that show this run; None where they show another one.
    """

    def __init__(
        self,
        run: Path | None,
        name: str,
        colors: Colors,
        folder: Path,
        picture: PictureSource | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.setObjectName("export_dialog")
        self.setWindowTitle("Export")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setMinimumWidth(600)
        self._run = run
        self._name = name
        self._folder = folder
        self._picture = picture
        self._tasks = Tasks(self)
        self._job: Job[None] | None = None
        self._written: Path | None = None
        self.messages = MessageBar(colors)

        heading = QLabel(name)
        heading.setObjectName("exported_run")
        heading.setProperty("role", "heading")
        heading.setToolTip("" if run is None else str(run))
        outer = QVBoxLayout(self)
        outer.setContentsMargins(20, 18, 20, 16)
        outer.setSpacing(12)
        outer.addWidget(heading)
        self._inputs = QWidget()
        column = QVBoxLayout(self._inputs)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(12)
        column.addLayout(self._make_kinds())
        self._size = PictureSize()
        column.addWidget(self._size)
        column.addLayout(self._make_target())
        outer.addWidget(self._inputs)
        outer.addWidget(self.messages)
        outer.addStretch(1)
        outer.addLayout(self._make_buttons())
        self._kind_buttons["csv" if picture is None else "png"].setChecked(True)
        self._on_kind()

    # ------------------------------------------------------------ building

    def _make_kinds(self) -> QGridLayout:
        grid = QGridLayout()
        grid.setHorizontalSpacing(16)
        grid.setVerticalSpacing(6)
        grid.setColumnStretch(1, 1)
        group = QButtonGroup(self)
        self._kind_buttons: dict[str, QRadioButton] = {}
        for row, kind in enumerate(KINDS):
            button = QRadioButton(kind.title)
            button.setObjectName(f"export.{kind.key}")
            text = QLabel(kind.text)
            text.setProperty("role", "muted")
            possible = (self._picture if kind.ledger is None else self._run) is not None
            button.setEnabled(possible)
            text.setEnabled(possible)
            if not possible and kind.ledger is None:
                text.setText("Open the curves of this run in the window first")
            button.toggled.connect(self._on_kind)
            group.addButton(button)
            self._kind_buttons[kind.key] = button
            grid.addWidget(button, row, 0)
            grid.addWidget(text, row, 1)
        return grid

    def _make_target(self) -> QHBoxLayout:
        self._target = QLineEdit()
        self._target.setObjectName("export_target")
        self._target.setAccessibleName("File to write")
        choose = QPushButton("Choose…")
        choose.setAutoDefault(False)
        choose.clicked.connect(self._choose)
        label = QLabel("&File")  # "To" is cut: Qt sets an underlined letter without kerning
        label.setBuddy(self._target)
        row = QHBoxLayout()
        row.setSpacing(8)
        row.addWidget(label)
        row.addWidget(self._target, 1)
        row.addWidget(choose)
        return row

    def _make_buttons(self) -> QHBoxLayout:
        self._bar = QProgressBar()
        self._bar.setObjectName("export_progress")
        self._bar.setAccessibleName("Progress of the export")
        self._bar.setTextVisible(False)
        self._bar.setFixedWidth(150)
        self._bar.hide()
        self._told = QLabel()
        self._told.setObjectName("export_told")
        self._told.setProperty("role", "muted")
        self._show_file = QPushButton("Show file")
        self._show_file.setProperty("role", "secondary")
        self._show_file.setToolTip("Open the folder that the export was written to")
        self._show_file.clicked.connect(self._open_folder)
        self._show_file.hide()
        self._go = QPushButton("Export")
        self._go.setObjectName("export_go")
        self._go.setProperty("role", "primary")
        self._go.setDefault(True)
        self._go.clicked.connect(self.export)
        self._close = QPushButton("Close")
        self._close.setObjectName("export_close")
        self._close.setProperty("role", "secondary")
        self._close.clicked.connect(self.reject)
        for button in (self._show_file, self._close):
            button.setAutoDefault(False)
        row = QHBoxLayout()
        row.setSpacing(8)
        row.addWidget(self._bar)
        row.addWidget(self._told, 1)
        row.addWidget(self._show_file)
        row.addWidget(self._go)
        row.addWidget(self._close)
        return row

    # ------------------------------------------------------------ choosing

    @property
    def kind(self) -> str:
        """What is chosen: png, svg, csv, parquet, tensorboard or html."""
        return self._kind().key

    @property
    def target(self) -> Path:
        """Where it is written to."""
        return Path(self._target.text().strip()).expanduser()

    def choose_kind(self, key: str) -> None:
        """Choose what is written."""
        self._kind_buttons[key].setChecked(True)

    def set_target(self, path: str) -> None:
        """Choose where it is written to."""
        self._target.setText(path)
        self._target.setModified(True)

    def _kind(self) -> ExportKind:
        return next(kind for kind in KINDS if self._kind_buttons[kind.key].isChecked())

    @Slot()
    def _on_kind(self) -> None:
        if not any(button.isChecked() for button in self._kind_buttons.values()):
            return
        kind = self._kind()
        self._size.setEnabled(kind.ledger is None)
        path = self.target if self._target.text().strip() else self._folder / safe_name(self._name)
        name = path.name
        for other in KINDS:
            name = name.removesuffix(other.suffix)
        self._target.setText(str(path.with_name(name + kind.suffix)))

    @Slot()
    def _choose(self) -> None:
        kind = self._kind()
        dialog = QFileDialog(self, f"Export: {kind.title}", str(self.target))
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.setOption(QFileDialog.Option.DontConfirmOverwrite)  # asked when it is written
        if kind.suffix.startswith("."):
            dialog.setNameFilter(f"{kind.title} (*{kind.suffix})")
            dialog.setDefaultSuffix(kind.suffix[1:])
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.fileSelected.connect(self.set_target)
        dialog.open()

    # ------------------------------------------------------------ writing

    @property
    def busy(self) -> bool:
        """Whether an export is going on."""
        return self._tasks.busy

    @Slot()
    def export(self) -> None:
        """Write what is chosen; asks first when the target exists."""
        if not self.busy:
            self._tasks.start(self._export())

    async def _export(self) -> None:
        self.messages.dismiss()
        self._show_file.hide()
        self._told.clear()
        kind, target = self._kind(), self.target
        if not self._target.text().strip():
            self.messages.tell("Where to?", "Choose a file to write.", Severity.WARNING)
            return
        replace = target.exists()
        if replace and not await self._confirm_replace(target):
            return
        self._set_busy(True)
        try:
            if kind.ledger is None:
                self._write_picture(target)
            else:
                await self._write_ledger(kind.ledger, target, replace)
        except WorkCancelled:
            self._told.setText("Cancelled, nothing was written")
        except SignScopeError as error:
            self.messages.tell_error(error)
        else:
            self._written = target
            self._folder = target.parent
            self._told.setText(f"Written: {target.name}")
            self._told.setToolTip(str(target))
            self._show_file.show()
        finally:
            self._set_busy(False)

    def _write_picture(self, target: Path) -> None:
        assert self._picture is not None
        save_picture(
            self._picture.view,
            target,
            self._size.pixels,
            self._size.scale,
            self._picture.redraw,
            title=self._name,
        )

    async def _write_ledger(self, kind: LedgerKind, target: Path, replace: bool) -> None:
        run = self._run
        assert run is not None

        def write(progress: Progress) -> None:
            from core.analysis.export.formats import export_run

            export_run(run, target, kind, overwrite=replace, progress=progress)

        self._job = background(self, write, "export")
        self._job.progressed.connect(self._on_progress)
        try:
            await self._job
        finally:
            self._job = None

    @Slot(int, int)
    def _on_progress(self, done: int, total: int) -> None:
        if not self.busy:
            return
        self._bar.setRange(0, _BAR_STEPS)
        self._bar.setValue(_BAR_STEPS * done // max(1, total))
        self._told.setText(f"{thousands(done)} of {thousands(total)} batches")

    def _set_busy(self, busy: bool) -> None:
        self._inputs.setEnabled(not busy)
        self._go.setEnabled(not busy)
        self._close.setEnabled(True)
        self._close.setText("Cancel" if busy else "Close")
        self._bar.setVisible(busy)
        if busy:
            self._bar.setRange(0, 0)

    async def _confirm_replace(self, target: Path) -> bool:
        return await confirmed(
            self,
            name="confirm_replace",
            title="Export",
            text=f"“{target.name}” exists already.",
            detail=f"Replace it?\n{target.parent}",
            yes="Replace",
            no="Keep",
            loses=True,
        )

    @Slot()
    def _open_folder(self) -> None:
        assert self._written is not None
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._written.parent)))

    # ------------------------------------------------------------ closing

    def cancel(self) -> None:
        """End an export in progress; nothing of it is left."""
        if self._job is not None:
            self._job.cancel()
            self._close.setEnabled(False)
            self._told.setText("Cancelling…")

    def reject(self) -> None:
        """Cancel an export in progress, else close."""
        if self._job is not None:
            self.cancel()
        else:
            super().reject()

    def closeEvent(self, event: QCloseEvent) -> None:
        """Cancel first when an export is in progress."""
        if self._job is not None:
            event.ignore()
            self.cancel()
        else:
            super().closeEvent(event)

    def recolor(self, colors: Colors) -> None:
        """Take the colours of another theme."""
        self.messages.recolor(colors)
