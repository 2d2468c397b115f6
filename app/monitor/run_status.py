"""What the status bar says of the run shown: its data, its held-out signers, what became of its batches."""

from __future__ import annotations

from PySide6.QtWidgets import QHBoxLayout, QLabel, QWidget

from core.analysis.history import History
from core.analysis.narrator import describe_wer
from signscope.records import Evaluation, Outcome


class RunStatus(QWidget):
    """Three labels at the right of the status bar. GUI thread only."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("run_status")
        self._synthetic = QLabel("synthetic data")
        self._synthetic.setObjectName("synthetic_data")
        self._synthetic.setProperty("role", "badge")
        self._synthetic.setToolTip("The run shown trains on a corpus made by a procedure")
        self._held_out = QLabel()
        self._held_out.setObjectName("held_out")
        self._held_out.setAccessibleName("Word errors of the signers that were held out")
        self._batches = QLabel()
        self._batches.setObjectName("health")
        self._batches.setAccessibleName("What became of the batches")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 8, 0)
        row.setSpacing(12)
        for label in (self._held_out, self._synthetic, self._batches):
            row.addWidget(label)
        self.clear()

    @property
    def text(self) -> str:
        """What is said of the batches."""
        return self._batches.text()

    def clear(self) -> None:
        """Show that there is no run."""
        self.show_synthetic(False)
        self.show_held_out(None)
        self._say("No batches yet", "")

    def show_synthetic(self, synthetic: bool) -> None:
        """Say whether the run trains on a corpus made by a procedure."""
        self._synthetic.setVisible(synthetic)

    def show_held_out(self, evaluation: Evaluation | None) -> None:
        """Show the word errors of the held-out signers, None while they were not evaluated."""
        self._held_out.setVisible(evaluation is not None)
        self._held_out.setText(
            "" if evaluation is None else f"Held-out signers: {describe_wer(evaluation)}"
        )

    def show_batches(self, history: History, lines_left_out: int = 0) -> None:
        """Count the batches of the run by what became of them.

        Args:
            history: The batches.
            lines_left_out: Lines that the log had no time for.
        """
        outcomes = history.outcomes()
        batches = sum(outcomes.values())
        if not batches:
            self._say("No batches yet", "")
            return
        non_finite = sum(count for outcome, count in outcomes.items() if outcome.non_finite)
        text = (
            f"applied {outcomes[Outcome.APPLIED]}/{batches}, clipped {history.clipped_count()}, "
            f"non-finite {non_finite}"
        )
        if lines_left_out:
            text += f", {lines_left_out} lines not shown in the log"
        self._say(text, "warning" if non_finite else "")

    def _say(self, text: str, role: str) -> None:
        if text != self._batches.text():
            self._batches.setText(text)
        if (self._batches.property("role") or "") != role:
            self._batches.setProperty("role", role)
            self._batches.style().unpolish(self._batches)
            self._batches.style().polish(self._batches)
