"""What the next run will be trained with: corpus and settings, chosen, opened and saved."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QObject, Qt, Signal, Slot
from PySide6.QtWidgets import QFileDialog, QWidget

from app.corpus.corpus_facts import corpus_facts
from app.corpus.import_dialog import ImportDialog
from app.messages import MessageBar, Severity
from app.settings import WindowSettings
from app.training.run_panel import RunPanel
from core.config import DEMO_CORPUS, RunConfig, config_to_toml, load_config
from core.errors import ConfigError
from signscope.errors import SignScopeError
from signscope.files import write_atomically


class NextRun(QObject):
    """Fills the inputs of the run panel and reads them. GUI thread only.

    Knows nothing of the run shown: a run that is resumed brings its own settings.

    Args:
        panel: Has the inputs.
        settings: Remembers corpora, folders and what was trained last.
        messages: Where errors are told.
        window: Parent of the dialogs.
    """

    corpus_shown = Signal(str)
    """The corpus chosen, as people call it."""
    done = Signal(str)
    """A sentence about something that went well."""

    def __init__(
        self, panel: RunPanel, settings: WindowSettings, messages: MessageBar, window: QWidget
    ) -> None:
        super().__init__(window)
        self._panel = panel
        self._settings = settings
        self._messages = messages
        self._window = window
        panel.form.show_all(settings.show_all_settings)
        panel.picker.set_known(settings.recent_corpora)
        panel.picker.chosen.connect(self._show_corpus)

    def config(self, then: str) -> RunConfig | None:
        """Give the settings if all can be used; else say so and what to do before ``then``."""
        config = self._panel.form.check()
        if config is None:
            self._messages.tell(
                "Some settings cannot be used.",
                f"Correct the fields marked in the run panel, then {then}.",
                Severity.ERROR,
            )
        return config

    def show_config(self, config: RunConfig) -> None:
        """Choose these settings, corpus included."""
        self._panel.form.set_config(config)
        self._show_corpus(config.data.corpus)

    def remember(self) -> None:
        """Keep what is chosen for the next start of the program."""
        self._settings.show_all_settings = self._panel.form.shows_all
        config = self._panel.form.check()
        if config is not None:
            self._settings.config = config

    # ------------------------------------------------------------ corpus

    @Slot()
    def open_corpus(self) -> None:
        """Ask for a corpus folder."""
        dialog = self._dialog("Open corpus", self._settings.last_folder)
        dialog.setFileMode(QFileDialog.FileMode.Directory)
        dialog.setOption(QFileDialog.Option.ShowDirsOnly)
        dialog.fileSelected.connect(self.use_corpus)
        dialog.open()

    @Slot(str)
    def use_corpus(self, folder: str) -> None:
        """Train on the corpus in ``folder`` from now on, or say why that cannot be."""
        try:
            corpus_facts(folder, raise_errors=True)
        except SignScopeError as error:
            self._messages.tell_error(error)
            return
        settings = self._settings
        settings.last_folder = Path(folder).parent
        known = [folder, *(other for other in settings.recent_corpora if other != folder)]
        settings.recent_corpora = tuple(known)
        self._messages.dismiss()
        self._show_corpus(folder)

    @Slot()
    def use_demo(self) -> None:
        """Train on the demo corpus from now on."""
        self._show_corpus(DEMO_CORPUS)

    @Slot()
    def import_corpus(self) -> None:
        """Show the import dialog; what it makes is chosen unless a run is active by then."""
        dialog = ImportDialog(self._settings.last_folder, self._window)
        dialog.imported.connect(self._on_imported)
        dialog.open()

    @Slot(str)
    def _on_imported(self, folder: str) -> None:
        if self._panel.editable:
            self.use_corpus(folder)

    @Slot()
    def refresh_corpus(self) -> None:
        """Tell about the chosen corpus again, once reading it costs nothing more."""
        self._show_corpus(self._panel.picker.corpus)

    @Slot(str)
    def _show_corpus(self, corpus: str) -> None:
        self._panel.form.set_corpus(corpus)
        facts = corpus_facts(corpus)
        self._panel.picker.show_corpus(
            corpus, facts.text if facts else "", facts.synthetic if facts else False
        )
        self.corpus_shown.emit(
            "Demo corpus (synthetic)" if corpus == DEMO_CORPUS else Path(corpus).name
        )

    # ------------------------------------------------------------ settings

    @Slot()
    def ask_load(self) -> None:
        """Ask for a file of settings."""
        dialog = self._dialog("Load settings", self._settings.last_folder)
        dialog.setNameFilter("Settings of a run (*.toml)")
        dialog.fileSelected.connect(self.load)
        dialog.open()

    @Slot(str)
    def load(self, path: str) -> None:
        """Choose the settings of a TOML file, or say why they cannot be used."""
        try:
            config = load_config(Path(path))
        except ConfigError as error:
            self._messages.tell_error(error)
            return
        self._settings.last_folder = Path(path).parent
        self.show_config(config)
        self.done.emit(f"Settings read from {path}")

    @Slot()
    def ask_save(self) -> None:
        """Ask where the settings are to be written."""
        if self.config("save them") is None:
            return
        dialog = self._dialog("Save settings", self._settings.last_folder / "run.toml")
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.setNameFilter("Settings of a run (*.toml)")
        dialog.setDefaultSuffix("toml")
        dialog.fileSelected.connect(self.save)
        dialog.open()

    @Slot(str)
    def save(self, path: str) -> None:
        """Write the settings to a TOML file, or say why they cannot be written."""
        config = self.config("save them")
        if config is None:
            return
        try:
            write_atomically(Path(path), config_to_toml(config).encode())
        except OSError as error:
            self._messages.tell(
                "The settings could not be written.",
                f"{path}: {error.strerror}. Choose another folder.",
                Severity.ERROR,
            )
            return
        self._settings.last_folder = Path(path).parent
        self.done.emit(f"Settings written to {path}")

    @Slot()
    def reset(self) -> None:
        """Choose the defaults; the corpus stays."""
        corpus = self._panel.picker.corpus
        self._panel.form.set_config(RunConfig())
        self._show_corpus(corpus)

    def _dialog(self, title: str, place: Path) -> QFileDialog:
        dialog = QFileDialog(self._window, title, str(place))
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        return dialog
