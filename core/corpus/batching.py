"""Batches of sentences: what the trainer sees of a corpus.

Batch ``(epoch, position)`` is a pure function of corpus, settings and seed: a run that is resumed in
the middle of an epoch gets the same bytes as one that was never interrupted.

Shape letters: B sentences, T frames, K points, C coordinates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Final, Literal

import numpy as np
import torch
from torch import Tensor

from core.config import DataConfig
from core.corpus.augment import augment
from core.corpus.reader import Corpus
from core.corpus.splice import SentencePlan, Splicer, assemble, whole_clip
from core.corpus.splits import Splits, make_splits
from core.corpus.training_inputs import check_trainable, has_absurd_landmarks
from core.corpus.vocabulary import Vocabulary
from core.errors import CorpusError
from core.landmarks.layout import LARGEST_VALUE, N_COORDS, N_POINTS, Float32Array

# One stream of random numbers per purpose, so that a change to one leaves the others as they are.
_TRAIN_STREAM, _EVAL_STREAM, _ORDER_STREAM, _AUGMENT_STREAM = 1, 2, 3, 4

_POOL_BATCHES: Final = 25
"""Sentences are sorted by length within pools of this many batches: little padding, much variety."""

_ABSURD: Final = f"landmarks beyond {LARGEST_VALUE:g}, which are no fractions of an image"

_LONGEST_SEARCH = 1 << 20

Split = Literal["dev", "test"]


@dataclass(frozen=True, slots=True)
class Batch:
    """Sentences padded to one length. Tensors are on the cpu."""

    sample_ids: tuple[str, ...]
    landmarks_BTKC: Tensor  # float32 raw, NaN where missing and where padded
    lengths_B: Tensor  # int64, frames of each sentence
    targets: Tensor  # int64, classes of all glosses, sentence after sentence
    target_lengths_B: Tensor  # int64, glosses of each sentence
    glosses: tuple[tuple[str, ...], ...]

    @property
    def frames(self) -> int:
        """Frames in the batch, padding not counted."""
        return int(self.lengths_B.sum())

    def __len__(self) -> int:
        return len(self.sample_ids)


@dataclass(frozen=True, slots=True)
class UnalignableSample:
    """A sample that CTC cannot align: its loss would be infinite. Listed, left out, counted."""

    id: str
    frames: int
    encoded: int  # encoder steps that it becomes (with its like, when spliced)
    needed: int  # encoder steps that its glosses and repeats need
    reason: str


@dataclass(frozen=True, slots=True)
class LeftOutSample:
    """A sample that is not used for another reason; listed and counted."""

    id: str
    reason: str


class TrainingData:
    """Splits, vocabulary and batches of one run. Methods may be called from any one thread at a time.

    Args:
        corpus: Opened corpus; must stay open. Its bytes are verified here.
        config: Settings of the data.
        seed: The run's seed.
        encoded_length: Encoder steps that a number of frames becomes; must not fall as frames rise.

    Raises:
        AlreadyNormalizedError: The corpus holds normalised landmarks.
        CorpusError: No sample of a split can be used (but for a dev split that is a share of training:
            then there is none), a signer unknown, no gloss is there, a shard is damaged, or splicing is
            asked for and a sample has several glosses.
    """

    def __init__(
        self,
        corpus: Corpus,
        config: DataConfig,
        *,
        seed: int,
        encoded_length: Callable[[int], int],
    ) -> None:
        check_trainable(corpus)
        self.corpus = corpus
        self.config = config
        self.spliced = _decide_splicing(corpus, config)
        self.splits: Splits = make_splits(corpus, config, seed)
        self._seed = seed
        self._encoded_length = encoded_length
        self._least_frames = cache(self._search_least_frames)
        self._unalignable: list[UnalignableSample] = []
        self._left_out: list[LeftOutSample] = []
        train = self._alignable(self.splits.train)
        self._check_long_enough(train)
        self.vocabulary = Vocabulary(
            sorted({gloss for i in train for gloss in self._targets_of(i)})
        )
        self._usable: dict[str, tuple[int, ...]] = {
            "train": train,
            "dev": self._known(self._alignable(self.splits.dev)),
            "test": self._known(self._alignable(self.splits.test)),
        }
        if not config.dev_signers and not self._has_sign("dev"):
            self._usable["dev"] = ()
        self._check_usable()
        self._splicers = {
            name: Splicer(corpus, indices, config)
            for name, indices in self._usable.items()
            if self.spliced and indices
        }

    @property
    def unalignable(self) -> tuple[UnalignableSample, ...]:
        """Samples of all splits that CTC cannot align, with the reason; none is in any batch."""
        return tuple(self._unalignable)

    @property
    def left_out(self) -> tuple[LeftOutSample, ...]:
        """Samples left out for other reasons: without a sign, with a gloss that training lacks, or absurd."""
        return tuple(self._left_out)

    @property
    def has_dev(self) -> bool:
        """Whether there is a dev split to measure progress on."""
        return bool(self._usable["dev"])

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences about what a person would not expect of this corpus."""
        found = []
        if not self.has_dev:
            found.append(
                "There is no dev split: no signer has a second usable sample of a gloss. Word errors are not "
                "measured while training, and no epoch can be the best"
            )
        absurd = [sample.id for sample in self._left_out if sample.reason == _ABSURD]
        if absurd:
            found.append(
                f"{len(absurd)} sample(s) left out: {_ABSURD}; the first is {absurd[0]}. Import "
                "the recordings again, x and y as fractions of the image"
            )
        return tuple(found)

    @property
    def sentences_per_epoch(self) -> int:
        """Training sentences in each epoch."""
        return self.config.sentences_per_epoch if self.spliced else len(self._usable["train"])

    @property
    def batches_per_epoch(self) -> int:
        """Training batches in each epoch; the last may be smaller, none is dropped."""
        return -(-self.sentences_per_epoch // self.config.batch_size)

    def train_batches(self, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        """Give the training batches of ``epoch`` (from 1) from position ``start_batch`` on."""
        for batch in self._order(epoch)[start_batch:]:
            yield self._make_batch([(plan, self._augmented(plan, epoch, n)) for n, plan in batch])

    def eval_batches(self, split: Split) -> Iterator[Batch]:
        """Give the fixed, unaugmented batches of a split, short sentences first; none for an empty one."""
        plans = sorted(self._eval_plans(split), key=lambda plan: plan.frames)
        size = self.config.batch_size
        for start in range(0, len(plans), size):
            chosen = plans[start : start + size]
            yield self._make_batch([(plan, assemble(self.corpus, plan)) for plan in chosen])

    def describe(self) -> str:
        """Say in one line what is trained and measured on, and what was left out."""
        how = "spliced into sentences" if self.spliced else "as recorded"
        parts = [
            f"{len(self.vocabulary)} glosses, samples {how}",
            *(self._describe_split(name) for name in ("train", "dev", "test")),
        ]
        if self._unalignable:
            parts.append(f"{len(self._unalignable)} left out because CTC cannot align them")
        if self._left_out:
            reasons = sorted({sample.reason for sample in self._left_out})
            parts.append(f"{len(self._left_out)} left out otherwise ({', '.join(reasons)})")
        return "; ".join(parts)

    def _describe_split(self, name: str) -> str:
        indices = self._usable[name]
        signers = sorted({self.corpus.signers_of[i] for i in indices})
        of = f" of {', '.join(signers)}" if signers else ""
        return f"{name} {len(indices)}{of}"

    def _targets_of(self, index: int) -> tuple[str, ...]:
        idle = self.config.idle_gloss
        return tuple(gloss for gloss in self.corpus.glosses_of[index] if gloss != idle)

    # --- which samples can be used ---

    def _alignable(self, indices: Sequence[int]) -> tuple[int, ...]:
        check = self._fault_when_spliced if self.spliced else self._fault_as_is
        usable = []
        for index in indices:
            if has_absurd_landmarks(self.corpus, index):
                self._left_out.append(LeftOutSample(self.corpus.ids[index], _ABSURD))
                continue
            if not self.spliced and not self._targets_of(index):
                self._left_out.append(LeftOutSample(self.corpus.ids[index], "no sign in it"))
                continue
            fault = check(index)
            if fault is None:
                usable.append(index)
            else:
                self._unalignable.append(fault)
        return tuple(usable)

    def _fault_as_is(self, index: int) -> UnalignableSample | None:
        glosses = self._targets_of(index)
        frames, needed = self.corpus.frames_of[index], needed_length(glosses)
        encoded = self._encoded_length(frames)
        if encoded >= needed:
            return None
        reason = (
            f"{len(glosses)} glosses with {needed - len(glosses)} repeats need {needed} encoder steps, "
            f"its {frames} frames become {encoded}"
        )
        return UnalignableSample(self.corpus.ids[index], frames, encoded, needed, reason)

    def _fault_when_spliced(self, index: int) -> UnalignableSample | None:
        """Refuse clips that could make a sentence too short, were all its glosses the same.

        Sentences of clips that each pass can be aligned: with n clips of at least ``frames`` frames,
        the sentence has at least n * frames.
        """
        frames = self.corpus.frames_of[index]
        for count in range(1, self.config.glosses_max + 1):
            encoded, needed = self._encoded_length(count * frames), 2 * count - 1
            if encoded < needed:
                reason = (
                    f"a sentence of {count} such clips of {frames} frames becomes {encoded} encoder steps "
                    f"and may need {needed}"
                )
                return UnalignableSample(self.corpus.ids[index], frames, encoded, needed, reason)
        return None

    def _known(self, indices: Sequence[int]) -> tuple[int, ...]:
        usable = []
        for index in indices:
            unknown = [gloss for gloss in self._targets_of(index) if gloss not in self.vocabulary]
            if unknown:
                reason = f"gloss {unknown[0]} does not occur in training"
                self._left_out.append(LeftOutSample(self.corpus.ids[index], reason))
            else:
                usable.append(index)
        return tuple(usable)

    def _check_long_enough(self, train: Sequence[int]) -> None:
        """Refuse a corpus whose signs are all too short, rather than say that it has no glosses."""
        if self._unalignable and not any(self._targets_of(i) for i in train):
            first = self._unalignable[0]
            raise CorpusError(
                "No training sample with a sign is long enough for the encoder: "
                f"{len(self._unalignable)} are too short",
                subject=str(self.corpus.path),
                hint=f"The first is {first.id}: {first.reason}. Use longer clips, or fewer strides (model.strides).",
            )

    def _has_sign(self, split: str) -> bool:
        return any(self._targets_of(i) for i in self._usable[split])

    def _check_usable(self) -> None:
        wanted = {
            "train": True,
            "dev": bool(self.config.dev_signers),
            "test": bool(self.config.test_signers),
        }
        for name in wanted:
            if wanted[name] and not self._has_sign(name):
                raise CorpusError(
                    f"The {name} split has no sample that can be used",
                    subject=str(self.corpus.path),
                    hint=f"Of all samples {len(self._unalignable)} cannot be aligned by CTC and "
                    f"{len(self._left_out)} were left out for other reasons. Change the signers of the "
                    "splits or the corpus.",
                )

    # --- sentences ---

    def _rng(self, *stream: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence([self._seed, *stream]))

    def _train_plans(self, epoch: int) -> list[SentencePlan]:
        if not self.spliced:
            idle = self.config.idle_gloss
            return [whole_clip(self.corpus, index, idle) for index in self._usable["train"]]
        rng = self._rng(_TRAIN_STREAM, epoch)
        splicer = self._splicers["train"]
        return [
            splicer.plan(f"train-e{epoch}-{n}", rng) for n in range(self.config.sentences_per_epoch)
        ]

    def _eval_plans(self, split: Split) -> list[SentencePlan]:
        if not self._usable[split]:
            return []
        if not self.spliced:
            idle = self.config.idle_gloss
            return [whole_clip(self.corpus, index, idle) for index in self._usable[split]]
        rng = self._rng(_EVAL_STREAM, ("dev", "test").index(split))
        splicer = self._splicers[split]
        return [splicer.plan(f"{split}-{n}", rng) for n in range(self.config.dev_sentences)]

    def _order(self, epoch: int) -> list[list[tuple[int, SentencePlan]]]:
        """Give the epoch's batches as numbered plans: like lengths together, batches in random order."""
        plans = self._train_plans(epoch)
        rng = self._rng(_ORDER_STREAM, epoch)
        shuffled = [int(n) for n in rng.permutation(len(plans))]
        size = self.config.batch_size
        batches = []
        for start in range(0, len(shuffled), size * _POOL_BATCHES):
            pool = shuffled[start : start + size * _POOL_BATCHES]
            pool.sort(key=lambda n: plans[n].frames)
            batches += [pool[i : i + size] for i in range(0, len(pool), size)]
        return [[(n, plans[n]) for n in batches[b]] for b in rng.permutation(len(batches))]

    def _augmented(self, plan: SentencePlan, epoch: int, number: int) -> Float32Array:
        return augment(
            assemble(self.corpus, plan),
            self.config.augment,
            self._rng(_AUGMENT_STREAM, epoch, number),
            min_frames=self._least_frames(needed_length(plan.glosses)),
            aspect=self.corpus.aspect_of(plan.clips[0]),
        )

    def _search_least_frames(self, encoded: int) -> int:
        """Give the fewest frames that become at least ``encoded`` encoder steps."""
        high = 1
        while self._encoded_length(high) < encoded:
            high *= 2
            if high > _LONGEST_SEARCH:
                raise ValueError(f"encoded_length never reaches {encoded}")
        low = high // 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._encoded_length(middle) < encoded else (low, middle)
        return high

    def _make_batch(self, sentences: Sequence[tuple[SentencePlan, Float32Array]]) -> Batch:
        lengths = [len(landmarks_TKC) for _, landmarks_TKC in sentences]
        padded_BTKC = np.full(
            (len(sentences), max(lengths), N_POINTS, N_COORDS), np.nan, dtype=np.float32
        )
        for row_TKC, (_, landmarks_TKC) in zip(padded_BTKC, sentences, strict=True):
            row_TKC[: len(landmarks_TKC)] = landmarks_TKC
        glosses = tuple(plan.glosses for plan, _ in sentences)
        return Batch(
            sample_ids=tuple(plan.id for plan, _ in sentences),
            landmarks_BTKC=torch.from_numpy(padded_BTKC),
            lengths_B=torch.tensor(lengths, dtype=torch.int64),
            targets=torch.tensor(
                [number for g in glosses for number in self.vocabulary.encode(g)], dtype=torch.int64
            ),
            target_lengths_B=torch.tensor([len(g) for g in glosses], dtype=torch.int64),
            glosses=glosses,
        )


def needed_length(glosses: Sequence[str]) -> int:
    """Give the encoder steps that CTC needs: one a gloss, one more between two equal neighbours."""
    repeats = sum(a == b for a, b in pairwise(glosses))
    return len(glosses) + repeats


def _decide_splicing(corpus: Corpus, config: DataConfig) -> bool:
    several = next((i for i, g in enumerate(corpus.glosses_of) if len(g) != 1), None)
    if config.sentences == "splice" and several is not None:
        raise CorpusError(
            f"Only clips of one gloss can be spliced, sample {corpus.ids[several]!r} has "
            f"{len(corpus.glosses_of[several])}",
            subject=str(corpus.path),
            hint="Set sentences to 'clips' or 'auto'.",
        )
    return config.sentences == "splice" or (config.sentences == "auto" and several is None)
