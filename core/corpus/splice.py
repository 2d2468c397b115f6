"""Sentences for CTC made of clips: which clips in which order, and the landmarks they join to.

A spliced sentence holds clips of one signer in random order, joined by short transitions that are
interpolated linearly, with idle clips in between now and then. Joined signs have no co-articulation:
never call them continuous signing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.config import DataConfig
from core.corpus.reader import Corpus
from core.landmarks.layout import N_COORDS, N_POINTS, Float32Array


@dataclass(frozen=True, slots=True)
class SentencePlan:
    """How one sentence is made; equal plans give equal landmarks."""

    id: str  # of a spliced sentence "name:12.3.40", the numbers being its clips' places in the corpus
    clips: tuple[int, ...]  # corpus indices in order, idle clips among them
    transitions: tuple[int, ...]  # interpolated frames before each clip but the first
    glosses: tuple[str, ...]  # targets, idle left out
    frames: int  # before augmentation


def whole_clip(corpus: Corpus, index: int, idle_gloss: str) -> SentencePlan:
    """Plan a sentence that is one sample as it is."""
    glosses = tuple(gloss for gloss in corpus.glosses_of[index] if gloss != idle_gloss)
    return SentencePlan(corpus.ids[index], (index,), (), glosses, corpus.frames_of[index])


class Splicer:
    """Plans sentences from single-gloss clips of a corpus.

    Args:
        corpus: The corpus; only its columns are read.
        indices: Clips that may be used, idle ones among them. At least one must not be idle.
        config: How many glosses, how long transitions, how often idle clips.
    """

    def __init__(self, corpus: Corpus, indices: Sequence[int], config: DataConfig) -> None:
        self._corpus = corpus
        self._config = config
        self._signs: list[int] = []
        self._signs_of: dict[str, list[int]] = defaultdict(list)
        self._idle_of: dict[str, list[int]] = defaultdict(list)
        for index in indices:
            signer = corpus.signers_of[index]
            if corpus.glosses_of[index] == (config.idle_gloss,):
                self._idle_of[signer].append(index)
            else:
                self._signs.append(index)
                self._signs_of[signer].append(index)

    def plan(self, name: str, rng: np.random.Generator) -> SentencePlan:
        """Plan one sentence of one signer, who is drawn in proportion to the number of their clips."""
        config, corpus = self._config, self._corpus
        signer = corpus.signers_of[_any_of(self._signs, rng)]
        count = int(rng.integers(config.glosses_min, config.glosses_max + 1))
        signs = [_any_of(self._signs_of[signer], rng) for _ in range(count)]
        clips = signs[:1]
        for sign in signs[1:]:
            if self._idle_of[signer] and rng.random() < config.idle_chance:
                clips.append(_any_of(self._idle_of[signer], rng))
            clips.append(sign)
        transitions = rng.integers(0, config.transition_frames + 1, len(clips) - 1).tolist()
        return SentencePlan(
            id=f"{name}:{'.'.join(map(str, clips))}",
            clips=tuple(clips),
            transitions=tuple(transitions),
            glosses=tuple(corpus.glosses_of[sign][0] for sign in signs),
            frames=sum(corpus.frames_of[clip] for clip in clips) + sum(transitions),
        )


def assemble(corpus: Corpus, plan: SentencePlan) -> Float32Array:
    """Give the raw landmarks of a planned sentence, (T, 75, 4).

    A single clip is read-only, as the corpus gives it. In a transition a point that is missing on
    either side stays missing.
    """
    if len(plan.clips) == 1:
        return corpus.landmarks_of(plan.clips[0])
    landmarks_TKC = np.empty((plan.frames, N_POINTS, N_COORDS), dtype=np.float32)
    end = 0
    for clip, transition in zip(plan.clips, (0, *plan.transitions), strict=True):
        clip_TKC = corpus.landmarks_of(clip)
        start = end + transition
        if transition:
            weight_T11 = np.arange(1, transition + 1, dtype=np.float32)[:, None, None] / (
                transition + 1
            )
            before_KC = landmarks_TKC[end - 1]
            landmarks_TKC[end:start] = before_KC + weight_T11 * (clip_TKC[0] - before_KC)
        end = start + len(clip_TKC)
        landmarks_TKC[start:end] = clip_TKC
    return landmarks_TKC


def _any_of(indices: Sequence[int], rng: np.random.Generator) -> int:
    return indices[int(rng.integers(len(indices)))]
