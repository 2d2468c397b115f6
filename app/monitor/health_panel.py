"""What a person should look at in the run: findings with their evidence, and what to do about each."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PySide6.QtCore import QSize, Qt, Signal, Slot
from PySide6.QtGui import QPalette
from PySide6.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QScrollArea,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from app.icons import icon
from app.theme import Colors
from core.analysis.health.answers import NOTHING_WINDOW, answers_nothing
from core.analysis.health.assessment import assess
from core.analysis.health.findings import Finding, FindingKind, Severity
from core.analysis.health.window import COLUMNS, StepWindow
from core.analysis.history import History
from core.landmarks.input_statistics import InputStatistics
from signscope.records import EpochRecord

LOOK_EVERY_S = 2.0
"""Findings are about hundreds of batches: looking more often would only make the text restless."""

_BEGINNING = "\nThe teacher answers only blanks so far, as in the beginning of every run."

_LOOKS = {  # icon, colour of Colors, what the frame's style calls it
    Severity.CRITICAL: ("error", "error", "error"),
    Severity.WARNING: ("warning", "warning", "warning"),
    Severity.NOTICE: ("info", "accent", "info"),
}


class HealthPanel(QWidget):
    """Assesses the run that it is fed with and lists the findings. GUI thread only.

    Args:
        colors: Colours of the theme in force.
    """

    step_chosen = Signal(int)
    """The person wants to see this batch."""
    counted = Signal(int)
    """How many findings there are now, whenever that number changes."""

    def __init__(self, colors: Colors, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("health_panel")
        self.setAccessibleName("Health of the run")
        self._colors = colors
        self._epochs: list[EpochRecord] = []
        self._inputs: InputStatistics | None = None
        self._preview: InputStatistics | None = None
        self._looked_at_s = -math.inf
        self._window: StepWindow | None = None
        self._batches = 0
        self._total: int | None = None
        self._finished = False
        self._cards: dict[FindingKind, _Card] = {}
        self.findings: tuple[Finding, ...] = ()
        """What is listed, the gravest first."""

        self._summary = QLabel()
        self._summary.setObjectName("health_summary")
        self._summary.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._summary.setWordWrap(True)
        self._list = QVBoxLayout()
        self._list.setContentsMargins(8, 8, 8, 8)
        self._list.setSpacing(8)
        self._list.addStretch(1)
        content = QWidget()
        content.setLayout(self._list)
        self._scroll = QScrollArea()
        self._scroll.setObjectName("health_findings")
        self._scroll.setAccessibleName("Findings")
        self._scroll.setWidgetResizable(True)
        self._scroll.setFrameShape(QFrame.Shape.NoFrame)
        self._scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._scroll.setWidget(content)
        for area in (self, content, self._scroll.viewport()):
            area.setAutoFillBackground(True)
            area.setBackgroundRole(QPalette.ColorRole.Base)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._summary)
        layout.addWidget(self._scroll)
        self.clear()

    def clear(self) -> None:
        """Forget the run, for another one. What the preview shows stays."""
        self._epochs.clear()
        self._inputs = None
        self._window = None
        self._looked_at_s = -math.inf
        self.show_findings((), 0)

    def add_epoch(self, record: EpochRecord) -> None:
        """Take a finished epoch into account."""
        self._epochs.append(record)

    def set_inputs(self, statistics: InputStatistics) -> None:
        """Take into account what the run's input looks like."""
        self._inputs = statistics

    def set_preview(self, statistics: InputStatistics | None) -> None:
        """Take into account what the camera preview shows, at once; None when it is off."""
        self._preview = statistics
        self._assess()

    @property
    def knows_inputs(self) -> bool:
        """Whether there is a run whose input a preview can be compared with."""
        return self._inputs is not None

    def look(
        self,
        history: History,
        now_s: float,
        *,
        at_once: bool = False,
        total: int | None = None,
        finished: bool = False,
    ) -> None:
        """Assess the run if the last look is LOOK_EVERY_S or more ago, or ``at_once``.

        Takes under a millisecond, however long the run is.

        Args:
            history: The batches of the run.
            now_s: Any clock that only goes forwards, in seconds.
            total: Batches that the run sets out to do, where that is known.
            finished: Whether it did them all.
        """
        if not at_once and now_s - self._looked_at_s < LOOK_EVERY_S:
            return
        self._looked_at_s = now_s
        self._window = StepWindow.of({name: history.column(name) for name in COLUMNS})
        self._batches = len(history)
        self._total, self._finished = total, finished
        self._assess()

    def _assess(self) -> None:
        if self._window is not None:
            found = assess(
                self._window,
                self._epochs,
                self._inputs,
                self._preview,
                total=self._total,
                finished=self._finished,
            )
            mute = answers_nothing(self._window, self._epochs, NOTHING_WINDOW)
            self.show_findings(found, self._batches, _BEGINNING if mute else "")

    def show_findings(self, findings: Sequence[Finding], batches: int, remark: str = "") -> None:
        """List ``findings``; without any, say so, in how many batches they were looked for, and ``remark``."""
        before = len(self.findings)
        self.findings = tuple(findings)
        for kind in set(self._cards) - {finding.kind for finding in findings}:
            card = self._cards.pop(kind)
            self._list.removeWidget(card)
            card.hide()
            card.deleteLater()
        for place, finding in enumerate(findings):
            card = self._cards.get(finding.kind) or self._new_card(finding.kind)
            if self._list.indexOf(card) != place:
                self._list.removeWidget(card)
                self._list.insertWidget(place, card)
            card.show_finding(finding)
        self._summary.setVisible(not findings)
        self._scroll.setVisible(bool(findings))
        counted = f"{batches:,}".replace(",", " ")
        self._summary.setText(
            f"No problems found in {counted} batch{'' if batches == 1 else 'es'}.{remark}"
            if batches
            else "Each batch is watched for problems here,\nfrom updates that stop to data that is late."
        )
        self._summary.setProperty("role", "" if batches else "muted")
        self._summary.style().unpolish(self._summary)
        self._summary.style().polish(self._summary)
        if len(findings) != before:
            self.counted.emit(len(findings))

    @property
    def verdict(self) -> Finding | None:
        """What is said of a finished run that learned nothing."""
        return next((f for f in self.findings if f.kind is FindingKind.LEARNED_NOTHING), None)

    def recolor(self, colors: Colors) -> None:
        """Take the colours of another theme."""
        self._colors = colors
        for card in self._cards.values():
            card.recolor(colors)

    def _new_card(self, kind: FindingKind) -> _Card:
        card = _Card(self._colors)
        card.setObjectName(f"finding.{kind}")
        card.step_chosen.connect(self.step_chosen)
        self._cards[kind] = card
        return card


class _Card(QFrame):
    """One finding: how grave it is in picture and word, title, evidence, first batch, what to do."""

    step_chosen = Signal(int)

    def __init__(self, colors: Colors) -> None:
        super().__init__()
        self._colors = colors
        self._finding: Finding | None = None
        self._icon = QLabel()
        self._title = _text("finding_title", "heading")
        self._severity = _text("finding_severity", "muted")
        self._severity.setWordWrap(False)
        self._severity.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Minimum)
        self._evidence = _text("finding_evidence")
        self._advice = _text("finding_advice")
        self._since = QToolButton()
        self._since.setObjectName("finding_since")
        self._since.setProperty("role", "disclosure")
        self._since.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self._since.setCursor(Qt.CursorShape.PointingHandCursor)
        font = self._since.font()
        font.setUnderline(True)
        self._since.setFont(font)
        self._since.clicked.connect(self._on_since)

        head = QHBoxLayout()
        head.setSpacing(8)
        head.addWidget(self._title, 1)
        head.addWidget(self._severity, 0, Qt.AlignmentFlag.AlignTop)
        column = QVBoxLayout()
        column.setSpacing(4)
        column.addLayout(head)
        column.addWidget(self._evidence)
        column.addWidget(self._advice)
        column.addWidget(self._since)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(12, 10, 12, 10)
        layout.setSpacing(10)
        layout.addWidget(self._icon, 0, Qt.AlignmentFlag.AlignTop)
        layout.addLayout(column, 1)

    def show_finding(self, finding: Finding) -> None:
        """Show a finding; what did not change is left alone, so that a selection in it stays."""
        if finding == self._finding:
            return
        self._finding = finding
        self.setAccessibleName(f"{finding.severity.value}: {finding.title}")
        self._title.setText(finding.title)
        self._severity.setText(finding.severity.value.capitalize())
        self._evidence.setText(finding.evidence)
        self._advice.setText(f"What to do: {finding.what_to_do}")
        self._since.setVisible(finding.first_step is not None)
        self._since.setText(f"Since batch {finding.first_step}")
        self._since.setToolTip(f"Show batch {finding.first_step} in the plots")
        self.setProperty("severity", _LOOKS[finding.severity][2])
        self.style().unpolish(self)
        self.style().polish(self)
        self.recolor(self._colors)

    def recolor(self, colors: Colors) -> None:
        """Take the colours of another theme."""
        self._colors = colors
        if self._finding is None:
            return
        name, color, _ = _LOOKS[self._finding.severity]
        self._icon.setPixmap(icon(name, getattr(colors, color)).pixmap(QSize(20, 20)))

    @Slot()
    def _on_since(self) -> None:
        if self._finding is not None and self._finding.first_step is not None:
            self.step_chosen.emit(self._finding.first_step)


def _text(name: str, role: str = "") -> QLabel:
    label = QLabel()
    label.setObjectName(name)
    label.setWordWrap(True)
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    label.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Minimum)
    if role:
        label.setProperty("role", role)
    return label
