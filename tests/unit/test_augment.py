"""Augmentation: what must not change does not, and CTC can always still align."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.config import AugmentConfig
from core.corpus.augment import (
    augment,
    drop_frames,
    hide_stretch_,
    resample,
    tempo_positions,
    transform_,
)
from core.landmarks.layout import (
    LEFT_HAND,
    LEFT_SHOULDER,
    POSE,
    RIGHT_HAND,
    RIGHT_SHOULDER,
    Z,
    mirror,
)
from tests.unit.made_samples import make_landmarks

NOTHING = AugmentConfig(mirror=0, tempo=0, rotation_deg=0, scale=0, hand_dropout=0, frame_dropout=0)

configs = st.builds(
    AugmentConfig,
    mirror=st.floats(0, 1),
    tempo=st.floats(0, 0.9),
    rotation_deg=st.floats(0, 45),
    scale=st.floats(0, 0.9),
    hand_dropout=st.floats(0, 1),
    frame_dropout=st.floats(0, 0.9),
)
seeds = st.integers(0, 2**32 - 1)


def only(**changes: float) -> AugmentConfig:
    return NOTHING.model_copy(update=changes)


@given(configs, seeds, st.integers(1, 60), st.integers(1, 80))
def test_any_setting_keeps_enough_frames_and_the_input(
    config: AugmentConfig, seed: int, frames: int, min_frames: int
) -> None:
    landmarks_TKC = make_landmarks(frames, seed % 100)
    before = landmarks_TKC.tobytes()
    rng = np.random.default_rng(seed)
    changed_TKC = augment(landmarks_TKC, config, rng, min_frames=min_frames)
    assert len(changed_TKC) >= min(min_frames, frames)
    assert changed_TKC.shape[1:] == (75, 4)
    assert changed_TKC.dtype == np.float32
    assert not np.isinf(changed_TKC).any()
    assert np.isfinite(changed_TKC[:, POSE]).all()  # nothing there was missing
    assert landmarks_TKC.tobytes() == before
    again = augment(landmarks_TKC, config, np.random.default_rng(seed), min_frames=min_frames)
    assert again.tobytes() == changed_TKC.tobytes()


@given(seeds, st.integers(1, 60))
def test_settings_of_zero_change_nothing(seed: int, frames: int) -> None:
    landmarks_TKC = make_landmarks(frames, seed % 100)
    changed_TKC = augment(landmarks_TKC, NOTHING, np.random.default_rng(seed))
    np.testing.assert_allclose(changed_TKC, landmarks_TKC, atol=2e-6)


def test_read_only_corpus_views_are_accepted() -> None:
    landmarks_TKC = make_landmarks(20)
    landmarks_TKC.setflags(write=False)
    augment(landmarks_TKC, AugmentConfig(hand_dropout=1.0), np.random.default_rng(0))


def test_mirroring_exchanges_left_and_right() -> None:
    landmarks_TKC = make_landmarks(12)
    landmarks_TKC[3:6, LEFT_HAND] = np.nan
    mirrored_TKC = augment(landmarks_TKC, only(mirror=1), np.random.default_rng(0))
    np.testing.assert_allclose(mirrored_TKC, mirror(landmarks_TKC), atol=2e-6)
    assert np.isnan(mirrored_TKC[3:6, RIGHT_HAND]).all()


@given(st.floats(0, 0.9), seeds, st.integers(2, 400), st.integers(1, 500))
def test_tempo_stays_within_its_share_and_order(
    tempo: float, seed: int, frames: int, min_frames: int
) -> None:
    positions_T = tempo_positions(frames, tempo, np.random.default_rng(seed), min_frames)
    assert positions_T[0] == 0
    assert positions_T[-1] in (0, frames - 1) or len(positions_T) > 1
    assert (np.diff(positions_T) > 0).all()
    assert positions_T.max() <= frames - 1
    assert len(positions_T) >= min_frames
    free = tempo_positions(frames, tempo, np.random.default_rng(seed))
    assert (frames - 1) / (1 + tempo) - 1 <= len(free) <= (frames - 1) / (1 - tempo) + 2


def test_tempo_makes_sentences_longer_and_shorter() -> None:
    lengths = [len(tempo_positions(200, 0.2, np.random.default_rng(seed))) for seed in range(50)]
    assert min(lengths) < 190
    assert max(lengths) > 210


@given(st.floats(0, 0.9), seeds, st.integers(1, 100), st.integers(1, 100))
def test_dropped_frames_leave_the_order_and_enough(
    share: float, seed: int, frames: int, min_frames: int
) -> None:
    positions_T = np.arange(float(frames))
    kept_T = drop_frames(positions_T, share, np.random.default_rng(seed), min_frames)
    assert len(kept_T) >= min(frames, min_frames)
    assert (np.diff(kept_T) > 0).all()
    assert set(kept_T) <= set(positions_T)


def test_frames_are_dropped_at_the_rate_asked_for() -> None:
    kept_T = drop_frames(np.arange(10_000.0), 0.3, np.random.default_rng(0))
    assert len(kept_T) == pytest.approx(7000, abs=200)


def test_resampling_is_linear_and_neither_fills_nor_spreads_missing_points() -> None:
    landmarks_TKC = np.zeros((3, 75, 4), dtype=np.float32)
    landmarks_TKC[1] = 1
    landmarks_TKC[2] = np.nan
    resampled_TKC = resample(landmarks_TKC, np.array([0, 0.25, 1, 1.4, 1.6, 2]))
    expected_T = [0, 0.25, 1, 1, np.nan, np.nan]
    for frame_KC, expected in zip(resampled_TKC, expected_T, strict=True):
        np.testing.assert_allclose(frame_KC, np.full((75, 4), expected), atol=1e-6)


@given(st.floats(-0.7, 0.7), st.sampled_from([1.0, 4 / 3, 16 / 9]))
def test_rotation_keeps_distances_in_square_pixels_and_the_middle(
    angle: float, aspect: float
) -> None:
    landmarks_TKC = make_landmarks(5, missing=False)
    rotated_TKC = landmarks_TKC.copy()
    transform_(rotated_TKC, angle, (1.0, 1.0), aspect)
    square = np.array([aspect, 1.0])

    def distances(points_TKC: np.ndarray) -> np.ndarray:
        points = points_TKC[..., :2] * square
        return np.asarray(np.linalg.norm(points[:, :, None] - points[:, None], axis=-1))

    np.testing.assert_allclose(distances(rotated_TKC), distances(landmarks_TKC), atol=1e-5)
    pair = [LEFT_SHOULDER, RIGHT_SHOULDER]
    np.testing.assert_allclose(
        rotated_TKC[:, pair, :2].mean((0, 1)), landmarks_TKC[:, pair, :2].mean((0, 1)), atol=1e-5
    )
    across = (rotated_TKC[0, LEFT_SHOULDER, :2] - rotated_TKC[0, RIGHT_SHOULDER, :2]) * square
    assert np.arctan2(across[1], across[0]) == pytest.approx(angle, abs=1e-4)
    np.testing.assert_array_equal(rotated_TKC[..., Z:], landmarks_TKC[..., Z:])


def test_stretching_scales_about_the_body() -> None:
    landmarks_TKC = make_landmarks(5, missing=False)
    stretched_TKC = landmarks_TKC.copy()
    transform_(stretched_TKC, 0.0, (1.2, 0.9))
    middle = np.array([0.5, 0.5])
    expected = middle + (landmarks_TKC[..., :2] - middle) * [1.2, 0.9]
    np.testing.assert_allclose(stretched_TKC[..., :2], expected, atol=1e-5)
    np.testing.assert_allclose(stretched_TKC[..., Z], 1.2 * landmarks_TKC[..., Z], rtol=1e-5)


def test_a_sentence_without_a_body_is_transformed_about_the_image() -> None:
    landmarks_TKC = np.full((2, 75, 4), np.nan, dtype=np.float32)
    transform_(landmarks_TKC, 0.3, (1.1, 1.1))
    assert np.isnan(landmarks_TKC).all()


@given(seeds, st.integers(1, 90))
def test_a_hidden_stretch_is_one_short_stretch_of_one_part(seed: int, frames: int) -> None:
    landmarks_TKC = make_landmarks(frames, missing=False)
    hide_stretch_(landmarks_TKC, RIGHT_HAND, np.random.default_rng(seed))
    hidden_T = np.isnan(landmarks_TKC[:, RIGHT_HAND]).all(axis=(1, 2))
    assert 1 <= hidden_T.sum() <= max(1, round(frames / 6))
    assert (np.diff(np.flatnonzero(hidden_T)) == 1).all()
    assert np.isnan(landmarks_TKC).sum() == hidden_T.sum() * 21 * 4
