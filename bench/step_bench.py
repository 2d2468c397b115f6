"""A trainer at the default size, one step at a time: what the benchmarks of a step's costs share."""

from __future__ import annotations

import contextlib
import itertools
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from core.config import RunConfig, config_from_dict, config_to_toml
from core.corpus.batching import Batch, TrainingData
from core.corpus.demo import make_demo_corpus
from core.corpus.reader import Corpus
from core.model.teacher import encoded_length
from core.training.checkpoint import CheckpointStore
from core.training.device import compute_mode, compute_settings
from core.training.policy import clip_policy
from core.training.provenance import versions
from core.training.trainer import Trainer
from signscope.ledger import Ledger
from signscope.run_state import RunControl, RunEvent


class StepBench:
    """A trainer with a real ledger and real checkpoints in a folder, and batches without end."""

    def __init__(self, folder: Path, device: str) -> None:
        self._stack = contextlib.ExitStack()
        enter = self._stack.enter_context
        corpus = enter(Corpus.open(make_corpus(folder)))
        self.config: RunConfig = config_from_dict(
            # One thread: threads that wait for each other burn processor time of their own.
            {"device": device, "threads": 1, "data": {"corpus": str(corpus.path)}}
        )
        self._data = TrainingData(
            corpus,
            self.config.data,
            seed=0,
            encoded_length=lambda frames: encoded_length(frames, self.config.model),
        )
        mode = compute_mode(self.config)
        self.threads = enter(compute_settings(mode, self.config.threads))
        self.ledger = enter(Ledger(folder / "ledger.sqlite", {"policy": "clip", "max_norm": 1.0}))
        (folder / "checkpoints").mkdir()
        self.checkpoints = CheckpointStore(
            folder / "checkpoints", self.config.checkpoint.keep, before_write=self.ledger.flush
        )
        self._stack.callback(self.checkpoints.close)
        control = RunControl()
        control.apply(RunEvent.START)
        self.trainer = Trainer(
            self.config,
            self._data,
            mode=mode,
            policy=clip_policy(self.config.optim.max_norm),
            control=control,
            ledger=self.ledger,
            checkpoints=self.checkpoints,
            observers=[],
            provenance={
                "policy": "clip",
                "config_toml": config_to_toml(self.config),
                "corpus_fingerprint": corpus.fingerprint,
                "vocabulary": self._data.vocabulary.glosses,
                "threads": self.threads,
                "device": str(mode.device),
                "versions": versions(),
            },
        )
        # Prepared once and used again and again: preparing batches is not what is measured.
        batches = list(itertools.islice(self._data.train_batches(1), 12))
        self._batches: Iterator[Batch] = itertools.cycle(batches)
        self.period = len(batches)
        """After this many steps the same batches come again."""

    def __enter__(self) -> StepBench:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def checkpoint_interval(self) -> int:
        """Batches from one checkpoint to the next with the default settings."""
        return min(self.config.checkpoint.every_batches, self._data.batches_per_epoch)

    @property
    def parameters(self) -> int:
        """Size of the default model."""
        return sum(parameter.numel() for parameter in self.trainer.model.parameters())

    def step(self) -> None:
        """Train one batch and write it down, as the trainer's loop does."""
        self.trainer._record_step(self.trainer._train_batch(next(self._batches), 0.0))


@contextlib.contextmanager
def step_bench(device: str) -> Iterator[StepBench]:
    """Give a bench that is warm: its first steps, which are slower, are done."""
    with tempfile.TemporaryDirectory() as folder, StepBench(Path(folder), device) as bench:
        for _ in range(bench.period):
            bench.step()
        yield bench


def make_corpus(folder: Path) -> Path:
    make_demo_corpus(folder / "corpus")
    return folder / "corpus"


def best_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def tell(name: str, **values: Any) -> None:
    """Print one JSON line."""
    print(json.dumps({"bench": name, **values}), flush=True)
