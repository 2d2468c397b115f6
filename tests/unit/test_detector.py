from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from core.errors import ModelFileError
from core.landmarks import layout
from core.landmarks.capture import ImageArray, open_source
from core.landmarks.detector import (
    LEFT,
    RIGHT,
    DetectedFrame,
    DetectedHand,
    LandmarkDetector,
    assign_hands,
)
from tests.conftest import REPOSITORY

# ---------------------------------------------------------------- which hand is which


def hand(label: str, score: float, x: float) -> DetectedHand:
    """A hand of a tenth of the image, with its wrist at x and its fingers upwards."""
    landmarks = np.full((21, 4), 0.5, dtype=np.float32)
    landmarks[:, 0] = x
    landmarks[:, 1] -= np.linspace(0, 0.1, 21, dtype=np.float32)
    return DetectedHand(label, score, landmarks)


def pose(left_x: float, right_x: float) -> np.ndarray:
    landmarks = np.full((75, 4), 0.5, dtype=np.float32)
    landmarks[layout.LEFT_WRIST, 0] = left_x
    landmarks[layout.RIGHT_WRIST, 0] = right_x
    return landmarks


NO_POSE = np.full((75, 4), np.nan, dtype=np.float32)


def where(assigned: dict[str, DetectedHand]) -> dict[str, float]:
    return {label: round(float(h.landmarks_KC[0, 0]), 3) for label, h in assigned.items()}


def test_different_labels_stay_as_they_are() -> None:
    hands = [hand(LEFT, 0.6, 0.2), hand(RIGHT, 0.9, 0.8)]
    assert where(assign_hands(hands, pose(0.8, 0.2))) == {LEFT: 0.2, RIGHT: 0.8}


def test_one_hand_keeps_its_label_and_none_gives_none() -> None:
    assert where(assign_hands([hand(LEFT, 0.6, 0.2)], pose(0.8, 0.2))) == {LEFT: 0.2}
    assert assign_hands([], pose(0.8, 0.2)) == {}


@pytest.mark.parametrize("label", [LEFT, RIGHT])
@pytest.mark.parametrize("surer_at", [0.25, 0.75])
def test_equal_labels_go_to_the_nearer_wrists(label: str, surer_at: float) -> None:
    hands = [hand(label, 0.95, surer_at), hand(label, 0.6, 1 - surer_at)]
    assert where(assign_hands(hands, pose(left_x=0.7, right_x=0.3))) == {LEFT: 0.75, RIGHT: 0.25}


def test_equal_labels_without_a_pose_go_by_score() -> None:
    hands = [hand(RIGHT, 0.6, 0.2), hand(RIGHT, 0.95, 0.8)]
    assert where(assign_hands(hands, NO_POSE)) == {RIGHT: 0.8, LEFT: 0.2}


@pytest.mark.parametrize("labels", [(LEFT, RIGHT), (RIGHT, LEFT), (RIGHT, RIGHT)])
def test_one_hand_found_twice_counts_once(labels: tuple[str, str]) -> None:
    hands = [hand(labels[0], 0.9, 0.31), hand(labels[1], 0.8, 0.32)]
    (label,) = assign_hands(hands, pose(left_x=0.7, right_x=0.3))
    assert label == RIGHT


def test_two_hands_that_touch_stay_two() -> None:
    hands = [hand(LEFT, 0.9, 0.52), hand(RIGHT, 0.8, 0.48)]
    touching = pose(left_x=0.53, right_x=0.47)
    assert where(assign_hands(hands, touching)) == {LEFT: 0.52, RIGHT: 0.48}
    assert where(assign_hands(hands, NO_POSE)) == {LEFT: 0.52, RIGHT: 0.48}


def test_points_of_a_mirrored_image_are_drawn_where_they_are_in_it() -> None:
    landmarks = np.full((75, 4), 0.25, dtype=np.float32)
    assert DetectedFrame(landmarks, 0, mirrored=False).in_image_KC is landmarks
    drawn = DetectedFrame(landmarks, 0, mirrored=True).in_image_KC
    assert drawn[0].tolist() == [0.75, 0.25, 0.25, 0.25]
    assert landmarks[0, 0] == 0.25


# ---------------------------------------------------------------- the real landmarkers


@pytest.fixture
def detector() -> Iterator[LandmarkDetector]:
    with LandmarkDetector() as opened:
        yield opened


def frames_of(path: Path, start: int, stop: int) -> list[ImageArray]:
    with open_source(path) as source:
        return [f.image_bgr for f in iter(source.read, None) if start <= f.index < stop]


def parts_present(found: DetectedFrame) -> dict[str, bool]:
    here = layout.present(found.landmarks_KC)
    return {name: bool(here[part].all()) for name, part in layout.PARTS}


@pytest.mark.models
@pytest.mark.real_data
def test_a_signer_in_a_video_and_the_same_in_a_mirror(
    detector: LandmarkDetector, real_data_dir: Path
) -> None:
    """The woman in the video shows her right hand; a mirrored copy of it must say the same."""
    images = frames_of(real_data_dir / "video" / "gestures_720p.mp4", 40, 46)
    found = [detector.detect(image, 40 * i) for i, image in enumerate(images)]
    assert [f.timestamp_ms for f in found] == [0, 40, 80, 120, 160, 200]
    last = found[-1]
    assert last.landmarks_KC.shape == (75, 4)
    assert last.landmarks_KC.dtype == np.float32
    assert parts_present(last) == {"pose": True, "left_hand": False, "right_hand": True}
    hand_wrist = last.landmarks_KC[layout.RIGHT_HAND_WRIST]
    assert np.hypot(*(hand_wrist - last.landmarks_KC[layout.RIGHT_WRIST])[:2]) < 0.15
    assert (last.landmarks_KC[layout.RIGHT_HAND, 3] == 1).all()
    assert (last.landmarks_KC[layout.POSE, 3] < 1).any()

    with LandmarkDetector(mirrored=True) as looking_into_a_mirror:
        for i, image in enumerate(images):
            reflected = looking_into_a_mirror.detect(np.ascontiguousarray(image[:, ::-1]), 40 * i)
    assert parts_present(reflected) == parts_present(last)
    both = layout.RIGHT_HAND
    assert np.abs(reflected.landmarks_KC[both, :2] - last.landmarks_KC[both, :2]).max() < 0.05
    shoulders = [layout.LEFT_SHOULDER, layout.RIGHT_SHOULDER]
    assert np.abs((reflected.landmarks_KC - last.landmarks_KC)[shoulders, :2]).max() < 0.05
    assert np.abs(reflected.in_image_KC[both, 0] - (1 - last.landmarks_KC[both, 0])).max() < 0.05


@pytest.mark.models
@pytest.mark.real_data
def test_labels_are_those_of_a_plain_image(detector: LandmarkDetector, real_data_dir: Path) -> None:
    """A left hand, as its thumb and fingers show, photographed without a mirror and without a body."""
    (image,) = frames_of(real_data_dir / "video" / "thumb_up.jpg", 0, 1)
    found = detector.detect(image, 0)
    assert parts_present(found)["left_hand"]
    assert not parts_present(found)["right_hand"]


@pytest.mark.models
@pytest.mark.real_data
def test_two_hands_get_two_sides(detector: LandmarkDetector, real_data_dir: Path) -> None:
    """A left hand and its mirror image beside each other: a person's two hands, seen from behind."""
    (image,) = frames_of(real_data_dir / "video" / "thumb_up.jpg", 0, 1)
    both = np.concatenate([image, image[:, ::-1]], axis=1)
    found = detector.detect(np.ascontiguousarray(both), 0)
    assert parts_present(found)["left_hand"]
    assert parts_present(found)["right_hand"]
    assert found.landmarks_KC[layout.LEFT_HAND, 0].max() < 0.5
    assert found.landmarks_KC[layout.RIGHT_HAND, 0].min() > 0.5


@pytest.mark.models
def test_an_empty_image_has_no_landmarks_and_times_must_rise(detector: LandmarkDetector) -> None:
    image = np.zeros((120, 160, 3), dtype=np.uint8)
    found = detector.detect(image, 5)
    assert np.isnan(found.landmarks_KC).all()
    for timestamp_ms in (5, 4):
        with pytest.raises(ValueError, match="must rise"):
            detector.detect(image, timestamp_ms)
    assert detector.last_timestamp_ms == 5
    assert np.isnan(detector.detect(image, 6).landmarks_KC).all()


@pytest.mark.models
def test_a_closed_detector_says_so_and_closes_twice() -> None:
    detector = LandmarkDetector()
    states = [detector.closed]
    detector.close()
    detector.close()
    assert [*states, detector.closed] == [False, True]
    with pytest.raises(ValueError, match="closed"):
        detector.detect(np.zeros((12, 16, 3), dtype=np.uint8), 0)


def test_missing_models_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGNSCOPE_MODELS", str(tmp_path))
    with pytest.raises(ModelFileError, match="pose_landmarker_full"):
        LandmarkDetector()


@pytest.mark.models
def test_a_forgotten_detector_leaves_the_program_in_silence() -> None:
    code = (
        "import sys, numpy; from core.landmarks.detector import LandmarkDetector;"
        "d = LandmarkDetector(); d.detect(numpy.zeros((12, 16, 3), numpy.uint8), 0);"
        "print('done'); print('heard', file=sys.stderr)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert answer.returncode == 0
    assert answer.stdout == "done\n"
    assert answer.stderr == "heard\n"


DETECTOR_WITH_LITTLE_MEMORY = """
import resource, psutil
from core.landmarks.detector import LandmarkDetector
limit = psutil.Process().memory_info().vms + (600 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    LandmarkDetector()
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.models
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere address space is not limited so")
def test_too_little_memory_for_the_models_is_a_sentence_and_no_crash() -> None:
    answer = subprocess.run(
        [sys.executable, "-c", DETECTOR_WITH_LITTLE_MEMORY],
        capture_output=True,
        text=True,
        check=True,
        cwd=REPOSITORY,
    )
    assert "CameraError There is not enough memory for the landmark models" in answer.stdout
