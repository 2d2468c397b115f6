"""Planted faults of the update itself, and bad values at random places: all of them are in the account."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from core.model.losses import ctc_losses
from core.model.teacher import Teacher
from core.training import trainer as trainer_module
from core.training.checkpoint import newest_checkpoint
from signscope.errors import UpdateAuditError
from signscope.folder import RunFolder
from signscope.invariants import broken_invariants
from signscope.ledger import LedgerReader
from signscope.norms import MeasuredNorms, clip_and_measure_
from signscope.records import Outcome
from tests.tiny_run import BATCHES_PER_EPOCH, Recorder, tiny_config, train

STEPS = 2 * BATCHES_PER_EPOCH
Parameters = Iterable[nn.Parameter]
Clip = Callable[[Parameters, float | None], MeasuredNorms]


# ---------------------------------------------------------------- faults of the update


def clip_comes_too_late(clip: Clip) -> Clip:
    """Say what a clip would have given and leave the gradients to be clipped after the step."""

    def faulty(parameters: Parameters, max_norm: float | None) -> MeasuredNorms:
        chosen = list(parameters)
        kept = [None if p.grad is None else p.grad.clone() for p in chosen]
        measured = clip(chosen, max_norm)
        for parameter, grad in zip(chosen, kept, strict=True):
            parameter.grad = grad
        return measured

    return faulty


def unscaled_after_the_clip(clip: Clip) -> Clip:
    """Clip gradients that still carry the scale of a scaled loss, and divide it out after that."""

    def faulty(parameters: Parameters, max_norm: float | None) -> MeasuredNorms:
        chosen = list(parameters)
        for parameter in chosen:
            if parameter.grad is not None:
                parameter.grad *= 1024
        measured = clip(chosen, max_norm)
        for parameter in chosen:
            if parameter.grad is not None:
                parameter.grad /= 1024
        return measured

    return faulty


@pytest.mark.parametrize("fault", [clip_comes_too_late, unscaled_after_the_clip])
def test_a_gradient_other_than_the_recorded_one_never_reaches_the_weights(
    fault: Callable[[Clip], Clip], corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer_module, "clip_and_measure_", fault(clip_and_measure_))
    with pytest.raises(UpdateAuditError, match="about to consume a gradient of norm"):
        train(tiny_config(corpus), tmp_path)
    (run,) = tmp_path.iterdir()
    assert RunFolder.open(run).info.state == "failed"
    first = newest_checkpoint(run / "checkpoints")
    assert first.state.step == first.state.applied == 0
    torch.manual_seed(0)
    untouched = Teacher(tiny_config(corpus).model, len(first.state.vocabulary) + 1).state_dict()
    assert all(torch.equal(first.group("model")[name], untouched[name]) for name in untouched)
    with LedgerReader(run / "ledger.sqlite") as reader:
        assert reader.counts().batches == 0


def test_a_clip_that_is_left_out_breaks_an_invariant_of_the_ledger(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measuring(parameters: Parameters, max_norm: float | None) -> MeasuredNorms:
        return clip_and_measure_(parameters, None)

    monkeypatch.setattr(trainer_module, "clip_and_measure_", measuring)
    run = train(tiny_config(corpus, optim={"epochs": 1}), tmp_path).run_path
    with LedgerReader(run / "ledger.sqlite") as reader:
        assert any("longer than max_norm" in told for told in broken_invariants(reader))


# ---------------------------------------------------------------- bad values anywhere

BAD_VALUES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "NaN loss": lambda losses: losses * math.nan,
    "infinite loss": lambda losses: losses * math.inf,
    # Zero plus a square root of zero: the loss is as it was, its gradient is infinite.
    "infinite gradient": lambda losses: losses + (losses - losses.detach()).sqrt(),
    "huge": lambda losses: losses * 1e25,
}
OUTCOMES = {
    "NaN loss": Outcome.SKIPPED_NON_FINITE_LOSS,
    "infinite loss": Outcome.SKIPPED_NON_FINITE_LOSS,
    "infinite gradient": Outcome.SKIPPED_NON_FINITE_GRADIENT,
    "huge": Outcome.APPLIED,
}


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(st.dictionaries(st.integers(0, STEPS - 1), st.sampled_from(sorted(BAD_VALUES))))
def test_the_ledger_lists_exactly_the_bad_batches_that_were_injected(
    corpus: Path, tmp_path: Path, bad: dict[int, str]
) -> None:
    seen = Recorder()

    def spoiled(*arguments: Any, **named: Any) -> torch.Tensor:
        losses = ctc_losses(*arguments, **named)
        what = bad.get(len(seen.steps))
        return BAD_VALUES[what](losses) if what else losses

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer_module, "ctc_losses", spoiled)
        config = tiny_config(corpus, optim={"non_finite_pause": 1000})
        run = train(config, tmp_path / uuid4().hex, seen).run_path
    with LedgerReader(run / "ledger.sqlite") as reader:
        rows = reader.steps()
        counts = reader.counts()
        assert broken_invariants(reader) == []
    assert {row.step: row.outcome for row in rows} == {
        step: OUTCOMES[bad[step]] if step in bad else Outcome.APPLIED for step in range(STEPS)
    }
    assert {row.step for row in rows if row.large} >= {
        step for step, what in bad.items() if what == "huge"
    }
    not_applied = {step for step, what in bad.items() if not OUTCOMES[what].applied}
    assert counts.non_finite == len(not_applied) == STEPS - counts.applied
    for row in rows:
        assert bool(row.detail) is (row.step in not_applied)
        assert row.sample_ids
        if row.outcome.applied:
            assert row.grad_norm_post <= 1.0 + 1e-4
            assert math.isfinite(row.loss)
