"""The replay dialog on a tiny corpus: the same batches for each policy, figures that the ledgers confirm."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtGui import QImage
from PySide6.QtSvg import QSvgRenderer
from PySide6.QtWidgets import QDialog, QMessageBox, QPushButton
from pytestqt.qtbot import QtBot

from app.runs.policy_figures import PolicyFigures
from app.runs.replay_controller import ObserverFactory, ReplayController, ReplayRequest
from app.runs.replay_dialog import ReplayDialog
from app.runs.verdict import verdict
from app.theme import DARK, LIGHT
from app.training.compute_slot import ComputeSlot
from core.errors import CorpusError
from core.training.policy import parse_policy
from core.training.replay import PolicyResult, ReplayResult, replay
from signscope.ledger import LedgerReader
from signscope.records import Outcome, StepRecord
from signscope.run_state import RunControl
from tests.tiny_run import tiny_config, tiny_corpus
from tests.ui.conftest import RunAsync
from tests.ui.run_folders import press, until
from tests.unit.made_records import make_step

STEPS = 12
WAIT_MS = 60_000


def tiny_replay(
    request: ReplayRequest, control: RunControl, observers_for: ObserverFactory
) -> ReplayResult:
    """Replay with the real trainer on a model so small that a batch takes a few milliseconds."""
    config = tiny_config(Path(request.corpus), optim={"epochs": 40}, seed=request.seed)
    return replay(
        config,
        request.policies,
        steps=request.steps,
        runs_dir=request.runs_dir,
        control=control,
        observers_for=observers_for,
        share=request.share,
    )


MakeDialog = Callable[..., ReplayDialog]


@pytest.fixture
def make_dialog(qtbot: QtBot, tmp_path: Path) -> Iterator[MakeDialog]:
    made: list[tuple[ReplayDialog, ReplayController]] = []

    def make(**options: object) -> ReplayDialog:
        job = options.pop("job", tiny_replay)
        controller = ReplayController(ComputeSlot(), job=job)  # type: ignore[arg-type]
        dialog = ReplayDialog(controller, LIGHT, tmp_path / "runs", **options)  # type: ignore[arg-type]
        made.append((dialog, controller))
        with qtbot.waitExposed(dialog):
            dialog.show()
        return dialog

    yield make
    while made:  # pytest keeps ``make``, and with it this list, beyond the check for widgets left
        dialog, controller = made.pop()
        assert controller.shutdown(30), "the replay did not end"
        dialog.close()
        dialog.deleteLater()


def controller_of(dialog: ReplayDialog) -> ReplayController:
    return dialog._controller


def set_up(dialog: ReplayDialog, corpus: Path, *, steps: int = STEPS, skip: float = 0.5) -> None:
    dialog.inputs.use_corpus(str(corpus))
    dialog.inputs._steps.setValue(steps)
    dialog.inputs._threshold.setValue(skip)
    dialog.inputs._share.setValue(90)


def button(dialog: QDialog, name: str) -> QPushButton:
    found = dialog.findChild(QPushButton, f"replay_{name}")
    assert isinstance(found, QPushButton)
    return found


def cell(dialog: ReplayDialog, policy: str, place: int) -> str:
    item = dialog._table.item(list(dialog._policies).index(policy), place)
    return "" if item is None else item.text()


def test_figures_and_curves_are_those_of_the_ledgers(
    qtbot: QtBot, make_dialog: MakeDialog, tmp_path: Path
) -> None:
    dialog = make_dialog()
    set_up(dialog, tiny_corpus(tmp_path))
    with qtbot.waitSignal(controller_of(dialog).ended, timeout=WAIT_MS) as ended:
        assert dialog.start()
        qtbot.waitUntil(button(dialog, "stop").isVisible)
    result: ReplayResult = ended.args[0]
    assert list(result.policies) == ["clip", "skip:0.5"]
    for name, policy in result.policies.items():
        with LedgerReader(Path(policy.run) / "ledger.sqlite") as reader:
            rows = reader.steps()
        history = next(run.history for run in dialog.plots.runs if run.key == name)
        assert history.column("step").tolist() == [row.step for row in rows]
        assert history.column("loss").tolist() == pytest.approx([row.loss for row in rows])
        assert cell(dialog, name, 1) == f"{policy.applied} of {STEPS}"
        assert cell(dialog, name, 6) == str(policy.longest_gap)
        assert cell(dialog, name, 7) == f"{100 * policy.wer:.1f} %"  # type: ignore[operator]
    # A threshold below every norm applies nothing; the first batch is the same for both.
    assert cell(dialog, "clip", 1) == f"{STEPS} of {STEPS}"
    assert cell(dialog, "skip:0.5", 1) == f"0 of {STEPS}"
    assert cell(dialog, "skip:0.5", 6) == str(STEPS)
    assert cell(dialog, "clip", 2) == cell(dialog, "skip:0.5", 2)
    assert dialog._verdict.text() == verdict(result) != ""
    assert button(dialog, "start").isVisible()


def test_picture_and_json_are_written(
    qtbot: QtBot, make_dialog: MakeDialog, tmp_path: Path
) -> None:
    dialog = make_dialog()
    assert not button(dialog, "save_picture").isEnabled()
    set_up(dialog, tiny_corpus(tmp_path), steps=3)
    with qtbot.waitSignal(controller_of(dialog).ended, timeout=WAIT_MS):
        dialog.start()
    before = dialog.results.size()
    dialog.save_picture(str(tmp_path / "replay.png"))
    dialog.save_picture(str(tmp_path / "replay.svg"))
    dialog.save_json(str(tmp_path / "replay.json"))
    image = QImage(str(tmp_path / "replay.png"))
    assert (image.width(), image.height()) == (1600, 1100)
    colors = {image.pixelColor(x, y).name() for x in range(0, 1600, 3) for y in range(0, 500, 3)}
    assert "#1f5fbf" in colors, "the curve of clip is not in the picture"
    assert QSvgRenderer(str(tmp_path / "replay.svg")).isValid()
    assert dialog.results.size() == before
    saved = json.loads((tmp_path / "replay.json").read_text())
    assert set(saved["policies"]) == {"clip", "skip:0.5"}
    assert saved["policies"]["skip:0.5"]["applied"] == 0


def test_unwritable_target_is_told(qtbot: QtBot, make_dialog: MakeDialog, tmp_path: Path) -> None:
    dialog = make_dialog()
    set_up(dialog, tiny_corpus(tmp_path), steps=2)
    with qtbot.waitSignal(controller_of(dialog).ended, timeout=WAIT_MS):
        dialog.start()
    dialog.save_json(str(tmp_path / "no such folder" / "replay.json"))
    assert "no such folder" in dialog.messages.text()


def test_stop_keeps_what_was_done(qtbot: QtBot, make_dialog: MakeDialog, tmp_path: Path) -> None:
    dialog = make_dialog()
    set_up(dialog, tiny_corpus(tmp_path), steps=100_000)
    controller = controller_of(dialog)
    dialog.start()
    qtbot.waitUntil(lambda: dialog._policies["clip"].figures.batches > 0, timeout=WAIT_MS)
    with qtbot.waitSignal(controller.ended, timeout=WAIT_MS) as ended:
        button(dialog, "stop").click()
    result: ReplayResult = ended.args[0]
    assert list(result.policies) == ["clip"]
    assert (
        cell(dialog, "clip", 1)
        == f"{result.policies['clip'].batches} of {result.policies['clip'].batches}"
    )
    assert cell(dialog, "skip:0.5", 1) == "–"
    assert "stopped" in dialog._status.text()


def test_refused_while_a_run_is_active(make_dialog: MakeDialog) -> None:
    dialog = make_dialog(refusal=lambda: "A training run is active.")
    assert not dialog.start()
    assert not controller_of(dialog).active
    assert "A training run is active." in dialog.messages.text()


def test_no_policy_is_refused(make_dialog: MakeDialog) -> None:
    dialog = make_dialog()
    for box in (dialog.inputs._clip, dialog.inputs._skip, dialog.inputs._none):
        box.setChecked(False)
    assert not dialog.start()
    assert "no policy" in dialog.messages.text()


def test_every_choice_is_a_known_policy(make_dialog: MakeDialog) -> None:
    dialog = make_dialog()
    assert dialog.inputs.policies() == (
        "clip",
        "skip:100",
    )  # what the command line replays by default
    dialog.inputs._none.setChecked(True)
    dialog.inputs._threshold.setValue(62.5)
    assert [parse_policy(text, 1.0).name for text in dialog.inputs.policies()] == [
        "clip",
        "skip:62.5",
        "none",
    ]


def test_failure_is_told(qtbot: QtBot, make_dialog: MakeDialog, tmp_path: Path) -> None:
    dialog = make_dialog()
    dialog.inputs.use_corpus(str(tmp_path / "gone"))
    with qtbot.waitSignal(controller_of(dialog).failed, timeout=WAIT_MS) as failed:
        dialog.start()
    assert isinstance(failed.args[0], CorpusError)
    assert "gone" in dialog.messages.text()
    assert button(dialog, "start").isVisible()


def test_closing_during_a_replay_asks(
    make_dialog: MakeDialog, run_async: RunAsync, tmp_path: Path
) -> None:
    dialog = make_dialog()
    set_up(dialog, tiny_corpus(tmp_path), steps=100_000)

    def question() -> QMessageBox | None:
        return dialog.findChild(QMessageBox, "confirm_stop_replay")

    async def scenario() -> None:
        dialog.start()
        for answer in ("Keep running", "Stop and close"):
            dialog.close()
            await until(question, "the question")
            dialog.reject()  # a second wish to close is not a second question
            assert len(dialog.findChildren(QMessageBox)) == 1
            assert dialog.isVisible()
            await press(question(), answer)  # type: ignore[arg-type]
            await until(lambda: question() is None, "its end")
            assert answer == "Stop and close" or controller_of(dialog).active
        await until(lambda: not dialog.isVisible(), "the end of the replay")
        assert not controller_of(dialog).active

    run_async(scenario())


def test_a_paused_replay_can_go_on(qtbot: QtBot, make_dialog: MakeDialog) -> None:
    """A trainer that pauses itself (ten non-finite batches in a row) is not a dead end."""

    def pausing(
        request: ReplayRequest, control: RunControl, observers_for: ObserverFactory
    ) -> ReplayResult:
        from signscope.run_state import RunEvent

        control.apply(RunEvent.PAUSE)
        control.wait_while_paused()
        return ReplayResult(request.corpus, request.seed, {})

    dialog = make_dialog(job=pausing)
    dialog.start()
    qtbot.waitUntil(button(dialog, "resume").isVisible, timeout=WAIT_MS)
    with qtbot.waitSignal(controller_of(dialog).ended, timeout=WAIT_MS):
        button(dialog, "resume").click()


def test_another_theme_recolours_curves(
    qtbot: QtBot, make_dialog: MakeDialog, tmp_path: Path
) -> None:
    dialog = make_dialog()
    set_up(dialog, tiny_corpus(tmp_path), steps=2)
    with qtbot.waitSignal(controller_of(dialog).ended, timeout=WAIT_MS):
        dialog.start()
    light = dialog.plots.style_of("clip").color
    dialog.recolor(DARK)
    assert dialog.plots.style_of("clip").color != light


def figures_of(records: list[StepRecord], share: float) -> PolicyFigures:
    figures = PolicyFigures(share)
    for record in records:
        figures.add(record)
    return figures


def test_figures_count_by_hand() -> None:
    skipped = Outcome.SKIPPED_BY_POLICY
    records = [
        make_step(0, loss=100.0, outcome=skipped),
        make_step(1, loss=90.0, outcome=skipped),
        make_step(2, loss=80.0),
        make_step(3, loss=math.nan, outcome=Outcome.SKIPPED_NON_FINITE_LOSS),
        make_step(4, loss=50.0),
        make_step(5, loss=40.0),
    ]
    figures = figures_of(records, 0.5)
    assert (figures.batches, figures.applied, figures.non_finite) == (6, 3, 1)
    assert figures.batches_to_share == 5  # a loss of exactly the target counts
    assert figures.longest_gap == 2
    assert figures.target_loss == 50.0
    assert figures_of(records, 0.1).batches_to_share is None


def made_result(clip: int | None, skip: int | None) -> ReplayResult:
    def policy(name: str, reached: int | None) -> PolicyResult:
        return PolicyResult(
            policy=name,
            run="",
            batches=300,
            applied=300,
            clipped=0,
            non_finite=0,
            first_loss=90.0,
            last_loss=1.0,
            first_norm=200.0,
            max_norm_seen=300.0,
            share=0.07,
            batches_to_share=reached,
            longest_gap=0,
            wer=None,
        )

    return ReplayResult(
        "demo", 0, {"clip": policy("clip", clip), "skip:100": policy("skip:100", skip)}
    )


@pytest.mark.parametrize(
    ("clip", "skip", "part"),
    [
        (50, 283, "5.7 times as many"),
        (50, None, "did not in 300"),
        (50, 50, "both reached 7 % of the first loss in 50"),
        (None, 20, "clip did not in 300"),
        (None, None, "Neither"),
    ],
)
def test_verdict(clip: int | None, skip: int | None, part: str) -> None:
    assert part in verdict(made_result(clip, skip))
