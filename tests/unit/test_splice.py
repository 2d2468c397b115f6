"""Spliced sentences: one signer, exact joints, nothing invented where points are missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.config import DataConfig
from core.corpus.reader import Corpus
from core.corpus.splice import SentencePlan, Splicer, assemble, whole_clip
from core.landmarks.layout import LEFT_HAND
from tests.unit.made_samples import (
    clip_indices,
    make_landmarks,
    make_sample,
    write_clips,
    write_corpus,
)

CONFIG = DataConfig(glosses_min=2, glosses_max=5, transition_frames=3, idle_chance=0.5)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return write_clips(tmp_path / "clips")


def plans(corpus: Corpus, config: DataConfig = CONFIG, count: int = 60) -> list[SentencePlan]:
    splicer = Splicer(corpus, range(len(corpus)), config)
    rng = np.random.default_rng(0)
    return [splicer.plan(f"train-e1-{n}", rng) for n in range(count)]


def test_sentences_keep_to_the_settings(corpus: Corpus) -> None:
    made = plans(corpus)
    assert {len(plan.glosses) for plan in made} == {2, 3, 4, 5}
    assert {gap for plan in made for gap in plan.transitions} == {0, 1, 2, 3}
    assert {corpus.signers_of[plan.clips[0]] for plan in made} == {"S1", "S2", "S3"}
    for plan in made:
        assert len({corpus.signers_of[clip] for clip in plan.clips}) == 1
        assert len(plan.transitions) == len(plan.clips) - 1
        assert len(assemble(corpus, plan)) == plan.frames


def test_idle_is_inserted_between_signs_and_never_a_target(corpus: Corpus) -> None:
    made = plans(corpus)
    inserted = 0
    for plan in made:
        all_glosses = [corpus.glosses_of[clip][0] for clip in plan.clips]
        assert tuple(gloss for gloss in all_glosses if gloss != "-") == plan.glosses
        assert all_glosses[0] != "-"
        assert all_glosses[-1] != "-"
        inserted += all_glosses.count("-")
    joints = sum(len(plan.glosses) - 1 for plan in made)
    assert 0.3 < inserted / joints < 0.7
    never = plans(corpus, CONFIG.model_copy(update={"idle_chance": 0.0}))
    assert all(len(plan.clips) == len(plan.glosses) for plan in never)


def test_the_same_seed_gives_the_same_sentences_and_bytes(corpus: Corpus) -> None:
    first, second = plans(corpus), plans(corpus)
    assert first == second
    assert assemble(corpus, first[0]).tobytes() == assemble(corpus, second[0]).tobytes()
    assert len({plan.clips for plan in first}) > 50


def test_the_id_tells_the_clips(corpus: Corpus) -> None:
    for plan in plans(corpus):
        assert clip_indices(plan.id) == plan.clips


def test_clips_stand_unchanged_in_the_sentence(corpus: Corpus) -> None:
    for plan in plans(corpus, count=10):
        sentence_TKC = assemble(corpus, plan)
        end = 0
        for clip, gap in zip(plan.clips, (0, *plan.transitions), strict=True):
            start = end + gap
            end = start + corpus.frames_of[clip]
            found = sentence_TKC[start:end].tobytes()
            assert found == corpus.landmarks_of(clip).tobytes()


def test_transitions_are_straight_and_missing_points_stay_missing(tmp_path: Path) -> None:
    before = make_landmarks(4, 1, missing=False)
    after = make_landmarks(4, 2, missing=False)
    after[0, LEFT_HAND] = np.nan
    samples = [make_sample("x", landmarks_TKC=before), make_sample("y", landmarks_TKC=after)]
    corpus = Corpus.open(write_corpus(tmp_path / "c", samples))
    plan = SentencePlan("s:0.1", (0, 1), (3,), ("HOUSE", "HOUSE"), 11)
    sentence_TKC = assemble(corpus, plan)
    for step in (1, 2, 3):
        expected_KC = before[-1] + (after[0] - before[-1]) * step / 4
        np.testing.assert_allclose(sentence_TKC[3 + step], expected_KC, rtol=1e-5)
    assert np.isnan(sentence_TKC[4:7, LEFT_HAND]).all()
    assert not np.isnan(np.delete(sentence_TKC[4:7], np.r_[LEFT_HAND], axis=1)).any()


def test_a_whole_clip_is_that_of_the_corpus(corpus: Corpus) -> None:
    plan = whole_clip(corpus, 7, "-")
    assert plan.id == corpus.ids[7]
    assert assemble(corpus, plan).tobytes() == corpus.landmarks_of(7).tobytes()
