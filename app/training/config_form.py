"""A form made of the settings models: names, bounds, choices and explanations all come from core.config."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError
from PySide6.QtCore import Qt, Signal, Slot
from PySide6.QtWidgets import QFormLayout, QLabel, QLineEdit, QToolButton, QVBoxLayout, QWidget

from app.theme import Colors
from app.training.setting_editors import label_of, setting_fields
from app.training.setting_row import SettingRow, fault_label
from core.config import RunConfig
from core.faults import faults_in

MAIN_SETTINGS = ("optim.epochs", "data.batch_size", "optim.lr", "optim.max_norm", "device")
"""Shown at once; everything else stands under "All settings"."""

CORPUS_SETTING = "data.corpus"
"""Chosen by the corpus picker above the form, not by a field."""

_SECTIONS = MappingProxyType(
    {
        "": "Run",
        "data": "Data",
        "data.augment": "Augmentation",
        "model": "Model",
        "optim": "Optimiser",
        "checkpoint": "Checkpoints",
    }
)


class ConfigForm(QWidget):
    """All settings of a run as fields. GUI thread only.

    A setting that differs from its default is marked and has a button that resets it. ``changed`` comes
    after every change by a person; ``check`` gives the settings or shows, beside the fields, what is
    wrong with them.
    """

    changed = Signal()
    fault_shown = Signal(QWidget)
    """The label of a fault that was just shown, to be brought into sight."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("config_form")
        self._rows: dict[str, SettingRow] = {}
        self._section_faults: dict[str, QLabel] = {}
        self._headings: dict[str, QLabel] = {}
        self._corpus = RunConfig().data.corpus
        self._filling = False

        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.setSpacing(6)
        self._search = QLineEdit()
        self._search.setObjectName("search_settings")
        self._search.setAccessibleName("Search settings")
        self._search.setPlaceholderText("Search settings")
        self._search.setClearButtonEnabled(True)
        self._search.textChanged.connect(self._on_search)
        outer.addWidget(self._search)
        self._nothing_found = QLabel()
        self._nothing_found.setObjectName("no_setting_found")
        self._nothing_found.setProperty("role", "muted")
        self._nothing_found.setWordWrap(True)
        self._nothing_found.hide()
        outer.addWidget(self._nothing_found)
        outer.addLayout(self._lay_out(MAIN_SETTINGS))

        self._toggle = QToolButton()
        self._toggle.setObjectName("all_settings")
        self._toggle.setCheckable(True)
        self._toggle.setAutoRaise(True)
        self._toggle.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self._toggle.setArrowType(Qt.ArrowType.RightArrow)
        self._toggle.setProperty("role", "disclosure")
        self._toggle.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self._toggle.setToolTip("Show or hide the settings that seldom need a change")
        self._toggle.toggled.connect(self._show_all)
        outer.addWidget(self._toggle)

        self._rest = QWidget()
        self._rest.setObjectName("rest_of_settings")
        rest = QVBoxLayout(self._rest)
        rest.setContentsMargins(0, 0, 0, 0)
        rest.setSpacing(4)
        names = [name for name, _ in setting_fields() if name != CORPUS_SETTING]
        for section, title in _SECTIONS.items():
            heading = QLabel(title)
            heading.setProperty("role", "heading")
            heading.setContentsMargins(0, 10, 0, 2)
            rest.addWidget(heading)
            self._headings[section] = heading
            rest.addLayout(
                self._lay_out(
                    [
                        name
                        for name in names
                        if _section_of(name) == section and name not in MAIN_SETTINGS
                    ]
                )
            )
            self._section_faults[section] = fault_label(section)
            rest.addWidget(self._section_faults[section])
        outer.addWidget(self._rest)
        self._rest.hide()
        outer.addStretch(1)
        width = max(row.label_width for row in self._rows.values())
        for row in self._rows.values():  # one column of fields through all sections
            row.label.setMinimumWidth(width)
        self.set_config(RunConfig())

    def set_config(self, config: RunConfig) -> None:
        """Show ``config``; does not send ``changed``."""
        self._corpus = config.data.corpus
        values = config.model_dump()
        self._filling = True
        try:
            for name, row in self._rows.items():
                row.show_value(_dig(values, name))
        finally:
            self._filling = False
        self._clear_faults()
        self._count_changed()

    def set_corpus(self, corpus: str) -> None:
        """Train on another corpus: a folder or ``demo``."""
        self._corpus = corpus

    def values(self) -> dict[str, Any]:
        """Give what the fields hold, nested as in RunConfig, unchecked."""
        nested: dict[str, Any] = {}
        for name, row in self._rows.items():
            _put(nested, name, row.value)
        _put(nested, CORPUS_SETTING, self._corpus)
        return nested

    def check(self) -> RunConfig | None:
        """Give the settings, or None after showing each fault at its field."""
        self._clear_faults()
        try:
            return RunConfig.model_validate(self.values())
        except ValidationError as error:
            for fault in faults_in(error, RunConfig):
                self._show_fault(fault.place, f"{fault.sentence(label_of)}.")
            return None

    def changed_settings(self) -> list[str]:
        """Give the dotted names of the settings that differ from their defaults; the corpus is none."""
        return [name for name, row in self._rows.items() if row.changed]

    def show_all(self, shown: bool) -> None:
        """Open or close "All settings"."""
        self._toggle.setChecked(shown)

    @property
    def shows_all(self) -> bool:
        """Whether "All settings" is open."""
        return self._toggle.isChecked()

    def recolor(self, colors: Colors) -> None:
        """Take the colours of another theme."""
        for row in self._rows.values():
            row.recolor(colors)

    # ------------------------------------------------------------ what is in sight

    @Slot(bool)
    def _show_all(self, shown: bool) -> None:
        self._rest.setVisible(shown or bool(self._search.text()))
        self._toggle.setArrowType(Qt.ArrowType.DownArrow if shown else Qt.ArrowType.RightArrow)

    @Slot(str)
    def _on_search(self, text: str) -> None:
        words = text.lower().split()
        found = {
            name
            for name, row in self._rows.items()
            if row.matches(words, _SECTIONS[_section_of(name)])
        }
        for name, row in self._rows.items():
            row.set_in_sight(name in found)
        for section, heading in self._headings.items():
            heading.setVisible(
                any(_section_of(name) == section for name in found - set(MAIN_SETTINGS))
            )
        self._toggle.setVisible(not words)
        self._rest.setVisible(bool(words) or self.shows_all)
        self._nothing_found.setText(f"No setting is about “{text.strip()}”.")
        self._nothing_found.setVisible(not found)

    # ------------------------------------------------------------ rows

    def _lay_out(self, names: tuple[str, ...] | list[str]) -> QFormLayout:
        layout = QFormLayout()
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setHorizontalSpacing(10)
        layout.setVerticalSpacing(5)
        layout.setLabelAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        fields = dict(setting_fields())
        for name in names:
            row = SettingRow(name, fields[name], layout, self)
            row.edited.connect(self._on_edited)
            self._rows[name] = row
        return layout

    @Slot()
    def _on_edited(self) -> None:
        if not self._filling:
            self._count_changed()
            self.changed.emit()

    def _count_changed(self) -> None:
        count = len(set(self.changed_settings()) - set(MAIN_SETTINGS))
        self._toggle.setText(f"All settings ({count} changed)" if count else "All settings")

    # ------------------------------------------------------------ faults

    def _show_fault(self, place: str, text: str) -> None:
        if place not in MAIN_SETTINGS:
            self._search.clear()
            self.show_all(True)
        row = self._rows.get(place)
        if row is not None:
            row.show_fault(text)
            self.fault_shown.emit(row.fault)
            return
        label = self._section_faults.get(place, self._section_faults[""])
        label.setText(text)
        label.show()
        self.fault_shown.emit(label)

    def _clear_faults(self) -> None:
        for row in self._rows.values():
            row.show_fault("")
        for label in self._section_faults.values():
            label.clear()
            label.hide()


def _section_of(name: str) -> str:
    return name.rpartition(".")[0]


def _dig(values: Mapping[str, Any], name: str) -> Any:
    for part in name.split("."):
        values = values[part]
    return values


def _put(values: dict[str, Any], name: str, value: Any) -> None:
    *sections, last = name.split(".")
    for section in sections:
        values = values.setdefault(section, {})
    values[last] = value
