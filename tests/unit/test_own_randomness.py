"""A run draws from its own generator: nothing else in the process changes it, and it changes nothing else."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from core.config import ModelConfig
from core.model.draws import Dropout, WeightsFrom
from core.model.teacher import Teacher
from core.training.session import TrainingJob, resume_job, run_job
from signscope.records import StepRecord
from tests.tiny_run import (
    Recorder,
    ledger_losses,
    started_control,
    stop_after,
    tiny_config,
    train,
    training_thread,
)

ENCODERS = ("bilstm", "transformer")


@contextmanager
def disturbance() -> Iterator[None]:
    """Seed torch's shared generator over and over, and draw from it, in a thread."""
    over = threading.Event()

    def disturb() -> None:
        while not over.is_set():
            torch.manual_seed(0)
            torch.rand(10)

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("encoder", ENCODERS)
def test_other_random_numbers_in_the_process_change_nothing_of_a_run(
    encoder: str, corpus: Path, tmp_path: Path
) -> None:
    config = tiny_config(corpus, model={"encoder": encoder, "layers": 2, "heads": 2})
    alone = train(config, tmp_path / "alone").run_path
    with disturbance():
        disturbed = train(config, tmp_path / "disturbed").run_path
    assert ledger_losses(disturbed) == ledger_losses(alone)


def test_two_runs_at_once_in_one_process_are_what_each_is_alone(
    corpus: Path, tmp_path: Path
) -> None:
    configs = [tiny_config(corpus, seed=seed, model={"layers": 2}) for seed in (1, 2)]
    alone = [train(config, tmp_path / "alone").run_path for config in configs]
    meeting = threading.Barrier(2)

    def meet(record: StepRecord) -> None:
        meeting.wait(30)  # batch for batch, whichever is faster

    jobs = [TrainingJob(config, tmp_path / "both") for config in configs]
    with (
        training_thread(jobs[0], started_control(), [Recorder(meet)]) as first,
        training_thread(jobs[1], started_control(), [Recorder(meet)]) as second,
    ):
        both = [first().run_path, second().run_path]
    assert [ledger_losses(run) for run in both] == [ledger_losses(run) for run in alone]
    assert ledger_losses(both[0]) != ledger_losses(both[1])


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_run_leaves_the_shared_generator_alone(
    encoder: str, corpus: Path, tmp_path: Path
) -> None:
    torch.manual_seed(77)
    before = torch.get_rng_state()
    config = tiny_config(corpus, model={"encoder": encoder, "heads": 2})
    control = started_control()
    run = train(config, tmp_path, stop_after(control, 2), control=control).run_path
    run_job(resume_job(run), started_control())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_weights_come_from_the_generator_as_from_a_seeded_process(encoder: str) -> None:
    config = ModelConfig.model_validate({"encoder": encoder, "width": 16, "heads": 2})
    with torch.random.fork_rng():
        torch.manual_seed(5)
        seeded = Teacher(config, 7)
    with WeightsFrom(torch.Generator().manual_seed(5)):
        own = Teacher(config, 7)
    pairs = zip(seeded.parameters(), own.parameters(), strict=True)
    assert all(torch.equal(left, right) for left, right in pairs)


def test_dropout_draws_what_torch_would_draw() -> None:
    x = torch.rand((50, 40)).requires_grad_()
    y = x.detach().clone().requires_grad_()
    with torch.random.fork_rng():
        torch.manual_seed(3)
        theirs = torch.nn.Dropout(0.3)(x)
    ours = Dropout(0.3)(y, torch.Generator().manual_seed(3))
    torch.autograd.backward([theirs.square().sum(), ours.square().sum()])
    assert torch.equal(ours, theirs)
    assert x.grad is not None
    assert y.grad is not None
    assert torch.equal(y.grad, x.grad)
    assert Dropout(0.3).eval()(y, None) is y
