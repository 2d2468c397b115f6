"""One run on the screen: whatever its source, every view shows this run and no other."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from PySide6.QtCore import QObject, QTimer, Signal, Slot

from app.messages import MessageBar, Severity
from app.monitor.health_panel import HealthPanel
from app.monitor.log_view import LINES_PER_FLUSH, LogView
from app.monitor.monitor_view import MonitorView
from app.monitor.run_status import RunStatus
from app.runs.loading import LoadedRun
from app.training.epoch_table import EpochTable
from app.training.live_run import BatchesLost, LiveRun, Rare, Record, RunPlace, RunRequest
from app.training.progress import RunPlan, RunProgress
from app.training.run_controller import RunController
from app.training.run_panel import RunPanel
from core.analysis.narrator import Narrator
from core.landmarks.input_statistics import InputStatistics
from signscope.errors import SignScopeError
from signscope.folder import RunFolder
from signscope.records import EpochRecord, Evaluation, EventKind, RunEventRecord, StepRecord
from signscope.run_state import RunSnapshot, RunState

if TYPE_CHECKING:
    from core.training.session import RunResult


class RunSource(Protocol):
    """A run that can be shown, wherever it is made: by this process, or read from its folder.

    GUI thread only. ``LiveRun`` and ``LoadedRun`` are the two there are.
    """

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def folder(self) -> Path | None:
        """Its run folder, None before it is made."""

    @property
    def state(self) -> str:
        """Where it is: a state of run.json, or "interrupted"."""

    @property
    def synthetic(self) -> bool:
        """Whether its corpus was made by a procedure."""

    @property
    def max_norm(self) -> float | None:
        """What its gradients are clipped to, None when they are not."""

    @property
    def plan(self) -> RunPlan | None:
        """How many batches it sets out to do, None while that is not known."""

    def news(self) -> Sequence[Record]:
        """Give what came since the last call, in the order it happened."""


@dataclass(frozen=True)
class RunViews:
    """Every view that shows something of the run."""

    monitor: MonitorView
    log: LogView
    epochs: EpochTable
    health: HealthPanel
    panel: RunPanel
    status: RunStatus
    messages: MessageBar


class RunPresenter(QObject):
    """Owns the run shown and shows it in every view. GUI thread only.

    Showing another run empties every view first, so nothing of the run before can stay behind. What the
    next run will be trained with is none of its business.

    Args:
        controller: Of the runs that this process trains.
        views: Where the run is shown.
    """

    changed = Signal()
    """Another run is shown, or the one shown got its name."""

    def __init__(self, controller: RunController, views: RunViews, parent: QObject) -> None:
        super().__init__(parent)
        self._controller = controller
        self._views = views
        self.source: RunSource | None = None
        """The run shown."""
        self._before: LoadedRun | None = None  # what its folder held when it was first shown
        self._epochs: list[EpochRecord] = []
        self._progress = RunProgress()
        self._narrator = Narrator(0, None)
        self._waiting_for = ""  # what a run that was started waits for before its first batch
        self._late_redraw = QTimer(self)
        self._late_redraw.setSingleShot(True)
        self._late_redraw.timeout.connect(self.redraw)
        controller.prepared.connect(self._on_prepared)
        controller.updated.connect(self._on_updated)
        controller.state_changed.connect(self._on_state_changed)
        controller.ended.connect(self._on_ended)
        controller.failed.connect(self._on_failed)

    @property
    def folder(self) -> Path | None:
        """Folder of the run shown, where there is one."""
        return None if self.source is None else self.source.folder

    @property
    def _max_norm(self) -> float | None:
        """What the run clips to: one that a replay made without clipping goes on without, when resumed."""
        if self.source is None or (self._before is not None and self._before.max_norm is None):
            return None
        return self.source.max_norm

    # ------------------------------------------------------------ which run

    def begin(self, request: RunRequest, before: LoadedRun | None = None) -> bool:
        """Start a run and show it; say whether it was started.

        Args:
            request: What is trained.
            before: What the folder of a resumed run holds.
        """
        if not self._controller.start(request):
            return False
        run = self._controller.run
        assert run is not None
        self._views.messages.dismiss()
        self._show(run, before)
        self._wait_for(
            "Getting ready…", "What training needs is still being loaded. The run begins by itself."
        )
        return True

    def open(self, run: LoadedRun) -> None:
        """Show a run as it was read from its folder."""
        self._show(run, run)
        self._views.monitor.set_hint("This run has no batches", "It ended before its first one.")
        self._views.messages.tell(
            f"Showing “{run.name}”.", f"{', '.join(_in_short(run))}.\n{run.folder}"
        )

    def go_back(self) -> None:
        """Show a run that was not resumed after all as it is in its folder."""
        if self._before is not None:
            self._show(self._before, self._before)

    def _show(self, source: RunSource, before: LoadedRun | None) -> None:
        views = self._views
        self.source, self._before = source, before
        self._epochs = []
        self._waiting_for = ""
        self._progress = RunProgress(source.plan)
        self._narrator = Narrator(0, self._max_norm)
        views.monitor.clear(None if before is None else before.history)
        views.monitor.set_max_norm(self._max_norm)
        for view in (views.log, views.epochs, views.health, views.status):
            view.clear()
        views.status.show_synthetic(source.synthetic)
        if source.folder is not None:
            views.monitor.set_folder(RunFolder(source.folder))
        if before is not None:
            self._show_past(before)
        self.redraw()
        self.changed.emit()

    def _show_past(self, run: LoadedRun) -> None:
        views = self._views
        views.monitor.fit()
        views.monitor.add_events(run.events)
        for record in run.epochs:
            self._add_epoch(record)
        if run.inputs is not None:
            views.health.set_inputs(run.inputs)
        views.log.add(run.log[-LINES_PER_FLUSH:])
        views.status.show_held_out(run.test)
        self._follow_history()

    def _follow_history(self) -> None:
        """Let the progress be where the batches end."""
        history = self._views.monitor.history
        if not len(history):
            return
        epoch_N = history.column("epoch")
        epoch = int(epoch_N[-1])
        batch = len(epoch_N) - int(epoch_N.searchsorted(epoch))
        self._progress.go_on_from(epoch, batch, self._views.monitor.newest + 1)

    def _rewind(self, step: int) -> None:
        """Forget what a resumed run is about to do again: everything from batch ``step`` on."""
        views = self._views
        views.monitor.rewind(step)
        epochs, done = self._epochs, 0
        self._epochs = []
        views.epochs.clear()
        views.health.clear()
        for record in epochs:
            done += record.batches
            if done <= step:
                self._add_epoch(record)
        views.status.show_held_out(None)
        self._follow_history()

    # ------------------------------------------------------------ what is new

    @Slot()
    def _on_prepared(self) -> None:
        self._wait_for("Preparing…", "The corpus is opened and the teacher is built.")

    def _wait_for(self, what: str, text: str) -> None:
        self._waiting_for = what
        self._views.monitor.set_hint(what, text)
        self._show_panel()

    @Slot(object)
    def _on_updated(self, run: LiveRun) -> None:
        self._take(run.news())
        monitor = self._views.monitor
        # What the last redraw cost is known by now: the next tick comes when the next one is due.
        self._controller.set_tick(monitor.pacer.interval_s)
        if monitor.pacer.take_turn(time.monotonic()):
            self.redraw()
        elif not self._late_redraw.isActive():
            self._late_redraw.start(round(1000 * monitor.pacer.interval_s))

    def _take(self, records: Sequence[Record]) -> None:
        steps: list[StepRecord] = []
        for record in records:
            if isinstance(record, StepRecord):
                steps.append(record)
                self._progress.add(record)
                self._views.log.add(self._narrator.step(record))
            else:
                self._take_rare(record)
        self._views.monitor.extend(steps)

    def _take_rare(self, record: Rare) -> None:
        views = self._views
        if isinstance(record, RunPlan):
            self._waiting_for = ""
            self._progress.plan = record
            self._narrator = Narrator(record.total_epochs, self._max_norm)
        elif isinstance(record, RunPlace):
            views.monitor.set_folder(RunFolder(record.folder))
            self.changed.emit()
        elif isinstance(record, BatchesLost):
            views.log.lost(record.count)
        elif isinstance(record, InputStatistics):
            views.health.set_inputs(record)
        elif isinstance(record, EpochRecord):
            self._add_epoch(record)
            views.log.add(self._narrator.epoch(record))
        elif isinstance(record, Evaluation):
            views.status.show_held_out(record)
            views.log.add(self._narrator.test(record))
        else:
            self._take_event(record)

    def _take_event(self, record: RunEventRecord) -> None:
        views = self._views
        if record.kind is EventKind.STARTED and self._before is not None:
            self._rewind(record.step)
        views.log.add(self._narrator.event(record))
        views.monitor.add_events([record])
        if record.kind in (EventKind.PAUSED, EventKind.RESUMED):
            self._progress.interrupted()
        elif record.kind in (EventKind.ALERT, EventKind.ERROR):
            warning = record.kind is EventKind.ALERT
            views.messages.tell(
                record.text, severity=Severity.WARNING if warning else Severity.ERROR
            )

    def _add_epoch(self, record: EpochRecord) -> None:
        self._epochs.append(record)
        self._views.epochs.add(record)
        self._views.health.add_epoch(record)

    # ------------------------------------------------------------ drawing

    @Slot()
    def redraw(self) -> None:
        """Show everything that came since the last time."""
        self._late_redraw.stop()
        views = self._views
        views.monitor.redraw()
        with views.monitor.pacer.measure():
            active = self._controller.active
            views.log.flush()
            self._show_panel()
            views.status.show_batches(views.monitor.history, 0 if active else views.log.dropped)
            plan = self._progress.plan
            views.health.look(
                views.monitor.history,
                time.monotonic(),
                at_once=not active,
                total=None if plan is None else plan.batches,
                finished=self.source is not None and self.source.state == RunState.FINISHED,
            )

    def rest(self) -> None:
        """Draw nothing more by itself: the window is being left."""
        self._late_redraw.stop()

    def _show_panel(self) -> None:
        if self.source is not None:
            self._views.panel.show_run(self.source.state, self._progress, self._waiting_for)

    # ------------------------------------------------------------ how it goes and ends

    @Slot(object)
    def _on_state_changed(self, snapshot: RunSnapshot) -> None:
        if not snapshot.state.active:
            self._waiting_for = ""
        if snapshot.state is RunState.FINISHED:
            self._views.monitor.set_hint(
                "Stopped before the first batch", "Press Start (F5) to begin again."
            )
        elif snapshot.state is RunState.PAUSED and self._waiting_for:
            self._wait_for("Paused", "Nothing was done yet. Press Resume to begin.")
        self.redraw()

    @Slot(object)
    def _on_ended(self, result: RunResult) -> None:
        parts = [f"{result.steps} batches in {result.epochs} whole epochs"]
        for name, wer in (("best dev", result.best_wer), ("held-out", result.test_wer)):
            if wer == wer:
                parts.append(f"{name} WER {100 * wer:.1f} %")
        stopped = result.state == "stopped"
        verdict = self._views.health.verdict
        self._views.messages.tell(
            "Run stopped, its work is kept."
            if stopped
            else f"Run finished. {verdict.title}."
            if verdict
            else "Run finished.",
            f"{', '.join(parts)}.\n{result.run_path}",
            severity=Severity.WARNING if verdict else Severity.INFO,
        )

    @Slot(object)
    def _on_failed(self, _error: SignScopeError) -> None:
        self._views.monitor.set_hint(
            "The run ended before its first batch", "The message above says why."
        )


def _in_short(run: LoadedRun) -> list[str]:
    parts = [run.state, f"{len(run.history)} batches"]
    for name, wer in (("best dev", run.summary.best_wer), ("held-out", run.summary.test_wer)):
        if wer is not None:
            parts.append(f"{name} WER {100 * wer:.1f} %")
    return [*parts, *([run.summary.problem] if run.summary.problem else [])]
