"""The same promises on an NVIDIA GPU. Skipped by name where there is none."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from pathlib import Path

import pytest
import torch

from core.corpus.batching import Batch
from core.model.losses import CtcRoute
from core.training.checkpoint import newest_checkpoint
from core.training.device import compute_mode
from core.training.session import resume_job, run_job
from core.training.trainer import Trainer
from signscope.norms import clip_and_measure_, clip_overflowed_, non_finite_tensors
from signscope.records import Outcome, StepRecord
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
        tiny_corpus(tmp_path),
        device="cuda",
        deterministic="on",
        model={"encoder": encoder, "layers": 2, "dropout": 0.3},
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


def test_a_step_waits_for_the_device_once_beside_what_the_loss_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[Counter[str]] = []
    original = Trainer._train_batch

    def counted(trainer: Trainer, batch: Batch, data_s: float) -> StepRecord:
        assert batch.landmarks_BTKC.is_pinned()
        with warnings.catch_warnings(record=True) as waits:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                record = original(trainer, batch, data_s)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        counts.append(Counter(Path(wait.filename).name for wait in waits))
        return record

    monkeypatch.setattr(Trainer, "_train_batch", counted)
    train(tiny_config(tiny_corpus(tmp_path), device="cuda"), tmp_path / "runs")
    # The first steps make state and look at the audit. PyTorch's own CTC kernel sends its lengths to the
    # device by copies that wait, in functional.py and, backwards, in graph.py.
    for count in counts[2:]:
        assert count.pop("trainer.py") == 1
        assert count.keys() <= {"functional.py", "graph.py"}


def test_a_deterministic_run_may_follow_another_in_one_process(tmp_path: Path) -> None:
    corpus = tiny_corpus(tmp_path)
    train(tiny_config(corpus, device="cuda", deterministic="off"), tmp_path / "runs")
    config = tiny_config(corpus, device="cuda", deterministic="on", model={"layers": 2})
    first, second = (train(config, tmp_path / "runs").run_path for _ in range(2))
    assert ledger_losses(first) == ledger_losses(second)
