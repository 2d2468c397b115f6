"""The left panel: what to train on, with which settings, and the buttons and progress of the run."""

from __future__ import annotations

from PySide6.QtCore import QSize, Qt, Slot
from PySide6.QtGui import QAction
from PySide6.QtWidgets import (
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from app.actions import Actions
from app.corpus.corpus_picker import CorpusPicker
from app.icons import icon
from app.theme import Colors
from app.training.config_form import ConfigForm
from app.training.progress import RunProgress, duration_text

_STATE_TEXTS = {
    "idle": "Ready",
    "running": "Running",
    "pausing": "Pausing…",
    "paused": "Paused",
    "stopping": "Stopping…",
    "finished": "Finished",
    "stopped": "Stopped",
    "failed": "Failed",
    "interrupted": "Interrupted",
}


class _ActionButton(QPushButton):
    """A button that shows and triggers one action, and is enabled as it is."""

    def __init__(self, action: QAction, role: str) -> None:
        super().__init__()
        self._action = action
        self.setObjectName(f"button.{action.objectName()}")
        self.setProperty("role", role)
        self.setAutoDefault(True)  # Enter presses it; Space pauses the run wherever the focus is
        self.setIconSize(QSize(16, 16))
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.clicked.connect(action.trigger)
        action.changed.connect(self.follow)
        self.follow()

    def follow(self) -> None:
        """Take over text, tooltip, icon and state of the action."""
        self.setText(self._action.text().replace("&", ""))
        self.setToolTip(self._action.toolTip())
        self.setEnabled(self._action.isEnabled())
        if self.property("role") != "primary":
            self.setIcon(self._action.icon())


class RunPanel(QWidget):
    """Corpus, settings, buttons and progress. GUI thread only; holds no training logic."""

    def __init__(self, actions: Actions, colors: Colors, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("run_panel")
        self.picker = CorpusPicker(actions["corpus.open"], actions["corpus.import"])
        self.form = ConfigForm()

        inputs = QWidget()
        inner = QVBoxLayout(inputs)
        inner.setContentsMargins(12, 10, 12, 10)
        inner.setSpacing(8)
        inner.addWidget(_heading("Corpus"))
        inner.addWidget(self.picker)
        inner.addSpacing(8)
        inner.addWidget(_heading("Settings"))
        inner.addWidget(self.form, 1)
        self._inputs = inputs
        scroll = QScrollArea()
        scroll.setObjectName("run_inputs")
        scroll.setAccessibleName("Corpus and settings")
        scroll.setWidget(inputs)
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        # Wide enough for every field, also beside the scroll bar.
        bar = scroll.verticalScrollBar().sizeHint().width()
        scroll.setMinimumWidth(inputs.minimumSizeHint().width() + bar)

        self._scroll = scroll
        # Queued: the form gets its new height first.
        self.form.fault_shown.connect(self._bring_into_sight, Qt.ConnectionType.QueuedConnection)

        self._state = QLabel()
        self._state.setObjectName("run_state")
        self._state.setAccessibleName("State of the run")
        self._speed = _muted("batches_per_s")
        self._epoch = QLabel()
        self._epoch.setObjectName("epoch_progress_text")
        self._eta = _muted("eta")
        self._batch = _muted("batch_progress_text")
        self._whole = _bar("run_progress", "Progress of the run")
        self._part = _bar("epoch_progress", "Progress of the epoch")
        self._start = _ActionButton(actions["run.start"], "primary")
        self._pause = _ActionButton(actions["run.pause"], "secondary")
        self._stop = _ActionButton(actions["run.stop"], "secondary")

        head = QHBoxLayout()
        head.addWidget(self._state)
        self._speed.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        head.addWidget(self._speed, 1)
        progress = QGridLayout()
        progress.setHorizontalSpacing(8)
        progress.setVerticalSpacing(4)
        progress.addWidget(self._epoch, 0, 0)
        progress.addWidget(self._eta, 0, 1, Qt.AlignmentFlag.AlignRight)
        progress.addWidget(self._whole, 1, 0, 1, 2)
        progress.addWidget(self._batch, 2, 0, 1, 2)
        progress.addWidget(self._part, 3, 0, 1, 2)
        self._progress = QWidget()
        self._progress.setLayout(progress)
        progress.setContentsMargins(0, 0, 0, 0)
        buttons = QHBoxLayout()
        buttons.setSpacing(6)
        buttons.addWidget(self._pause)
        buttons.addWidget(self._stop)
        footer = QVBoxLayout()
        footer.setContentsMargins(12, 10, 12, 12)
        footer.setSpacing(8)
        footer.addLayout(head)
        footer.addWidget(self._progress)
        footer.addWidget(self._start)
        footer.addLayout(buttons)

        rule = QFrame()
        rule.setFrameShape(QFrame.Shape.HLine)
        rule.setFrameShadow(QFrame.Shadow.Plain)
        rule.setForegroundRole(self.palette().ColorRole.Mid)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(scroll, 1)
        layout.addWidget(rule)
        layout.addLayout(footer)
        self._progress.hide()
        self.recolor(colors)
        self._show_state("idle")

    @Slot(QWidget)
    def _bring_into_sight(self, widget: QWidget) -> None:
        self._inputs.layout().activate()  # type: ignore[union-attr]
        self._scroll.ensureWidgetVisible(widget, 0, 60)

    def recolor(self, colors: Colors) -> None:
        """Take the colours of another theme."""
        self.form.recolor(colors)
        self._start.setIcon(icon("start", colors.on_accent, colors.muted))

    @property
    def editable(self) -> bool:
        """Whether corpus and settings of the next run can be changed."""
        return self._inputs.isEnabled()

    def set_editable(self, editable: bool) -> None:
        """Let corpus and settings be changed, or let them rest while a run is active."""
        self._inputs.setEnabled(editable)

    def show_run(self, state: str, progress: RunProgress, waiting_for: str = "") -> None:
        """Show where the run is and how far it has come.

        Args:
            state: As in run.json, or "interrupted".
            progress: Its position.
            waiting_for: What it waits for before its first batch, if it does.
        """
        self._show_state(state)
        if waiting_for:
            self._show_waiting(waiting_for, moving=state != "paused")
        else:
            self._show_progress(progress, running=state == "running")

    def _show_state(self, state: str) -> None:
        if self._state.property("state") == state:
            return
        self._state.setText(_STATE_TEXTS[state])
        self._state.setProperty("state", state)
        self._state.style().unpolish(self._state)
        self._state.style().polish(self._state)

    def _show_waiting(self, text: str, *, moving: bool) -> None:
        self._progress.show()
        self._whole.show()
        self._part.show()
        self._epoch.setText(text)
        for label in (self._eta, self._batch, self._speed):
            label.clear()
        self._whole.setRange(0, 0 if moving else 1)
        self._whole.setValue(0)
        self._part.setRange(0, 1)
        self._part.setValue(0)

    def _show_progress(self, progress: RunProgress, *, running: bool) -> None:
        plan = progress.plan
        self._progress.setVisible(plan is not None or progress.done > 0)
        self._whole.setVisible(plan is not None)
        self._part.setVisible(plan is not None)
        speed, remaining_s = progress.batches_per_s, progress.remaining_s
        self._speed.setText(f"{speed:.3g} batches/s" if running and speed else "")
        self._eta.setText(
            f"{duration_text(remaining_s)} left" if running and remaining_s is not None else ""
        )
        epoch, batch = f"Epoch {max(1, progress.epoch)}", f"Batch {progress.batch}"
        if plan is not None:
            epoch += f" of {plan.total_epochs}"
            batch += f" of {plan.batches_per_epoch}"
            self._whole.setRange(0, plan.batches)
            self._whole.setValue(progress.done)
            self._part.setRange(0, plan.batches_per_epoch)
            self._part.setValue(progress.batch)
        self._epoch.setText(epoch)
        self._batch.setText(batch)


def _heading(text: str) -> QLabel:
    label = QLabel(text)
    label.setProperty("role", "heading")
    return label


def _muted(name: str) -> QLabel:
    label = QLabel()
    label.setObjectName(name)
    label.setProperty("role", "muted")
    return label


class _Bar(QProgressBar):
    """A progress bar that is painted with everything else: Qt's own paints at once at every change."""

    def setValue(self, value: int) -> None:
        if value != self.value():
            self.setUpdatesEnabled(False)
            super().setValue(value)
            self.setUpdatesEnabled(True)


def _bar(name: str, accessible: str) -> QProgressBar:
    bar = _Bar()
    bar.setObjectName(name)
    bar.setAccessibleName(accessible)
    bar.setTextVisible(False)
    return bar
