"""Small made-up samples and corpora for the tests of core/corpus."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from core.corpus.format import Sample
from core.corpus.reader import Corpus
from core.corpus.writer import CorpusWriter
from core.landmarks.layout import (
    LEFT_HAND,
    LEFT_SHOULDER,
    N_COORDS,
    N_POINTS,
    POSE,
    RIGHT_HAND,
    RIGHT_SHOULDER,
    VISIBILITY,
    Float32Array,
)


def make_landmarks(frames: int, seed: int = 0, *, missing: bool = True) -> Float32Array:
    """Random raw landmarks with plausible shoulders; parts are missing in about a tenth of the frames."""
    rng = np.random.default_rng(seed)
    landmarks_TKC = rng.uniform(0.2, 0.8, (frames, N_POINTS, N_COORDS)).astype(np.float32)
    landmarks_TKC[:, LEFT_SHOULDER, :2] = (0.62, 0.5)
    landmarks_TKC[:, RIGHT_SHOULDER, :2] = (0.38, 0.5)
    if missing:
        for hand in (slice(33, 54), slice(54, 75)):
            landmarks_TKC[rng.random(frames) < 0.1, hand] = np.nan
    return landmarks_TKC


def make_sample(
    id: str = "a",
    glosses: tuple[str, ...] = ("HOUSE",),
    signer: str = "S1",
    frames: int = 8,
    seed: int = 0,
    **changes: Any,
) -> Sample:
    landmarks_TKC = changes.pop("landmarks_TKC", make_landmarks(frames, seed))
    return Sample(id, signer, glosses, 25.0, landmarks_TKC, **changes)


def write_corpus(path: Path, samples: Iterable[Sample], **options: Any) -> Path:
    with CorpusWriter(path, **{"name": "made", **options}) as writer:
        for sample in samples:
            writer.add(sample)
    return path


def write_clips(
    path: Path,
    *,
    signers: int = 3,
    glosses: tuple[str, ...] = ("A", "B", "C", "-"),
    clips: int = 5,
    frames: int = 12,
) -> Corpus:
    """A corpus of single-gloss clips: ``clips`` of each gloss and signer, of slightly different lengths."""
    samples = [
        make_sample(
            f"S{s}/{gloss}/{n}", (gloss,), f"S{s}", frames + (n % 3), seed=1000 * s + 100 * g + n
        )
        for s in range(1, signers + 1)
        for g, gloss in enumerate(glosses)
        for n in range(clips)
    ]
    return Corpus.open(write_corpus(path, samples))


def clip_indices(sentence_id: str) -> tuple[int, ...]:
    """The corpus indices of the clips that a spliced sentence was made of, from its id alone."""
    return tuple(int(index) for index in sentence_id.rpartition(":")[2].split("."))


def to_values(landmarks_TKC: Float32Array) -> Float32Array:
    """(T, 75, 4) landmarks as (T, 258) values, missing ones as zeros; a hand's visibility is not kept."""
    filled_TKC = np.nan_to_num(landmarks_TKC)
    frames = len(filled_TKC)
    parts = (
        filled_TKC[:, POSE],
        filled_TKC[:, LEFT_HAND, :VISIBILITY],
        filled_TKC[:, RIGHT_HAND, :VISIBILITY],
    )
    return np.concatenate([part.reshape(frames, -1) for part in parts], axis=1)
