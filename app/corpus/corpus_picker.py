"""Chooses the corpus of the next run: the built-in one, a folder opened before, or another."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import Qt, Signal, Slot
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from app.wheel import ComboBox
from core.config import DEMO_CORPUS

DEMO_TEXT = "Demo corpus (synthetic)"


class CorpusPicker(QWidget):
    """A list of known corpora with buttons to open and import others. GUI thread only.

    Args:
        open_action: Asks for a folder.
        import_action: Opens the import dialog.
    """

    chosen = Signal(str)
    """Another corpus was chosen: its folder, or ``demo``."""

    def __init__(
        self, open_action: QAction, import_action: QAction, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setObjectName("corpus_picker")
        self._list = ComboBox()
        self._list.setObjectName("corpus")
        self._list.setAccessibleName("Corpus")
        self._list.setToolTip("Corpus that the next run trains on")
        self._list.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self._list.setMinimumContentsLength(12)
        self._list.addItem(DEMO_TEXT, DEMO_CORPUS)
        self._list.activated.connect(self._on_activated)
        self._badge = QLabel("synthetic")
        self._badge.setObjectName("synthetic_badge")
        self._badge.setProperty("role", "badge")
        self._badge.setToolTip("Made by a procedure, not recorded from people")
        self._summary = QLabel()
        self._summary.setObjectName("corpus_summary")
        self._summary.setProperty("role", "muted")
        self._summary.setWordWrap(True)
        buttons = QHBoxLayout()
        buttons.setSpacing(6)
        for text, action in (("Open…", open_action), ("Import…", import_action)):
            button = QPushButton(text)
            button.setAutoDefault(True)
            button.setToolTip(action.toolTip())
            button.setIcon(action.icon())
            button.clicked.connect(action.trigger)
            action.changed.connect(
                lambda button=button, action=action: button.setIcon(action.icon())
            )
            buttons.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addWidget(self._list)
        facts = QHBoxLayout()
        facts.setSpacing(6)
        facts.addWidget(self._badge, 0, Qt.AlignmentFlag.AlignTop)
        facts.addWidget(self._summary, 1)
        layout.addLayout(facts)
        layout.addLayout(buttons)
        self._show_facts()

    @property
    def corpus(self) -> str:
        """The chosen corpus: a folder, or ``demo``."""
        return str(self._list.currentData())

    def set_known(self, folders: tuple[str, ...]) -> None:
        """List folders opened before, below the demo corpus."""
        for folder in folders:
            self._place_of(folder)

    def show_corpus(self, corpus: str, summary: str = "", synthetic: bool = False) -> None:
        """Choose ``corpus`` in the list and tell about it; does not send ``chosen``."""
        self._list.setCurrentIndex(self._place_of(corpus))
        self._show_facts(summary, synthetic)

    def _place_of(self, corpus: str) -> int:
        place = self._list.findData(corpus)
        if place < 0:
            self._list.addItem(Path(corpus).name or corpus, corpus)
            place = self._list.count() - 1
            self._list.setItemData(place, corpus, Qt.ItemDataRole.ToolTipRole)
        return place

    def _show_facts(self, summary: str = "", synthetic: bool = False) -> None:
        demo = self.corpus == DEMO_CORPUS
        self._badge.setVisible(synthetic and not demo)  # the demo corpus says it in its name
        if demo and not summary:
            summary = "Built in, made on the first start"
        self._summary.setText(summary)
        self._list.setToolTip("Built-in synthetic corpus" if demo else self.corpus)

    @Slot(int)
    def _on_activated(self, _place: int) -> None:
        self._show_facts()
        self.chosen.emit(self.corpus)
