"""Runs → Replay policies…: what clipping and skipping make of the same batches, side by side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QSize, Qt, QTimer, Slot
from PySide6.QtGui import QCloseEvent
from PySide6.QtWidgets import (
    QDialog,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from app.messages import MessageBar, Severity, confirmed
from app.runs.overlay import OverlayPlots
from app.runs.overlay_plot import OverlaidRun
from app.runs.picture import save_picture
from app.runs.policy_figures import PolicyProgress
from app.runs.policy_table import PolicyTable
from app.runs.replay_controller import PolicyPlan, PolicyRecords, ReplayController, ReplayRequest
from app.runs.replay_inputs import ReplayInputs
from app.runs.verdict import verdict
from app.theme import Colors
from app.waiting import Tasks
from signscope.errors import SignScopeError
from signscope.records import EventKind, RunEventRecord
from signscope.run_state import RunEvent, RunSnapshot, RunState

if TYPE_CHECKING:
    from core.training.replay import ReplayResult

EXPLANATION = (
    "The same teacher is trained on the same batches, once for each policy, so every difference "
    "below comes from what is done with large gradients. A script that skips every batch with a "
    "gradient norm above 100 throws most of the first updates away; here one sees what that costs."
)
REDRAW_MS = 200  # the replay needs the processor more than the curves do
PICTURE_SIZE = QSize(1600, 1100)
_SCALE = 1.25
_BAR_STEPS = 1000  # of the progress bar, for each policy


class ReplayDialog(QDialog):
    """Settings, curves and figures of a policy replay. GUI thread only.

    Args:
        controller: Owner of the replay's thread.
        colors: Colours of the theme in force.
        runs_dir: Where the replayed runs leave their folders.
        refusal: Gives a sentence when no replay may start now, else nothing.
        folder: Where file dialogs begin.
    """

    def __init__(
        self,
        controller: ReplayController,
        colors: Colors,
        runs_dir: Path,
        refusal: Callable[[], str] = lambda: "",
        folder: Path | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.setObjectName("replay_dialog")
        self.setWindowTitle("Replay policies")
        self.setWindowFlag(Qt.WindowType.WindowMaximizeButtonHint)
        self.resize(1120, 760)
        self._controller = controller
        self._runs_dir = runs_dir
        self._refusal = refusal
        self._folder = folder or Path.home()
        self._result: ReplayResult | None = None
        self._policies: dict[str, PolicyProgress] = {}
        self._close_when_done = False
        self._tasks = Tasks(self)
        self._redraw = QTimer(self)
        self._redraw.setSingleShot(True)
        self._redraw.setInterval(REDRAW_MS)
        self._redraw.timeout.connect(self._draw)

        self.messages = MessageBar(colors)
        self.plots = OverlayPlots(colors)
        self.plots.tell_empty(
            "No replay yet", "Choose policies on the left and press Start replay."
        )
        outer = QVBoxLayout(self)
        outer.setContentsMargins(18, 16, 18, 14)
        outer.setSpacing(12)
        explanation = QLabel(EXPLANATION)
        explanation.setObjectName("explanation")
        explanation.setWordWrap(True)
        explanation.setProperty("role", "muted")
        outer.addWidget(explanation)
        outer.addWidget(self.messages)
        middle = QHBoxLayout()
        middle.setSpacing(16)
        self.inputs = ReplayInputs(self._folder)
        middle.addWidget(self.inputs)
        self.results = QWidget()
        self.results.setObjectName("replay_results")
        column = QVBoxLayout(self.results)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addWidget(self.plots, 1)
        self._table = PolicyTable()
        column.addWidget(self._table)
        self._verdict = QLabel()
        self._verdict.setObjectName("verdict")
        self._verdict.setWordWrap(True)
        self._verdict.setProperty("role", "heading")
        self._verdict.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._verdict.hide()
        column.addWidget(self._verdict)
        middle.addWidget(self.results, 1)
        outer.addLayout(middle, 1)
        outer.addLayout(self._make_buttons())
        controller.updated.connect(self._on_updated)
        controller.state_changed.connect(self._on_state_changed)
        controller.ended.connect(self._on_ended)
        controller.failed.connect(self._on_failed)
        self.recolor(colors)
        self._show_state(controller.snapshot())

    # ------------------------------------------------------------ building

    def _make_buttons(self) -> QHBoxLayout:
        self._status = QLabel()
        self._status.setObjectName("replay_status")
        self._status.setProperty("role", "muted")
        self._bar = QProgressBar()
        self._bar.setObjectName("replay_progress")
        self._bar.setAccessibleName("Progress of the replay")
        self._bar.setTextVisible(False)
        self._bar.setFixedWidth(160)
        self._bar.hide()
        self._save_picture = self._button("save_picture", "Save picture…", self._ask_picture)
        self._save_json = self._button("save_json", "Save JSON…", self._ask_json)
        self._resume = self._button("resume", "Continue", self._controller.resume)
        self._stop = self._button("stop", "Stop", self._controller.stop)
        self._start = self._button("start", "Start replay", self.start)
        self._start.setDefault(True)
        self._start.setProperty("role", "primary")
        self._close = self._button("close", "Close", self.reject)
        row = QHBoxLayout()
        row.setSpacing(8)
        row.addWidget(self._bar)
        row.addWidget(self._status, 1)
        for button in (self._save_picture, self._save_json, self._resume, self._stop, self._start):
            row.addWidget(button)
        row.addSpacing(8)
        row.addWidget(self._close)
        return row

    def _button(self, name: str, text: str, slot: Callable[[], object]) -> QPushButton:
        button = QPushButton(text)
        button.setObjectName(f"replay_{name}")
        button.setProperty("role", "secondary")
        button.setAutoDefault(False)
        button.clicked.connect(slot)
        return button

    # ------------------------------------------------------------ asking for a replay

    @Slot()
    def start(self) -> bool:
        """Start a replay with what is chosen; say whether it was started."""
        refusal = self._refusal()
        if refusal:
            self.messages.tell("A replay cannot start now.", refusal, Severity.WARNING)
            return False
        request = self.inputs.request(self._runs_dir)
        if not request.policies:
            self.messages.tell(
                "There is no policy to replay.", "Tick at least one on the left.", Severity.WARNING
            )
            return False
        if not self._controller.start(request):
            return False
        self.inputs.used = True
        self._show_started(request)
        return True

    def _show_started(self, request: ReplayRequest) -> None:
        self._result = None
        self.messages.dismiss()
        self._verdict.hide()
        self._policies = {
            policy: PolicyProgress(policy, request.share) for policy in request.policies
        }
        self.plots.tell_empty(
            "Preparing the replay…", "The corpus is opened and the teacher is built."
        )
        self.plots.set_line("loss", None)
        self.plots.set_runs(
            [OverlaidRun(name, name, each.history) for name, each in self._policies.items()]
        )
        self.plots.fit()
        above = self.inputs.skip_above
        self.plots.set_line(
            "norms", above, f"dashed: skip:{above:g} throws away the updates above" if above else ""
        )
        self._fill_table()
        self._table.show()
        self._bar.setRange(0, 0)
        self._bar.show()
        self._status.setText("Preparing…")

    # ------------------------------------------------------------ watching it

    @Slot(object)
    def _on_updated(self, update: tuple[PolicyRecords, ...]) -> None:
        for part in update:
            progress = self._policies[part.policy]
            for record in part.records:
                if isinstance(record, PolicyPlan):
                    progress.limit = record.steps
                elif isinstance(record, RunEventRecord):
                    self._tell_event(part.policy, record)
            progress.extend(
                record
                for record in part.records
                if not isinstance(record, PolicyPlan | RunEventRecord)
            )
        self._show_progress(update[-1].policy)
        if not self._redraw.isActive():
            self._redraw.start()

    @Slot()
    def _draw(self) -> None:
        self._redraw.stop()
        first = next(iter(self._policies.values())).figures
        self.plots.set_line(
            "loss", first.target_loss, f"dashed: {100 * first.share:g} % of the first loss"
        )
        self.plots.refresh()
        self._fill_table()
        self._save_picture.setEnabled(self._any_batch())

    def _tell_event(self, policy: str, record: RunEventRecord) -> None:
        if record.kind in (EventKind.ALERT, EventKind.ERROR):
            self.messages.tell(f"{policy}, batch {record.step}:", record.text, Severity.WARNING)

    def _show_progress(self, policy: str) -> None:
        progress = self._policies[policy]
        assert progress.limit is not None
        place, done = list(self._policies).index(policy), progress.figures.batches
        self._bar.setRange(0, _BAR_STEPS * len(self._policies))
        self._bar.setValue(_BAR_STEPS * place + _BAR_STEPS * done // progress.limit)
        self._status.setText(
            f"{policy} ({place + 1} of {len(self._policies)}): batch {done} of {progress.limit}"
        )

    def _any_batch(self) -> bool:
        return any(each.figures.batches for each in self._policies.values())

    def _fill_table(self) -> None:
        self._table.fill(
            tuple(self._policies.values()), self.plots.style_of, active=self._controller.active
        )

    @Slot(object)
    def _on_state_changed(self, snapshot: RunSnapshot) -> None:
        self._show_state(snapshot)

    def _show_state(self, snapshot: RunSnapshot) -> None:
        active = snapshot.state.active
        self.inputs.setEnabled(not active)
        self._start.setVisible(not active)
        self._stop.setVisible(active)
        self._stop.setEnabled(snapshot.allows(RunEvent.STOP))
        stopping = snapshot.state is RunState.STOPPING
        self._stop.setText("Stopping…" if stopping else "Stop")
        self._resume.setVisible(snapshot.state is RunState.PAUSED)
        self._save_picture.setEnabled(self._any_batch())
        self._save_json.setEnabled(self._result is not None and not active)

    @Slot(object)
    def _on_ended(self, result: ReplayResult) -> None:
        self._result = result
        whole = all(each.whole for each in self._policies.values())
        self._finish("Replay finished" if whole else "Replay stopped before its end")
        text = verdict(result)
        self._verdict.setText(text)
        self._verdict.setVisible(bool(text))

    @Slot(object)
    def _on_failed(self, error: SignScopeError) -> None:
        self.messages.tell_error(error)
        self.plots.tell_empty(
            "The replay ended before its first batch", "The message above says why."
        )
        self._finish("Replay failed")

    def _finish(self, status: str) -> None:
        self._bar.hide()
        self._status.setText(status)
        self._draw()
        self._show_state(self._controller.snapshot())
        if self._close_when_done:
            self._close_when_done = False
            super().reject()

    # ------------------------------------------------------------ saving

    @Slot()
    def _ask_picture(self) -> None:
        self._ask("Save picture", "policy-replay.png", "Picture (*.png *.svg)", self.save_picture)

    @Slot()
    def _ask_json(self) -> None:
        self._ask("Save JSON", "policy-replay.json", "JSON (*.json)", self.save_json)

    def _ask(self, title: str, name: str, kinds: str, slot: Callable[[str], None]) -> None:
        dialog = QFileDialog(self, title, str(self._folder / name))
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.setNameFilter(kinds)
        dialog.setDefaultSuffix(Path(name).suffix[1:])
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.fileSelected.connect(slot)
        dialog.open()

    @Slot(str)
    def save_picture(self, path: str) -> None:
        """Write curves and figures as PNG or SVG, or say why that cannot be."""
        try:
            save_picture(self.results, Path(path), PICTURE_SIZE, _SCALE)
        except SignScopeError as error:
            self.messages.tell_error(error)
            return
        self._saved(path)

    @Slot(str)
    def save_json(self, path: str) -> None:
        """Write the result as JSON, or say why that cannot be."""
        from core.training.replay import save_result

        assert self._result is not None
        try:
            save_result(self._result, Path(path))
        except SignScopeError as error:
            self.messages.tell_error(error)
            return
        self._saved(path)

    def _saved(self, path: str) -> None:
        self._folder = Path(path).parent
        self._status.setText(f"Written: {path}")

    # ------------------------------------------------------------ theme and closing

    def recolor(self, colors: Colors) -> None:
        """Take the colours of another theme."""
        self.messages.recolor(colors)
        self.plots.recolor(colors)
        if self._policies:
            self._fill_table()

    def reject(self) -> None:
        """Close; a replay in progress asks first."""
        if not self._controller.active:
            super().reject()
        elif not self._tasks.busy:
            self._tasks.start(self._ask_to_close())

    async def _ask_to_close(self) -> None:
        agreed = await confirmed(
            self,
            name="confirm_stop_replay",
            title="Replay policies",
            text="A replay is in progress.",
            detail="It can be stopped after the current batch; the policies done so far keep their "
            "runs.",
            yes="Stop and close",
            no="Keep running",
        )
        if not agreed:
            return
        if self._controller.active:
            self._close_when_done = True
            self._controller.stop()
        else:
            super().reject()

    def closeEvent(self, event: QCloseEvent) -> None:
        """Ask first while a replay is in progress."""
        if self._controller.active:
            event.ignore()
            self.reject()
        else:
            super().closeEvent(event)
