"""The same promises on an NVIDIA GPU. Skipped by name where there is none."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from core.model.losses import CtcRoute
from core.training.checkpoint import newest_checkpoint
from core.training.device import compute_mode
from core.training.session import resume_job, run_job
from signscope.norms import clip_and_measure_, clip_overflowed_, non_finite_tensors
from signscope.records import Outcome
from tests.tiny_run import (
    Recorder,
    ledger_losses,
    started_control,
    stop_after,
    tiny_config,
    tiny_corpus,
    train,
)

pytestmark = pytest.mark.cuda


def test_auto_takes_cuda_and_every_batch_is_applied_and_clipped(tmp_path: Path) -> None:
    config = tiny_config(tiny_corpus(tmp_path), device="auto")
    mode = compute_mode(config)
    assert (mode.device.type, mode.ctc_route) == ("cuda", CtcRoute.NATIVE)
    seen = Recorder()
    result = train(config, tmp_path / "runs", seen)
    assert len(seen.steps) == result.steps == len(ledger_losses(result.run_path))
    for step in seen.steps:
        assert step.outcome is Outcome.APPLIED
        assert step.grad_norm_post == pytest.approx(min(step.grad_norm_pre, 1.0), rel=1e-3)


@pytest.mark.parametrize("encoder", ["bilstm", "transformer"])
def test_a_deterministic_run_resumes_bit_for_bit(encoder: str, tmp_path: Path) -> None:
    config = tiny_config(
        tiny_corpus(tmp_path), device="cuda", deterministic="on", model={"encoder": encoder}
    )
    assert compute_mode(config).ctc_route is CtcRoute.CPU
    whole = train(config, tmp_path / "whole").run_path
    control = started_control()
    parts = train(config, tmp_path / "parts", stop_after(control, 4), control=control).run_path
    run_job(resume_job(parts), started_control())
    assert ledger_losses(parts) == ledger_losses(whole)
    a, b = (newest_checkpoint(run / "checkpoints").tensors for run in (whole, parts))
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def test_bad_and_huge_gradients_on_the_device() -> None:
    layer = torch.nn.Linear(3, 2).cuda()
    layer.weight.grad = torch.full_like(layer.weight, 1e30)
    layer.bias.grad = torch.zeros_like(layer.bias)
    assert math.isinf(float(clip_and_measure_(layer.parameters(), 1.0).pre))
    norms = clip_overflowed_(layer.parameters(), 1.0)
    assert norms is not None
    assert norms.post == pytest.approx(1.0, rel=1e-5)
    layer.bias.grad[0] = math.nan
    assert not math.isfinite(float(clip_and_measure_(layer.parameters(), 1.0).pre))
    assert non_finite_tensors(layer.named_parameters()) == ("bias",)
