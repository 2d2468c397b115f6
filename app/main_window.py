"""The main window: docks, menus, status bar. It shows the run and sends requests; closing only asks."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QByteArray, QChildEvent, Qt, QTimer, QUrl, Signal, Slot
from PySide6.QtGui import (
    QAction,
    QCloseEvent,
    QColor,
    QDesktopServices,
    QDragEnterEvent,
    QDropEvent,
)
from PySide6.QtWidgets import (
    QDockWidget,
    QFileDialog,
    QLabel,
    QMainWindow,
    QTabBar,
    QVBoxLayout,
    QWidget,
)

from app.actions import MENUS, TABLE, THEME_ACTIONS, Actions
from app.corpus.corpus_facts import corpus_facts
from app.corpus.import_dialog import ImportDialog
from app.help import AboutDialog, ShortcutsDialog, open_user_guide
from app.messages import MessageBar, Severity, confirmed
from app.monitor.health_panel import HealthPanel
from app.monitor.log_view import LINES_PER_FLUSH, LogView
from app.monitor.monitor_view import MonitorView
from app.runs.desk import RunsDesk
from app.runs.export_dialog import PictureSource
from app.runs.loading import LoadedRun
from app.settings import WindowSettings
from app.theme import Theme, ThemeChoice
from app.training.epoch_table import EpochTable
from app.training.progress import RunPlace, RunPlan, RunProgress
from app.training.run_controller import RunController, RunRequest, RunUpdate
from app.training.run_panel import RunPanel
from core.analysis.narrator import Narrator, describe_wer
from core.config import DEMO_CORPUS, RunConfig, config_to_toml, load_config
from core.errors import ConfigError
from core.landmarks.input_statistics import InputStatistics
from signscope.errors import SignScopeError
from signscope.folder import RunFolder
from signscope.records import (
    EpochRecord,
    Evaluation,
    EventKind,
    Outcome,
    RunEventRecord,
    StepRecord,
)
from signscope.run_state import RunSnapshot, RunState
from signscope.tally import OutcomeCounts

if TYPE_CHECKING:
    from core.training.session import RunResult

FIRST_SIZE = (1280, 800)
ROOM_FOR_CAMERA = 1100
"""A window less wide begins without the camera, for the sake of the plots."""
REPLAY_PATIENCE_S = 20.0
"""How long a replay may take to end its batch when the window is left."""


class MainWindow(QMainWindow):
    """Everything a person sees of SignScope. GUI thread only.

    Args:
        theme: The theme in force.
        settings: What was remembered from the last start.
        controller: Owner of the trainer thread; the window never closes it.
        camera: Widget of the camera dock.
        runs_dir: Folder that new run folders go into.
    """

    close_asked = Signal()
    """The person wants to leave; whoever serves the window decides."""

    def __init__(
        self,
        *,
        theme: Theme,
        settings: WindowSettings,
        controller: RunController,
        camera: QWidget,
        runs_dir: Path,
    ) -> None:
        super().__init__()
        self.setObjectName("main_window")
        self.setAcceptDrops(True)
        self.setDockOptions(
            QMainWindow.DockOption.AllowNestedDocks
            | QMainWindow.DockOption.AllowTabbedDocks
            | QMainWindow.DockOption.AnimatedDocks
        )
        self.theme = theme
        self.settings = settings
        self.controller = controller
        self._runs_dir = runs_dir
        self._may_close = False
        self.unattended = False
        """Whether the window closes without a person to ask: a signal, or the end of a smoke test."""
        self._progress = RunProgress()
        self._narrator = Narrator(0, None)
        self._config = settings.config
        self._evicted = 0
        self._counts_history = False  # the run shown began before this window, or in an earlier run

        colors = theme.colors
        self.actions_ = Actions(self, colors)
        self.messages = MessageBar(colors)
        self.monitor = MonitorView(self.actions_["plot.follow"], self.actions_["plot.fit"], colors)
        self.panel = RunPanel(self.actions_, colors)
        self.log = LogView()
        self.epochs = EpochTable()
        self.health = HealthPanel(colors)
        middle = QWidget()
        column = QVBoxLayout(middle)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(6)
        column.addWidget(self.messages)
        column.addWidget(self.monitor, 1)
        self.setCentralWidget(middle)
        self.runs = RunsDesk(
            window=self,
            theme=theme,
            settings=settings,
            controller=controller,
            messages=self.messages,
            plots=PictureSource(self.monitor.plots_view, self.monitor.redraw),
            runs_dir=runs_dir,
        )
        self._docks = {
            "dock.run": self._dock("Run", "dock.run", self.panel),
            "dock.camera": self._dock("Camera", "dock.camera", camera),
            "dock.log": self._dock("Log", "dock.log", self.log),
            "dock.epochs": self._dock("Epochs", "dock.epochs", self.epochs),
            "dock.health": self._dock("Health", "dock.health", self.health),
        }
        self._data_badge = QLabel("synthetic data")
        self._data_badge.setObjectName("synthetic_data")
        self._data_badge.setProperty("role", "badge")
        self._data_badge.setToolTip("The run shown trains on a corpus made by a procedure")
        self._data_badge.hide()
        self._health = QLabel("No batches yet")
        self._health.setObjectName("health")
        self._health.setAccessibleName("What became of the batches")
        self._health.setContentsMargins(0, 0, 8, 0)
        self.statusBar().addPermanentWidget(self._data_badge)
        self.statusBar().addPermanentWidget(self._health)

        self._late_redraw = QTimer(self)
        self._late_redraw.setSingleShot(True)
        self._late_redraw.timeout.connect(self._redraw)
        self._build_menus()
        self._connect()
        self._arrange()
        self.panel.form.set_config(self._config)
        self.panel.form.show_all(settings.show_all_settings)
        self.panel.picker.set_known(settings.recent_corpora)
        self._show_corpus(self._config.data.corpus)
        self.actions_[THEME_ACTIONS[theme.choice]].setChecked(True)
        self._on_theme_changed()
        self._on_state_changed(controller.snapshot())

    # ------------------------------------------------------------ building

    def _dock(self, title: str, name: str, content: QWidget) -> QDockWidget:
        dock = QDockWidget(title, self)
        dock.setObjectName(name)
        dock.setWidget(content)
        dock.setAccessibleName(title)
        return dock

    def _build_menus(self) -> None:
        for name in MENUS:
            menu = self.menuBar().addMenu(f"&{name}")
            menu.setObjectName(f"menu.{name}")
            menu.setToolTipsVisible(True)
            for spec in TABLE:
                if spec.menu == name:
                    if spec.separator:
                        menu.addSeparator()
                    menu.addAction(self.actions_[spec.key])
        self.addActions(list(self.actions_))

    def _connect(self) -> None:
        for key, slot in {
            "corpus.open": self.open_corpus,
            "corpus.demo": self._use_demo,
            "corpus.import": self._import_corpus,
            "settings.load": self._load_settings,
            "settings.save": self._save_settings,
            "settings.defaults": self._reset_settings,
            "runs.folder": self._show_run_folders,
            "window.quit": self.close,
            "run.start": self.start_run,
            "run.pause": self._toggle_pause,
            "run.stop": self._stop,
            "run.export": self.runs.export,
            "runs.browse": self.runs.browse,
            "runs.compare": self.runs.compare,
            "runs.replay": self.runs.replay,
            "view.reset": self._reset_layout,
            "help.docs": self._open_docs,
            "help.shortcuts": self._show_shortcuts,
            "help.about": self._show_about,
        }.items():
            self.actions_[key].triggered.connect(slot)
        for key, dock in self._docks.items():
            self.actions_[key].toggled.connect(dock.setVisible)
            dock.toggleViewAction().toggled.connect(self.actions_[key].setChecked)
        for choice, key in THEME_ACTIONS.items():
            self.actions_[key].setData(choice)
            self.actions_[key].triggered.connect(self._choose_theme)
        self.theme.changed.connect(self._on_theme_changed)
        self.controller.prepared.connect(self._on_prepared)
        self.controller.updated.connect(self._on_updated)
        self.controller.state_changed.connect(self._on_state_changed)
        self.controller.ended.connect(self._on_ended)
        self.controller.failed.connect(self._on_failed)
        self.runs.run_loaded.connect(self.show_run)
        self.runs.resume_ready.connect(self._begin)
        self.panel.picker.chosen.connect(self._show_corpus)
        self.health.step_chosen.connect(self.monitor.show_batch)
        self.health.counted.connect(self._on_findings_counted)

    def _arrange(self) -> None:
        """Put every dock where it was last, or in its first place."""
        room = self.screen().availableGeometry()
        self.resize(min(FIRST_SIZE[0], room.width()), min(FIRST_SIZE[1], room.height()))
        self._first_layout()
        if not self.settings.geometry.isEmpty():
            self.restoreGeometry(self.settings.geometry)
        if not self.settings.dock_state.isEmpty():
            self.restoreState(self.settings.dock_state)
        for key, dock in self._docks.items():
            self.actions_[key].setChecked(not dock.isHidden())

    def childEvent(self, event: QChildEvent) -> None:
        """Name the bars that Qt makes for docks that share a place."""
        super().childEvent(event)
        if event.polished() and isinstance(bar := event.child(), QTabBar):
            bar.setAccessibleName("Panels in the same place")

    def _first_layout(self) -> None:
        area = Qt.DockWidgetArea
        self.setCorner(Qt.Corner.BottomLeftCorner, area.LeftDockWidgetArea)
        self.setCorner(Qt.Corner.BottomRightCorner, area.BottomDockWidgetArea)
        docks = self._docks
        for dock in docks.values():
            self.removeDockWidget(dock)
            dock.setFloating(False)
        self.addDockWidget(area.LeftDockWidgetArea, docks["dock.run"])
        self.addDockWidget(area.RightDockWidgetArea, docks["dock.camera"])
        self.addDockWidget(area.BottomDockWidgetArea, docks["dock.log"])
        self.splitDockWidget(docks["dock.log"], docks["dock.epochs"], Qt.Orientation.Horizontal)
        self.tabifyDockWidget(docks["dock.log"], docks["dock.health"])
        room_for_camera = self.width() >= ROOM_FOR_CAMERA
        for dock in docks.values():
            dock.setVisible(dock is not docks["dock.camera"] or room_for_camera)
        docks["dock.log"].raise_()
        horizontal, vertical = Qt.Orientation.Horizontal, Qt.Orientation.Vertical
        width = self.width()
        camera = min(max(width // 4, 280), 560)
        self.resizeDocks([docks["dock.run"], docks["dock.camera"]], [310, camera], horizontal)
        rest = max(400, width - 310)
        self.resizeDocks(
            [docks["dock.log"], docks["dock.epochs"]],
            [round(0.42 * rest), round(0.58 * rest)],
            horizontal,
        )
        height = min(max(self.height() // 4, 140), 300)
        self.resizeDocks([docks["dock.log"], docks["dock.epochs"]], [height, height], vertical)

    # ------------------------------------------------------------ the run

    @Slot()
    def start_run(self) -> bool:
        """Start a run with the settings shown; say whether it was started."""
        config = self.panel.form.check()
        if config is None:
            self.messages.tell(
                "Some settings cannot be used.",
                "Correct the fields marked in the run panel, then press Start again.",
                Severity.ERROR,
            )
            return False
        return self._begin(RunRequest(config, self._runs_dir))

    @Slot(object)
    def _begin(self, request: RunRequest) -> bool:
        """Start or resume a run; say whether it was started. What a resumed run did is shown already."""
        if not self.controller.start(request):
            if self.runs.replaying:
                self.messages.tell(
                    "A run cannot start now.",
                    "A policy replay is in progress and both would share the same processor. "
                    "Stop the replay (Runs → Replay policies…) or wait for its end.",
                    Severity.WARNING,
                )
            return False
        config = self._config = request.config
        self._progress = RunProgress()
        self._narrator = Narrator(config.optim.epochs, config.optim.max_norm)
        self._evicted = 0
        self._counts_history = request.resume is not None
        self.runs.shown_run = request.resume
        self.messages.dismiss()
        if request.resume is None:
            self.settings.config = config
            self._clear_run()
        self.monitor.set_max_norm(config.optim.max_norm)
        self.monitor.set_hint(
            "Getting ready…", "What training needs is still being loaded. The run begins by itself."
        )
        self.panel.show_waiting("Getting ready…")
        self._show_health(self._tally())
        self._show_data_badge()
        return True

    def _clear_run(self) -> None:
        """Show no run: an empty one begins."""
        self.monitor.clear()
        self.epochs.clear()
        self.health.clear()
        self.log.clear()

    @Slot(object)
    def show_run(self, run: LoadedRun) -> None:
        """Show a run that was read back from its folder."""
        self._clear_run()
        self._progress = RunProgress()
        self._counts_history = True
        self.monitor.clear(run.history)
        self.monitor.fit()
        self.monitor.set_folder(RunFolder(run.summary.path))
        self.monitor.add_events(run.events)
        if run.max_norm is not None:
            self.monitor.set_max_norm(run.max_norm)
        for record in run.epochs:
            self.epochs.add(record)
            self.health.add_epoch(record)
        self.log.add(run.log[-LINES_PER_FLUSH:])
        self.log.flush()
        self.health.look(run.history, time.monotonic(), at_once=True)
        self._show_health(self._tally())
        self._data_badge.setVisible(run.summary.synthetic)
        self.monitor.set_hint("This run has no batches", "It ended before its first one.")
        self.setWindowTitle(f"{run.summary.name} – SignScope")
        parts = [run.summary.state, f"{len(run.history)} batches"]
        for name, wer in (("best dev", run.summary.best_wer), ("held-out", run.summary.test_wer)):
            if wer is not None:
                parts.append(f"{name} WER {100 * wer:.1f} %")
        self.messages.tell(
            f"Showing “{run.summary.name}”.", f"{', '.join(parts)}.\n{run.summary.path}"
        )

    def _tally(self) -> OutcomeCounts:
        """What became of the batches of the run shown."""
        if not self._counts_history:
            return self.controller.tally()
        outcomes = self.monitor.history.outcomes()
        return OutcomeCounts(
            batches=sum(outcomes.values()),
            applied=outcomes[Outcome.APPLIED],
            clipped=self.monitor.history.clipped_count(),
            non_finite=sum(count for outcome, count in outcomes.items() if outcome.non_finite),
        )

    @Slot()
    def _on_prepared(self) -> None:
        self.monitor.set_hint(
            "Preparing the run…", "The corpus is opened and the teacher is built."
        )
        self.panel.show_waiting("Preparing…")

    @Slot()
    def _toggle_pause(self) -> None:
        self.controller.toggle_pause()

    @Slot()
    def _stop(self) -> None:
        self.controller.stop()

    @Slot(object)
    def _on_updated(self, update: RunUpdate) -> None:
        steps: list[StepRecord] = []
        for record in update.records:
            if isinstance(record, StepRecord):
                steps.append(record)
                self._progress.add(record)
                self.log.add(self._narrator.step(record))
            elif isinstance(record, RunPlan):
                self._progress.start(record)
                self._narrator = Narrator(record.total_epochs, self._config.optim.max_norm)
            elif isinstance(record, RunPlace):
                self.runs.shown_run = record.folder
                self.monitor.set_folder(RunFolder(record.folder))
            elif isinstance(record, InputStatistics):
                self.health.set_inputs(record)
            else:
                self._take_rare(record)
        self.monitor.extend(steps)
        if update.evicted > self._evicted:
            self.log.lost(update.evicted - self._evicted)
            self._evicted = update.evicted
        # What the last redraw cost is known by now: the next tick comes when the next one is due.
        self.controller.set_tick(self.monitor.pacer.interval_s)
        if self.monitor.pacer.take_turn(time.monotonic()):
            self._redraw()
        elif not self._late_redraw.isActive():
            self._late_redraw.start(round(1000 * self.monitor.pacer.interval_s))

    def _take_rare(self, record: EpochRecord | RunEventRecord | Evaluation) -> None:
        if isinstance(record, EpochRecord):
            self.epochs.add(record)
            self.health.add_epoch(record)
            self.log.add(self._narrator.epoch(record))
        elif isinstance(record, Evaluation):
            self.log.add(self._narrator.test(record))
            self.statusBar().showMessage(f"Held-out signers: {describe_wer(record)}")
        else:
            self.log.add(self._narrator.event(record))
            self.monitor.add_events([record])
            if record.kind in (EventKind.PAUSED, EventKind.RESUMED):
                self._progress.interrupted()
            elif record.kind in (EventKind.ALERT, EventKind.ERROR):
                self.messages.tell(
                    record.text,
                    severity=Severity.WARNING if record.kind is EventKind.ALERT else Severity.ERROR,
                )

    @Slot()
    def _redraw(self) -> None:
        """Show everything that came since the last time."""
        self._late_redraw.stop()
        self.monitor.redraw()
        with self.monitor.pacer.measure():
            self.log.flush()
            running = self.controller.snapshot().state is RunState.RUNNING
            self.panel.show_progress(self._progress, running)
            self._show_health(self._tally())
            self.health.look(
                self.monitor.history, time.monotonic(), at_once=not self.controller.active
            )

    @Slot(int)
    def _on_findings_counted(self, count: int) -> None:
        self._docks["dock.health"].setWindowTitle(f"Health ({count})" if count else "Health")

    @Slot(object)
    def _on_state_changed(self, snapshot: RunSnapshot) -> None:
        self.actions_.show_state(snapshot)
        self.panel.show_state(snapshot)
        for key in ("corpus.open", "corpus.demo", "settings.load", "settings.defaults"):
            self.actions_[key].setEnabled(not snapshot.state.active)
        if self.monitor.dirty or self._progress.plan is not None:
            self._redraw()

    @Slot(object)
    def _on_ended(self, result: RunResult) -> None:
        self.runs.shown_run = result.run_path
        stopped = result.state == "stopped"
        parts = [f"{result.steps} batches in {result.epochs} whole epochs"]
        if result.best_wer == result.best_wer:
            parts.append(f"best dev WER {100 * result.best_wer:.1f} %")
        if result.test_wer == result.test_wer:
            parts.append(f"held-out WER {100 * result.test_wer:.1f} %")
        if stopped:
            self.panel.show_state(self.controller.snapshot(), "Stopped")
        self.messages.tell(
            "Run stopped, its work is kept." if stopped else "Run finished.",
            f"{', '.join(parts)}.\n{result.run_path}",
        )
        self._redraw()

    @Slot(object)
    def _on_failed(self, error: SignScopeError) -> None:
        if self.runs.ask_about(error):
            return
        self.messages.tell_error(error)
        self.monitor.set_hint("The run ended before its first batch", "The message above says why.")
        self._redraw()

    def _show_health(self, tally: OutcomeCounts) -> None:
        if tally.batches == 0:
            text = "No batches yet"
        else:
            text = (
                f"applied {tally.applied}/{tally.batches}, clipped {tally.clipped}, "
                f"non-finite {tally.non_finite}"
            )
            if self.log.dropped and not self.controller.active:
                text += f", {self.log.dropped} lines not shown in the log"
        if text == self._health.text():
            return
        self._health.setText(text)
        role = "warning" if tally.non_finite else ""
        if self._health.property("role") != role:
            self._health.setProperty("role", role)
            self._health.style().unpolish(self._health)
            self._health.style().polish(self._health)

    def _show_data_badge(self) -> None:
        facts = corpus_facts(self._config.data.corpus)
        synthetic = self._config.data.corpus == DEMO_CORPUS or (
            facts is not None and facts.synthetic
        )
        self._data_badge.setVisible(synthetic)

    # ------------------------------------------------------------ corpus and settings

    @Slot()
    def open_corpus(self) -> None:
        """Ask for a corpus folder."""
        dialog = QFileDialog(self, "Open corpus", str(self.settings.last_folder))
        dialog.setFileMode(QFileDialog.FileMode.Directory)
        dialog.setOption(QFileDialog.Option.ShowDirsOnly)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.fileSelected.connect(self.use_corpus)
        dialog.open()

    @Slot(str)
    def use_corpus(self, folder: str) -> None:
        """Train on the corpus in ``folder`` from now on, or say why that cannot be."""
        try:
            corpus_facts(folder, raise_errors=True)
        except SignScopeError as error:
            self.messages.tell_error(error)
            return
        self.settings.last_folder = Path(folder).parent
        known = [folder, *(other for other in self.settings.recent_corpora if other != folder)]
        self.settings.recent_corpora = tuple(known)
        self.messages.dismiss()
        self._show_corpus(folder)

    @Slot()
    def _use_demo(self) -> None:
        self._show_corpus(DEMO_CORPUS)

    @Slot(str)
    def _show_corpus(self, corpus: str) -> None:
        self.panel.form.set_corpus(corpus)
        facts = corpus_facts(corpus)
        self.panel.picker.show_corpus(
            corpus, facts.text if facts else "", facts.synthetic if facts else False
        )
        name = "Demo corpus (synthetic)" if corpus == DEMO_CORPUS else Path(corpus).name
        self.setWindowTitle(f"{name} – SignScope")
        if not self.controller.active:
            self.monitor.set_hint(
                "No run yet",
                f"Press Start (F5) to train a teacher on “{name}”.\n"
                "Loss and gradient norms of every batch appear here.",
            )

    def refresh_corpus(self) -> None:
        """Tell about the chosen corpus again, once reading it costs nothing more."""
        self._show_corpus(self.panel.picker.corpus)

    @Slot()
    def _import_corpus(self) -> None:
        dialog = ImportDialog(self.settings.last_folder, self)
        dialog.imported.connect(self._on_imported)
        dialog.open()

    @Slot(str)
    def _on_imported(self, folder: str) -> None:
        if not self.controller.active:
            self.use_corpus(folder)

    @Slot()
    def _load_settings(self) -> None:
        dialog = QFileDialog(self, "Load settings", str(self.settings.last_folder))
        dialog.setNameFilter("Settings of a run (*.toml)")
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.fileSelected.connect(self.load_settings)
        dialog.open()

    @Slot(str)
    def load_settings(self, path: str) -> None:
        """Show the settings of a TOML file, or say why they cannot be used."""
        try:
            config = load_config(Path(path))
        except ConfigError as error:
            self.messages.tell_error(error)
            return
        self.settings.last_folder = Path(path).parent
        self.show_config(config)
        self.statusBar().showMessage(f"Settings read from {path}", 8000)

    def show_config(self, config: RunConfig) -> None:
        """Show settings in the run panel, corpus included."""
        self.panel.form.set_config(config)
        self._show_corpus(config.data.corpus)

    @Slot()
    def _save_settings(self) -> None:
        config = self.panel.form.check()
        if config is None:
            self.messages.tell(
                "Some settings cannot be used.",
                "Correct the fields marked in the run panel before saving them.",
                Severity.ERROR,
            )
            return
        dialog = QFileDialog(self, "Save settings", str(self.settings.last_folder / "run.toml"))
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.setNameFilter("Settings of a run (*.toml)")
        dialog.setDefaultSuffix("toml")
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.fileSelected.connect(self.save_settings)
        dialog.open()

    @Slot(str)
    def save_settings(self, path: str) -> None:
        """Write the settings shown to a TOML file, or say why they cannot be written."""
        config = self.panel.form.check()
        if config is None:
            return
        try:
            Path(path).write_text(config_to_toml(config), encoding="utf-8")
        except OSError as error:
            self.messages.tell(
                "The settings could not be written.",
                f"{path}: {error.strerror}. Choose another folder.",
                Severity.ERROR,
            )
            return
        self.settings.last_folder = Path(path).parent
        self.statusBar().showMessage(f"Settings written to {path}", 8000)

    @Slot()
    def _reset_settings(self) -> None:
        corpus = self.panel.picker.corpus
        self.panel.form.set_config(RunConfig())
        self._show_corpus(corpus)

    @Slot()
    def _show_run_folders(self) -> None:
        self._runs_dir.mkdir(parents=True, exist_ok=True)
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._runs_dir)))

    # ------------------------------------------------------------ view and help

    @Slot()
    def _choose_theme(self) -> None:
        action = self.sender()
        assert isinstance(action, QAction)
        choice = ThemeChoice(action.data())
        self.settings.theme = choice
        self.theme.choose(choice)

    @Slot()
    def _on_theme_changed(self) -> None:
        colors = self.theme.colors
        self.actions_.recolor(colors)
        self.messages.recolor(colors)
        self.panel.recolor(colors)
        self.monitor.recolor(colors)
        self.health.recolor(colors)
        self.epochs.model.warning_color = QColor(colors.warning)

    @Slot()
    def _reset_layout(self) -> None:
        self._first_layout()

    @Slot()
    def _open_docs(self) -> None:
        open_user_guide()

    @Slot()
    def _show_shortcuts(self) -> None:
        ShortcutsDialog(self).open()

    @Slot()
    def _show_about(self) -> None:
        AboutDialog(self._runs_dir, self).open()

    # ------------------------------------------------------------ coming and going

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Accept one corpus folder or settings file while no run is active."""
        if _dropped(event) is not None and not self.controller.active:
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        """Use the corpus folder or the settings file that was dropped."""
        path = _dropped(event)
        if path is None:
            return
        if path.is_dir():
            self.use_corpus(str(path))
        else:
            self.load_settings(str(path))
        event.acceptProposedAction()

    def closeEvent(self, event: QCloseEvent) -> None:
        """Ask whoever serves the window; only ``leave`` really closes."""
        if self._may_close:
            event.accept()
            return
        event.ignore()
        self.close_asked.emit()

    @Slot()
    def close_unattended(self) -> None:
        """Close without asking; a run in progress is saved all the same."""
        self.unattended = True
        self.close()

    async def confirm_close(self) -> bool:
        """Ask whether an active run is stopped and the window closed."""
        return await confirmed(
            self,
            name="confirm_close",
            title="Close SignScope",
            text="A run is in progress.",
            detail="It can be stopped after the current batch: a checkpoint keeps its work, "
            "and it can be resumed later.",
            yes="Stop and close",
            no="Keep running",
        )

    def show_leaving(self) -> None:
        """Say that the run is being saved before the window closes."""
        self.messages.tell("Stopping the run and saving its work…", "The window closes by itself.")

    def leave(self) -> None:
        """Remember everything and close."""
        self._late_redraw.stop()
        self.runs.shutdown(REPLAY_PATIENCE_S)
        settings = self.settings
        settings.geometry = self.saveGeometry()
        settings.dock_state = QByteArray(self.saveState())
        settings.show_all_settings = self.panel.form.shows_all
        config = self.panel.form.check()
        if config is not None:
            settings.config = config
        settings.sync()
        self._may_close = True
        self.close()


def _dropped(event: QDragEnterEvent | QDropEvent) -> Path | None:
    """Give the one folder or TOML file that is being dropped, if that is what it is."""
    urls = event.mimeData().urls()
    if len(urls) != 1 or not urls[0].isLocalFile():
        return None
    path = Path(urls[0].toLocalFile())
    return path if path.is_dir() or path.suffix == ".toml" else None
