"""Faults planted in real small runs: each detector finds its own, and a clean run hears nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.analysis.health.assessment import INPUTS_META, assess, assess_run
from core.analysis.health.findings import Finding, FindingKind, Severity
from core.analysis.health.window import StepWindow
from core.corpus import batching
from core.corpus.batching import Batch, TrainingData
from core.corpus.format import Sample
from core.corpus.writer import CorpusWriter
from core.landmarks.input_statistics import InputStatistics, measure_inputs
from core.landmarks.layout import (
    LEFT_SHOULDER,
    LEFT_WRIST,
    NOSE,
    POSE,
    RIGHT_HAND,
    RIGHT_SHOULDER,
    RIGHT_WRIST,
    Float32Array,
)
from core.model.teacher import Teacher
from core.training import trainer as trainer_module
from core.training.policy import UpdatePolicy, parse_policy
from core.training.session import TrainingJob, run_job
from signscope.invariants import broken_invariants
from signscope.ledger import LedgerReader
from signscope.records import EventKind, StepRecord
from tests.tiny_run import Recorder, started_control, tiny_config

PLACES = ((0.35, 0.5), (0.5, 0.3), (0.6, 0.6))
"""Where the right hand rests in each of three glosses: as easy as can be."""


def clip(rng: np.random.Generator, place: tuple[float, float]) -> Float32Array:
    frames = int(rng.integers(12, 17))
    landmarks_TKC = np.full((frames, 75, 4), np.nan, np.float32)
    pose_KC = rng.uniform(0.3, 0.7, (33, 4))
    pose_KC[LEFT_SHOULDER, :2], pose_KC[RIGHT_SHOULDER, :2] = (0.6, 0.4), (0.4, 0.4)
    pose_KC[NOSE, :2] = (0.5, 0.2)
    pose_KC[LEFT_WRIST, :2], pose_KC[RIGHT_WRIST, :2] = (0.65, 0.8), place
    landmarks_TKC[:, POSE] = pose_KC
    hand_KC = np.ones((21, 4))
    hand_KC[:, :3] = rng.uniform(-0.03, 0.03, (21, 3))
    hand_KC[0, :3] = 0
    hand_KC[:, :2] += place
    landmarks_TKC[:, RIGHT_HAND] = hand_KC
    landmarks_TKC[..., :3] += rng.normal(0, 0.004, (frames, 75, 3))
    return landmarks_TKC


def normalized(landmarks_TKC: Float32Array) -> Float32Array:
    left_TC, right_TC = landmarks_TKC[:, LEFT_SHOULDER, :3], landmarks_TKC[:, RIGHT_SHOULDER, :3]
    width_T = np.hypot(*(left_TC - right_TC)[:, :2].T)
    changed_TKC = landmarks_TKC.copy()
    changed_TKC[..., :3] -= ((left_TC + right_TC) / 2)[:, None]
    changed_TKC[..., :3] /= width_T[:, None, None]
    return changed_TKC


def without_motion(landmarks_TKC: Float32Array) -> Float32Array:
    frozen = clip(np.random.default_rng(9), PLACES[0])[:1]
    return np.repeat(frozen, len(landmarks_TKC), axis=0)


def without_people(landmarks_TKC: Float32Array) -> Float32Array:
    return np.full_like(landmarks_TKC, np.nan)


def make_corpus(
    path: Path, change: Callable[[Float32Array], Float32Array] = lambda same: same
) -> Path:
    """Make clips of three glosses, two signers, whose landmarks went through ``change``."""
    rng = np.random.default_rng(0)
    with CorpusWriter(path, name="three places", synthetic=True) as writer:
        for n in range(48):
            landmarks_TKC = change(clip(rng, PLACES[n % 3]))
            writer.add(Sample(f"c{n}", f"S{n % 2}", ("ABC"[n % 3],), 25.0, landmarks_TKC))
    return path


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpus") / "places")


class Watcher(Recorder):
    """Keeps what a window would: records and the statistics of the input."""

    inputs: InputStatistics

    def on_inputs(self, statistics: InputStatistics) -> None:
        assert self.steps == []
        self.inputs = statistics


def run(
    corpus: Path,
    folder: Path,
    max_steps: int,
    *,
    watcher: Watcher | None = None,
    policy: UpdatePolicy | None = None,
    **sections: dict[str, Any],
) -> dict[FindingKind, Finding]:
    """Train ``max_steps`` batches of two short sentences; give what the window says after the last of them.

    What its ledger says when it has finished is the same, but for a verdict.
    """
    data = {
        "batch_size": 2,
        "glosses_min": 1,
        "glosses_max": 3,
        "sentences_per_epoch": 160,
        "dev_sentences": 8,
        "transition_frames": 2,
    }
    defaults = {"checkpoint": {"every_batches": 0}, "optim": {"epochs": 50}}
    config = tiny_config(corpus, **defaults | sections | {"data": data | sections.get("data", {})})
    watcher = watcher or Watcher()
    job = TrainingJob(config, folder, policy=policy, max_steps=max_steps)
    result = run_job(job, started_control(), [watcher])
    assert len(watcher.steps) == max_steps
    window = StepWindow.of_records(watcher.steps)
    total = watcher.plan[0] * watcher.plan[1]
    assert assess_run(result.run_path) == assess(
        window, watcher.epochs, watcher.inputs, total=total, finished=True
    )
    found = assess(window, watcher.epochs, watcher.inputs, total=total)
    return {finding.kind: finding for finding in found}


def test_a_clean_run_is_silent_from_its_first_batch_to_its_last(
    corpus: Path, tmp_path: Path
) -> None:
    said: list[tuple[int, Finding]] = []
    another = measure_inputs([clip(np.random.default_rng(5), place) for place in PLACES * 3])

    class Listener(Watcher):
        def on_step(self, record: StepRecord) -> None:
            super().on_step(record)
            window = StepWindow.of_records(self.steps)
            said.extend(
                (record.step, finding)
                for finding in assess(window, self.epochs, self.inputs, another)
            )

    listener = Listener()
    found = run(
        corpus,
        tmp_path,
        120,
        watcher=listener,
        optim={"epochs": 12, "lr": 1e-2, "warmup_steps": 10},
        model={"part_dim": 8, "width": 32, "layers": 1, "dropout": 0.0},
        data={"batch_size": 8, "sentences_per_epoch": 80},
    )
    assert said == []
    assert found == {}
    assert verdict(tmp_path) is None
    # It was a run worth listening to: clipped from the start, and it learned.
    assert all(step.clipped for step in listener.steps[:20])
    assert listener.epochs[-1].avg_loss < 0.25 * listener.steps[0].loss
    last = listener.epochs[-1].dev
    assert last is not None
    assert last.errors.wer < 0.6


def test_skipping_large_norms_latches(corpus: Path, tmp_path: Path) -> None:
    found = run(corpus, tmp_path, 30, policy=parse_policy("skip:0.001", 1.0))
    finding = found.pop(FindingKind.LATCHED)
    assert found == {}
    assert (finding.severity, finding.first_step) == (Severity.CRITICAL, 0)
    assert "30 skipped by policy" in finding.evidence


def test_a_tiny_learning_rate_and_a_tiny_max_norm(corpus: Path, tmp_path: Path) -> None:
    """Stands still with every gradient clipped to next to nothing: saturation, and a plateau."""
    found = run(corpus, tmp_path, 520, optim={"epochs": 50, "lr": 1e-6, "max_norm": 0.01})
    assert set(found) == {FindingKind.CLIP_SATURATION, FindingKind.PLATEAU}
    assert verdict(tmp_path) is not None
    saturation = found[FindingKind.CLIP_SATURATION]
    assert "200 of the last 200 updates were clipped" in saturation.evidence
    assert saturation.first_step == 0
    assert "at a learning rate of 9" in found[FindingKind.PLATEAU].evidence


def test_a_gradient_scaled_away_is_vanishing(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Scaled(Teacher):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            for parameter in self.parameters():
                parameter.register_hook(_scaled_away)  # type: ignore[no-untyped-call]

    monkeypatch.setattr(trainer_module, "Teacher", Scaled)
    found = run(corpus, tmp_path, 60)
    finding = found.pop(FindingKind.VANISHING_GRADIENTS)
    assert found == {}
    assert finding.first_step == 0
    assert "in 50 of them" in finding.evidence


def _scaled_away(gradient: torch.Tensor) -> torch.Tensor:
    return gradient * 1e-8


def test_a_huge_learning_rate_diverges(corpus: Path, tmp_path: Path) -> None:
    huge = {"epochs": 50, "lr": 1.0, "warmup_steps": 0, "beta1": 0.0, "beta2": 0.0}
    wide = {"part_dim": 8, "width": 64, "layers": 1}
    found = run(corpus, tmp_path, 60, optim=huge, model=wide)
    finding = found.pop(FindingKind.DIVERGENCE)
    assert found == {}
    assert finding.severity is Severity.CRITICAL
    assert "The learning rate is 1." in finding.evidence


def test_a_frozen_picture_collapses_to_blanks(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path / "frozen", without_motion)
    found = run(corpus, tmp_path / "runs", 330, optim={"epochs": 5, "lr": 3e-3})
    finding = found.pop(FindingKind.BLANK_COLLAPSE)
    assert found == {}
    assert "0% as many glosses" in finding.evidence
    assert finding.first_step is not None
    assert finding.first_step < 30
    told = verdict(tmp_path / "runs")
    assert told is not None
    assert told.title == "The teacher learned nothing: WER 100 %, all blank"


def test_a_corpus_without_people(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path / "empty", without_people)
    watcher = Watcher()
    found = run(corpus, tmp_path, 1, watcher=watcher)
    assert set(found) == {FindingKind.MISSING_LANDMARKS}
    assert any("no shoulders" in alert for alert in alerts(watcher))


def test_normalized_numbers_that_slip_past_the_guard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = make_corpus(tmp_path / "twice", normalized)
    monkeypatch.setattr(batching, "check_trainable", lambda corpus: None)
    watcher = Watcher()
    found = run(corpus, tmp_path, 1, watcher=watcher)
    assert set(found) == {FindingKind.DOUBLE_NORMALIZATION}
    assert found[FindingKind.DOUBLE_NORMALIZATION].severity is Severity.CRITICAL
    assert watcher.inputs.normalization_gap < 1e-5
    assert any("normalised before" in alert for alert in alerts(watcher))


def test_a_preview_that_is_mirrored_without_exchanging_sides(corpus: Path, tmp_path: Path) -> None:
    watcher = Watcher()
    assert run(corpus, tmp_path, 1, watcher=watcher) == {}
    rng = np.random.default_rng(7)
    frames = [clip(rng, place) for place in PLACES * 4]
    nothing = StepWindow.of_records(watcher.steps)
    assert assess(nothing, (), watcher.inputs, measure_inputs(frames)) == ()
    for landmarks_TKC in frames:
        landmarks_TKC[..., 0] = 1 - landmarks_TKC[..., 0]
    (finding,) = assess(nothing, (), watcher.inputs, measure_inputs(frames))
    assert finding.kind is FindingKind.LANDMARK_MISMATCH
    assert "100% of the training frames and in 0% of the preview" in finding.evidence


def test_slow_data_starves_the_trainer(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = Watcher()
    original = TrainingData.train_batches

    def slow(self: TrainingData, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        for batch in original(self, epoch, start_batch):
            # A disk that takes half as long again as the step, however fast this machine is.
            time.sleep(1.5 * watcher.steps[-1].step_s if watcher.steps else 0)
            yield batch

    monkeypatch.setattr(TrainingData, "train_batches", slow)
    found = run(
        corpus, tmp_path, 110, watcher=watcher, data={"prefetch": 0, "sentences_per_epoch": 220}
    )
    finding = found.pop(FindingKind.DATA_STARVATION)
    assert found == {}
    assert "median wait for a batch" in finding.evidence


def test_the_statistics_of_the_input_stay_with_the_run(corpus: Path, tmp_path: Path) -> None:
    watcher = Watcher()
    run(corpus, tmp_path, 1, watcher=watcher)
    (ledger,) = tmp_path.glob("*/ledger.sqlite")
    with LedgerReader(ledger) as reader:
        assert InputStatistics.from_json(reader.meta()[INPUTS_META]) == watcher.inputs
        assert broken_invariants(reader) == []
    assert watcher.inputs.samples == 32
    assert watcher.inputs.right_share == watcher.inputs.raised_hand_share == 1
    assert watcher.inputs.left_share == 0
    assert watcher.inputs.own_side_share == watcher.inputs.facing_share == 1
    assert watcher.inputs.nose_height == pytest.approx(1, abs=0.05)
    assert alerts(watcher) == []


def verdict(runs: Path) -> Finding | None:
    """What is said in the end of the one run in ``runs``."""
    (info,) = runs.glob("*/run.json")
    found = assess_run(info.parent)
    return next((each for each in found if each.kind is FindingKind.LEARNED_NOTHING), None)


def alerts(watcher: Watcher) -> list[str]:
    return [event.text for event in watcher.events if event.kind is EventKind.ALERT]
