"""Each detector on histories made by hand: it speaks of its fault, with numbers, and of nothing else."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from core.analysis.health.answers import BLANK_PATIENCE, blank_collapse, learned_nothing
from core.analysis.health.assessment import assess
from core.analysis.health.findings import Finding, FindingKind, Severity
from core.analysis.health.inputs import PREVIEW_FRAMES, landmark_mismatch
from core.analysis.health.learning import divergence, plateau
from core.analysis.health.speed import data_starvation
from core.analysis.health.updates import clip_saturation, vanishing_gradients
from core.analysis.health.window import COLUMNS, LOOK_BACK, StepWindow
from core.analysis.history import History
from core.landmarks.input_statistics import InputStatistics
from signscope.records import EpochRecord, Evaluation, Outcome, WordErrors
from signscope.schema import OUTCOMES
from tests.unit.made_records import make_step

Array = npt.NDArray[np.floating]
BATCHES_PER_EPOCH = 50
APPLIED = OUTCOMES.index(Outcome.APPLIED)
SKIPPED = OUTCOMES.index(Outcome.SKIPPED_BY_POLICY)
NON_FINITE = OUTCOMES.index(Outcome.SKIPPED_NON_FINITE_LOSS)


def healthy(batches: int, seed: int = 0) -> dict[str, Array]:
    """Columns like those of a run that learns: fast from 12 nats per gloss to the all-blank plateau at
    3.5, a while there, then down; norms of hundreds at first; lengths of sentences make it noisy."""
    rng = np.random.default_rng(seed)
    step = np.arange(batches)
    level = (
        2.3 / (1 + np.exp((step - 250) / 60)) + 1.2 * np.exp(-step / 400) + 8.5 * np.exp(-step / 8)
    )
    per_gloss = level * rng.lognormal(0, 0.08, batches)
    norm = (250 * np.exp(-step / 30) + 5 * np.exp(-step / 300)) * rng.lognormal(0, 0.3, batches)
    loss = per_gloss * rng.uniform(6, 10, batches)
    return {
        "step": step,
        "epoch": step // BATCHES_PER_EPOCH + 1,
        "loss": loss,
        "loss_per_gloss": per_gloss,
        "grad_norm_pre": norm,
        "clip_coef": np.minimum(1, 1 / norm),
        "lr": 2e-3 * np.minimum((step + 1) / 20, 0.51 + 0.49 * np.cos(np.pi * step / 4000)),
        "blank_fraction": np.where(step < 220, np.minimum(1, 0.05 * step), 0.9),
        "data_s": np.where(step % BATCHES_PER_EPOCH == 0, 0.3, 0.002),
        "step_s": np.full(batches, 0.06),
        "outcome": np.full(batches, APPLIED, np.uint8),
    }


def epoch_record(epoch: int, *, hypotheses: int = 90, errors: int = 30) -> EpochRecord:
    found = WordErrors(errors, 0, 0, 100, hypotheses)
    return EpochRecord(
        epoch, 50, 5.0, 50, 50, 0, 0, 0, 3.0, 0.0, Evaluation("dev", found, 5.0, 0.9, 20, 0.1)
    )


def epochs_of(columns: dict[str, Array], **counts: int) -> list[EpochRecord]:
    return [epoch_record(n, **counts) for n in range(1, int(columns["epoch"][-1]))]


def only(findings: tuple[Finding, ...], kind: FindingKind) -> Finding:
    assert [finding.kind for finding in findings] == [kind]
    return findings[0]


GOOD_INPUT = InputStatistics(
    samples=32,
    frames=3000,
    shoulders_share=1.0,
    normalization_gap=0.9,
    negative_share=0.0,
    left_share=0.6,
    right_share=0.9,
    raised_frames=2500,
    raised_hand_share=0.99,
    facing_share=1.0,
    own_side_share=0.99,
    nose_height=1.1,
)


# ---------------------------------------------------------------- silence


@pytest.mark.parametrize("seed", range(5))
def test_a_healthy_run_is_silent_from_its_first_batch_on(seed: int) -> None:
    """Its beginning has norms in the hundreds, all clipped, and 200 batches of nothing but blanks."""
    columns = healthy(1200, seed)
    assert (columns["clip_coef"][:284] < 1).mean() > 0.95
    assert (columns["blank_fraction"][20:200] == 1).all()
    for batches in [*range(1, 60), *range(60, 1200, 7), 1200]:
        part = {name: values[:batches] for name, values in columns.items()}
        findings = assess(StepWindow.of(part), epochs_of(part), GOOD_INPUT, GOOD_INPUT)
        assert findings == (), f"after {batches} batches"


def test_nothing_is_said_before_there_is_anything() -> None:
    assert assess(StepWindow.of_records([])) == ()
    assert assess(StepWindow.of_records([make_step(0)])) == ()


def test_values_that_are_no_numbers_break_no_detector() -> None:
    columns = healthy(600)
    rng = np.random.default_rng(1)
    for name, values in columns.items():
        if name not in ("step", "epoch", "outcome"):
            bad = rng.choice(600, 60, replace=False)
            columns[name] = values.copy()
            columns[name][bad] = rng.choice([math.nan, math.inf, 0.0], 60)
    assess(StepWindow.of(columns), epochs_of(columns))
    for name in columns:
        if name not in ("step", "epoch", "outcome"):
            assess(StepWindow.of(columns | {name: np.full(600, math.nan)}), epochs_of(columns))


# ---------------------------------------------------------------- updates


def test_latched_now() -> None:
    columns = healthy(300)
    columns["outcome"][255:] = SKIPPED
    finding = only(assess(StepWindow.of(columns)), FindingKind.LATCHED)
    assert finding.severity is Severity.CRITICAL
    assert finding.first_step == 255
    assert "for 45 batches" in finding.title
    assert "Of batches 255 to 299" in finding.evidence
    assert "45 skipped by policy" in finding.evidence
    norms = columns["grad_norm_pre"][255:]
    assert f"{norms.min():.3g} to {norms.max():.3g}" in finding.evidence
    assert "always apply" in finding.what_to_do


def test_latched_begins_at_twenty_batches() -> None:
    columns = healthy(300)
    columns["outcome"][281:] = SKIPPED
    assert assess(StepWindow.of(columns)) == ()
    columns["outcome"][280] = SKIPPED
    only(assess(StepWindow.of(columns)), FindingKind.LATCHED)


def test_latched_earlier_is_remembered_as_a_warning() -> None:
    columns = healthy(400)
    columns["outcome"][30:60] = NON_FINITE
    columns["grad_norm_pre"][30:60] = math.nan
    finding = only(assess(StepWindow.of(columns)), FindingKind.LATCHED)
    assert (finding.severity, finding.first_step) == (Severity.WARNING, 30)
    assert finding.title == "For 30 batches no update was applied"
    assert "samples and tensors" in finding.what_to_do
    assert "norms" not in finding.evidence  # there were none


def test_the_story_an_update_now_and_then_is_latched_as_well() -> None:
    columns = healthy(100)
    columns["outcome"][np.arange(100) % 8 != 0] = SKIPPED
    finding = only(assess(StepWindow.of(columns)), FindingKind.LATCHED)
    assert finding.title == "Only 13 of the last 100 batches were applied"
    assert finding.first_step == 0


def saturated(batches: int, norm: float, fall: float = 0.00015) -> dict[str, Array]:
    """Norms around ``norm``; after the start the loss falls by the share ``fall`` a batch."""
    columns = healthy(batches)
    rng = np.random.default_rng(2)
    norms = norm * rng.uniform(0.8, 1.25, batches)
    step = np.arange(50, batches)
    columns["loss_per_gloss"][50:] = 2.5 * np.exp(-fall * step) * rng.lognormal(0, 0.05, len(step))
    return columns | {"grad_norm_pre": norms, "clip_coef": np.minimum(1, 1 / norms)}


def test_clip_saturation_tells_the_factor() -> None:
    columns = saturated(800, norm=20.0)
    columns["grad_norm_pre"][:100] = 0.5
    columns["clip_coef"][:100] = 1.0
    finding = only(assess(StepWindow.of(columns)), FindingKind.CLIP_SATURATION)
    factor = columns["clip_coef"][-200:].mean()
    assert finding.severity is Severity.NOTICE
    assert finding.first_step == 100
    assert f"coefficient is {factor:.3g}" in finding.evidence
    assert "200 of the last 200" in finding.evidence
    assert f"acts like {columns['lr'][-1] * factor:.2g}" in finding.evidence


@pytest.mark.parametrize(
    ("batches", "norm", "fall", "why"),
    [
        (499, 20.0, 0.00015, "the start of a run is clipped throughout"),
        (800, 1.3, 0.00015, "little is cut off"),
        (800, 0.9, 0.00015, "not everything is clipped"),
        (800, 20.0, 0.001, "the run learns well like this"),
        (800, 20.0, 0.01, "there is little left to learn"),
    ],
)
def test_clip_saturation_is_silent_because(
    batches: int, norm: float, fall: float, why: str
) -> None:
    assert clip_saturation(StepWindow.of(saturated(batches, norm, fall))) is None, why


def test_a_long_warm_up_is_no_saturation() -> None:
    columns = saturated(800, norm=20.0)
    columns["lr"] = np.linspace(0, 1e-3, 800)
    assert clip_saturation(StepWindow.of(columns)) is None


@pytest.mark.parametrize("norm", [0.0, 1e-7])
def test_vanishing_gradients(norm: float) -> None:
    columns = healthy(300)
    columns["grad_norm_pre"][130:] = norm
    columns["clip_coef"][130:] = 1.0
    finding = only(assess(StepWindow.of(columns)), FindingKind.VANISHING_GRADIENTS)
    assert (finding.severity, finding.first_step) == (Severity.CRITICAL, 130)
    assert f"is {norm:.2g} at a loss of" in finding.evidence


def test_small_gradients_of_a_finished_recogniser_are_no_trouble() -> None:
    columns = healthy(300)
    for name in ("loss", "loss_per_gloss"):
        columns[name] = columns[name] * 1e-3
    columns["grad_norm_pre"] = columns["loss"] * 1e-6
    assert vanishing_gradients(StepWindow.of(columns)) is None


# ---------------------------------------------------------------- loss


def test_divergence_above_the_start() -> None:
    columns = healthy(300)
    columns["loss_per_gloss"][240:] = 60.0
    columns["loss_per_gloss"][280:283] = math.inf
    finding = only(assess(StepWindow.of(columns)), FindingKind.DIVERGENCE)
    assert (finding.severity, finding.first_step) == (Severity.CRITICAL, 240)
    start = np.median(columns["loss_per_gloss"][:10])
    assert f"is 60; it started at {start:.3g}" in finding.evidence
    assert "3 of these losses are not finite" in finding.evidence


def test_divergence_when_every_loss_is_nan() -> None:
    columns = healthy(100)
    columns["loss_per_gloss"][60:] = math.nan
    finding = divergence(StepWindow.of(columns))
    assert finding is not None
    assert finding.first_step == 60


def test_divergence_of_a_run_that_had_learned() -> None:
    columns = healthy(1600)
    start = np.median(columns["loss_per_gloss"][:10])
    columns["loss_per_gloss"][1500:] = 0.7 * start
    finding = divergence(StepWindow.of(columns))
    assert finding is not None
    assert "climbed back" in finding.title
    assert finding.first_step == 1500


def test_divergence_says_nothing_when_the_start_is_not_known() -> None:
    columns = healthy(300)
    columns["loss_per_gloss"][240:] = 60.0
    resumed = {name: values[100:] for name, values in columns.items()}
    assert divergence(StepWindow.of(resumed)) is None


def collapsed(batches: int) -> dict[str, Array]:
    columns = healthy(batches)
    rng = np.random.default_rng(3)
    columns["loss_per_gloss"][60:] = 3.55 * rng.lognormal(0, 0.08, batches - 60)
    columns["blank_fraction"] = np.minimum(1, 0.05 * np.arange(batches))
    columns["clip_coef"] = np.full(batches, 0.9)
    return columns


def test_blank_collapse_by_the_share_of_blank_frames() -> None:
    finding = only(assess(StepWindow.of(collapsed(1100))), FindingKind.BLANK_COLLAPSE)
    assert finding.severity is Severity.WARNING
    assert finding.first_step == 20  # from there on blank in 0.9 of all frames
    assert "answered blank in 100.0% of all frames." in finding.evidence
    assert "loss per gloss was 3.5" in finding.evidence


def test_blank_collapse_by_what_the_evaluation_heard() -> None:
    columns = collapsed(1100)
    columns["blank_fraction"][:] = 0.9  # as in a recogniser that works
    assert blank_collapse(StepWindow.of(columns), epochs_of(columns, errors=60)) is None
    epochs = epochs_of(columns, hypotheses=11, errors=90)
    finding = blank_collapse(StepWindow.of(columns), epochs)
    assert finding is not None
    assert "11% as many glosses as there are" in finding.evidence


def test_an_evaluation_of_long_ago_is_not_asked() -> None:
    columns = collapsed(1100)
    assert blank_collapse(StepWindow.of(columns), [epoch_record(1, errors=60)]) is not None


def test_blanks_of_a_run_whose_loss_falls_are_no_collapse() -> None:
    columns = collapsed(1100)
    columns["loss_per_gloss"][800:] *= np.linspace(1, 0.8, 300)
    assert blank_collapse(StepWindow.of(columns), []) is None


def test_flat_blanks_are_the_beginning_of_every_run_until_it_had_its_time() -> None:
    columns = collapsed(BLANK_PATIENCE)
    before = {name: values[:-1] for name, values in columns.items()}
    assert assess(StepWindow.of(before), total=5100) == ()
    only(assess(StepWindow.of(columns), total=5100), FindingKind.BLANK_COLLAPSE)


RECORDED = Path(__file__).parents[1] / "fixtures" / "health" / "demo-blank-plateau.npz"
"""The first 700 batches of the demo with the shipped settings (seed 0), as the history held them, and its
evaluations: epoch, batches, substitutions, deletions, insertions, glosses, glosses recognised. Made by
bench/bench_health.py, run shipped-0. Its loss is flat and all is blank until batch 445; then it learns."""


def test_the_demo_with_its_shipped_settings_hears_nothing_on_its_plateau_of_blanks() -> None:
    with np.load(RECORDED, allow_pickle=False) as recorded:
        columns = {name: recorded[name] for name in COLUMNS}
        total, evaluations = int(recorded["total"]), recorded["evaluations"].tolist()
    assert (columns["blank_fraction"][100:400] > 0.98).all()
    epochs = [
        replace(epoch_record(epoch), batches=done, dev=_dev(*errors))
        for epoch, done, *errors in evaluations
    ]
    for batches in [*range(20, 700, 20), 398]:
        part = {name: values[:batches] for name, values in columns.items()}
        by_then = epochs[: batches // epochs[0].batches]
        assert assess(StepWindow.of(part), by_then, GOOD_INPUT, total=total) == ()
    assert assess(StepWindow.of(columns), epochs, GOOD_INPUT, total=total, finished=True) == ()


def _dev(*errors: int) -> Evaluation:
    return Evaluation("dev", WordErrors(*errors), 5.0, 0.9, 20, 0.1)


def test_a_run_that_is_planned_for_longer_may_answer_blank_for_longer() -> None:
    columns = collapsed(2000)
    assert blank_collapse(StepWindow.of(columns), [], total=30_000) is None
    assert blank_collapse(StepWindow.of(columns), [], total=20_000) is not None


def test_blanks_late_in_the_schedule_are_told_although_the_loss_falls() -> None:
    columns = collapsed(450)
    columns["loss_per_gloss"] *= np.linspace(1.6, 0.8, 450)
    assert blank_collapse(StepWindow.of(columns), [], total=601) is None
    finding = blank_collapse(StepWindow.of(columns), [], total=600)
    assert finding is not None
    assert "late in its schedule" in finding.title
    assert "450 of 600 batches are done" in finding.evidence


def test_first_answers_after_the_latest_evaluation_are_no_blanks() -> None:
    columns = collapsed(460)
    columns["loss_per_gloss"][300:] *= np.linspace(1, 0.5, 160)
    mute = [epoch_record(n, hypotheses=0, errors=100) for n in range(1, 10)]
    assert blank_collapse(StepWindow.of(columns), mute, total=600) is not None
    columns["blank_fraction"][430:] = 0.8
    assert blank_collapse(StepWindow.of(columns), mute, total=600) is None


def test_blanks_of_a_teacher_that_had_learned_are_told_at_once() -> None:
    columns = collapsed(600)
    mute = [epoch_record(n, hypotheses=0, errors=100) for n in range(7, 12)]
    assert blank_collapse(StepWindow.of(columns), mute) is None
    by_chance = [epoch_record(1, hypotheses=60, errors=64), *mute]
    assert blank_collapse(StepWindow.of(columns), by_chance) is None
    assert blank_collapse(StepWindow.of(columns), [epoch_record(6, errors=30), *mute]) is not None


# ---------------------------------------------------------------- the verdict at the end


def test_a_finished_run_that_answers_only_blanks_is_told_to_have_learned_nothing() -> None:
    columns = collapsed(1100)
    epochs = epochs_of(columns, hypotheses=0, errors=100)
    assert FindingKind.LEARNED_NOTHING not in {
        f.kind for f in assess(StepWindow.of(columns), epochs)
    }
    found = assess(StepWindow.of(columns), epochs, finished=True)
    finding = only(found, FindingKind.LEARNED_NOTHING)  # and neither blanks nor plateau once more
    assert finding.severity is Severity.CRITICAL
    assert finding.title == "The teacher learned nothing: WER 100 %, all blank"
    assert "After 1100 batches the WER on the dev split is 100.0%" in finding.evidence
    assert "with 0% as many glosses as there are" in finding.evidence
    assert "Try a higher lr" in finding.what_to_do


@pytest.mark.parametrize("batches", [1, 20, 60, 300])
def test_a_finished_run_with_every_gloss_wrong_never_has_no_problems(batches: int) -> None:
    columns = healthy(batches)
    last = [epoch_record(1, errors=100)]
    finding = only(assess(StepWindow.of(columns), last, finished=True), FindingKind.LEARNED_NOTHING)
    assert "WER 100 %, answers as if by chance" in finding.title
    assert "train more epochs" in finding.what_to_do


def test_one_gloss_for_every_sentence_is_nothing_learned() -> None:
    epochs = [epoch_record(n, hypotheses=13, errors=87) for n in range(1, 20)]
    finding = learned_nothing(StepWindow.of(healthy(1200)), epochs)
    assert finding is not None
    assert finding.title == "The teacher learned nothing: WER 87 %, hardly an answer"


def test_a_finished_run_without_evaluations_is_judged_by_its_blanks() -> None:
    finding = learned_nothing(StepWindow.of(collapsed(400)), [])
    assert finding is not None
    assert finding.title == "The teacher learned nothing: all blank"
    assert learned_nothing(StepWindow.of(healthy(1200)), []) is None


def test_a_loss_that_stayed_where_it_was_is_nothing_learned_whatever_was_right_by_chance() -> None:
    columns = healthy(600)
    columns["loss_per_gloss"] = np.linspace(5.7, 5.4, 600)
    epochs = epochs_of(columns, hypotheses=58, errors=65)
    finding = learned_nothing(StepWindow.of(columns), epochs)
    assert finding is not None
    assert "The loss per gloss went from 5.7 to 5.4" in finding.evidence
    assert "higher lr" in finding.what_to_do


def test_a_teacher_that_lost_what_it_had_learned_is_told_so() -> None:
    epochs = [epoch_record(1, errors=20), epoch_record(2, hypotheses=0, errors=100)]
    finding = learned_nothing(StepWindow.of(healthy(100)), epochs)
    assert finding is not None
    assert "lost what it had learned: WER 100 %" in finding.title
    assert "At its best the WER was 20.0%" in finding.evidence
    assert "best checkpoint" in finding.what_to_do


def test_a_finished_run_that_learned_hears_nothing() -> None:
    columns = healthy(1200)
    assert assess(StepWindow.of(columns), epochs_of(columns), total=1200, finished=True) == ()
    assert assess(StepWindow.of_records([]), finished=True) == ()


def test_plateau() -> None:
    columns = healthy(900)
    rng = np.random.default_rng(4)
    columns["loss_per_gloss"][300:] = 1.7 * rng.lognormal(0, 0.08, 600)
    columns["clip_coef"][:] = 1.0
    epochs = epochs_of(columns, hypotheses=80, errors=60)
    finding = only(assess(StepWindow.of(columns), epochs), FindingKind.PLATEAU)
    assert finding.first_step == 400
    assert "WER on the dev split is 60.0%" in finding.evidence
    window = StepWindow.of(columns)
    assert plateau(window, epochs_of(columns, errors=10)) is None  # it recognises well
    columns["lr"][500:] = 1e-5
    assert plateau(StepWindow.of(columns), epochs) is None  # the schedule is at its end


def test_a_plateau_of_blanks_is_named_once_and_not_before_its_time() -> None:
    columns = collapsed(1100)
    assert plateau(StepWindow.of(columns), []) is not None
    only(assess(StepWindow.of(columns)), FindingKind.BLANK_COLLAPSE)
    early = {name: values[:900] for name, values in columns.items()}
    assert assess(StepWindow.of(early)) == ()


# ---------------------------------------------------------------- input


def test_data_starvation() -> None:
    columns = healthy(300)
    columns["data_s"][150:] = 0.09
    finding = only(assess(StepWindow.of(columns)), FindingKind.DATA_STARVATION)
    assert finding.first_step == 150
    assert finding.title == "Training waits for data 60% of the time"
    assert "90.0 ms, the median step 60.0 ms" in finding.evidence


def test_waiting_at_each_epoch_and_waiting_for_microseconds_is_no_starvation() -> None:
    columns = healthy(300)
    columns["data_s"][::7] = 2.0
    assert data_starvation(StepWindow.of(columns)) is None
    columns = healthy(300) | {"data_s": np.full(300, 8e-4), "step_s": np.full(300, 1e-3)}
    assert data_starvation(StepWindow.of(columns)) is None


@pytest.mark.parametrize(
    "changes", [{"normalization_gap": 0.001}, {"normalization_gap": 0.4, "negative_share": 0.5}]
)
def test_double_normalization(changes: dict[str, float]) -> None:
    inputs = replace(GOOD_INPUT, **changes)  # type: ignore[arg-type]
    finding = only(assess(StepWindow.of(healthy(30)), (), inputs), FindingKind.DOUBLE_NORMALIZATION)
    assert (finding.severity, finding.first_step) == (Severity.CRITICAL, 0)
    assert f"by {inputs.normalization_gap:.3g} shoulder widths" in finding.evidence


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"facing_share": 0.0}, "mirrored without its sides being exchanged"),
        ({"own_side_share": 0.02}, "left and right are exchanged"),
        ({"raised_hand_share": 0.1}, "but in 10% of the preview"),
        ({"nose_height": 0.6}, "images differ in shape"),
        ({"normalization_gap": 0.0, "negative_share": 0.5}, "one of them is normalised already"),
    ],
)
def test_preview_and_training_disagree(changes: dict[str, float], words: str) -> None:
    preview = replace(GOOD_INPUT, **changes)  # type: ignore[arg-type]
    found = assess(StepWindow.of(healthy(30)), (), GOOD_INPUT, preview)
    finding = only(found, FindingKind.LANDMARK_MISMATCH)
    assert words in finding.evidence
    assert finding.title == "Preview and training disagree about landmarks"
    short = replace(preview, frames=PREVIEW_FRAMES - 1)
    assert assess(StepWindow.of(healthy(30)), (), GOOD_INPUT, short) == ()


def test_an_idle_preview_without_raised_hands_disagrees_about_nothing() -> None:
    idle = replace(
        GOOD_INPUT,
        left_share=0.0,
        right_share=0.0,
        raised_frames=0,
        raised_hand_share=math.nan,
        own_side_share=math.nan,
    )
    assert landmark_mismatch(GOOD_INPUT, idle) is None
    nobody = replace(idle, shoulders_share=0.0, facing_share=math.nan, nose_height=math.nan)
    nobody = replace(nobody, normalization_gap=math.nan, negative_share=math.nan)
    assert landmark_mismatch(GOOD_INPUT, nobody) is None


def test_recordings_without_shoulders() -> None:
    inputs = replace(GOOD_INPUT, shoulders_share=0.2)
    finding = only(assess(StepWindow.of(healthy(30)), (), inputs), FindingKind.MISSING_LANDMARKS)
    assert "in 20% of 3000 frames" in finding.evidence


def test_exchanged_hands_in_training_are_told_without_a_preview() -> None:
    finding = landmark_mismatch(replace(GOOD_INPUT, own_side_share=0.1))
    assert finding is not None
    assert finding.title == "Left and right hands seem to be exchanged"
    assert "In training only 10%" in finding.evidence


# ---------------------------------------------------------------- together


def test_the_gravest_comes_first() -> None:
    columns = saturated(800, norm=20.0)
    columns["data_s"][:] = 1.0
    columns["outcome"][770:] = SKIPPED
    found = assess(StepWindow.of(columns))
    assert [finding.severity for finding in found] == list(Severity)


def test_a_window_of_a_history_copies_nothing_and_finds_the_same() -> None:
    records = [
        make_step(n, outcome=Outcome.SKIPPED_BY_POLICY if n >= 6000 else Outcome.APPLIED)
        for n in range(6100)
    ]
    history = History()
    history.extend(records)
    columns = {name: history.column(name) for name in COLUMNS}
    window = StepWindow.of(columns)
    assert all(np.shares_memory(window.recent[name], columns[name]) for name in COLUMNS)
    assert len(window) == LOOK_BACK
    assert assess(window) == assess(StepWindow.of_records(records))
    assert [f.first_step for f in assess(window) if f.kind is FindingKind.LATCHED] == [6000]


def test_a_finding_as_one_paragraph() -> None:
    finding = Finding(FindingKind.PLATEAU, Severity.WARNING, "T", "E.", "Do.", 7)
    assert finding.text == "T. E. Since batch 7. Do."


def test_statistics_of_the_input_survive_as_text() -> None:
    statistics = replace(GOOD_INPUT, own_side_share=math.nan)
    back = InputStatistics.from_json(statistics.to_json())
    assert math.isnan(back.own_side_share)
    assert replace(back, own_side_share=0.5) == replace(statistics, own_side_share=0.5)
    for wrong in ("[]", "{}", "nonsense", '{"samples": 1}'):
        with pytest.raises(ValueError):
            InputStatistics.from_json(wrong)


def test_detectors_need_no_torch() -> None:
    code = "import sys, core.analysis.health.assessment; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
