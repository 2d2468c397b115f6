"""The health panel lists findings with evidence, leads to their batch, and is calm where all is well."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PySide6.QtCore import QObject, QPoint, Qt
from PySide6.QtGui import QImage
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QDockWidget, QFrame, QLabel, QToolButton
from pytestqt.qtbot import QtBot

from app.camera.camera_controller import CameraState
from app.camera.preview_thread import PreviewFrame
from app.monitor.health_panel import LOOK_EVERY_S, HealthPanel
from app.monitor.preview_watch import PreviewWatch
from app.runs.loading import load_run
from app.theme import DARK, LIGHT, Theme
from app.training.live_run import RunRequest
from core.analysis.health.assessment import INPUTS_META
from core.analysis.health.findings import Finding, FindingKind, Severity
from core.analysis.health.inputs import PREVIEW_FRAMES
from core.analysis.history import History
from core.landmarks.input_statistics import InputsObserver, InputStatistics, measure_inputs
from core.landmarks.layout import Float32Array
from core.training.session import RunResult
from signscope.folder import RunFolder
from signscope.ledger import Ledger
from signscope.records import (
    Evaluation,
    Outcome,
    StepRecord,
    TrainingObserver,
    WordErrors,
)
from signscope.run_state import RunControl
from tests.ui.conftest import MakeWindow
from tests.ui.made_runs import MadeJob
from tests.ui.run_folders import make_run
from tests.unit.made_records import make_epoch, make_step
from tests.unit.test_health_runs import clip as person


@pytest.fixture
def panel(qtbot: QtBot, theme: Theme) -> HealthPanel:
    made = HealthPanel(theme.colors)
    qtbot.addWidget(made)
    made.resize(480, 360)
    with qtbot.waitExposed(made):
        made.show()
    return made


def finding(kind: FindingKind, severity: Severity, step: int | None = 7) -> Finding:
    return Finding(kind, severity, f"About {kind}", "The norm was 3.", "Change it.", step)


LATCHED = finding(FindingKind.LATCHED, Severity.CRITICAL, 255)
GOOD_INPUT = InputStatistics(32, 3000, 1.0, 0.9, 0.0, 0.6, 0.9, 2500, 0.99, 1.0, 0.99, 1.1)
PLATEAU = finding(FindingKind.PLATEAU, Severity.WARNING)
SATURATION = finding(FindingKind.CLIP_SATURATION, Severity.NOTICE, None)


def label(parent: QObject, name: str) -> QLabel:
    found = parent.findChild(QLabel, name)
    assert isinstance(found, QLabel)
    return found


def since_button(parent: QObject) -> QToolButton:
    found = parent.findChild(QToolButton, "finding_since")
    assert isinstance(found, QToolButton)
    return found


def kinds(panel: HealthPanel) -> list[FindingKind]:
    return [one.kind for one in panel.findings]


def card(panel: HealthPanel, kind: FindingKind) -> QFrame:
    found = panel.findChild(QFrame, f"finding.{kind}")
    assert isinstance(found, QFrame)
    return found


def titles_from_top(panel: HealthPanel) -> list[str]:
    shown = [one for one in panel.findChildren(QLabel, "finding_title") if one.isVisible()]
    return [one.text() for one in sorted(shown, key=lambda one: one.mapTo(panel, QPoint()).y())]


def test_it_says_that_nothing_was_found_and_in_how_many_batches(panel: HealthPanel) -> None:
    summary = label(panel, "health_summary")
    assert "Each batch is watched" in summary.text()
    panel.show_findings((), 1)
    assert summary.text() == "No problems found in 1 batch."
    panel.show_findings((), 12345)
    assert summary.text() == "No problems found in 12 345 batches."
    assert summary.isVisible()


def test_a_finding_is_shown_with_everything_it_says(panel: HealthPanel) -> None:
    panel.show_findings((LATCHED,), 300)
    assert not label(panel, "health_summary").isVisible()
    shown = card(panel, FindingKind.LATCHED)
    assert label(shown, "finding_title").text() == LATCHED.title
    assert label(shown, "finding_severity").text() == "Critical"  # in words, not only in colour
    assert label(shown, "finding_evidence").text() == LATCHED.evidence
    assert label(shown, "finding_advice").text() == f"What to do: {LATCHED.what_to_do}"
    assert shown.accessibleName() == f"critical: {LATCHED.title}"


def test_its_first_batch_can_be_chosen_by_mouse_and_by_keyboard(
    panel: HealthPanel, qtbot: QtBot
) -> None:
    panel.show_findings((LATCHED,), 300)
    since = since_button(panel)
    assert since.text() == "Since batch 255"
    with qtbot.waitSignal(panel.step_chosen) as chosen:
        QTest.mouseClick(since, Qt.MouseButton.LeftButton)
    assert chosen.args == [255]
    assert since.focusPolicy() & Qt.FocusPolicy.TabFocus
    with qtbot.waitSignal(panel.step_chosen) as chosen:
        QTest.keyClick(since, Qt.Key.Key_Space)
    assert chosen.args == [255]


def test_a_finding_about_no_batch_offers_none(panel: HealthPanel) -> None:
    panel.show_findings((SATURATION,), 300)
    assert not since_button(panel).isVisible()


def test_findings_come_go_and_keep_their_order(panel: HealthPanel, qtbot: QtBot) -> None:
    counts: list[int] = []
    panel.counted.connect(counts.append)
    panel.show_findings((PLATEAU, SATURATION), 10)
    first = card(panel, FindingKind.PLATEAU)
    panel.show_findings((LATCHED, PLATEAU, SATURATION), 20)
    qtbot.waitUntil(lambda: len(titles_from_top(panel)) == 3)
    assert titles_from_top(panel) == [LATCHED.title, PLATEAU.title, SATURATION.title]
    assert card(panel, FindingKind.PLATEAU) is first, "what stays is not made anew"
    panel.show_findings((SATURATION,), 30)
    qtbot.waitUntil(lambda: titles_from_top(panel) == [SATURATION.title])
    panel.clear()
    assert titles_from_top(panel) == []
    assert counts == [2, 3, 1, 0]


def test_a_selection_survives_a_look_that_finds_the_same(panel: HealthPanel) -> None:
    panel.show_findings((LATCHED,), 300)
    evidence = label(panel, "finding_evidence")
    evidence.setSelection(4, 4)
    panel.show_findings((LATCHED,), 310)
    assert evidence.selectedText() == "norm"


def test_it_looks_at_most_every_two_seconds_and_when_told(panel: HealthPanel) -> None:
    history = History()
    history.extend([make_step(n) for n in range(30)])
    panel.look(history, 100.0)
    assert kinds(panel) == []
    history.extend([make_step(n, outcome=Outcome.SKIPPED_BY_POLICY) for n in range(30, 60)])
    panel.look(history, 100.0 + LOOK_EVERY_S - 0.01)
    assert kinds(panel) == []
    panel.look(history, 100.0 + LOOK_EVERY_S)
    assert kinds(panel) == [FindingKind.LATCHED]
    assert panel.findings[0].first_step == 30
    history.extend([make_step(60)])
    panel.look(history, 100.0 + LOOK_EVERY_S + 0.01, at_once=True)
    assert panel.findings[0].severity is Severity.WARNING  # it is over


def test_epochs_input_and_preview_are_taken_into_account(panel: HealthPanel) -> None:
    steps = [make_step(n) for n in range(10)]
    history = History()
    history.extend(steps)
    panel.add_epoch(make_epoch(1, steps))
    panel.set_inputs(GOOD_INPUT)
    panel.look(history, 0.0, at_once=True)
    assert kinds(panel) == []
    panel.set_preview(replace(GOOD_INPUT, facing_share=0.0))
    assert kinds(panel) == [FindingKind.LANDMARK_MISMATCH]
    panel.clear()
    panel.look(history, 0.0, at_once=True)
    assert kinds(panel) == [], "another run has told nothing of its input yet"


def mute_history(batches: int) -> History:
    history = History()
    history.extend(
        [replace(make_step(n), loss_per_gloss=2.8, blank_fraction=1.0) for n in range(batches)]
    )
    return history


def test_blanks_in_the_beginning_are_named_as_what_they_are(panel: HealthPanel) -> None:
    panel.look(mute_history(398), 0.0, total=5100)
    assert panel.findings == ()
    assert label(panel, "health_summary").text() == (
        "No problems found in 398 batches.\n"
        "The teacher answers only blanks so far, as in the beginning of every run."
    )


def test_a_finished_run_that_learned_nothing_never_has_no_problems(panel: HealthPanel) -> None:
    history = mute_history(200)
    panel.look(history, 0.0, total=200)
    assert FindingKind.LEARNED_NOTHING not in kinds(panel)
    panel.look(history, 0.1, at_once=True, total=200, finished=True)
    assert not label(panel, "health_summary").isVisible()
    assert panel.verdict is not None
    shown = card(panel, FindingKind.LEARNED_NOTHING)
    assert label(shown, "finding_title").text() == "The teacher learned nothing: all blank"
    assert label(shown, "finding_severity").text() == "Critical"


def test_another_theme_recolours_what_is_shown(panel: HealthPanel) -> None:
    panel.recolor(LIGHT)
    panel.show_findings((LATCHED, PLATEAU, SATURATION), 300)

    def colors() -> set[str]:
        icons = [
            one.pixmap().toImage()
            for one in panel.findChildren(QLabel)
            if not one.pixmap().isNull()
        ]
        return {
            image.pixelColor(x, y).name()
            for image in icons
            for x in range(image.width())
            for y in range(image.height())
            if image.pixelColor(x, y).alpha() == 255
        }

    assert {LIGHT.error, LIGHT.warning, LIGHT.accent} <= colors()
    panel.recolor(DARK)
    assert {DARK.error, DARK.warning, DARK.accent} <= colors()
    assert not {LIGHT.error, LIGHT.warning, LIGHT.accent} & colors()


class LatchingJob(MadeJob):
    """A run on input that was normalised before, whose last 30 batches a policy skips."""

    def __call__(
        self, request: RunRequest, control: RunControl, observer: TrainingObserver
    ) -> RunResult:
        assert isinstance(observer, InputsObserver)
        observer.on_inputs(replace(GOOD_INPUT, normalization_gap=0.0))
        return super().__call__(request, control, _Skipping(observer))


class _Skipping:
    def __init__(self, observer: TrainingObserver) -> None:
        self._observer = observer
        self.on_run, self.on_epoch = observer.on_run, observer.on_epoch
        self.on_event, self.on_test = observer.on_event, observer.on_test

    def on_step(self, record: StepRecord) -> None:
        skipped = record.step >= 20
        outcome = Outcome.SKIPPED_BY_POLICY if skipped else Outcome.APPLIED
        self._observer.on_step(replace(record, outcome=outcome))


def test_the_window_shows_findings_and_leads_to_their_batch(
    make_window: MakeWindow, qtbot: QtBot
) -> None:
    window = make_window(LatchingJob(50, endless=False))
    assert window.start_run()
    qtbot.waitUntil(lambda: not window.controller.active)
    assert kinds(window.health) == [FindingKind.DOUBLE_NORMALIZATION, FindingKind.LATCHED]
    dock = window.findChild(QDockWidget, "dock.health")
    assert isinstance(dock, QDockWidget)
    assert dock.windowTitle() == "Health (2)"
    dock.raise_()
    latched = card(window.health, FindingKind.LATCHED)
    since_button(latched).click()
    first, last = window.monitor.loss.view.viewRange()[0]
    assert first < 20 < last < 120
    assert not window.actions_["plot.follow"].isChecked()


def test_another_run_begins_without_findings(make_window: MakeWindow, qtbot: QtBot) -> None:
    window = make_window(LatchingJob(50, endless=False))
    window.start_run()
    qtbot.waitUntil(lambda: not window.controller.active)
    window.health.show_findings((LATCHED,), 50)
    window.start_run()
    assert kinds(window.health) == []
    qtbot.waitUntil(lambda: not window.controller.active)
    assert FindingKind.LATCHED in kinds(window.health)


class MuteJob:
    """A run whose every batch and evaluation is answered with blanks."""

    def __init__(self, state: Literal["finished", "stopped"], steps: int = 30) -> None:
        self.state = state
        self.steps = steps

    def __call__(
        self, request: RunRequest, control: RunControl, observer: TrainingObserver
    ) -> RunResult:
        observer.on_run(1, 400)
        steps = [replace(make_step(n), epoch=1, blank_fraction=1.0) for n in range(self.steps)]
        for step in steps:
            observer.on_step(step)
        dev = Evaluation("dev", WordErrors(0, 100, 0, 100, 0), 20.0, 1.0, 12, 0.1)
        observer.on_epoch(replace(make_epoch(1, steps), dev=dev))
        return RunResult(Path("made"), self.state, self.steps, 1, 1.0, math.nan)


def test_the_window_says_at_the_end_that_nothing_was_learned(
    make_window: MakeWindow, qtbot: QtBot
) -> None:
    window = make_window(MuteJob("finished"))
    window.start_run()
    qtbot.waitUntil(lambda: not window.controller.active)
    assert kinds(window.health) == [FindingKind.LEARNED_NOTHING]
    assert "Run finished. The teacher learned nothing: WER 100 %, all blank." in (
        window.messages.text()
    )


def test_a_run_that_was_stopped_early_gets_no_verdict(
    make_window: MakeWindow, qtbot: QtBot
) -> None:
    window = make_window(MuteJob("stopped"))
    window.start_run()
    qtbot.waitUntil(lambda: not window.controller.active)
    assert kinds(window.health) == []
    assert "only blanks so far" in label(window.health, "health_summary").text()
    assert "Run stopped, its work is kept." in window.messages.text()


def test_blanks_late_in_the_schedule_of_the_run_shown_are_told(
    make_window: MakeWindow, qtbot: QtBot
) -> None:
    window = make_window(MuteJob("stopped", 310))
    window.start_run()
    qtbot.waitUntil(lambda: not window.controller.active)
    assert kinds(window.health) == [FindingKind.BLANK_COLLAPSE]
    assert "310 of 400 batches are done" in window.health.findings[0].evidence


def test_a_run_that_is_opened_again_is_judged_like_one_that_just_ended(
    make_window: MakeWindow, tmp_path: Path
) -> None:
    steps = [replace(make_step(n), blank_fraction=1.0) for n in range(30)]
    run = make_run(tmp_path, "mute", steps=steps)
    inputs = replace(GOOD_INPUT, normalization_gap=0.0)
    Ledger(RunFolder(run).ledger_path, meta={INPUTS_META: inputs.to_json()}).close()
    window = make_window(MadeJob())
    window.presenter.open(load_run(run))
    assert kinds(window.health) == [
        FindingKind.DOUBLE_NORMALIZATION,
        FindingKind.LEARNED_NOTHING,
    ]


def preview_frame(landmarks_KC: Float32Array) -> PreviewFrame:
    pixels = np.zeros((4, 4, 4), np.uint8)
    image = QImage(pixels.data, 4, 4, 16, QImage.Format.Format_RGB32)
    return PreviewFrame(image, pixels, landmarks_KC, None, 0, 0.0, 30.0, 0)


def test_a_mirrored_preview_is_told_and_forgotten_when_the_camera_goes_off(
    panel: HealthPanel,
) -> None:
    now_s = [0.0]
    watch = PreviewWatch(panel, clock=lambda: now_s[0])
    clip_TKC = person(np.random.default_rng(0), (0.5, 0.5))
    training = measure_inputs([clip_TKC] * 10)
    mirrored_TKC = clip_TKC.copy()
    mirrored_TKC[..., 0] = 1 - mirrored_TKC[..., 0]

    def show(landmarks_TKC: Float32Array) -> None:
        for n in range(PREVIEW_FRAMES):
            now_s[0] += 1 / 30
            watch.take(preview_frame(landmarks_TKC[n % len(landmarks_TKC)]))

    history = History()
    history.extend([make_step(n) for n in range(10)])
    panel.look(history, 0.0)
    show(mirrored_TKC)
    assert kinds(panel) == [], "there is no training to compare with"
    panel.set_inputs(training)
    show(clip_TKC)
    show(clip_TKC)
    assert kinds(panel) == []
    show(mirrored_TKC)
    show(mirrored_TKC)
    assert kinds(panel) == [FindingKind.LANDMARK_MISMATCH]
    watch.follow(CameraState.ON)
    assert kinds(panel) == [FindingKind.LANDMARK_MISMATCH]
    watch.follow(CameraState.OFF)
    assert kinds(panel) == []
