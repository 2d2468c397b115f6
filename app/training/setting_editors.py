"""The field of one setting: its kind, bounds, choices and tooltip come from core.config."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from PySide6.QtGui import QValidator
from PySide6.QtWidgets import QComboBox, QDoubleSpinBox, QLineEdit, QSpinBox, QWidget

from app.wheel import ComboBox, DoubleSpinBox, SpinBox
from core.config import RunConfig

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
_SUFFIXES = MappingProxyType({"data.augment.rotation_deg": "°", "checkpoint.every_minutes": " min"})


Editor = QSpinBox | QDoubleSpinBox | QComboBox | QLineEdit


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


class FloatBox(DoubleSpinBox):
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

    def _bare(self, text: str) -> str:
        return text.removesuffix(self.suffix()).strip().replace(",", ".")


def make_editor(name: str, field: FieldInfo) -> Editor:
    """Make the field of a dotted setting."""
    kind = field.annotation
    editor: Editor
    if get_origin(kind) is Literal:
        editor = ComboBox()
        editor.addItems([str(value) for value in get_args(kind)])
    elif kind is int:
        editor = SpinBox()
        bounds = Bounds.of(field, 1)
        editor.setRange(int(bounds.lowest), int(bounds.highest))
        editor.setGroupSeparatorShown(False)
        editor.setStepType(
            QSpinBox.StepType.AdaptiveDecimalStepType
            if bounds.highest > 10_000
            else QSpinBox.StepType.DefaultStepType
        )
    elif kind is float:
        editor = FloatBox()
        bounds = Bounds.of(field, FloatBox.STEP)
        editor.setRange(bounds.lowest, bounds.highest)
    else:
        editor = QLineEdit()
        if get_origin(kind) is tuple:
            editor.setProperty("kind", get_args(kind)[0].__name__)
            editor.setPlaceholderText("none" if get_args(kind)[0] is str else "")
        elif name == "name":
            editor.setPlaceholderText("date and corpus")
    if isinstance(editor, QSpinBox | QDoubleSpinBox) and name in _SUFFIXES:
        editor.setSuffix(_SUFFIXES[name])
    editor.setMinimumSize(80, 24)
    editor.setObjectName(f"setting.{name}")
    editor.setAccessibleName(label_of(name))
    editor.setAccessibleDescription(field.description or "")
    editor.setToolTip(_tooltip(name, field))
    return editor


def show_value(editor: Editor, value: Any) -> None:
    """Let a field hold ``value``."""
    if isinstance(editor, QComboBox):
        editor.setCurrentText(str(value))
    elif isinstance(editor, QLineEdit):
        editor.setText(", ".join(map(str, value)) if isinstance(value, tuple | list) else value)
    else:
        editor.setValue(value)


def value_in(editor: Editor) -> Any:
    """Give what a field holds, unchecked; a list where several are meant."""
    if isinstance(editor, QComboBox):
        return editor.currentText()
    if isinstance(editor, QLineEdit):
        kind = editor.property("kind")
        if kind is None:
            return editor.text().strip()
        parts = [part.strip() for part in editor.text().split(",") if part.strip()]
        return [int(part) if kind == "int" and part.isdigit() else part for part in parts]
    return editor.value()


def in_words(value: Any) -> str:
    """Give a value as its field shows it, "none" for nothing."""
    if isinstance(value, float):
        return f"{value:.9g}"
    return (", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)) or "none"


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
