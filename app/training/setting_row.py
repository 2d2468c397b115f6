"""One setting in the form: name, field, what it means, whether it was changed, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

from pydantic.fields import FieldInfo
from PySide6.QtCore import QObject, QSize, Qt, Signal, Slot
from PySide6.QtWidgets import QComboBox, QFormLayout, QHBoxLayout, QLabel, QLineEdit, QToolButton

from app.icons import icon
from app.theme import Colors
from app.training.setting_editors import in_words, label_of, make_editor, show_value, value_in

EXPLAINED = MappingProxyType(
    {
        "optim.lr": "How far each update moves the weights. Too high: the loss jumps or grows. Too low: "
        "it hardly falls.",
        "optim.max_norm": "Larger gradients are scaled down to this norm and applied all the same; none "
        "is left out.",
        "deterministic": "The same seed gives the same losses to the last bit. Slower on a graphics card.",
        "data.dev_share": "Clips that measure progress and are never trained on.",
        "data.test_signers": "Nobody of them is trained on; the last word errors are theirs.",
        "data.sentences": "Splicing makes sentences of clips with one gloss each, new ones in every epoch.",
        "data.idle_gloss": "What your corpus calls a stretch without a sign.",
        "model.strides": "2, 2 leaves one step in four frames. A sign needs at least one step of its own.",
        "optim.min_lr_share": "The learning rate sinks along a cosine to this share of its highest value.",
        "optim.warmup_steps": "The first updates are small, since the first gradients are the largest.",
        "optim.ema_decay": "Evaluates a slow average of the weights, often steadier: 0.999 is usual.",
        "optim.non_finite_pause": "A run whose losses are no numbers any more waits for you.",
    }
)
"""What is told below the field of a setting that its name does not explain."""


class SettingRow(QObject):
    """The row of one setting, appended to a form layout. GUI thread only.

    Args:
        name: Dotted name of the setting.
        field: Its field in core.config.
        layout: Where the row is appended.
        parent: The form, which the row ends with.
    """

    edited = Signal()
    """The field holds another value."""

    def __init__(self, name: str, field: FieldInfo, layout: QFormLayout, parent: QObject) -> None:
        super().__init__(parent)
        self._name = name
        self._layout = layout
        self._description = field.description or ""
        self._default = field.get_default(call_default_factory=True)
        self.editor = editor = make_editor(name, field)
        self.label = QLabel(label_of(name))
        self.label.setBuddy(editor)
        self.label.setToolTip(editor.toolTip())
        self._reset = QToolButton()
        self._reset.setObjectName(f"reset.{name}")
        self._reset.setAutoRaise(True)
        self._reset.setIconSize(QSize(16, 16))
        self._reset.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        tip = f"Reset {label_of(name)} to {in_words(self._default)}"
        self._reset.setToolTip(tip)
        self._reset.setAccessibleName(tip)
        policy = self._reset.sizePolicy()
        policy.setRetainSizeWhenHidden(True)  # the field keeps its width
        self._reset.setSizePolicy(policy)
        self._reset.clicked.connect(self._on_reset)
        self.fault = fault_label(name)

        box = QHBoxLayout()
        box.setSpacing(2)
        box.addWidget(editor, 1)
        box.addWidget(self._reset)
        self._place = layout.rowCount()
        layout.addRow(self.label, box)
        layout.addRow(self.fault)
        self._note: QLabel | None = None
        if name in EXPLAINED:
            self._note = QLabel(EXPLAINED[name])
            self._note.setObjectName(f"note.{name}")
            self._note.setProperty("role", "muted")
            self._note.setWordWrap(True)
            layout.addRow(self._note)
        if isinstance(editor, QComboBox):
            editor.currentIndexChanged.connect(self._on_edited)
        elif isinstance(editor, QLineEdit):
            editor.textChanged.connect(self._on_edited)
        else:
            editor.valueChanged.connect(self._on_edited)
        self._mark_changed()

    @property
    def value(self) -> Any:
        """What the field holds, unchecked."""
        return value_in(self.editor)

    @property
    def changed(self) -> bool:
        """Whether the field holds anything but the default."""
        value = self.value
        return bool((tuple(value) if isinstance(value, list) else value) != self._default)

    @property
    def label_width(self) -> int:
        """Width in pixels that the name takes when it is marked."""
        font = self.label.font()
        bold = QLabel(self.label.text())
        font.setBold(True)
        bold.setFont(font)
        return bold.sizeHint().width()

    def show_value(self, value: Any) -> None:
        """Let the field hold ``value``."""
        show_value(self.editor, value)

    def matches(self, words: Sequence[str], section: str) -> bool:
        """Whether every one of ``words``, in lower case, is about this setting."""
        note = EXPLAINED.get(self._name, "")
        about = (self._name, self.label.text(), self._description, note, section)
        told = " ".join(about).lower()
        return all(word in told for word in words)

    def set_in_sight(self, shown: bool) -> None:
        """Show the row, or hide it while something else is searched for."""
        self._layout.setRowVisible(self._place, shown)
        self._reset.setVisible(shown and self.changed)
        self.fault.setVisible(shown and bool(self.fault.text()))
        if self._note is not None:
            self._note.setVisible(shown)

    def show_fault(self, text: str) -> None:
        """Say what is wrong with the value and go there; "" takes it back."""
        if text == self.fault.text():
            return
        self.fault.setText(text)
        self.fault.setVisible(bool(text))
        self.editor.setProperty("faulty", "true" if text else "false")
        self.editor.style().unpolish(self.editor)
        self.editor.style().polish(self.editor)
        if text:
            self.editor.setFocus(Qt.FocusReason.OtherFocusReason)

    def recolor(self, colors: Colors) -> None:
        """Take the colours of another theme."""
        self._reset.setIcon(icon("defaults", colors.text, colors.disabled))

    @Slot()
    def _on_edited(self) -> None:
        self._mark_changed()
        self.edited.emit()

    @Slot()
    def _on_reset(self) -> None:
        self.editor.setFocus(Qt.FocusReason.OtherFocusReason)  # the button goes
        show_value(self.editor, self._default)

    def _mark_changed(self) -> None:
        changed = self.changed
        font = self.label.font()
        font.setBold(changed)
        self.label.setFont(font)
        self._reset.setVisible(changed)
        said = f"{self._description} Changed, the default is {in_words(self._default)}."
        self.editor.setAccessibleDescription(said if changed else self._description)


def fault_label(place: str) -> QLabel:
    """Make the hidden label that tells what is wrong at a place of the form."""
    label = QLabel()
    label.setProperty("role", "fault")
    label.setWordWrap(True)
    label.setObjectName(f"fault.{place}")
    label.hide()
    return label
