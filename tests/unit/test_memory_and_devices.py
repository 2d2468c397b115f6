"""Memory that runs out, waits for the device, and what a device promises."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from core.config import ModelConfig
from core.corpus.batching import Batch
from core.errors import DeviceError
from core.landmarks.normalize import normalize
from core.model.decoding import blank_fraction
from core.model.losses import CtcRoute, ctc_losses
from core.model.teacher import Teacher
from core.training import trainer as trainer_module
from core.training.checkpoint import list_checkpoints
from core.training.device import ComputeMode, is_out_of_memory, pinned
from core.training.policy import parse_policy
from core.training.session import TrainingJob, resume_job, run_job
from core.training.trainer import Trainer
from signscope.folder import RunFolder
from signscope.invariants import broken_invariants
from signscope.ledger import LedgerReader
from signscope.norms import clip_and_measure_
from signscope.records import Outcome, StepRecord
from signscope.run_state import RunEvent, RunState
from tests.tiny_run import (
    Recorder,
    ledger_losses,
    started_control,
    tiny_config,
    train,
)
from tests.unit.test_model import raw_landmarks
from tests.unit.test_project import run_python
from tests.unit.test_trainer import spoil

# ---------------------------------------------------------------- out of memory

TEXTS = {
    "cpu, Linux": "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 4611686018427387904 bytes. Error code 12 (Cannot allocate memory)",
    "cpu, Windows": "[enforce fail at alloc_cpu.cpp:121] data. DefaultCPUAllocator: not enough memory: you tried to allocate 8589934592 bytes.",
    "mps": "MPS backend out of memory (MPS allocated: 17.11 GB, other allocations: 1.2 GB, max allowed: 18.13 GB). Tried to allocate 256.00 MB on private pool.",
    "mps, one buffer": "Invalid buffer size: 24.00 GiB",
    "cuda driver": "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call",
    "cuBLAS": "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "cuDNN 8": "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "cuDNN 9": "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "C++, Linux": "std::bad_alloc",
    "C++, Windows": "bad allocation",
}


@pytest.mark.parametrize("where", TEXTS)
def test_memory_that_runs_out_is_recognised_wherever_it_does(where: str) -> None:
    assert is_out_of_memory(RuntimeError(TEXTS[where]))


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
        RuntimeError("Expected all tensors to be on the same device"),
        ValueError("out of memory"),
    ],
)
def test_other_errors_are_no_lack_of_memory(error: Exception) -> None:
    assert not is_out_of_memory(error)


def test_memory_that_ran_out_elsewhere_gives_the_batch_its_row_and_pauses(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> Tensor:
        raise RuntimeError(TEXTS["cuBLAS"])

    class Stop(Recorder):
        def on_step(self, record: StepRecord) -> None:
            super().on_step(record)
            monkeypatch.setattr(trainer_module, "blank_fraction", full)

    control = started_control()
    seen = Stop()

    def stop_when_paused() -> bool:
        return control.wait_for(RunState.PAUSED, timeout_s=30) and bool(
            control.apply(RunEvent.STOP)
        )

    with ThreadPoolExecutor() as pool:
        stopped = pool.submit(stop_when_paused)
        run = train(tiny_config(corpus), tmp_path, seen, control=control).run_path
        assert stopped.result()
    assert [step.outcome for step in seen.steps] == [Outcome.APPLIED, Outcome.FAILED_OUT_OF_MEMORY]
    assert len(ledger_losses(run)) == 2


def test_memory_that_runs_out_in_the_update_ends_the_run_and_keeps_no_half_updated_weights(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(corpus, optim={"ema_decay": 0.9})
    original = torch.optim.AdamW.step
    updates = iter(range(1000))

    def half(optimizer: torch.optim.AdamW, closure: None = None) -> Any:
        original(optimizer, closure)  # every weight is changed, the average is not
        return torch.empty(2**60) if next(updates) == 5 else None

    seen = Recorder()
    with monkeypatch.context() as patch, pytest.raises(DeviceError, match="some may be changed"):
        patch.setattr(torch.optim.AdamW, "step", half)
        train(config, tmp_path / "killed", seen)
    (run,) = (tmp_path / "killed").iterdir()
    assert seen.steps[-1].step == 5
    assert seen.steps[-1].outcome is Outcome.FAILED_OUT_OF_MEMORY
    assert list_checkpoints(run / "checkpoints")[0].name == "step-0000000004.safetensors"
    assert "ran out" in RunFolder.open(run).info.error
    with LedgerReader(run / "ledger.sqlite") as reader:
        assert reader.counts().batches == 6
        assert broken_invariants(reader) == []
    run_job(resume_job(run), started_control())
    assert ledger_losses(run) == ledger_losses(train(config, tmp_path / "whole").run_path)


# ---------------------------------------------------------------- waits for the device


class Reads(TorchFunctionMode):
    """Counts what would wait for a device: here all floating numbers stand for those on it."""

    NAMES = ("item", "tolist", "cpu", "numpy", "__float__", "__bool__", "__int__", "__index__")

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        name = getattr(function, "__name__", "")
        if name in self.NAMES and args and args[0].is_floating_point():
            self.found[name] += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("encoder", ["bilstm", "transformer"])
def test_a_step_reads_the_device_once(
    encoder: str, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []
    original = Trainer._train_batch

    def counted(trainer: Trainer, batch: Batch, data_s: float) -> StepRecord:
        with Reads() as reads:
            record = original(trainer, batch, data_s)
        counts.append(reads.found)
        return record

    monkeypatch.setattr(Trainer, "_train_batch", counted)
    config = tiny_config(corpus, model={"encoder": encoder, "heads": 2}, optim={"epochs": 1})
    train(config, tmp_path)
    # The audit looks at the first update and each fiftieth after it, and reads one more norm then.
    assert counts[0] == {"tolist": 1, "__float__": 1}
    assert counts[1:] == [{"tolist": 1}] * 6


@pytest.mark.parametrize("encoder", ["bilstm", "transformer"])
def test_nothing_between_the_batch_and_the_clipped_gradient_reads_the_device(
    encoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a device without data (meta) a read is an error, also one within PyTorch's own functions."""
    monkeypatch.setattr(
        torch, "autocast", lambda *_, **__: contextlib.nullcontext()
    )  # not for meta
    config = ModelConfig.model_validate(
        {"encoder": encoder, "part_dim": 8, "width": 16, "heads": 2, "layers": 2}
    )
    model = Teacher(config, 7).to("meta")
    lengths_B = torch.tensor([9, 20])
    landmarks = normalize(torch.empty((2, 20, 75, 4), device="meta"), lengths_B.to("meta"))
    out = model(landmarks, lengths_B)
    torch.autograd.backward(out.log_probs_BEV.sum())
    norms = clip_and_measure_(model.parameters(), 1.0)
    read_later = [norms.pre, norms.post, blank_fraction(out.log_probs_BEV, out.mask_BE)]
    assert [each.device.type for each in read_later] == ["meta"] * 3
    with pytest.raises(NotImplementedError, match="meta"):
        read_later[0].tolist()


def test_the_loss_is_handed_lengths_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def loss(log_probs: Tensor, targets: Tensor, *lengths: Tensor, **named: object) -> Tensor:
        asked.append([each.device.type for each in (log_probs, targets, *lengths)])
        return torch.zeros(2, device=log_probs.device)

    monkeypatch.setattr(torch.nn.functional, "ctc_loss", loss)
    log_probs_TBV = torch.zeros((3, 2, 4), device="meta")
    lengths_B = torch.tensor([3, 3])
    ctc_losses(log_probs_TBV, torch.tensor([1, 2]), lengths_B, lengths_B)
    assert asked == [["meta", "meta", "cpu", "cpu"]]


def test_batches_are_left_as_they_are_where_nothing_is_copied() -> None:
    some = torch.zeros(1)
    batch = Batch((), some, some, some, some, ())
    assert list(pinned([batch], torch.device("cpu"))) == [batch]
    assert next(iter(pinned([batch], torch.device("cpu")))) is batch


# ---------------------------------------------------------------- precision and promises


def test_autocast_is_kept_away_from_the_lstm() -> None:
    config = ModelConfig(part_dim=8, width=16, layers=2)
    model = Teacher(config, 7)
    seen = []

    def look(module: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        seen.append((inputs[0].data.dtype, torch.is_autocast_enabled("cpu")))

    for module in model.modules():
        if isinstance(module, torch.nn.LSTM):
            module.register_forward_pre_hook(look)
    x_BTKC, lengths_B = raw_landmarks(20, 9)
    with torch.autocast("cpu", torch.bfloat16):
        embedded = model.pose.project(torch.zeros(1, model.pose.project.in_features))
        out = model(normalize(x_BTKC, lengths_B), lengths_B)
    assert embedded.dtype is torch.bfloat16  # autocast is at work where it may be
    assert seen == [(torch.float32, False)] * 2
    assert out.log_probs_BEV.dtype is torch.float32


def test_no_lstm_keeps_dropout_of_its_own() -> None:
    model = Teacher(ModelConfig(layers=3, dropout=0.5), 7)
    lstms = [module for module in model.modules() if isinstance(module, torch.nn.LSTM)]
    assert [(lstm.num_layers, lstm.dropout) for lstm in lstms] == [(1, 0.0)] * 3


def test_cublas_finds_its_setting_before_torch_is_loaded() -> None:
    told = run_python(
        "import os, sys, core; print(os.environ['CUBLAS_WORKSPACE_CONFIG'], 'torch' in sys.modules)"
    )
    assert told == ":4096:8 False"


def test_bit_exactness_is_not_claimed_on_mps() -> None:
    mps = ComputeMode(torch.device("mps"), True, CtcRoute.CPU, False)
    assert "not bit-exact" in mps.describe()
    cpu = ComputeMode(torch.device("cpu"), True, CtcRoute.NATIVE, False)
    assert "not bit-exact" not in cpu.describe()


def test_a_norm_beyond_float32_is_no_fault_of_the_program_without_clipping(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, {0}, 1e25)  # the first update is one that the audit looks at
    seen = Recorder()
    job = TrainingJob(tiny_config(corpus), tmp_path, policy=parse_policy("none", 1.0), max_steps=3)
    run_job(job, started_control(), [seen])
    assert seen.steps[0].outcome is Outcome.APPLIED
    assert math.isfinite(seen.steps[0].grad_norm_pre)
    assert seen.steps[0].grad_norm_pre > torch.finfo(torch.float32).max ** 0.5
