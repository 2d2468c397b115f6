"""Everything about runs beyond the one being trained: browse, open, compare, replay, resume, export."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import QObject, Signal, Slot
from PySide6.QtWidgets import QWidget

from app.background import Progress, WorkCancelled, background, with_progress
from app.messages import MessageBar, Severity, confirmed
from app.monitor.kept_checkpoints import kept_checkpoints
from app.runs.comparison import ComparisonDialog
from app.runs.export_dialog import ExportDialog
from app.runs.loading import LoadedRun, load_run
from app.runs.picture import PictureSource
from app.runs.replay_controller import ReplayController, ReplayJob, replay_story
from app.runs.replay_dialog import ReplayDialog
from app.runs.run_browser import RunBrowser
from app.settings import WindowSettings
from app.theme import Theme
from app.training.live_run import RunRequest
from app.training.run_controller import RunController
from app.waiting import Tasks
from core.analysis.catalogue import RunSummary, list_runs
from core.config import DEMO_CORPUS, load_run_config
from signscope.errors import SignScopeError
from signscope.folder import RunFolder


class RunsDesk(QObject):
    """Opens the dialogs of the Runs menu and does what they ask for. GUI thread only, in the qasync loop.

    Args:
        window: Parent of the dialogs.
        theme: The theme in force.
        settings: Known corpora and the last folder.
        controller: Of training runs; asked whether one is active.
        messages: Where errors are told.
        plots: The plots of the window, for pictures.
        shown_folder: Gives the folder of the run that the window shows, where there is one.
        runs_dir: Folder of runs.
    """

    run_loaded = Signal(object)
    """A LoadedRun that the window is to show."""
    interrupted_found = Signal(object, int)
    """The RunSummary of the newest run, which ended without being stopped, and the batch that its newest
    checkpoint was made after; -1 for none."""
    resume_ready = Signal(object, object)
    """A RunRequest that goes on with a run, and the LoadedRun of what its folder holds."""

    def __init__(
        self,
        *,
        window: QWidget,
        theme: Theme,
        settings: WindowSettings,
        controller: RunController,
        messages: MessageBar,
        plots: PictureSource,
        shown_folder: Callable[[], Path | None],
        runs_dir: Path,
        replay_job: ReplayJob = replay_story,
    ) -> None:
        super().__init__(window)
        self._window = window
        self._theme = theme
        self._settings = settings
        self._controller = controller
        self._messages = messages
        self._plots = plots
        self._runs_dir = runs_dir
        self._tasks = Tasks(self)
        self._replays = ReplayController(controller.slot, self, replay_job)
        self._browser: RunBrowser | None = None
        self._comparison: ComparisonDialog | None = None
        self._replay: ReplayDialog | None = None
        self._shown_folder = shown_folder
        self._last_request: tuple[RunRequest, LoadedRun] | None = None
        theme.changed.connect(self._on_theme_changed)

    @property
    def replaying(self) -> bool:
        """Whether a policy replay is going on."""
        return self._replays.active

    @property
    def shown_run(self) -> Path | None:
        """Folder of the run that the window shows, where there is one."""
        return self._shown_folder()

    def shutdown(self, timeout_s: float) -> bool:
        """End what is going on; say whether the replay's thread was gone within the limit. Blocks."""
        self._tasks.cancel()
        return self._replays.shutdown(timeout_s)

    async def confirm_leaving(self) -> bool:
        """Ask whether a replay in progress is given up; say whether the window may be left."""
        if not self.replaying:
            return True
        return await confirmed(
            self._window,
            name="confirm_leaving",
            title="Close SignScope",
            text="A policy replay is in progress.",
            detail="It can be stopped after the current batch. The policies done so far keep their "
            "runs; the comparison of all of them would have to be made anew.",
            yes="Stop and close",
            no="Keep running",
        )

    # ------------------------------------------------------------ dialogs

    @Slot()
    def browse(self) -> RunBrowser:
        """Show the run browser."""
        if self._browser is None:
            browser = RunBrowser(self._runs_dir, self._theme.colors, parent=self._window)
            browser.open_asked.connect(self.open_run)
            browser.compare_asked.connect(self.compare_runs)
            browser.resume_asked.connect(self.resume_run)
            browser.export_asked.connect(self.export_run)
            self._browser = browser
        _present(self._browser)
        return self._browser

    @Slot()
    def compare(self) -> ComparisonDialog:
        """Show the comparison, with the run shown in the window when it is still empty."""
        dialog = self._comparison_dialog()
        if not dialog.runs and self.shown_run is not None:
            dialog.add_runs([self.shown_run])
        _present(dialog)
        return dialog

    @Slot(object)
    def compare_runs(self, paths: tuple[Path, ...]) -> ComparisonDialog:
        """Show the comparison of exactly these runs."""
        dialog = self._comparison_dialog()
        dialog.set_runs(paths)
        _present(dialog)
        return dialog

    @Slot()
    def replay(self) -> ReplayDialog:
        """Show the replay dialog."""
        if self._replay is None:
            self._replay = ReplayDialog(
                self._replays,
                self._theme.colors,
                self._runs_dir,
                refusal=self._replay_refusal,
                folder=self._settings.last_folder,
                parent=self._window,
            )
        corpus = self._settings.config.data.corpus
        self._replay.inputs.set_corpora(
            self._settings.recent_corpora, "" if corpus == DEMO_CORPUS else corpus
        )
        _present(self._replay)
        return self._replay

    def _replay_refusal(self) -> str:
        if self._controller.active:
            return (
                "A training run is in progress, and both would share the same processor: the run "
                "would slow down and the replay take longer. Stop the run or wait for its end."
            )
        return ""

    def _comparison_dialog(self) -> ComparisonDialog:
        if self._comparison is None:
            self._comparison = ComparisonDialog(
                self._theme.colors, self._runs_dir, parent=self._window
            )
        return self._comparison

    # ------------------------------------------------------------ opening

    @Slot(object)
    def open_run(self, path: Path) -> None:
        """Show the curves of a finished run in the window."""
        if self._may_show():
            self._tasks.start(self._open(path))

    def _may_show(self) -> bool:
        if not self._controller.active:
            return True
        self._messages.tell(
            "The window shows the run in progress.",
            "Another run can be opened when it has ended; Compare shows both side by side now.",
            Severity.WARNING,
        )
        return False

    async def _open(self, path: Path) -> LoadedRun | None:
        def read(progress: Progress) -> LoadedRun:
            return load_run(path, progress)

        try:
            loaded = await with_progress(f"Opening {path.name}", "batches", self._window, read)
        except WorkCancelled:
            return None
        except SignScopeError as error:
            self._messages.tell_error(error)
            return None
        if self._controller.active:  # it was started meanwhile: its curves stay
            return None
        self.run_loaded.emit(loaded)
        return loaded

    # ------------------------------------------------------------ resuming

    def look_for_interrupted(self) -> None:
        """Look whether the newest run ended without being stopped, as after a loss of power."""
        self._tasks.start(self._look_for_interrupted())

    async def _look_for_interrupted(self) -> None:
        def look(_progress: Progress) -> tuple[RunSummary, int] | None:
            newest = next(iter(list_runs(self._runs_dir)), None)
            if newest is None or newest.state != "interrupted":
                return None
            kept = kept_checkpoints(RunFolder(newest.path).checkpoints_dir)
            return newest, kept[-1].step if kept else -1

        try:
            found = await background(self._window, look, "looking for an interrupted run")
        except SignScopeError as error:
            self._messages.tell_error(error)
            return
        if found is not None:
            self.interrupted_found.emit(*found)

    @Slot(object)
    def resume_run(self, path: Path) -> None:
        """Go on with a run from its newest checkpoint."""
        if self._controller.active or self.replaying:
            self._messages.tell(
                "A run cannot be resumed now.",
                "A replay is in progress. Stop it first."
                if self.replaying
                else "Another run is in progress. Stop it first, its work is kept.",
                Severity.WARNING,
            )
            return
        self._tasks.start(self._resume(path))

    async def _resume(self, path: Path) -> None:
        loaded = await self._open(path)
        if loaded is None:
            return
        try:
            config = await background(self._window, lambda _: load_run_config(RunFolder(path)))
        except SignScopeError as error:
            self._messages.tell_error(error)
            return
        self._request(RunRequest(config, path.parent, resume=path), loaded)

    def _request(self, request: RunRequest, loaded: LoadedRun) -> None:
        self._last_request = request, loaded
        if self._browser is not None:
            self._browser.hide()
        self.resume_ready.emit(request, loaded)

    def ask_about(self, error: SignScopeError) -> bool:
        """Ask whether a run is resumed although something changed; say whether that was the error."""
        differences: tuple[str, ...] = getattr(error, "differences", ())
        if not differences or self._last_request is None:
            return False
        self._tasks.start(self._ask_changed(*self._last_request, differences))
        return True

    async def _ask_changed(
        self, request: RunRequest, loaded: LoadedRun, differences: tuple[str, ...]
    ) -> None:
        listed = "\n".join(f"•  {difference}" for difference in differences)
        agreed = await confirmed(
            self._window,
            name="confirm_changed",
            title="Resume run",
            text="Something has changed since the checkpoint was made.",
            detail=f"{listed}\n\nThe run can go on, but not exactly as if it had never stopped.",
            yes="Resume anyway",
            no="Leave it",
            loses=True,
        )
        if agreed and not self._controller.active:
            self._request(replace(request, accept_changes=True), loaded)

    # ------------------------------------------------------------ exporting

    @Slot()
    def export(self) -> None:
        """Ask what of the run shown in the window is exported."""
        if self.shown_run is None:
            self._messages.tell(
                "There is no run to export.",
                "Start a run, or open one with Runs → Browse runs.",
                Severity.WARNING,
            )
        else:
            self.export_run(self.shown_run)

    @Slot(object)
    def export_run(self, path: Path) -> ExportDialog:
        """Ask what of a run is exported; a picture only where the window shows that run."""
        try:
            name = RunFolder(path).read_about().name
        except SignScopeError:
            name = path.name
        picture = self._plots if path == self.shown_run else None
        dialog = ExportDialog(path, name, self._theme.colors, path, picture, self._window)
        dialog.open()
        return dialog

    @Slot()
    def _on_theme_changed(self) -> None:
        for dialog in (self._browser, self._comparison, self._replay):
            if dialog is not None:
                dialog.recolor(self._theme.colors)


def _present(dialog: QWidget) -> None:
    dialog.show()
    dialog.raise_()
    dialog.activateWindow()
