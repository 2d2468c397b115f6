"""What is asked of a corpus before it is trained on: that it may be, and what its landmarks look like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from core.corpus.format import RAW
from core.corpus.reader import Corpus
from core.errors import AlreadyNormalizedError, CorpusError
from core.landmarks.input_statistics import InputStatistics, measure_inputs
from core.landmarks.layout import LARGEST_VALUE

CLIPS_MEASURED: Final = 32
"""Samples looked at: some thousand frames of all signers, measured in some 20 ms."""


def check_trainable(corpus: Corpus) -> None:
    """Refuse a corpus that must not be trained on; TrainingData calls this.

    Checks the bytes of all shards, what the schema says about the landmarks, and the numbers of a
    sample of clips spread over the corpus. Imports torch.

    Raises:
        AlreadyNormalizedError: The schema says, or the numbers look as if, landmarks are normalised.
        CorpusError: The corpus is empty or damaged.
    """
    from core.landmarks.normalize import refuse_if_normalized  # keeps torch out of readers

    if not corpus.raw:
        said = ", ".join(sorted(corpus.said_landmarks - {RAW}))
        raise AlreadyNormalizedError(
            f"The corpus says that its landmarks are {said!r}, not raw",
            subject=str(corpus.path),
            hint="Training normalises landmarks itself, exactly once; normalised twice they lose hand "
            "size and position. A corpus is refused when its schema says that it is normalised, or when "
            "its numbers look it. Import or record it again without normalisation.",
        )
    if not len(corpus):
        raise CorpusError(
            "The corpus has no samples",
            subject=str(corpus.path),
            hint="Import or record some first.",
        )
    corpus.verify()
    for index in _spread(range(len(corpus))):
        refuse_if_normalized(
            corpus.landmarks_of(index), subject=f"{corpus.path}, sample {corpus.ids[index]}"
        )


def has_absurd_landmarks(corpus: Corpus, index: int) -> bool:
    """Tell whether sample ``index`` has a value that is no landmark; writers refuse such, up to 0.1.0 they did not."""
    return bool((np.abs(corpus.landmarks_of(index)) > LARGEST_VALUE).any())


def measure_training_inputs(corpus: Corpus, indices: Sequence[int]) -> InputStatistics:
    """Measure samples spread over the training split, as they are stored. Imports torch.

    Not the batches: augmentation turns and mirrors landmarks within the image, which moves those that
    were normalised away from the origin by which they are known.
    """
    return measure_inputs(
        [corpus.landmarks_of(index) for index in _spread(indices)[:CLIPS_MEASURED]]
    )


def _spread(indices: Sequence[int]) -> Sequence[int]:
    return indices[:: max(1, len(indices) // CLIPS_MEASURED)]
