"""The text of a run, line by line as the specification shows it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from core.analysis.narrator import Narrator
from core.config import OptimConfig
from core.errors import ConfigError
from core.training.policy import parse_policy
from core.training.schedule import learning_rate
from signscope.records import Evaluation, Outcome, StepRecord, WordErrors
from signscope.tally import Tally


def record(step: int = 0, **changes: object) -> StepRecord:
    made = StepRecord(
        step=step,
        epoch=1,
        batch_idx=step,
        loss=91.67,
        loss_per_gloss=11.4,
        grad_norm_pre=95.74,
        grad_norm_post=1.0,
        clip_coef=1 / 95.74,
        lr=1e-3,
        outcome=Outcome.APPLIED,
        sample_ids=("a", "b"),
        frames=200,
        glosses=16,
        blank_fraction=0.5,
        data_s=0.001,
        step_s=0.1,
        memory_mib=500.0,
        wall_time=0.0,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def test_an_epoch_reads_as_specified() -> None:
    narrator = Narrator(total_epochs=50, max_norm=1.0)
    assert narrator.step(record()) == [
        "Epoch 1/50:",
        "  Batch 0: loss=91.67, grad_norm=95.74 -> 1.00 (clipped)",
    ]
    small = record(1, loss=6.45, grad_norm_pre=0.89, grad_norm_post=0.89, clip_coef=1.0)
    assert narrator.step(small) == ["  Batch 1: loss=6.45, grad_norm=0.89 (not clipped)"]
    for step in range(2, 99):
        narrator.step(record(step, grad_norm_pre=345.05 if step % 9 == 0 else 20.0))
    assert narrator.step(record(99))[1:] == [
        "  Large gradient norm: 345.05 (normal at the start, clipped to 1.0); 10 of 100 batches above 200"
    ]


def test_the_epoch_line_counts_every_batch() -> None:
    tally = Tally()
    losses = [10.0, 6.0, math.nan, 9.5]
    for step, loss in enumerate(losses):
        finite = math.isfinite(loss)
        tally.add(
            record(
                step,
                loss=loss,
                clip_coef=0.5 if finite and step else 1.0,
                outcome=Outcome.APPLIED if finite else Outcome.SKIPPED_NON_FINITE_LOSS,
            )
        )
    dev = Evaluation("dev", WordErrors(40, 30, 5, 100, 75), 8.0, 0.9, 20, 0.1)
    made = tally.epoch_record(1, wall_time=0.0, dev=dev)
    assert Narrator(50, 1.0).epoch(made) == [
        "Epoch 1 complete: avg_loss=8.50, WER=75.0% (S 40 D 30 I 5), "
        "3 of 4 batches applied, 2 clipped, 1 non-finite"
    ]


def test_a_batch_that_was_not_applied_is_never_left_out() -> None:
    narrator = Narrator(1, 1.0, every=1000)
    narrator.step(record(0))
    line = narrator.step(
        record(7, outcome=Outcome.SKIPPED_NON_FINITE_GRADIENT, detail="non-finite gradient; head")
    )
    assert line == ["  Batch 7: loss=91.67, grad_norm=95.74 NOT APPLIED, non-finite gradient; head"]
    assert narrator.step(record(8)) == []


@pytest.mark.parametrize(
    "text", ["skip", "skip:", "skip:0", "skip:-3", "skip:nan", "clip:1", "", "no"]
)
def test_an_unknown_policy_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="policy"):
        parse_policy(text, 1.0)


def test_the_faulty_script_is_a_policy() -> None:
    policy = parse_policy("skip:100", 1.0)
    assert policy.name == "skip:100"
    assert policy.decide(91.0, 100.0) is Outcome.APPLIED
    assert policy.decide(91.0, 100.1) is Outcome.SKIPPED_BY_POLICY
    assert parse_policy("clip", 1.0).decide(91.0, 1e9) is Outcome.APPLIED
    assert parse_policy("none", 1.0).max_norm is None


def test_the_learning_rate_rises_then_falls() -> None:
    config = OptimConfig(lr=0.1, warmup_steps=10, min_lr_share=0.1)
    rates = [learning_rate(applied, 110, config) for applied in range(120)]
    assert rates[0] == pytest.approx(0.01)
    assert rates[9] == rates[10] == pytest.approx(0.1)
    assert rates[10:110] == sorted(rates[10:110], reverse=True)
    assert rates[110:] == pytest.approx([0.01] * 10)
