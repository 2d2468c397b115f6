"""What a replay is asked for: a corpus, policies, and how long and from which seed."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import Qt, Slot
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from app.corpus.corpus_picker import DEMO_TEXT
from app.runs.replay_controller import ReplayRequest
from app.wheel import ComboBox, DoubleSpinBox, SpinBox
from core.config import DEMO_CORPUS

_THRESHOLD, _SHARE_PERCENT = 100.0, 7.0
_WIDTH = 286


class ReplayInputs(QWidget):
    """The column of choices. GUI thread only.

    Args:
        folder: Where the dialog for another corpus begins.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.setFixedWidth(_WIDTH)
        self._folder = folder
        self.used = False
        """Whether a replay was started with these choices: the corpus then stays as it is."""
        regime = QLabel(
            "All other settings stay the same: long sentences in small batches, so that the gradient "
            "norms of the first batches lie above 100."
        )
        regime.setWordWrap(True)
        regime.setProperty("role", "muted")

        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(6)
        for title, part in (
            ("Corpus", self._make_corpus()),
            ("Policies", self._make_policies()),
            ("Settings", self._make_settings()),
        ):
            heading = QLabel(title)
            heading.setProperty("role", "heading")
            heading.setContentsMargins(0, 0 if title == "Corpus" else 12, 0, 0)
            column.addWidget(heading)
            column.addLayout(part)
        column.addSpacing(6)
        column.addWidget(regime)
        column.addStretch(1)

    def _make_corpus(self) -> QHBoxLayout:
        self._corpus = ComboBox()
        self._corpus.setObjectName("replay_corpus")
        self._corpus.setAccessibleName("Corpus")
        self._corpus.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self._corpus.addItem(DEMO_TEXT, DEMO_CORPUS)
        choose = QPushButton("Other…")
        choose.setAutoDefault(False)
        choose.setToolTip("Replay on a corpus folder made by an import")
        choose.clicked.connect(self._choose_corpus)
        row = QHBoxLayout()
        row.setSpacing(6)
        row.addWidget(self._corpus, 1)
        row.addWidget(choose)
        return row

    def _make_policies(self) -> QGridLayout:
        self._clip = QCheckBox("Clip, always update")
        self._clip.setObjectName("policy_clip")
        self._clip.setToolTip("clip: what SignScope does in every training run")
        self._skip = QCheckBox("Skip updates above")
        self._skip.setObjectName("policy_skip")
        self._skip.setToolTip(
            "skip:T: clip, then throw the update away when the norm before clipping was above T"
        )
        self._threshold = DoubleSpinBox()
        self._threshold.setObjectName("threshold")
        self._threshold.setAccessibleName("Norm above which updates are skipped")
        self._threshold.setDecimals(1)
        self._threshold.setRange(0.1, 1e6)
        self._threshold.setValue(_THRESHOLD)
        self._threshold.setToolTip("T of skip:T, compared with the norm before clipping")
        self._none = QCheckBox("No clipping, always update")
        self._none.setObjectName("policy_none")
        self._none.setToolTip("none: the gradient is applied as it is")
        self._clip.setChecked(True)
        self._skip.setChecked(True)
        self._skip.toggled.connect(self._threshold.setEnabled)
        policies = QGridLayout()
        policies.setHorizontalSpacing(8)
        policies.setVerticalSpacing(6)
        policies.addWidget(self._clip, 0, 0, 1, 2)
        policies.addWidget(self._skip, 1, 0)
        policies.addWidget(self._threshold, 1, 1)
        policies.addWidget(self._none, 2, 0, 1, 2)
        policies.setColumnStretch(1, 1)
        return policies

    def _make_settings(self) -> QFormLayout:
        self._steps = SpinBox()
        self._steps.setObjectName("steps")
        self._steps.setRange(0, 1_000_000)
        self._steps.setSingleStep(50)
        self._steps.setSpecialValueText("as it takes")
        self._steps.setToolTip(
            "Batches that each policy is given. As it takes: 300 for clipping, and for the others six "
            "times as many as clipping needed to reach the loss"
        )
        self._share = DoubleSpinBox()
        self._share.setObjectName("share")
        self._share.setRange(0.1, 99.0)
        self._share.setDecimals(1)
        self._share.setValue(_SHARE_PERCENT)
        self._share.setSuffix(" % of the first")
        self._share.setToolTip("How far the loss is to fall: from 91 to 6.4, for instance, is 7 %")
        self._seed = SpinBox()
        self._seed.setObjectName("seed")
        self._seed.setRange(0, 2**31 - 1)
        self._seed.setToolTip("Seed of weights, sentences and augmentation")
        form = QFormLayout()
        form.setHorizontalSpacing(10)
        form.setVerticalSpacing(6)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("&Batches each", self._steps)
        form.addRow("&Loss to reach", self._share)
        form.addRow("S&eed", self._seed)
        return form

    # ------------------------------------------------------------ what is chosen

    def set_corpora(self, folders: tuple[str, ...], current: str = "") -> None:
        """List corpora opened before, and choose ``current`` until a replay was started."""
        for folder in folders:
            self._corpus_place(folder)
        if current and not self.used:
            self._corpus.setCurrentIndex(self._corpus_place(current))

    def policies(self) -> tuple[str, ...]:
        """Give the policies chosen, as ``parse_policy`` reads them."""
        chosen = (
            (self._clip, "clip"),
            (self._skip, f"skip:{self._threshold.value():g}"),
            (self._none, "none"),
        )
        return tuple(name for box, name in chosen if box.isChecked())

    @property
    def skip_above(self) -> float | None:
        """Norm above which a policy skips updates; None where none of those chosen does."""
        return self._threshold.value() if self._skip.isChecked() else None

    def request(self, runs_dir: Path) -> ReplayRequest:
        """Give what is chosen, for a replay that leaves its run folders in ``runs_dir``."""
        return ReplayRequest(
            corpus=str(self._corpus.currentData()),
            policies=self.policies(),
            steps=self._steps.value() or None,
            seed=self._seed.value(),
            share=self._share.value() / 100,
            runs_dir=runs_dir,
        )

    @Slot()
    def _choose_corpus(self) -> None:
        dialog = QFileDialog(self, "Open corpus", str(self._folder))
        dialog.setFileMode(QFileDialog.FileMode.Directory)
        dialog.setOption(QFileDialog.Option.ShowDirsOnly)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.fileSelected.connect(self.use_corpus)
        dialog.open()

    @Slot(str)
    def use_corpus(self, folder: str) -> None:
        """Replay on the corpus in ``folder``."""
        self._corpus.setCurrentIndex(self._corpus_place(folder))

    def _corpus_place(self, corpus: str) -> int:
        place = self._corpus.findData(corpus)
        if place < 0:
            self._corpus.addItem(Path(corpus).name or corpus, corpus)
            place = self._corpus.count() - 1
            self._corpus.setItemData(place, corpus, Qt.ItemDataRole.ToolTipRole)
        return place
