"""The figures of a replay: one row a policy, filled while it runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QAbstractItemView, QFrame, QHeaderView, QTableWidget, QTableWidgetItem

from app.runs.policy_figures import PolicyProgress
from app.runs.run_colors import RunStyle
from app.runs.run_legend import SWATCH_SIZE, swatch

_HEADINGS = (
    ("Policy", "What was done with each gradient"),
    ("Updates\napplied", "Batches whose gradient changed the weights, of all batches"),
    ("First\nloss", "Loss of the first batch: the same for every policy"),
    ("Newest\nloss", "Loss of the newest batch"),
    ("Loss to\nreach", "The share of the first loss that is to be reached"),
    ("Batches to\nreach it", "Batches until one had that loss or less"),
    ("Longest stretch\nwithout update", "Most batches in a row of which none changed the weights"),
    ("WER\n(dev)", "Word error rate on the dev split after the last batch"),
)


class PolicyTable(QTableWidget):
    """One row a policy, as high as its rows. GUI thread only."""

    def __init__(self) -> None:
        super().__init__(0, len(_HEADINGS))
        self.setObjectName("replay_table")
        self.setAccessibleName("Figures of each policy")
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.verticalHeader().hide()
        self.setIconSize(SWATCH_SIZE)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAsNeeded)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        for place, (title, tip) in enumerate(_HEADINGS):
            item = QTableWidgetItem(title)
            item.setToolTip(tip)
            self.setHorizontalHeaderItem(place, item)
            item.setTextAlignment(_alignment(place))
        header = self.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        header.setMinimumSectionSize(86)
        header.setSectionsClickable(False)
        header.setHighlightSections(False)
        self._fit()
        self.hide()

    def fill(
        self,
        policies: Sequence[PolicyProgress],
        style_of: Callable[[str], RunStyle],
        *,
        active: bool,
    ) -> None:
        """Show the figures so far.

        Args:
            policies: Those of the replay, in their order.
            style_of: Gives the line that a policy is drawn with.
            active: Whether the replay goes on.
        """
        self.setRowCount(len(policies))
        for row, progress in enumerate(policies):
            for place, text in enumerate(_cells(progress, active)):
                item = self.item(row, place)
                if item is None:
                    item = QTableWidgetItem()
                    item.setTextAlignment(_alignment(place))
                    self.setItem(row, place, item)
                if item.text() != text:
                    item.setText(text)
            name = self.item(row, 0)
            assert name is not None
            name.setIcon(swatch(style_of(progress.policy)))
        self._fit()

    def _fit(self) -> None:
        rows = sum(self.rowHeight(row) for row in range(self.rowCount()))
        header = self.horizontalHeader().sizeHint().height()
        self.setFixedHeight(header + rows + 4)


def _cells(progress: PolicyProgress, active: bool) -> tuple[str, ...]:
    policy, figures = progress.policy, progress.figures
    if figures.batches == 0:
        return (policy, *["–"] * (len(_HEADINGS) - 1))
    never = "not yet" if active and not progress.whole else f"not in {figures.batches}"
    reached = figures.batches_to_share
    return (
        policy,
        f"{figures.applied} of {figures.batches}",
        f"{figures.first_loss:.2f}",
        f"{figures.last_loss:.2f}",
        f"{figures.target_loss:.2f}",
        never if reached is None else str(reached),
        str(figures.longest_gap),
        "–" if math.isnan(figures.wer) else f"{100 * figures.wer:.1f} %",
    )


def _alignment(place: int) -> Qt.AlignmentFlag:
    side = Qt.AlignmentFlag.AlignLeft if place == 0 else Qt.AlignmentFlag.AlignRight
    return side | Qt.AlignmentFlag.AlignVCenter
