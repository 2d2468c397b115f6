"""A form made of the settings models: names, bounds, choices and tooltips all come from core.config."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from PySide6.QtCore import Qt, Signal, Slot
from PySide6.QtGui import QValidator, QWheelEvent
from PySide6.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QLabel,
    QLineEdit,
    QSpinBox,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from core.config import RunConfig

MAIN_SETTINGS = ("optim.epochs", "data.batch_size", "optim.lr", "optim.max_norm", "device")
"""Shown at once; everything else stands under "All settings"."""

CORPUS_SETTING = "data.corpus"
"""Chosen by the corpus picker above the form, not by a field."""

LABELS: Mapping[str, str] = MappingProxyType(
    {
        "name": "Run name",
        "data.dev_signers": "Dev signers",
        "data.test_signers": "Held-out signers",
        "data.dev_share": "Dev share",
        "data.glosses_min": "Fewest glosses",
        "data.glosses_max": "Most glosses",
        "data.transition_frames": "Transition frames",
        "data.idle_chance": "Idle chance",
        "data.idle_gloss": "Idle gloss",
        "data.sentences_per_epoch": "Sentences per epoch",
        "data.dev_sentences": "Dev sentences",
        "data.prefetch": "Prefetched batches",
        "data.augment.rotation_deg": "Rotation",
        "data.augment.hand_dropout": "Hand dropout",
        "data.augment.frame_dropout": "Frame dropout",
        "model.part_dim": "Part width",
        "optim.lr": "Learning rate",
        "optim.min_lr_share": "Final rate share",
        "optim.warmup_steps": "Warm-up steps",
        "optim.weight_decay": "Weight decay",
        "optim.beta1": "Beta 1",
        "optim.beta2": "Beta 2",
        "optim.max_norm": "Clip norm to",
        "optim.ema_decay": "EMA decay",
        "optim.amp": "Mixed precision",
        "optim.non_finite_pause": "Pause after NaNs",
        "checkpoint.every_batches": "Every batches",
        "checkpoint.every_minutes": "Every minutes",
        "checkpoint.keep": "Keep latest",
    }
)
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
_SUFFIXES = MappingProxyType({"data.augment.rotation_deg": "°", "checkpoint.every_minutes": " min"})


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of a number; an open limit is moved inwards by the smallest step shown."""

    lowest: float
    highest: float

    @classmethod
    def of(cls, field: FieldInfo, step: float) -> Bounds:
        """Read the limits that a pydantic field declares."""
        lowest, highest = -math.inf, math.inf
        for limit in field.metadata:
            lowest = max(
                lowest, getattr(limit, "ge", -math.inf), getattr(limit, "gt", -math.inf) + step
            )
            highest = min(
                highest, getattr(limit, "le", math.inf), getattr(limit, "lt", math.inf) - step
            )
        return cls(lowest, highest)


class _IntBox(QSpinBox):
    """A whole number that the mouse wheel changes only when it has the focus."""

    def wheelEvent(self, event: QWheelEvent) -> None:
        if self.hasFocus():
            super().wheelEvent(event)
        else:
            event.ignore()


class FloatBox(QDoubleSpinBox):
    """A number shown as a person writes it (0.002, 1e-05), read in either way."""

    DECIMALS = 12
    STEP = 1e-9

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setDecimals(self.DECIMALS)
        self.setStepType(QDoubleSpinBox.StepType.AdaptiveDecimalStepType)

    def textFromValue(self, value: float) -> str:
        """Give the shortest text for ``value``."""
        return f"{value:.9g}"

    def valueFromText(self, text: str) -> float:
        """Read ``text``, with a point or a comma, with or without exponent."""
        try:
            return float(self._bare(text))
        except ValueError:
            return self.value()

    def validate(self, text: str, position: int) -> tuple[QValidator.State, str, int]:
        """Accept what is a number within the bounds; let the rest be typed on."""
        try:
            value = float(self._bare(text))
        except ValueError:
            typing = set(self._bare(text).lower()) <= set("0123456789.e+-")
            state = QValidator.State.Intermediate if typing else QValidator.State.Invalid
        else:
            within = self.minimum() <= value <= self.maximum()
            state = QValidator.State.Acceptable if within else QValidator.State.Intermediate
        return state, text, position

    def fixup(self, text: str) -> str:
        """Bring a number that is out of bounds to the nearest bound."""
        try:
            value = float(self._bare(text))
        except ValueError:
            return self.textFromValue(self.value())
        return self.textFromValue(min(max(value, self.minimum()), self.maximum()))

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Change the number only when it has the focus: scrolling the form must not."""
        if self.hasFocus():
            super().wheelEvent(event)
        else:
            event.ignore()

    def _bare(self, text: str) -> str:
        return text.removesuffix(self.suffix()).strip().replace(",", ".")


class _ChoiceBox(QComboBox):
    def wheelEvent(self, event: QWheelEvent) -> None:
        if self.hasFocus():
            super().wheelEvent(event)
        else:
            event.ignore()


_Editor = QSpinBox | QDoubleSpinBox | QComboBox | QLineEdit


def setting_fields() -> Iterator[tuple[str, FieldInfo]]:
    """Give every setting of a run as dotted name and field, sections opened, in their order."""
    yield from _fields_of(RunConfig, "")


def _fields_of(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _fields_of(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def label_of(setting: str) -> str:
    """Give the name that a person sees for a dotted setting."""
    last = setting.rpartition(".")[2]
    return LABELS.get(setting, last.replace("_", " ").capitalize())


class ConfigForm(QWidget):
    """All settings of a run as fields. GUI thread only.

    ``changed`` comes after every change by a person; ``check`` gives the settings or shows, beside the
    fields, what is wrong with them.
    """

    changed = Signal()
    fault_shown = Signal(QWidget)
    """The label of a fault that was just shown, to be brought into sight."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("config_form")
        self._editors: dict[str, _Editor] = {}
        self._faults: dict[str, QLabel] = {}
        self._labels: list[QLabel] = []
        self._corpus = RunConfig().data.corpus
        self._filling = False

        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.setSpacing(6)
        fields = dict(setting_fields())
        outer.addLayout(self._rows({name: fields[name] for name in MAIN_SETTINGS}))

        self._toggle = QToolButton()
        self._toggle.setObjectName("all_settings")
        self._toggle.setText("All settings")
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
        for section, title in _SECTIONS.items():
            members = {
                name: field
                for name, field in fields.items()
                if name.rpartition(".")[0] == section
                and name not in MAIN_SETTINGS
                and name != CORPUS_SETTING
            }
            heading = QLabel(title)
            heading.setProperty("role", "heading")
            heading.setContentsMargins(0, 10, 0, 2)
            rest.addWidget(heading)
            rest.addLayout(self._rows(members))
            rest.addWidget(self._fault_label(section))
        outer.addWidget(self._rest)
        self._rest.hide()
        outer.addStretch(1)
        width = max(label.sizeHint().width() for label in self._labels)
        for label in self._labels:  # one column of fields through all sections
            label.setMinimumWidth(width)
        self.set_config(RunConfig())

    def set_config(self, config: RunConfig) -> None:
        """Show ``config``; does not send ``changed``."""
        self._corpus = config.data.corpus
        values = config.model_dump()
        self._filling = True
        try:
            for name, editor in self._editors.items():
                _show(editor, _dig(values, name))
        finally:
            self._filling = False
        self._clear_faults()

    def set_corpus(self, corpus: str) -> None:
        """Train on another corpus: a folder or ``demo``."""
        self._corpus = corpus

    def values(self) -> dict[str, Any]:
        """Give what the fields hold, nested as in RunConfig, unchecked."""
        nested: dict[str, Any] = {}
        for name, editor in self._editors.items():
            _put(nested, name, _read(editor))
        _put(nested, CORPUS_SETTING, self._corpus)
        return nested

    def check(self) -> RunConfig | None:
        """Give the settings, or None after showing each fault at its field."""
        self._clear_faults()
        try:
            return RunConfig.model_validate(self.values())
        except ValidationError as error:
            for fault in error.errors():
                place = ".".join(str(part) for part in fault["loc"] if not isinstance(part, int))
                self._show_fault(place, fault["msg"].removeprefix("Value error, "))
            return None

    def show_all(self, shown: bool) -> None:
        """Open or close "All settings"."""
        self._toggle.setChecked(shown)

    @property
    def shows_all(self) -> bool:
        """Whether "All settings" is open."""
        return self._toggle.isChecked()

    @Slot(bool)
    def _show_all(self, shown: bool) -> None:
        self._rest.setVisible(shown)
        self._toggle.setArrowType(Qt.ArrowType.DownArrow if shown else Qt.ArrowType.RightArrow)

    def _rows(self, members: Mapping[str, FieldInfo]) -> QFormLayout:
        layout = QFormLayout()
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setHorizontalSpacing(10)
        layout.setVerticalSpacing(5)
        layout.setLabelAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for name, field in members.items():
            editor = self._make_editor(name, field)
            label = QLabel(label_of(name))
            self._labels.append(label)
            label.setBuddy(editor)
            label.setToolTip(editor.toolTip())
            layout.addRow(label, editor)
            layout.addRow(self._fault_label(name))
        return layout

    def _fault_label(self, place: str) -> QLabel:
        label = QLabel()
        label.setProperty("role", "fault")
        label.setWordWrap(True)
        label.setObjectName(f"fault.{place}")
        label.hide()
        self._faults[place] = label
        return label

    def _make_editor(self, name: str, field: FieldInfo) -> _Editor:
        kind = field.annotation
        editor: _Editor
        if get_origin(kind) is Literal:
            editor = _ChoiceBox()
            for value in get_args(kind):
                editor.addItem(str(value))
            editor.currentIndexChanged.connect(self._on_change)
        elif kind is int:
            editor = _IntBox()
            bounds = Bounds.of(field, 1)
            editor.setRange(int(bounds.lowest), int(bounds.highest))
            editor.setGroupSeparatorShown(False)
            editor.setStepType(
                QSpinBox.StepType.AdaptiveDecimalStepType
                if bounds.highest > 10_000
                else QSpinBox.StepType.DefaultStepType
            )
            editor.valueChanged.connect(self._on_change)
        elif kind is float:
            editor = FloatBox()
            bounds = Bounds.of(field, FloatBox.STEP)
            editor.setRange(bounds.lowest, bounds.highest)
            editor.valueChanged.connect(self._on_change)
        else:
            editor = QLineEdit()
            if get_origin(kind) is tuple:
                editor.setProperty("kind", get_args(kind)[0].__name__)
                editor.setPlaceholderText("none" if get_args(kind)[0] is str else "")
            elif name == "name":
                editor.setPlaceholderText("date and corpus")
            editor.textEdited.connect(self._on_change)
        if isinstance(editor, QSpinBox | QDoubleSpinBox) and name in _SUFFIXES:
            editor.setSuffix(_SUFFIXES[name])
        editor.setMinimumSize(80, 24)
        editor.setObjectName(f"setting.{name}")
        editor.setAccessibleName(label_of(name))
        editor.setAccessibleDescription(field.description or "")
        editor.setToolTip(_tooltip(name, field))
        self._editors[name] = editor
        return editor

    @Slot()
    def _on_change(self) -> None:
        if not self._filling:
            self.changed.emit()

    def _show_fault(self, place: str, text: str) -> None:
        label = self._faults.get(place, self._faults[""])
        label.setText(text)
        label.show()
        if place not in MAIN_SETTINGS:
            self.show_all(True)
        self.fault_shown.emit(label)
        editor = self._editors.get(place)
        if editor is not None:
            _mark(editor, True)
            editor.setFocus(Qt.FocusReason.OtherFocusReason)

    def _clear_faults(self) -> None:
        for place, label in self._faults.items():
            if label.text():
                label.clear()
                label.hide()
                if place in self._editors:
                    _mark(self._editors[place], False)


def _mark(editor: _Editor, faulty: bool) -> None:
    editor.setProperty("faulty", "true" if faulty else "false")
    editor.style().unpolish(editor)
    editor.style().polish(editor)


def _tooltip(name: str, field: FieldInfo) -> str:
    parts = [field.description or ""]
    if get_origin(field.annotation) is tuple:
        parts.append("Several are separated by commas.")
    default = field.get_default(call_default_factory=True)
    shown = ", ".join(map(str, default)) if isinstance(default, tuple) else str(default)
    if shown:
        parts.append(f"Default: {shown}")
    text = "<br>".join(part.replace("<", "&lt;") for part in parts if part)
    return f"<p style='white-space:normal'><b>{name}</b><br>{text}</p>"


def _show(editor: _Editor, value: Any) -> None:
    if isinstance(editor, QComboBox):
        editor.setCurrentText(str(value))
    elif isinstance(editor, QLineEdit):
        editor.setText(", ".join(map(str, value)) if isinstance(value, tuple | list) else value)
    else:
        editor.setValue(value)


def _read(editor: _Editor) -> Any:
    if isinstance(editor, QComboBox):
        return editor.currentText()
    if isinstance(editor, QLineEdit):
        kind = editor.property("kind")
        if kind is None:
            return editor.text().strip()
        parts = [part.strip() for part in editor.text().split(",") if part.strip()]
        return [int(part) if kind == "int" and part.isdigit() else part for part in parts]
    return editor.value()


def _dig(values: Mapping[str, Any], name: str) -> Any:
    for part in name.split("."):
        values = values[part]
    return values


def _put(values: dict[str, Any], name: str, value: Any) -> None:
    *sections, last = name.split(".")
    for section in sections:
        values = values.setdefault(section, {})
    values[last] = value
