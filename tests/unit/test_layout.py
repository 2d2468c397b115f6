from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import MalformedInputError
from core.landmarks import layout
from tests.unit.made_samples import to_values


def random_values(frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.1, 0.9, (frames, layout.VALUES)).astype(np.float32)


def test_names_and_parts_cover_all_points_once() -> None:
    assert len(layout.POINT_NAMES) == len(set(layout.POINT_NAMES)) == layout.N_POINTS == 75
    covered = [point for _, part in layout.PARTS for point in range(75)[part]]
    assert covered == list(range(75))
    assert layout.VALUES == 258


def test_named_indices_are_the_named_points() -> None:
    names = layout.POINT_NAMES
    assert names[layout.LEFT_SHOULDER] == "left_shoulder"
    assert names[layout.RIGHT_SHOULDER] == "right_shoulder"
    assert names[layout.LEFT_WRIST] == "left_wrist"
    assert names[layout.RIGHT_WRIST] == "right_wrist"
    assert names[layout.LEFT_HAND_WRIST] == "left_hand_wrist"
    assert names[layout.RIGHT_HAND_WRIST] == "right_hand_wrist"


def test_mirror_index_is_an_involution_that_keeps_only_the_nose() -> None:
    assert (layout.MIRROR[layout.MIRROR] == np.arange(75)).all()
    assert np.flatnonzero(np.arange(75) == layout.MIRROR).tolist() == [layout.NOSE]
    assert layout.MIRROR[layout.LEFT_HAND].tolist() == list(range(75))[layout.RIGHT_HAND]


def test_edges_stay_within_a_part_and_mirror_onto_edges() -> None:
    part_of = {point: name for name, part in layout.PARTS for point in range(75)[part]}
    edges = {frozenset(edge) for edge in layout.EDGES}
    assert len(edges) == len(layout.EDGES)
    for a, b in layout.EDGES:
        assert part_of[a] == part_of[b]
        assert frozenset((int(layout.MIRROR[a]), int(layout.MIRROR[b]))) in edges


def test_values_land_where_the_layout_says() -> None:
    values = np.arange(1, layout.VALUES + 1, dtype=np.float32)[None]
    landmarks = layout.from_values(values)
    assert landmarks.shape == (1, 75, 4)
    assert landmarks.dtype == np.float32
    assert landmarks[0, 0].tolist() == [1, 2, 3, 4]
    assert landmarks[0, 32].tolist() == [129, 130, 131, 132]
    assert landmarks[0, layout.LEFT_HAND_WRIST].tolist() == [133, 134, 135, 1]
    assert landmarks[0, layout.RIGHT_HAND_WRIST].tolist() == [196, 197, 198, 1]
    assert landmarks[0, 74].tolist() == [256, 257, 258, 1]


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=6))
def test_undetected_parts_are_missing_and_come_back_as_zeros(
    detected: list[tuple[bool, bool, bool]],
) -> None:
    values = random_values(len(detected))
    bounds = ((0, 132), (132, 195), (195, 258))
    for frame, flags in enumerate(detected):
        for (start, stop), seen in zip(bounds, flags, strict=True):
            if not seen:
                values[frame, start:stop] = 0
    landmarks = layout.from_values(values)
    here = layout.present(landmarks)
    for frame, flags in enumerate(detected):
        for (_, part), seen in zip(layout.PARTS, flags, strict=True):
            assert here[frame, part].all() == seen
            assert np.isnan(landmarks[frame, part]).all() == (not seen)
    assert (to_values(landmarks) == values).all()


def test_mirror_exchanges_sides_and_keeps_what_is_missing() -> None:
    landmarks = layout.from_values(random_values(3))
    landmarks[1, layout.LEFT_HAND] = np.nan
    before = landmarks.copy()
    mirrored = layout.mirror(landmarks)
    assert np.array_equal(landmarks, before, equal_nan=True)
    left, right = layout.LEFT_SHOULDER, layout.RIGHT_SHOULDER
    assert mirrored[0, left, 0] == 1 - landmarks[0, right, 0]
    assert (mirrored[0, left, 1:] == landmarks[0, right, 1:]).all()
    assert not layout.present(mirrored)[1, layout.RIGHT_HAND].any()
    assert layout.present(mirrored)[1, layout.LEFT_HAND].all()
    np.testing.assert_allclose(layout.mirror(mirrored), landmarks, atol=1e-7)


@pytest.mark.parametrize("shape", [(258,), (3, 257), (2, 3, 258)])
def test_wrong_number_of_values_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(MalformedInputError, match="258"):
        layout.from_values(np.zeros(shape, dtype=np.float32))


def test_wrong_landmark_arrays_are_refused() -> None:
    with pytest.raises(MalformedInputError, match="75"):
        layout.mirror(np.zeros((2, 74, 4), dtype=np.float32))
    with pytest.raises(MalformedInputError, match="int64"):
        layout.check_landmarks(np.zeros((2, 75, 4), dtype=np.int64))
