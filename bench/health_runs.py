"""Runs by which the detectors of a run's health are judged: clean ones, and ones with a planted fault.

Each is a whole run of the trainer, small enough for a fraction of a minute, kept as its run folder: its
ledger holds everything that the detectors see, so that they can be judged again in seconds.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import torch

from core.analysis.health.findings import FindingKind as Kind
from core.config import RunConfig, config_from_dict
from core.corpus import batching
from core.corpus.batching import Batch, TrainingData
from core.corpus.demo import make_demo_corpus
from core.corpus.format import Sample
from core.corpus.importers.mp_data import import_mp_data, parse_signers
from core.corpus.reader import Corpus
from core.corpus.writer import CorpusWriter
from core.landmarks.layout import LEFT_SHOULDER, RIGHT_SHOULDER, Float32Array
from core.model.teacher import Teacher
from core.training import trainer as trainer_module
from core.training.policy import parse_policy
from core.training.replay import story_config
from core.training.session import TrainingJob, run_job
from signscope.errors import SignScopeError
from signscope.folder import RunFolder
from signscope.records import EpochRecord, Evaluation, EventKind, RunEventRecord, StepRecord
from signscope.run_state import RunControl, RunEvent

PARALLEL = 2
STUCK = (Kind.BLANK_COLLAPSE, Kind.PLATEAU, Kind.LEARNED_NOTHING)
"""Kinds that name, each in its way, a teacher that does not learn."""

Settings = dict[str, Any]
Plant = Callable[[], contextlib.AbstractContextManager[object]]


@dataclass(frozen=True)
class Plan:
    """One run to make.

    Args:
        name: Of its folder.
        corpus: Key of CORPORA, "demo" for the one that is shipped, or "mp-data".
        settings: Merged over SMALL; None takes the settings that are shipped, "story" the story's.
        due: Kinds of which one has to speak; none for a clean run.
        change: Key of CHANGES, made on every sample of the corpus.
        plant: Key of PLANTS, in force while it trains.
    """

    name: str
    corpus: str
    settings: Settings | str | None = field(default_factory=dict)
    seed: int = 0
    max_steps: int | None = None
    due: tuple[Kind, ...] = ()
    change: str = ""
    plant: str = ""
    policy: str = ""


class Size(NamedTuple):
    """What a small demo corpus is made of."""

    signers: int
    glosses: int
    sentences: int
    seed: int


CORPORA = {
    "tiny": Size(2, 5, 120, 3),
    "few": Size(3, 8, 160, 1),
    "some": Size(5, 12, 240, 2),
    "many": Size(8, 20, 400, 4),
}

SMALL: dict[str, Settings] = {
    "data": {},
    "model": {"part_dim": 32, "width": 96, "layers": 1},
    "optim": {"epochs": 30},
}


def plans(*, real: bool, seed: int = 0) -> list[Plan]:
    """Give all runs, clean and planted ones by turns.

    Args:
        real: Whether those on real clips are among them.
        seed: Added to the seed of each.
    """
    clean = [*_clean(), *(_clean_real() if real else ())]
    by_turns = itertools.zip_longest(clean, _planted())
    return [
        replace(plan, seed=plan.seed + seed)
        for pair in by_turns
        for plan in pair
        if plan is not None
    ]


def _clean() -> Iterator[Plan]:
    for seed in range(6):
        yield Plan(f"shipped-{seed}", "demo", None, seed, 700)
        yield Plan(f"few-{seed}", "few", {}, seed)
        yield Plan(f"some-{seed}", "some", {"optim": {"epochs": 20}}, seed)
        if seed < 4:
            yield Plan(f"story-{seed}", "demo", "story", seed, 400)
        if seed < 3:
            yield Plan(f"tiny-{seed}", "tiny", {"optim": {"epochs": 40}}, seed)
            yield Plan(f"many-{seed}", "many", {"optim": {"epochs": 15}}, seed)
    yield Plan("batch-4", "few", {"data": {"batch_size": 4}, "optim": {"epochs": 20}})
    yield Plan("batch-16", "some", {"data": {"batch_size": 16}, "optim": {"epochs": 40}})
    yield Plan("averaged", "few", {"optim": {"epochs": 30, "ema_decay": 0.95}})
    yield Plan("stride-2", "few", {"model": {"strides": [2]}})
    yield Plan("lower-lr", "few", {"optim": {"epochs": 40, "lr": 1e-3}})
    yield Plan("warm-up-200", "few", {"optim": {"epochs": 40, "warmup_steps": 200}})
    yield Plan("short", "few", {"optim": {"epochs": 12}})
    yield Plan("shipped-6-epochs", "demo", {**_SHIPPED, "optim": {"epochs": 6}})
    yield Plan("shipped-lower-lr", "demo", {**_SHIPPED, "optim": {"lr": 1e-3}}, 0, 1200)
    for seed in range(6, 10):
        yield Plan(f"shipped-{seed}", "demo", None, seed, 600)
    for seed in (6, 8):  # that answered one or two glosses for every sentence at batch 600
        yield Plan(f"shipped-long-{seed}", "demo", None, seed, 1400)
    yield Plan("transformer", "few", {"model": {"encoder": "transformer"}, "optim": {"lr": 1e-3}})


def _clean_real() -> Iterator[Plan]:
    short = {"glosses_min": 3, "glosses_max": 5, "sentences_per_epoch": 160, "dev_sentences": 24}
    for seed in range(3):
        yield Plan(f"real-{seed}", "mp-data", {"data": short, "optim": {"epochs": 25}}, seed)
    yield Plan("real-shipped", "mp-data", None, 0, 500)


def _planted() -> Iterator[Plan]:
    for seed in range(2):
        yield Plan(
            f"skipping-{seed}", "demo", "story", seed, 150, (Kind.LATCHED,), policy="skip:100"
        )
        yield Plan(f"lr-high-{seed}", "few", {"optim": {"lr": 1.0}}, seed, 400, _LOST)
        yield Plan(f"lr-low-{seed}", "few", {"optim": {"lr": 1e-6, "epochs": 30}}, seed, due=STUCK)
        yield Plan(
            f"lr-lowish-{seed}", "few", {"optim": {"lr": 3e-5, "epochs": 30}}, seed, due=STUCK
        )
        yield Plan(f"blank-{seed}", "few", {}, seed, due=STUCK, change="still")
        yield Plan(f"shuffled-{seed}", "some", {}, seed, due=STUCK, change="shuffled")
        yield Plan(f"nan-{seed}", "few", _UNPAUSED, seed, 200, (Kind.LATCHED,), plant="nan")
        yield Plan(f"vanishing-{seed}", "few", {}, seed, 150, _NO_GRADIENT, plant="vanishing")
        yield Plan(f"detached-{seed}", "few", {}, seed, due=STUCK, plant="frozen")
        yield Plan(
            f"starved-{seed}", "tiny", {"data": {"prefetch": 0}}, seed, 150, _LATE, plant="slow"
        )
    yield Plan("lr-high-wide", "some", {"optim": {"lr": 0.3, "warmup_steps": 0}}, 0, 400, _LOST)
    yield Plan(
        "lr-jumps", "few", {"optim": {"lr": 1.0, "warmup_steps": 600}}, 0, 600, (*_LOST, *STUCK)
    )
    yield Plan("lr-low-long", "demo", {**_SHIPPED, "optim": {"lr": 1e-6}}, 0, 800, STUCK)
    yield Plan("forgotten", "few", {}, 0, None, _LOST, plant="forgetting")
    yield Plan("skipping-few", "few", {}, 0, 150, (Kind.LATCHED,), policy="skip:5")
    yield Plan("twice", "few", {}, 0, 60, (Kind.DOUBLE_NORMALIZATION,), "twice", "unguarded")
    yield Plan("unseen", "few", {}, 0, 60, (Kind.MISSING_LANDMARKS,), "unseen")
    yield Plan("mostly-unseen", "few", {}, 0, 60, (Kind.MISSING_LANDMARKS,), "mostly unseen")
    yield Plan("exchanged", "few", {}, 0, 60, (Kind.LANDMARK_MISMATCH,), "exchanged")
    yield Plan("too-short", "few", {"optim": {"epochs": 3}}, 0, None, (Kind.LEARNED_NOTHING,))
    yield Plan("shipped-2-epochs", "demo", {**_SHIPPED, "optim": {"epochs": 2}}, 0, None, STUCK)
    yield Plan("memory", "few", {}, 0, 120, (Kind.LATCHED,), plant="memory")


_LOST = (Kind.DIVERGENCE, Kind.LATCHED, *STUCK)
_LATE = (Kind.DATA_STARVATION,)
_NO_GRADIENT = (Kind.VANISHING_GRADIENTS,)
_UNPAUSED: Settings = {"optim": {"non_finite_pause": 1_000_000}}
_SHIPPED: Settings = {"model": RunConfig().model.model_dump()}


# ---------------------------------------------------------------- corpora


def still(landmarks_TKC: Float32Array) -> Float32Array:
    """Give every sample the same standing picture."""
    return np.repeat(_STANDING, len(landmarks_TKC), axis=0)


_STANDING = np.random.default_rng(0).uniform(0.2, 0.8, (1, 75, 4)).astype(np.float32)
_STANDING[:, LEFT_SHOULDER, :2], _STANDING[:, RIGHT_SHOULDER, :2] = (0.6, 0.4), (0.4, 0.4)


def twice(landmarks_TKC: Float32Array) -> Float32Array:
    """Normalise: origin between the shoulders, shoulder width 1."""
    left_TC, right_TC = landmarks_TKC[:, LEFT_SHOULDER, :3], landmarks_TKC[:, RIGHT_SHOULDER, :3]
    width_T = np.hypot(*(left_TC - right_TC)[:, :2].T)
    changed_TKC = landmarks_TKC.copy()
    changed_TKC[..., :3] -= ((left_TC + right_TC) / 2)[:, None]
    changed_TKC[..., :3] /= width_T[:, None, None]
    return changed_TKC


def unseen(landmarks_TKC: Float32Array) -> Float32Array:
    """Nobody is in the picture."""
    return np.full_like(landmarks_TKC, np.nan)


def mostly_unseen(landmarks_TKC: Float32Array) -> Float32Array:
    """Nobody is in the picture for the last two thirds."""
    changed_TKC = landmarks_TKC.copy()
    changed_TKC[len(landmarks_TKC) // 3 :] = np.nan
    return changed_TKC


def exchanged(landmarks_TKC: Float32Array) -> Float32Array:
    """Left and right hand stand in each other's place."""
    changed_TKC = landmarks_TKC.copy()
    changed_TKC[:, 33:54], changed_TKC[:, 54:75] = landmarks_TKC[:, 54:75], landmarks_TKC[:, 33:54]
    return changed_TKC


CHANGES: dict[str, Callable[[Float32Array], Float32Array]] = {
    "still": still,
    "twice": twice,
    "unseen": unseen,
    "mostly unseen": mostly_unseen,
    "exchanged": exchanged,
    "shuffled": lambda same: same,
}


def make_corpora(
    wanted: Iterable[Plan], corpora: Path, mp_data: Path | None, seed: int = 0
) -> None:
    """Make the corpora that are not there yet; ``seed`` is added to those of the small ones."""
    for plan in wanted:
        whole, changed = corpora / plan.corpus, corpus_of(plan, corpora)
        if not whole.exists():
            if plan.corpus == "mp-data":
                assert mp_data is not None
                import_mp_data(mp_data, whole, signers=parse_signers("S1=0-29,S2=30-59,S3=60-89"))
            elif plan.corpus == "demo":
                make_demo_corpus(whole)
            else:
                size = CORPORA[plan.corpus]
                make_demo_corpus(
                    whole,
                    signers=size.signers,
                    glosses=size.glosses,
                    sentences=size.sentences,
                    seed=size.seed + seed,
                )
        if not changed.exists():
            _change_corpus(whole, changed, plan.change)


def corpus_of(plan: Plan, corpora: Path) -> Path:
    """Folder of the corpus that ``plan`` trains on."""
    ending = f"-{plan.change.replace(' ', '-')}" if plan.change else ""
    return corpora / f"{plan.corpus}{ending}"


def _change_corpus(source: Path, target: Path, change: str) -> None:
    with (
        Corpus.open(source) as corpus,
        CorpusWriter(target, name=f"{source.name}, {change}", synthetic=True) as writer,
    ):
        samples = [corpus[index] for index in range(len(corpus))]
        order = np.arange(len(samples))
        if change == "shuffled":
            np.random.default_rng(0).shuffle(order)
        for sample, other in zip(samples, order, strict=True):
            glosses = samples[other].glosses
            landmarks = CHANGES[change](sample.landmarks_TKC)
            writer.add(Sample(sample.id, sample.signer, glosses, sample.fps, landmarks))


# ---------------------------------------------------------------- faults in the trainer

PLANTED_AT = 100
"""Batch at which a fault begins that begins in mid-run."""


class _Vanishing(Teacher):
    """Its gradients are scaled away."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        for parameter in self.parameters():
            parameter.register_hook(lambda gradient: gradient * 1e-8)  # type: ignore[no-untyped-call]


class _NotANumber(Teacher):
    """Its gradients are NaN from PLANTED_AT on."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.batches = 0
        first = next(self.parameters())
        first.register_hook(self._spoil)  # type: ignore[no-untyped-call]

    def _spoil(self, gradient: torch.Tensor) -> torch.Tensor:
        self.batches += 1
        return gradient * float("nan") if self.batches > PLANTED_AT else gradient


class _Frozen(Teacher):
    """Only its output layer's bias learns."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        for parameter in list(self.parameters())[:-1]:
            parameter.register_hook(torch.zeros_like)  # type: ignore[no-untyped-call]


class _Forgetting(Teacher):
    """Its output layer's weights are lost at three times PLANTED_AT, and stay so."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.batches = 0

    def forward(self, *arguments: Any) -> Any:
        self.batches += self.training
        if self.batches > 3 * PLANTED_AT:
            with torch.no_grad():
                self.head.weight.zero_()
        return super().forward(*arguments)


class _OutOfMemory(Teacher):
    """No batch fits from PLANTED_AT / 2 on."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.batches = 0

    def forward(self, *arguments: Any) -> Any:
        self.batches += self.training
        if self.training and self.batches > PLANTED_AT / 2:
            raise torch.OutOfMemoryError("planted")
        return super().forward(*arguments)


def _teacher(kind: type[Teacher]) -> Plant:
    return lambda: patch.object(trainer_module, "Teacher", kind)


@contextlib.contextmanager
def _slow_reader() -> Iterator[None]:
    original = TrainingData.train_batches

    def slow(self: TrainingData, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        step_s = 0.0
        for batch in original(self, epoch, start_batch):
            time.sleep(step_s)  # a disk that takes as long as a step, however fast this machine is
            given_s = time.perf_counter()
            yield batch
            step_s = time.perf_counter() - given_s

    with patch.object(TrainingData, "train_batches", slow):
        yield


PLANTS: dict[str, Plant] = {
    "": contextlib.nullcontext,
    "vanishing": _teacher(_Vanishing),
    "nan": _teacher(_NotANumber),
    "frozen": _teacher(_Frozen),
    "forgetting": _teacher(_Forgetting),
    "memory": _teacher(_OutOfMemory),
    "slow": _slow_reader,
    "unguarded": lambda: patch.object(batching, "check_trainable", lambda corpus: None),
}


# ---------------------------------------------------------------- training


def settings_of(plan: Plan, corpus: Path) -> RunConfig:
    """Give all settings of ``plan``; those of its model and schedule are small unless shipped."""
    own: Settings = plan.settings if isinstance(plan.settings, dict) else {}
    if plan.settings == "story":
        values = story_config(str(corpus)).model_dump(mode="json")
    else:
        values = {} if plan.settings is None else SMALL
    values = (
        {name: {**values.get(name, {}), **own.get(name, {})} for name in {*values, *own}}
        if own
        else dict(values)
    )
    values |= {"name": plan.name, "seed": plan.seed, "device": "cpu", "threads": 1}
    values["data"] = {**values.get("data", {}), "corpus": str(corpus)}
    values["checkpoint"] = {"every_batches": 0, "every_minutes": 0, "keep": 1}
    return config_from_dict(values)


def train(plan: Plan, folder: Path) -> float:
    """Train ``plan`` to its end in this process; give the seconds that it took.

    Raises:
        SignScopeError: As run_job.
    """
    started_s = time.perf_counter()
    runs = folder / "runs" / plan.name
    shutil.rmtree(runs, ignore_errors=True)
    corpus = corpus_of(plan, folder / "corpora")
    config = settings_of(plan, corpus)
    policy = parse_policy(plan.policy, config.optim.max_norm) if plan.policy else None
    control = RunControl()
    control.apply(RunEvent.START)
    with PLANTS[plan.plant]():
        run_job(
            TrainingJob(config, runs, policy=policy, max_steps=plan.max_steps),
            control,
            [_Unpaused(control)],
        )
    return time.perf_counter() - started_s


class _Unpaused:
    """Lets a run that pauses itself go on: a planted fault is to last."""

    def __init__(self, control: RunControl) -> None:
        self._control = control

    def on_run(self, total_epochs: int, batches_per_epoch: int) -> None: ...

    def on_step(self, record: StepRecord) -> None: ...

    def on_epoch(self, record: EpochRecord) -> None: ...

    def on_test(self, evaluation: Evaluation) -> None: ...

    def on_event(self, record: RunEventRecord) -> None:
        if record.kind is EventKind.PAUSED:
            self._control.apply_if_allowed(RunEvent.RESUME)


def finished_run(plan: Plan, folder: Path) -> Path | None:
    """Give the folder of the run of ``plan``; None when it was not trained to its end."""
    for path in (folder / "runs" / plan.name).glob("*/run.json"):
        if RunFolder(path.parent).info.state == "finished":
            return path.parent
    return None


def train_missing(wanted: Sequence[Plan], folder: Path, niceness: int) -> None:
    """Train those of ``wanted`` that are not in ``folder`` yet, PARALLEL at a time; tell of each."""
    missing = [plan for plan in wanted if finished_run(plan, folder) is None]
    with ProcessPoolExecutor(PARALLEL, get_context("spawn"), os.nice, (niceness,)) as pool:
        futures = [pool.submit(_told, plan, folder) for plan in missing]
        for future in as_completed(futures):
            print(json.dumps(future.result()), file=sys.stderr, flush=True)


def _told(plan: Plan, folder: Path) -> dict[str, object]:
    try:
        return {"trained": plan.name, "seconds": round(train(plan, folder), 1)}
    except SignScopeError as error:
        return {"failed": plan.name, "error": str(error)}
