"""Makes a corpus of a recording in the MP_Data layout, in a thread, with progress and cancel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import Qt, Signal, Slot
from PySide6.QtGui import QCloseEvent
from PySide6.QtWidgets import (
    QCheckBox,
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPlainTextEdit,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from app.background import Job, Progress, WorkCancelled, background
from app.waiting import Tasks
from app.wheel import DoubleSpinBox
from core.paths import corpora_dir
from signscope.errors import SignScopeError


class ImportDialog(QDialog):
    """Asks what to import and does it. GUI thread, inside the qasync loop.

    Args:
        folder: Where folder dialogs start.
    """

    imported = Signal(str)
    """Folder of the corpus that was made, when the person closes the dialog with "Use corpus"."""

    def __init__(self, folder: Path, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("import_dialog")
        self.setWindowTitle("Import MP_Data")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setMinimumWidth(560)
        self._folder = folder
        self._tasks = Tasks(self)
        self._job: Job[list[str]] | None = None
        self._cancelling = False
        self._made = ""

        intro = QLabel(
            "Reads a recording laid out as label / sequence / frame.npy, 258 landmark values a frame, "
            "and makes a corpus of it. The recording is not changed."
        )
        intro.setWordWrap(True)
        intro.setProperty("role", "muted")
        self._source, source_row = self._folder_row("source", "Folder of the recording")
        self._out, out_row = self._folder_row("out", "Folder of the new corpus")
        self._signers = QLineEdit()
        self._signers.setObjectName("signers")
        self._signers.setPlaceholderText("S1=0-29, S2=30-59, S3=60-89")
        self._signers.setToolTip(
            "Which sequence numbers were signed by whom; both ends are included"
        )
        self._fps = DoubleSpinBox()
        self._fps.setObjectName("fps")
        self._fps.setRange(1.0, 240.0)
        self._fps.setDecimals(2)
        self._fps.setValue(25.0)
        self._fps.setSuffix(" frames/s")
        self._fps.setToolTip("Frame rate of the recording")
        self._skip = QCheckBox("Leave out malformed sequences and list them")
        self._skip.setObjectName("skip_bad")
        self._skip.setToolTip("Otherwise the first malformed file ends the import and is named")
        form = QFormLayout()
        form.setHorizontalSpacing(12)
        form.setVerticalSpacing(8)
        form.addRow("&Recording", source_row)
        form.addRow("&Corpus", out_row)
        form.addRow("&Signers", self._signers)
        form.addRow("&Frame rate", self._fps)
        form.addRow("", self._skip)
        self._inputs = QWidget()
        self._inputs.setLayout(form)
        form.setContentsMargins(0, 0, 0, 0)

        self._bar = QProgressBar()
        self._bar.setObjectName("import_progress")
        self._bar.setAccessibleName("Progress of the import")
        self._bar.setTextVisible(False)
        self._bar.hide()
        self._told = QLabel()
        self._told.setObjectName("import_told")
        self._told.setWordWrap(True)
        self._told.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._told.hide()
        self._left_out = QPlainTextEdit()
        self._left_out.setObjectName("left_out")
        self._left_out.setAccessibleName("What was left out, and why")
        self._left_out.setReadOnly(True)
        self._left_out.setMaximumHeight(140)
        self._left_out.hide()
        self._buttons = QDialogButtonBox()
        self._go = QPushButton("Import")
        self._go.setObjectName("import_go")
        self._go.setDefault(True)
        self._go.setProperty("role", "primary")
        self._close = QPushButton("Close")
        self._close.setObjectName("import_close")
        self._buttons.addButton(self._go, QDialogButtonBox.ButtonRole.AcceptRole)
        self._buttons.addButton(self._close, QDialogButtonBox.ButtonRole.RejectRole)
        self._go.clicked.connect(self._on_go)
        self._close.clicked.connect(self.reject)

        layout = QVBoxLayout(self)
        layout.setContentsMargins(20, 18, 20, 16)
        layout.setSpacing(12)
        layout.addWidget(intro)
        layout.addWidget(self._inputs)
        layout.addWidget(self._bar)
        layout.addWidget(self._told)
        layout.addWidget(self._left_out)
        layout.addStretch(1)
        layout.addWidget(self._buttons)
        self._source.textChanged.connect(self._suggest_out)

    @property
    def busy(self) -> bool:
        """Whether an import is going on."""
        return self._job is not None

    def reject(self) -> None:
        """Cancel an import in progress, else close."""
        if self._job is not None:
            self._job.cancel()
            self._cancelling = True
            self._close.setEnabled(False)
            self._tell("Cancelling…")
        else:
            super().reject()

    def closeEvent(self, event: QCloseEvent) -> None:
        """Cancel first when an import is in progress."""
        if self.busy:
            event.ignore()
            self.reject()
        else:
            super().closeEvent(event)

    @Slot()
    def _on_go(self) -> None:
        if self._made:
            self.imported.emit(self._made)
            self.accept()
        elif not self.busy and not self._ask_for_empty():
            self._cancelling = False
            self._job = background(self, self._reading(), "import")
            self._job.progressed.connect(self._on_progressed)
            self._tasks.start(self._import(self._job))

    def _ask_for_empty(self) -> bool:
        """Name the first field that is empty and go there; an empty path would be the working folder."""
        for field, name in (
            (self._source, "Recording"),
            (self._out, "Corpus"),
            (self._signers, "Signers"),
        ):
            if not field.text().strip():
                self._tell(f"The field {name} is empty.", fault=True)
                field.setFocus()
                return True
        return False

    async def _import(self, job: Job[list[str]]) -> None:
        self._set_busy(True)
        try:
            left_out = await job
        except WorkCancelled:
            self._tell("Cancelled. Nothing was written.")
        except SignScopeError as error:
            self._tell(
                "\n".join(part for part in (f"{error.what}.", error.subject, error.hint) if part),
                fault=True,
            )
        else:
            self._show_done(left_out)
        finally:
            self._job = None
            self._set_busy(False)

    def _reading(self) -> Callable[[Progress], list[str]]:
        """Give the import of what is chosen now: a sentence, and a line for each sequence left out."""
        source, out = Path(self._source.text().strip()), Path(self._out.text().strip())
        signers, fps, skip = self._signers.text(), self._fps.value(), self._skip.isChecked()

        def read(progress: Progress) -> list[str]:
            from core.corpus.importers.mp_data import import_mp_data, parse_signers

            report = import_mp_data(
                source,
                out,
                signers=parse_signers(signers),
                fps=fps,
                skip_bad=skip,
                progress=progress,
            )
            return [f"{report.imported} sequences imported into {out}."] + [
                f"{entry.path}: {entry.reason}" for entry in report.left_out
            ]

        return read

    @Slot(int, int)
    def _on_progressed(self, done: int, total: int) -> None:
        self._bar.setRange(0, total)
        self._bar.setValue(done)
        if self.busy and not self._cancelling:
            self._tell(f"{done} of {total} sequences")

    def _show_done(self, lines: list[str]) -> None:
        summary, *left_out = lines
        if left_out:
            summary += f" {len(left_out)} left out:"
            self._left_out.setPlainText("\n".join(left_out))
            self._left_out.show()
        self._tell(summary)
        self._made = self._out.text().strip()
        self._go.setText("Use corpus")

    def _set_busy(self, busy: bool) -> None:
        self._inputs.setEnabled(not busy and not self._made)
        self._go.setEnabled(not busy)
        self._close.setEnabled(True)
        self._close.setText("Cancel" if busy else "Close")
        self._bar.setVisible(busy)
        if busy:
            self._bar.setRange(0, 0)
            self._left_out.hide()
            self._tell("Looking through the folders…")

    def _tell(self, text: str, *, fault: bool = False) -> None:
        self._told.setText(text)
        self._told.setProperty("role", "fault" if fault else "")
        self._told.style().unpolish(self._told)
        self._told.style().polish(self._told)
        self._told.show()

    @Slot(str)
    def _suggest_out(self, source: str) -> None:
        name = Path(source.strip()).name
        if name and not self._out.isModified():
            self._out.setText(str(corpora_dir() / name))

    def _folder_row(self, name: str, accessible: str) -> tuple[QLineEdit, QWidget]:
        edit = QLineEdit()
        edit.setObjectName(name)
        edit.setAccessibleName(accessible)
        button = QPushButton("Choose…")
        button.setObjectName(f"{name}_choose")
        button.setAutoDefault(False)
        button.setAccessibleName(f"Choose: {accessible}")
        button.setProperty("field", name)
        button.clicked.connect(self._choose_folder)
        row = QWidget()
        layout = QHBoxLayout(row)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(edit, 1)
        layout.addWidget(button)
        row.setFocusProxy(edit)
        return edit, row

    @Slot()
    def _choose_folder(self) -> None:
        button = self.sender()
        assert isinstance(button, QPushButton)
        edit = self._source if button.property("field") == "source" else self._out
        dialog = QFileDialog(self, str(button.accessibleName()), str(self._folder))
        dialog.setFileMode(QFileDialog.FileMode.Directory)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.fileSelected.connect(edit.setText)
        dialog.open()
