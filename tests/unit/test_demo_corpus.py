"""The demo corpus: reproducible, labelled synthetic, and with all the variety that it promises."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from core.corpus import demo
from core.corpus.demo import (
    DEMO_GLOSSES,
    DEMO_SIGNERS,
    demo_corpus_path,
    ensure_demo_corpus,
    make_demo_corpus,
)
from core.corpus.reader import Corpus
from core.corpus.training_inputs import check_trainable
from core.landmarks.layout import (
    LEFT_HAND,
    LEFT_HAND_WRIST,
    LEFT_SHOULDER,
    LEFT_WRIST,
    POSE,
    RIGHT_HAND,
    RIGHT_HAND_WRIST,
    RIGHT_SHOULDER,
    RIGHT_WRIST,
    Float32Array,
)
from core.landmarks.normalize import normalize


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corpus]:
    """All signers and glosses, 15 sentences each."""
    path = tmp_path_factory.mktemp("demo") / "demo"
    make_demo_corpus(path, sentences=15 * DEMO_SIGNERS)
    with Corpus.open(path) as opened:
        yield opened


def of_signer(corpus: Corpus, signer: str) -> Float32Array:
    return np.concatenate([s.landmarks_TKC for s in corpus if s.signer == signer])


def test_it_is_labelled_synthetic_and_can_be_trained_on(corpus: Corpus) -> None:
    assert corpus.synthetic
    assert "synthetic" in corpus.name
    assert "Not a sign language" in corpus.note
    check_trainable(corpus)


def test_it_has_the_promised_variety(corpus: Corpus) -> None:
    assert len(corpus.signers) >= 8
    assert len(DEMO_GLOSSES) >= 20
    assert set(corpus.glosses) == set(DEMO_GLOSSES)
    assert all(6 <= len(glosses) <= 10 for glosses in corpus.glosses_of)
    assert all(a != b for glosses in corpus.glosses_of for a, b in pairwise(glosses))
    assert all(60 <= frames <= 260 for frames in corpus.frames_of)
    assert {sample.fps for sample in corpus} == {25.0, 30.0}


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    def fingerprint(name: str, seed: int) -> str:
        make_demo_corpus(tmp_path / name, signers=2, glosses=5, sentences=6, seed=seed)
        return Corpus.open(tmp_path / name).fingerprint

    assert fingerprint("a", 7) == fingerprint("b", 7)
    assert fingerprint("c", 8) != fingerprint("a2", 7)


def test_timings_are_exact_ordered_and_leave_room_for_transitions(corpus: Corpus) -> None:
    for sample in corpus:
        assert sample.timings is not None
        assert len(sample.timings) == len(sample.glosses)
        edges = [0, *(edge for timing in sample.timings for edge in timing), sample.frames]
        gaps = np.diff(edges)
        assert (gaps[1:-1:2] >= 5).all()  # each sign lasts
        assert (gaps[::2] >= 2).all()  # before, between and after signs the hands travel


def test_signs_can_be_told_apart_at_their_timings_also_of_an_unseen_signer(corpus: Corpus) -> None:
    """A linear classifier on the middle of each sign, fitted to the other signers, must nearly always be right."""
    features, glosses, signers = [], [], []
    for sample in corpus:
        batch = torch.from_numpy(sample.landmarks_TKC.copy())[None]
        body = normalize(batch, torch.tensor([sample.frames]))
        frames = torch.cat(
            [
                part[0].flatten(1)
                for part in (body.pose_BTKC[:, :, :23], body.left_BTKC, body.right_BTKC)
            ],
            dim=1,
        )
        assert sample.timings is not None
        for gloss, (start, end) in zip(sample.glosses, sample.timings, strict=True):
            if sample.signer in ("D04", "D08"):
                continue  # left-handed
            third = (end - start) // 3
            features.append(frames[start + third : end - third].mean(0).numpy())
            glosses.append(gloss)
            signers.append(sample.signer)
    x_ND, gloss_N, signer_N = np.stack(features), np.array(glosses), np.array(signers)
    unseen_N = signer_N == "D10"
    x_ND = np.hstack([(x_ND - x_ND.mean(0)) / (x_ND.std(0) + 0.05), np.ones((len(x_ND), 1))])
    y_NG = (gloss_N[:, None] == np.array(DEMO_GLOSSES)).astype(np.float64)
    seen_ND = x_ND[~unseen_N].astype(np.float64)
    ridge = seen_ND.T @ seen_ND + 10 * np.eye(x_ND.shape[1])
    weights_DG = np.linalg.solve(ridge, seen_ND.T @ y_NG[~unseen_N])
    guesses = np.array(DEMO_GLOSSES)[(x_ND[unseen_N] @ weights_DG).argmax(axis=1)]
    assert np.mean(guesses == gloss_N[unseen_N]) > 0.9


def test_bodies_are_plausible(corpus: Corpus) -> None:
    for signer in corpus.signers:
        landmarks_TKC = of_signer(corpus, signer)
        pose_TKC = landmarks_TKC[:, POSE]
        assert np.isfinite(pose_TKC).all()
        assert ((pose_TKC[..., 3] >= 0) & (pose_TKC[..., 3] <= 1)).all()
        # The signer's left is on the right of an image that is not mirrored.
        assert (pose_TKC[:, LEFT_SHOULDER, 0] > pose_TKC[:, RIGHT_SHOULDER, 0]).all()
        assert (pose_TKC[:, 0, 1] < pose_TKC[:, LEFT_SHOULDER, 1]).all()
        for wrist, hand_wrist in (
            (LEFT_WRIST, LEFT_HAND_WRIST),
            (RIGHT_WRIST, RIGHT_HAND_WRIST),
        ):
            seen_T = np.isfinite(landmarks_TKC[:, hand_wrist, 0])
            apart = landmarks_TKC[seen_T, wrist, :2] - landmarks_TKC[seen_T, hand_wrist, :2]
            assert np.abs(apart).max() < 0.04
            assert np.abs(landmarks_TKC[seen_T, hand_wrist, 2]).max() < 1e-6


def test_bones_keep_their_length(corpus: Corpus) -> None:
    """In depth-free units a forearm is never longer than the longest one, and moves smoothly."""
    for signer in corpus.signers:
        sample = next(s for s in corpus if s.signer == signer)
        assert sample.aspect is not None
        square = np.array([sample.aspect, 1.0])
        wrists = sample.landmarks_TKC[:, [LEFT_WRIST, RIGHT_WRIST], :2] * square
        elbows = sample.landmarks_TKC[:, [13, 14], :2] * square
        width = np.linalg.norm(
            (
                sample.landmarks_TKC[:, LEFT_SHOULDER, :2]
                - sample.landmarks_TKC[:, RIGHT_SHOULDER, :2]
            )
            * square,
            axis=-1,
        ).mean()
        assert (np.linalg.norm(wrists - elbows, axis=-1) < 1.05 * width).all()
        speed = np.linalg.norm(np.diff(wrists, axis=0), axis=-1) / width
        assert speed.max() < 0.8
        assert np.percentile(speed, 90) > 0.03  # and it does move


def test_hands_are_lost_now_and_then_as_a_whole_and_sometimes_both(corpus: Corpus) -> None:
    lost = []
    for sample in corpus:
        parts = []
        for hand in (LEFT_HAND, RIGHT_HAND):
            missing_TKC = np.isnan(sample.landmarks_TKC[:, hand])
            missing_T = missing_TKC.all(axis=(1, 2))
            assert (missing_TKC.any(axis=(1, 2)) == missing_T).all()
            parts.append(missing_T)
        lost.append(np.stack(parts, axis=1))
    share = np.concatenate(lost).mean(axis=0)
    assert (share > 0.05).all()
    assert (share < 0.6).all()
    stretches = sum(int((np.diff(hand.astype(int)) == 1).sum()) for both in lost for hand in both.T)
    assert stretches > len(corpus)


def test_signers_differ(corpus: Corpus) -> None:
    widths, lost_hands = {}, {}
    for signer in corpus.signers:
        landmarks_TKC = of_signer(corpus, signer)
        widths[signer] = float(
            np.mean(landmarks_TKC[:, LEFT_SHOULDER, 0] - landmarks_TKC[:, RIGHT_SHOULDER, 0])
        )
        moved = [
            np.abs(np.diff(landmarks_TKC[:, wrist, 1])).mean()
            for wrist in (LEFT_WRIST, RIGHT_WRIST)
        ]
        lost_hands[signer] = moved[0] > moved[1]
    assert len({round(width, 4) for width in widths.values()}) == len(widths)
    assert {signer for signer, left in lost_hands.items() if left} == {"D04", "D08"}


def test_progress_counts_to_the_end(tmp_path: Path) -> None:
    said: list[tuple[int, int]] = []
    make_demo_corpus(
        tmp_path / "d", signers=3, sentences=7, progress=lambda *step: said.append(step)
    )
    assert said == [(3, 7), (5, 7), (7, 7)]
    assert len(Corpus.open(tmp_path / "d")) == 7
    assert Corpus.open(tmp_path / "d").signers == ("D01", "D02", "D03")


@pytest.mark.parametrize(
    ("signers", "glosses", "sentences"), [(0, 5, 5), (2, 0, 5), (2, 99, 5), (2, 5, 0)]
)
def test_counts_out_of_range_are_refused(
    tmp_path: Path, signers: int, glosses: int, sentences: int
) -> None:
    with pytest.raises(ValueError, match="cannot make"):
        make_demo_corpus(tmp_path / "d", signers=signers, glosses=glosses, sentences=sentences)


def test_it_is_made_once_and_again_when_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []

    def make_small(path: Path, **options: object) -> None:
        made.append(path)
        make_demo_corpus(path, signers=2, sentences=2, replace=True)

    monkeypatch.setattr(demo, "make_demo_corpus", make_small)
    path = ensure_demo_corpus()
    assert path == demo_corpus_path()
    first = Corpus.open(path).fingerprint
    ensure_demo_corpus()
    assert len(made) == 1
    next(path.glob("shard-*.arrow")).write_bytes(b"torn")
    ensure_demo_corpus()
    assert len(made) == 2
    assert Corpus.open(path).fingerprint == first
