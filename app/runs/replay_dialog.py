"""Runs → Replay policies…: what clipping and skipping make of the same batches, side by side."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QSize, Qt, QTimer, Slot
from PySide6.QtGui import QCloseEvent
from PySide6.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QComboBox,
    QDialog,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QProgressBar,
    QPushButton,
    QSpinBox,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from app.corpus.corpus_picker import DEMO_TEXT
from app.messages import MessageBar, Severity, confirmed
from app.runs.overlay import SWATCH_SIZE, OverlaidRun, OverlayPlots, swatch
from app.runs.picture import save_picture
from app.runs.policy_figures import PolicyFigures
from app.runs.replay_controller import PolicyPlan, PolicyRecords, ReplayController, ReplayRequest
from app.theme import Colors
from app.waiting import Tasks
from core.analysis.history import History
from core.config import DEMO_CORPUS
from signscope.errors import SignScopeError
from signscope.records import EventKind, RunEventRecord, StepRecord
from signscope.run_state import RunEvent, RunSnapshot, RunState

if TYPE_CHECKING:
    from core.training.replay import ReplayResult

EXPLANATION = (
    "The same teacher is trained on the same batches, once for each policy, so every difference "
    "below comes from what is done with large gradients. The script that this program grew out of "
    "clipped its gradients and then threw away every update whose norm had been above 100; here one "
    "sees what that costs."
)
REDRAW_MS = 200  # the replay needs the processor more than the curves do
PICTURE_SIZE = QSize(1600, 1100)
_SCALE = 1.25
_THRESHOLD, _SHARE_PERCENT = 100.0, 7.0
_BAR_STEPS = 1000  # of the progress bar, for each policy

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


class ReplayDialog(QDialog):
    """Settings, curves and figures of a policy replay. GUI thread only.

    Args:
        controller: Owner of the replay's thread.
        colors: Colours of the theme in force.
        runs_dir: Where the replayed runs leave their folders.
        refusal: Gives a sentence when no replay may start now, else nothing.
        folder: Where file dialogs begin.
    """

    def __init__(
        self,
        controller: ReplayController,
        colors: Colors,
        runs_dir: Path,
        refusal: Callable[[], str] = lambda: "",
        folder: Path | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.setObjectName("replay_dialog")
        self.setWindowTitle("Replay policies")
        self.setWindowFlag(Qt.WindowType.WindowMaximizeButtonHint)
        self.resize(1120, 760)
        self._controller = controller
        self._runs_dir = runs_dir
        self._refusal = refusal
        self._folder = folder or Path.home()
        self._request: ReplayRequest | None = None
        self._result: ReplayResult | None = None
        self._histories: dict[str, History] = {}
        self._figures: dict[str, PolicyFigures] = {}
        self._limits: dict[str, int] = {}  # batches of each policy whose turn has come
        self._close_when_done = False
        self._tasks = Tasks(self)
        self._redraw = QTimer(self)
        self._redraw.setSingleShot(True)
        self._redraw.setInterval(REDRAW_MS)
        self._redraw.timeout.connect(self._draw)

        self.messages = MessageBar(colors)
        self.plots = OverlayPlots(colors)
        self.plots.tell_empty(
            "No replay yet", "Choose policies on the left and press Start replay."
        )
        outer = QVBoxLayout(self)
        outer.setContentsMargins(18, 16, 18, 14)
        outer.setSpacing(12)
        explanation = QLabel(EXPLANATION)
        explanation.setObjectName("explanation")
        explanation.setWordWrap(True)
        explanation.setProperty("role", "muted")
        outer.addWidget(explanation)
        outer.addWidget(self.messages)
        middle = QHBoxLayout()
        middle.setSpacing(16)
        middle.addWidget(self._make_inputs())
        self.results = QWidget()
        self.results.setObjectName("replay_results")
        column = QVBoxLayout(self.results)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addWidget(self.plots, 1)
        column.addWidget(self._make_table())
        self._verdict = QLabel()
        self._verdict.setObjectName("verdict")
        self._verdict.setWordWrap(True)
        self._verdict.setProperty("role", "heading")
        self._verdict.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._verdict.hide()
        column.addWidget(self._verdict)
        middle.addWidget(self.results, 1)
        outer.addLayout(middle, 1)
        outer.addLayout(self._make_buttons())
        controller.updated.connect(self._on_updated)
        controller.state_changed.connect(self._on_state_changed)
        controller.ended.connect(self._on_ended)
        controller.failed.connect(self._on_failed)
        self.recolor(colors)
        self._show_state(controller.snapshot())

    # ------------------------------------------------------------ building

    def _make_inputs(self) -> QWidget:
        self._inputs = QWidget()
        self._inputs.setFixedWidth(286)
        self._corpus = QComboBox()
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
        corpus_row = QHBoxLayout()
        corpus_row.setSpacing(6)
        corpus_row.addWidget(self._corpus, 1)
        corpus_row.addWidget(choose)

        self._clip = QCheckBox("Clip, always update")
        self._clip.setObjectName("policy_clip")
        self._clip.setToolTip("clip: what SignScope does in every training run")
        self._skip = QCheckBox("Skip updates above")
        self._skip.setObjectName("policy_skip")
        self._skip.setToolTip(
            "skip:T: clip, then throw the update away when the norm before clipping was above T"
        )
        self._threshold = QDoubleSpinBox()
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

        self._steps = QSpinBox()
        self._steps.setObjectName("steps")
        self._steps.setRange(0, 1_000_000)
        self._steps.setSingleStep(50)
        self._steps.setSpecialValueText("as it takes")
        self._steps.setToolTip(
            "Batches that each policy is given. As it takes: 300 for clipping, and for the others six "
            "times as many as clipping needed to reach the loss"
        )
        self._share = QDoubleSpinBox()
        self._share.setObjectName("share")
        self._share.setRange(0.1, 99.0)
        self._share.setDecimals(1)
        self._share.setValue(_SHARE_PERCENT)
        self._share.setSuffix(" % of the first")
        self._share.setToolTip(
            "How far the loss is to fall: in the story from 91 to 6.4, which is 7 %"
        )
        self._seed = QSpinBox()
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
        regime = QLabel(
            "All other settings are those of the story: long sentences in small batches, so that the "
            "norms of the first batches lie above 100."
        )
        regime.setWordWrap(True)
        regime.setProperty("role", "muted")

        column = QVBoxLayout(self._inputs)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(6)
        for title, part in (("Corpus", corpus_row), ("Policies", policies), ("Settings", form)):
            heading = QLabel(title)
            heading.setProperty("role", "heading")
            heading.setContentsMargins(0, 0 if title == "Corpus" else 12, 0, 0)
            column.addWidget(heading)
            column.addLayout(part)
        column.addSpacing(6)
        column.addWidget(regime)
        column.addStretch(1)
        return self._inputs

    def _make_table(self) -> QTableWidget:
        self._table = QTableWidget(0, len(_HEADINGS))
        self._table.setObjectName("replay_table")
        self._table.setAccessibleName("Figures of each policy")
        self._table.setFrameShape(QFrame.Shape.NoFrame)
        self._table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self._table.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self._table.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._table.verticalHeader().hide()
        self._table.setIconSize(SWATCH_SIZE)
        self._table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAsNeeded)
        self._table.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        for place, (title, tip) in enumerate(_HEADINGS):
            item = QTableWidgetItem(title)
            item.setToolTip(tip)
            self._table.setHorizontalHeaderItem(place, item)
            item.setTextAlignment(_alignment(place))
        header = self._table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        header.setMinimumSectionSize(86)
        header.setSectionsClickable(False)
        header.setHighlightSections(False)
        self._fit_table()
        self._table.hide()
        return self._table

    def _make_buttons(self) -> QHBoxLayout:
        self._status = QLabel()
        self._status.setObjectName("replay_status")
        self._status.setProperty("role", "muted")
        self._bar = QProgressBar()
        self._bar.setObjectName("replay_progress")
        self._bar.setAccessibleName("Progress of the replay")
        self._bar.setTextVisible(False)
        self._bar.setFixedWidth(160)
        self._bar.hide()
        self._save_picture = self._button("save_picture", "Save picture…", self._ask_picture)
        self._save_json = self._button("save_json", "Save JSON…", self._ask_json)
        self._resume = self._button("resume", "Continue", self._controller.resume)
        self._stop = self._button("stop", "Stop", self._controller.stop)
        self._start = self._button("start", "Start replay", self.start)
        self._start.setDefault(True)
        self._start.setProperty("role", "primary")
        self._close = self._button("close", "Close", self.reject)
        row = QHBoxLayout()
        row.setSpacing(8)
        row.addWidget(self._bar)
        row.addWidget(self._status, 1)
        for button in (self._save_picture, self._save_json, self._resume, self._stop, self._start):
            row.addWidget(button)
        row.addSpacing(8)
        row.addWidget(self._close)
        return row

    def _button(self, name: str, text: str, slot: Callable[[], object]) -> QPushButton:
        button = QPushButton(text)
        button.setObjectName(f"replay_{name}")
        button.setProperty("role", "secondary")
        button.setAutoDefault(False)
        button.clicked.connect(slot)
        return button

    # ------------------------------------------------------------ asking for a replay

    def set_corpora(self, folders: tuple[str, ...], current: str = "") -> None:
        """List corpora opened before, and choose ``current`` while nothing was replayed yet."""
        for folder in folders:
            self._corpus_place(folder)
        if current and self._request is None:
            self._corpus.setCurrentIndex(self._corpus_place(current))

    def policies(self) -> tuple[str, ...]:
        """Give the policies chosen, as ``parse_policy`` reads them."""
        chosen = (
            (self._clip, "clip"),
            (self._skip, f"skip:{self._threshold.value():g}"),
            (self._none, "none"),
        )
        return tuple(name for box, name in chosen if box.isChecked())

    @Slot()
    def start(self) -> bool:
        """Start a replay with what is chosen; say whether it was started."""
        refusal = self._refusal()
        if refusal:
            self.messages.tell("A replay cannot start now.", refusal, Severity.WARNING)
            return False
        policies = self.policies()
        if not policies:
            self.messages.tell(
                "There is no policy to replay.", "Tick at least one on the left.", Severity.WARNING
            )
            return False
        request = ReplayRequest(
            corpus=str(self._corpus.currentData()),
            policies=policies,
            steps=self._steps.value() or None,
            seed=self._seed.value(),
            share=self._share.value() / 100,
            runs_dir=self._runs_dir,
        )
        if not self._controller.start(request):
            return False
        self._request = request
        self._result = None
        self.messages.dismiss()
        self._verdict.hide()
        self._histories = {policy: History() for policy in policies}
        self._figures = {policy: PolicyFigures(request.share) for policy in policies}
        self._limits = {}
        self.plots.tell_empty(
            "Preparing the replay…", "The corpus is opened and the teacher is built."
        )
        self.plots.set_line("loss", None)
        self.plots.set_runs(
            [OverlaidRun(policy, policy, history) for policy, history in self._histories.items()]
        )
        self.plots.fit()
        skip = next((policy for policy in policies if policy.startswith("skip:")), None)
        self.plots.set_line(
            "norms",
            self._threshold.value() if skip else None,
            f"dashed: {skip} throws away the updates above",
        )
        self._fill_table()
        self._table.show()
        self._bar.setRange(0, 0)
        self._bar.show()
        self._status.setText("Preparing…")
        return True

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

    # ------------------------------------------------------------ watching it

    @Slot(object)
    def _on_updated(self, update: tuple[PolicyRecords, ...]) -> None:
        for part in update:
            steps: list[StepRecord] = []
            figures = self._figures[part.policy]
            for record in part.records:
                if isinstance(record, PolicyPlan):
                    self._limits[part.policy] = record.steps
                elif isinstance(record, RunEventRecord):
                    self._tell_event(part.policy, record)
                else:
                    figures.add(record)
                if isinstance(record, StepRecord):
                    steps.append(record)
            self._histories[part.policy].extend(steps)
        self._show_progress(update[-1].policy)
        if not self._redraw.isActive():
            self._redraw.start()

    @Slot()
    def _draw(self) -> None:
        self._redraw.stop()
        first = next(iter(self._figures.values()))
        self.plots.set_line(
            "loss", first.target_loss, f"dashed: {100 * first.share:g} % of the first loss"
        )
        self.plots.refresh()
        self._fill_table()
        self._save_picture.setEnabled(any(len(history) for history in self._histories.values()))

    def _tell_event(self, policy: str, record: RunEventRecord) -> None:
        if record.kind in (EventKind.ALERT, EventKind.ERROR):
            self.messages.tell(f"{policy}, batch {record.step}:", record.text, Severity.WARNING)

    def _show_progress(self, policy: str) -> None:
        limit = self._limits[policy]
        place = list(self._figures).index(policy)
        done = self._figures[policy].batches
        self._bar.setRange(0, _BAR_STEPS * len(self._figures))
        self._bar.setValue(_BAR_STEPS * place + _BAR_STEPS * done // limit)
        self._status.setText(
            f"{policy} ({place + 1} of {len(self._figures)}): batch {done} of {limit}"
        )

    @Slot(object)
    def _on_state_changed(self, snapshot: RunSnapshot) -> None:
        self._show_state(snapshot)

    def _show_state(self, snapshot: RunSnapshot) -> None:
        active = snapshot.state.active
        self._inputs.setEnabled(not active)
        self._start.setVisible(not active)
        self._stop.setVisible(active)
        self._stop.setEnabled(snapshot.allows(RunEvent.STOP))
        stopping = snapshot.state is RunState.STOPPING
        self._stop.setText("Stopping…" if stopping else "Stop")
        self._resume.setVisible(snapshot.state is RunState.PAUSED)
        self._save_picture.setEnabled(any(len(history) for history in self._histories.values()))
        self._save_json.setEnabled(self._result is not None and not active)

    @Slot(object)
    def _on_ended(self, result: ReplayResult) -> None:
        self._result = result
        whole = len(result.policies) == len(self._figures) and all(
            each.batches == self._limits.get(name) for name, each in result.policies.items()
        )
        self._finish("Replay finished" if whole else "Replay stopped before its end")
        text = verdict(result)
        self._verdict.setText(text)
        self._verdict.setVisible(bool(text))

    @Slot(object)
    def _on_failed(self, error: SignScopeError) -> None:
        self.messages.tell_error(error)
        self.plots.tell_empty(
            "The replay ended before its first batch", "The message above says why."
        )
        self._finish("Replay failed")

    def _finish(self, status: str) -> None:
        self._bar.hide()
        self._status.setText(status)
        self._draw()
        self._show_state(self._controller.snapshot())
        if self._close_when_done:
            self._close_when_done = False
            super().reject()

    # ------------------------------------------------------------ the table

    def _fill_table(self) -> None:
        self._table.setRowCount(len(self._figures))
        for row, (policy, figures) in enumerate(self._figures.items()):
            for place, text in enumerate(self._cells(policy, figures)):
                item = self._table.item(row, place)
                if item is None:
                    item = QTableWidgetItem()
                    item.setTextAlignment(_alignment(place))
                    self._table.setItem(row, place, item)
                if item.text() != text:
                    item.setText(text)
            name = self._table.item(row, 0)
            assert name is not None
            name.setIcon(swatch(self.plots.style_of(policy)))
        self._fit_table()

    def _cells(self, policy: str, figures: PolicyFigures) -> tuple[str, ...]:
        if figures.batches == 0:
            return (policy, *["–"] * (len(_HEADINGS) - 1))
        over = not self._controller.active or figures.batches >= self._limits.get(policy, 0)
        never = f"not in {figures.batches}" if over else "not yet"
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

    def _fit_table(self) -> None:
        rows = sum(self._table.rowHeight(row) for row in range(self._table.rowCount()))
        header = self._table.horizontalHeader().sizeHint().height()
        self._table.setFixedHeight(header + rows + 4)

    def cell(self, policy: str, place: int) -> str:
        """Give the text in column ``place`` of a policy's row."""
        item = self._table.item(list(self._figures).index(policy), place)
        return "" if item is None else item.text()

    # ------------------------------------------------------------ saving

    @Slot()
    def _ask_picture(self) -> None:
        self._ask("Save picture", "policy-replay.png", "Picture (*.png *.svg)", self.save_picture)

    @Slot()
    def _ask_json(self) -> None:
        self._ask("Save JSON", "policy-replay.json", "JSON (*.json)", self.save_json)

    def _ask(self, title: str, name: str, kinds: str, slot: Callable[[str], None]) -> None:
        dialog = QFileDialog(self, title, str(self._folder / name))
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.setNameFilter(kinds)
        dialog.setDefaultSuffix(Path(name).suffix[1:])
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.fileSelected.connect(slot)
        dialog.open()

    @Slot(str)
    def save_picture(self, path: str) -> None:
        """Write curves and figures as PNG or SVG, or say why that cannot be."""
        try:
            save_picture(self.results, Path(path), PICTURE_SIZE, _SCALE)
        except SignScopeError as error:
            self.messages.tell_error(error)
            return
        self._saved(path)

    @Slot(str)
    def save_json(self, path: str) -> None:
        """Write the result as JSON, or say why that cannot be."""
        from core.training.replay import save_result

        assert self._result is not None
        try:
            save_result(self._result, Path(path))
        except SignScopeError as error:
            self.messages.tell_error(error)
            return
        self._saved(path)

    def _saved(self, path: str) -> None:
        self._folder = Path(path).parent
        self._status.setText(f"Written: {path}")

    # ------------------------------------------------------------ theme and closing

    def recolor(self, colors: Colors) -> None:
        """Take the colours of another theme."""
        self.messages.recolor(colors)
        self.plots.recolor(colors)
        if self._figures:
            self._fill_table()

    def reject(self) -> None:
        """Close; a replay in progress asks first."""
        if not self._controller.active:
            super().reject()
        elif not self._tasks.busy:
            self._tasks.start(self._ask_to_close())

    async def _ask_to_close(self) -> None:
        agreed = await confirmed(
            self,
            name="confirm_stop_replay",
            title="Replay policies",
            text="A replay is in progress.",
            detail="It can be stopped after the current batch; the policies done so far keep their "
            "runs.",
            yes="Stop and close",
            no="Keep running",
        )
        if not agreed:
            return
        if self._controller.active:
            self._close_when_done = True
            self._controller.stop()
        else:
            super().reject()

    def closeEvent(self, event: QCloseEvent) -> None:
        """Ask first while a replay is in progress."""
        if self._controller.active:
            event.ignore()
            self.reject()
        else:
            super().closeEvent(event)


def verdict(result: ReplayResult) -> str:
    """Say in a sentence what clipping and the first skipping policy came to; empty without both."""
    clip = result.policies.get("clip")
    skip = next((each for name, each in result.policies.items() if name.startswith("skip:")), None)
    if clip is None or skip is None or not clip.batches or not skip.batches:
        return ""
    goal = f"{100 * clip.share:g} % of the first loss"
    if clip.batches_to_share is None:
        if skip.batches_to_share is None:
            return f"Neither clip nor {skip.policy} reached {goal} in {clip.batches} batches."
        return (
            f"{skip.policy} reached {goal} in {skip.batches_to_share} batches, "
            f"clip did not in {clip.batches}."
        )
    if skip.batches_to_share is None:
        return (
            f"Clipping reached {goal} in {clip.batches_to_share} batches. {skip.policy} did not in "
            f"{skip.batches}, and applied {skip.applied} of {skip.batches} updates."
        )
    if skip.batches_to_share == clip.batches_to_share:
        return f"Clipping and {skip.policy} both reached {goal} in {clip.batches_to_share} batches."
    ratio = skip.batches_to_share / clip.batches_to_share
    return (
        f"Clipping reached {goal} in {clip.batches_to_share} batches, {skip.policy} in "
        f"{skip.batches_to_share}: {ratio:.1f} times as many."
    )


def _alignment(place: int) -> Qt.AlignmentFlag:
    side = Qt.AlignmentFlag.AlignLeft if place == 0 else Qt.AlignmentFlag.AlignRight
    return side | Qt.AlignmentFlag.AlignVCenter
