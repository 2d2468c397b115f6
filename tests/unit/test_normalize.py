from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from core.errors import AlreadyNormalizedError
from core.landmarks import layout
from core.landmarks.normalize import (
    MIN_SHOULDER_WIDTH,
    NormalizedLandmarks,
    double_normalization_gap,
    normalize,
    refuse_if_normalized,
)

FIELDS = (
    "pose_BTKC",
    "left_BTKC",
    "right_BTKC",
    "pose_mask_BTK",
    "left_mask_BTK",
    "right_mask_BTK",
)


def raw(batch: int = 2, frames: int = 5, seed: int = 0) -> Tensor:
    """A signer somewhere in the image: shoulders about a third of it apart."""
    landmarks = torch.rand(
        batch, frames, 75, 4, generator=torch.Generator().manual_seed(seed)
    ).float()
    landmarks[:, :, layout.LEFT_SHOULDER, 0] = landmarks[:, :, layout.LEFT_SHOULDER, 0] * 0.1 + 0.6
    landmarks[:, :, layout.RIGHT_SHOULDER, 0] = (
        landmarks[:, :, layout.RIGHT_SHOULDER, 0] * 0.1 + 0.3
    )
    return landmarks


def full(landmarks: Tensor) -> Tensor:
    return torch.full((landmarks.shape[0],), landmarks.shape[1])


def as_coordinates(normalized: NormalizedLandmarks) -> Tensor:
    """What a script that normalises twice feeds in: normalised values where raw ones belong."""
    hands = [
        torch.cat([hand[..., :2], hand[..., 4:]], dim=-1)
        for hand in (normalized.left_BTKC, normalized.right_BTKC)
    ]
    xyz = torch.cat([normalized.pose_BTKC, *hands], dim=2)
    return torch.cat([xyz, torch.ones_like(xyz[..., :1])], dim=-1)


def assert_close(a: NormalizedLandmarks, b: NormalizedLandmarks, atol: float) -> None:
    for name in FIELDS:
        torch.testing.assert_close(getattr(a, name), getattr(b, name), atol=atol, rtol=0)


def test_against_a_frame_worked_out_by_hand() -> None:
    landmarks = torch.full((1, 1, 75, 4), 0.5)
    landmarks[0, 0, layout.LEFT_SHOULDER] = torch.tensor([0.7, 0.5, 0.2, 1])
    landmarks[0, 0, layout.RIGHT_SHOULDER] = torch.tensor([0.3, 0.5, 0.0, 1])
    landmarks[0, 0, layout.NOSE] = torch.tensor([0.6, 0.3, -0.3, 1])
    landmarks[0, 0, layout.LEFT_HAND_WRIST] = torch.tensor([0.9, 0.7, 0.0, 1])
    landmarks[0, 0, layout.LEFT_HAND_WRIST + 8] = torch.tensor([0.8, 0.5, -0.1, 1])
    result = normalize(landmarks, torch.tensor([1]))
    expected_nose = torch.tensor([0.25, -0.5, -1.0])
    torch.testing.assert_close(result.pose_BTKC[0, 0, layout.NOSE], expected_nose)
    torch.testing.assert_close(
        result.left_BTKC[0, 0, 8], torch.tensor([0.75, 0.0, -0.25, -0.5, -0.25])
    )
    torch.testing.assert_close(result.left_BTKC[0, 0, 0, 2:], torch.zeros(3))


@given(
    dx=st.floats(-2, 2), dy=st.floats(-2, 2), scale=st.floats(0.25, 4), seed=st.integers(0, 10_000)
)
@settings(max_examples=40, deadline=None)
def test_position_and_size_in_the_image_do_not_matter(
    dx: float, dy: float, scale: float, seed: int
) -> None:
    landmarks = raw(seed=seed)
    landmarks[0, 1, layout.LEFT_HAND] = torch.nan
    landmarks[1, 2, :33] = torch.nan
    moved = landmarks.clone()
    moved[..., :3] *= scale
    moved[..., 0] += dx
    moved[..., 1] += dy
    lengths = full(landmarks)
    assert_close(normalize(landmarks, lengths), normalize(moved, lengths), atol=2e-4)


def test_missing_hand_is_masked_with_zeros_and_the_rest_is_untouched() -> None:
    landmarks = raw()
    whole = normalize(landmarks, full(landmarks))
    landmarks[0, 1, layout.LEFT_HAND] = torch.nan
    result = normalize(landmarks, full(landmarks))
    assert not result.left_mask_BTK[0, 1].any()
    assert (result.left_BTKC[0, 1] == 0).all()
    assert result.left_mask_BTK[0, 0].all()
    assert torch.equal(result.right_BTKC, whole.right_BTKC)
    assert torch.equal(result.pose_BTKC, whole.pose_BTKC)
    assert result.right_mask_BTK.all()


def test_a_single_missing_point_is_masked_alone_and_a_missing_wrist_takes_the_hand() -> None:
    landmarks = raw()
    landmarks[0, 0, layout.RIGHT_HAND_WRIST + 4, 1] = torch.nan
    landmarks[0, 1, layout.RIGHT_HAND_WRIST] = torch.inf
    result = normalize(landmarks, full(landmarks))
    assert result.right_mask_BTK[0, 0].sum() == 20
    assert not result.right_mask_BTK[0, 0, 4]
    assert not result.right_mask_BTK[0, 1].any()
    assert torch.isfinite(result.right_BTKC).all()


@pytest.mark.parametrize("shoulder", [layout.LEFT_SHOULDER, layout.RIGHT_SHOULDER])
def test_a_frame_without_a_shoulder_is_masked_altogether(shoulder: int) -> None:
    landmarks = raw()
    landmarks[1, 3, shoulder] = torch.nan
    result = normalize(landmarks, full(landmarks))
    for values, mask in (
        (result.pose_BTKC, result.pose_mask_BTK),
        (result.left_BTKC, result.left_mask_BTK),
        (result.right_BTKC, result.right_mask_BTK),
    ):
        assert not mask[1, 3].any()
        assert (values[1, 3] == 0).all()
        assert mask[1, 2].all()


def test_shoulders_on_one_spot_stay_finite_and_use_the_smallest_scale() -> None:
    landmarks = raw(1, 1)
    landmarks[0, 0, layout.LEFT_SHOULDER] = landmarks[0, 0, layout.RIGHT_SHOULDER]
    result = normalize(landmarks, full(landmarks))
    expected = (
        landmarks[0, 0, 0, :3] - landmarks[0, 0, layout.LEFT_SHOULDER, :3]
    ) / MIN_SHOULDER_WIDTH
    torch.testing.assert_close(result.pose_BTKC[0, 0, 0], expected)


def test_padding_is_masked_whatever_it_holds() -> None:
    landmarks = raw(2, 4)
    lengths = torch.tensor([4, 2])
    result = normalize(landmarks, lengths)
    assert not result.pose_mask_BTK[1, 2:].any()
    assert result.pose_mask_BTK[1, :2].all()
    padded = landmarks.clone()
    padded[1, 2:] = torch.nan
    assert_close(result, normalize(padded, lengths), atol=0)


@given(seed=st.integers(0, 10_000), frames=st.integers(1, 40), missing=st.floats(0, 0.5))
@settings(max_examples=30, deadline=None)
def test_a_frame_alone_and_within_a_batch_gives_the_same_bits(
    seed: int, frames: int, missing: float
) -> None:
    landmarks = raw(3, frames, seed)
    gone = torch.rand(3, frames, 75, generator=torch.Generator().manual_seed(seed)) < missing
    landmarks[gone] = torch.nan
    together = normalize(landmarks, full(landmarks))
    for sample in range(3):
        for frame in (0, frames // 2, frames - 1):
            alone = normalize(landmarks[sample, frame][None, None], torch.tensor([1]))
            for name in FIELDS:
                assert torch.equal(
                    getattr(alone, name)[0, 0], getattr(together, name)[sample, frame]
                )


def test_normalising_the_result_is_refused() -> None:
    landmarks = raw()
    once = normalize(landmarks, full(landmarks))
    with pytest.raises(AlreadyNormalizedError, match="second time"):
        normalize(once, full(landmarks))  # type: ignore[arg-type]


def test_raw_numbers_pass_and_normalised_numbers_are_refused_with_the_explanation() -> None:
    landmarks = raw(1, 20)
    refuse_if_normalized(landmarks[0].numpy(), subject="clip")
    put_back = as_coordinates(normalize(landmarks, full(landmarks)))[0].numpy()
    with pytest.raises(AlreadyNormalizedError) as caught:
        refuse_if_normalized(put_back, subject="clip 7")
    assert caught.value.subject == "clip 7"
    assert "100%" in caught.value.what
    assert "says that it is normalised" in caught.value.hint
    assert "numbers look it" in caught.value.hint


def test_centred_only_and_scaled_only_numbers_are_refused_too() -> None:
    landmarks = raw(1, 20)[0]
    middle = (landmarks[:, layout.LEFT_SHOULDER] + landmarks[:, layout.RIGHT_SHOULDER]) / 2
    centred = landmarks.clone()
    centred[..., :2] -= middle[:, None, :2]
    across = landmarks[:, layout.LEFT_SHOULDER] - landmarks[:, layout.RIGHT_SHOULDER]
    scaled = landmarks / across[:, :2].norm(dim=-1)[:, None, None]
    for numbers in (centred, scaled):
        with pytest.raises(AlreadyNormalizedError):
            refuse_if_normalized(numbers.numpy(), subject="clip")


def test_recordings_without_shoulders_say_nothing() -> None:
    refuse_if_normalized(np.full((4, 75, 4), np.nan, dtype=np.float32), subject="empty")
    refuse_if_normalized(np.zeros((4, 75, 4), dtype=np.float32), subject="zeros")
    refuse_if_normalized(np.zeros((0, 75, 4), dtype=np.float32), subject="no frames")


def test_gap_of_a_second_normalisation_tells_raw_from_normalised() -> None:
    landmarks = raw(2, 10)
    landmarks[0, :5, layout.LEFT_HAND] = torch.nan
    assert double_normalization_gap(landmarks) > 0.5
    put_back = as_coordinates(normalize(landmarks, full(landmarks)))
    assert double_normalization_gap(put_back[:, 5:]) < 1e-4
    assert np.isnan(double_normalization_gap(torch.full((1, 2, 75, 4), torch.nan)))


@pytest.mark.parametrize(
    ("landmarks", "lengths"),
    [
        (torch.zeros(5, 75, 4), torch.tensor([5])),
        (torch.zeros(1, 5, 75, 3), torch.tensor([5])),
        (torch.zeros(1, 5, 75, 4, dtype=torch.int64), torch.tensor([5])),
        (torch.zeros(1, 5, 75, 4), torch.tensor([5, 5])),
        (torch.zeros(1, 5, 75, 4), torch.tensor([5.0])),
    ],
)
def test_wrong_shapes_and_types_are_refused(landmarks: Tensor, lengths: Tensor) -> None:
    with pytest.raises(ValueError, match="must be"):
        normalize(landmarks, lengths)


def test_an_array_is_refused() -> None:
    with pytest.raises(ValueError, match="tensor"):
        normalize(np.zeros((1, 5, 75, 4)), torch.tensor([5]))  # type: ignore[arg-type]


def test_moving_to_a_device_keeps_everything() -> None:
    landmarks = raw()
    result = normalize(landmarks, full(landmarks))
    assert_close(result.to("cpu"), result, atol=0)
    assert result.lengths_B.dtype == torch.int64


@pytest.mark.real_data
def test_real_clips_look_raw_and_normalise_to_finite_numbers(real_data_dir: Path) -> None:
    data = np.load(real_data_dir / "traduttore-asl" / "landmarks.npz", allow_pickle=False)
    clips = data["X"][::45]
    landmarks = np.stack([layout.from_values(clip) for clip in clips])
    for clip in landmarks:
        refuse_if_normalized(clip, subject="clip")
    batch = torch.from_numpy(landmarks)
    result = normalize(batch, full(batch))
    for name in FIELDS[:3]:
        assert torch.isfinite(getattr(result, name)).all()
    assert result.pose_BTKC.abs().amax() < 30
    assert double_normalization_gap(batch) > 0.5
