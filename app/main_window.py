"""The main window: docks and menus. It sends requests; closing only asks."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QByteArray, QChildEvent, QSize, Qt, QUrl, Signal, Slot
from PySide6.QtGui import (
    QAction,
    QCloseEvent,
    QColor,
    QDesktopServices,
    QDragEnterEvent,
    QDropEvent,
)
from PySide6.QtWidgets import (
    QAbstractButton,
    QDockWidget,
    QMainWindow,
    QTabBar,
    QVBoxLayout,
    QWidget,
)

from app.actions import MENUS, TABLE, THEME_ACTIONS, Actions
from app.guide import GuideWindow
from app.help import AboutDialog, ShortcutsDialog, user_guide
from app.messages import MessageBar, Severity, confirmed
from app.monitor.health_panel import HealthPanel
from app.monitor.log_view import LogView
from app.monitor.monitor_view import MonitorView
from app.monitor.run_status import RunStatus
from app.presenter import RunPresenter, RunViews
from app.runs.desk import RunsDesk
from app.runs.loading import LoadedRun
from app.runs.picture import PictureSource
from app.settings import WindowSettings
from app.theme import Theme, ThemeChoice
from app.training.epoch_table import EpochTable
from app.training.live_run import RunRequest
from app.training.next_run import NextRun
from app.training.run_controller import RunController
from app.training.run_panel import RunPanel
from core.analysis.catalogue import RunSummary
from signscope.errors import SignScopeError
from signscope.run_state import RunSnapshot

FIRST_SIZE = (1280, 800)
FRAME = (16, 48)
"""Room that a system's title bar and borders take; how much is known only once a window is shown."""
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
        self._corpus = ""  # chosen for the next run, as people call it
        self._interrupted: tuple[RunSummary, int] | None = None  # offered while no run is shown
        self._may_close = False
        self.unattended = False
        """Whether the window closes without a person to ask: a signal, or the end of a smoke test."""
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
        self.status = RunStatus()
        self.statusBar().addPermanentWidget(self.status)
        self.next_run = NextRun(self.panel, settings, self.messages, self)
        self.presenter = RunPresenter(
            controller,
            RunViews(
                self.monitor,
                self.log,
                self.epochs,
                self.health,
                self.panel,
                self.status,
                self.messages,
            ),
            self,
        )
        self.runs = RunsDesk(
            window=self,
            theme=theme,
            settings=settings,
            controller=controller,
            messages=self.messages,
            plots=PictureSource(self.monitor.plots_view, self.monitor.redraw),
            shown_folder=lambda: self.presenter.folder,
            runs_dir=runs_dir,
        )
        self._docks = {
            "dock.run": self._dock("Run", "dock.run", self.panel),
            "dock.camera": self._dock("Camera", "dock.camera", camera),
            "dock.log": self._dock("Log", "dock.log", self.log),
            "dock.epochs": self._dock("Epochs", "dock.epochs", self.epochs),
            "dock.health": self._dock("Health", "dock.health", self.health),
        }
        self._build_menus()
        self._connect()
        self._arrange()
        self.next_run.show_config(settings.config)
        self.actions_[THEME_ACTIONS[theme.choice]].setChecked(True)
        self._on_theme_changed()
        self._on_state_changed(controller.snapshot())

    # ------------------------------------------------------------ building

    def _dock(self, title: str, name: str, content: QWidget) -> QDockWidget:
        dock = QDockWidget(title, self)
        dock.setObjectName(name)
        dock.setWidget(content)
        dock.setAccessibleName(title)
        for part, verb in (("float", "Float"), ("close", "Close")):
            button = dock.findChild(QAbstractButton, f"qt_dockwidget_{part}button")
            assert button is not None, part
            button.setAccessibleName(f"{verb} {title}")
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
            "corpus.open": self.next_run.open_corpus,
            "corpus.demo": self.next_run.use_demo,
            "corpus.import": self.next_run.import_corpus,
            "settings.load": self.next_run.ask_load,
            "settings.save": self.next_run.ask_save,
            "settings.defaults": self.next_run.reset,
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
        self.controller.state_changed.connect(self._on_state_changed)
        self.controller.failed.connect(self._on_failed)
        self.presenter.changed.connect(self._show_title)
        self.next_run.corpus_shown.connect(self._on_corpus_shown)
        self.next_run.done.connect(self._tell_briefly)
        self.runs.run_loaded.connect(self.presenter.open)
        self.runs.resume_ready.connect(self._resume)
        self.runs.interrupted_found.connect(self._on_interrupted_found)
        self.monitor.empty.resume_asked.connect(self.runs.resume_run)
        self.monitor.empty.open_asked.connect(self.runs.open_run)
        self.health.step_chosen.connect(self.monitor.show_batch)
        self.health.counted.connect(self._on_findings_counted)

    def _arrange(self) -> None:
        """Put every dock where it was last, or in its first place."""
        self.resize(first_size(self.screen().availableGeometry().size()))
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
        config = self.next_run.config("press Start again")
        if config is None or not self._begin(RunRequest(config, self._runs_dir)):
            return False
        self.settings.config = config
        return True

    @Slot(object, object)
    def _resume(self, request: RunRequest, before: LoadedRun) -> None:
        """Go on with a run from its folder, with its own settings."""
        if self._begin(request, before):
            self.next_run.show_config(request.config)

    def _begin(self, request: RunRequest, before: LoadedRun | None = None) -> bool:
        if self.presenter.begin(request, before):
            return True
        if self.runs.replaying:
            self.messages.tell(
                "A run cannot start now.",
                "A policy replay is in progress and both would share the same processor. "
                "Stop the replay (Runs → Replay policies…) or wait for its end.",
                Severity.WARNING,
            )
        return False

    @Slot()
    def _toggle_pause(self) -> None:
        self.controller.toggle_pause()

    @Slot()
    def _stop(self) -> None:
        self.controller.stop()

    @Slot(int)
    def _on_findings_counted(self, count: int) -> None:
        self._docks["dock.health"].setWindowTitle(f"Health ({count})" if count else "Health")

    @Slot(object)
    def _on_state_changed(self, snapshot: RunSnapshot) -> None:
        active = snapshot.state.active
        self.actions_.show_state(snapshot)
        self.panel.set_editable(not active)
        for key in ("corpus.open", "corpus.demo", "settings.load", "settings.defaults"):
            self.actions_[key].setEnabled(not active)

    @Slot(object)
    def _on_failed(self, error: SignScopeError) -> None:
        if self.runs.ask_about(error):
            self.presenter.go_back()
        else:
            self.messages.tell_error(error)

    @Slot()
    def _show_title(self) -> None:
        source = self.presenter.source
        name = self._corpus if source is None else source.name
        self.setWindowTitle(f"{name} – SignScope")

    @Slot(str)
    def _on_corpus_shown(self, corpus: str) -> None:
        self._corpus = corpus
        self._show_title()
        self._show_first_steps()

    @Slot(object, int)
    def _on_interrupted_found(self, run: RunSummary, checkpoint: int) -> None:
        self._interrupted = run, checkpoint
        self._show_first_steps()

    def _show_first_steps(self) -> None:
        """Say what can be done while no run is shown: go on with one, or start one."""
        if self.presenter.source is not None:
            return
        start = f"Press Start (F5) to train a teacher on “{self._corpus}”."
        if self._interrupted is None:
            self.monitor.set_hint(
                "No run yet", f"{start}\nLoss and gradient norms of every batch appear here."
            )
            return
        run, checkpoint = self._interrupted
        goes_on = (
            f"It can go on from batch {checkpoint}, where its newest checkpoint was made."
            if checkpoint >= 0
            else "It has no checkpoint yet, so it cannot go on, but what it did can be seen."
        )
        self.monitor.set_hint(
            f"“{run.name}” was interrupted",
            f"It ended after {run.batches} batches without being stopped. {goes_on}\nOr {start[0].lower()}{start[1:]}",
            run.path,
            resumable=checkpoint >= 0,
        )

    @Slot(str)
    def _tell_briefly(self, text: str) -> None:
        self.statusBar().showMessage(text, 8000)

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
        try:
            GuideWindow(user_guide(), self).show()
        except SignScopeError as error:
            self.messages.tell_error(error)

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
            self.next_run.use_corpus(str(path))
        else:
            self.next_run.load(str(path))
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
        self.presenter.rest()
        self.runs.shutdown(REPLAY_PATIENCE_S)
        settings = self.settings
        settings.geometry = self.saveGeometry()
        settings.dock_state = QByteArray(self.saveState())
        self.next_run.remember()
        settings.sync()
        self._may_close = True
        self.close()


def first_size(room: QSize) -> QSize:
    """Give the size of a first window, without its frame, on a screen with so much room."""
    return QSize(*FIRST_SIZE).boundedTo(room - QSize(*FRAME))


def _dropped(event: QDragEnterEvent | QDropEvent) -> Path | None:
    """Give the one folder or TOML file that is being dropped, if that is what it is."""
    urls = event.mimeData().urls()
    if len(urls) != 1 or not urls[0].isLocalFile():
        return None
    path = Path(urls[0].toLocalFile())
    return path if path.is_dir() or path.suffix == ".toml" else None
