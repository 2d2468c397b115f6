from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from PySide6.QtCore import Qt, QThread
from PySide6.QtGui import QImage
from PySide6.QtWidgets import (
    QApplication,
    QCheckBox,
    QComboBox,
    QDockWidget,
    QFileDialog,
    QLabel,
    QMainWindow,
    QPushButton,
    QWidget,
)
from pytestqt.qtbot import QtBot

from app.camera.camera_controller import CameraController, CameraState
from app.camera.preview_thread import PreviewFrame, training_view
from app.camera.preview_widget import PreviewWidget
from core.landmarks import layout
from tests.readers import readers
from tests.silent_server import silent_server
from tests.ui.conftest import RunAsync

OFF, STARTING, ON, STOPPING = CameraState
PLENTY_MS = 30_000
_Widget = TypeVar("_Widget", bound=QWidget)


@pytest.fixture
def controller(qtbot: QtBot) -> Iterator[CameraController]:
    made = CameraController()
    yield made
    assert made.close(10), "the camera was not released"
    made.deleteLater()


@pytest.fixture(autouse=True)
def no_process_left() -> Iterator[None]:
    """Fail a test that leaves a reading process, running or not buried."""
    before = readers()
    yield
    assert [each for each in readers() if each not in before] == []


@pytest.fixture
def preview(qtbot: QtBot, controller: CameraController) -> Iterator[PreviewWidget]:
    widget = PreviewWidget(controller)
    qtbot.addWidget(widget)
    widget.resize(640, 480)
    widget.show()
    qtbot.waitExposed(widget)
    yield widget
    assert widget.shutdown(10)


@pytest.fixture
def video(real_data_dir: Path) -> str:
    return str(real_data_dir / "video" / "gestures_720p.mp4")


@pytest.fixture
def images(tmp_path: Path) -> str:
    """A folder of grey images: a camera that sees nobody."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(3):
        image = QImage(64, 48, QImage.Format.Format_RGB32)
        image.fill(0x202020 * (number + 1))
        assert image.save(str(folder / f"{number}.png"))
    return str(folder)


def wait_for_frame(
    qtbot: QtBot, controller: CameraController, wanted: Callable[[PreviewFrame], bool]
) -> PreviewFrame:
    with qtbot.waitSignal(controller.frame_ready, timeout=PLENTY_MS, check_params_cb=wanted) as got:
        pass
    assert got.args is not None
    frame = got.args[0]
    assert isinstance(frame, PreviewFrame)
    return frame


def wait_for(qtbot: QtBot, controller: CameraController, state: CameraState) -> None:
    qtbot.waitUntil(lambda: controller.state is state, timeout=PLENTY_MS)


def child(widget: PreviewWidget, kind: type[_Widget], name: str) -> _Widget:
    found = widget.findChild(kind, name)
    assert isinstance(found, kind), f"{name} is not there"
    return found


def shown(widget: PreviewWidget, kind: type[QWidget], name: str) -> bool:
    return child(widget, kind, name).isVisible()


def words(widget: PreviewWidget) -> str:
    parts = ("camera_message_heading", "camera_message_text")
    return "\n".join(child(widget, QLabel, name).text() for name in parts)


def has_right_hand(frame: PreviewFrame) -> bool:
    return bool(layout.present(frame.landmarks_KC)[layout.RIGHT_HAND].all())


def pixels_of(image: QImage) -> np.ndarray:
    image = image.convertToFormat(QImage.Format.Format_RGB32)
    array = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), -1, 4)
    return array[:, : image.width(), :3].astype(int)


# ---------------------------------------------------------------- imports


def test_importing_the_preview_imports_nothing_heavy() -> None:
    code = "import sys, app.camera.preview_widget; print(*sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    loaded = set(answer.stdout.split())
    assert "core.landmarks.models" in loaded
    assert not loaded & {"torch", "mediapipe", "cv2"}


# ---------------------------------------------------------------- a person before the camera


@pytest.mark.models
@pytest.mark.real_data
def test_the_preview_of_a_video_shows_hands(
    qtbot: QtBot, controller: CameraController, preview: PreviewWidget, video: str
) -> None:
    preview.set_source(video)
    assert controller.state is OFF, "choosing a source must not switch it on"
    times: list[int] = []
    controller.frame_ready.connect(lambda frame: times.append(frame.timestamp_ms))
    child(preview, QPushButton, "camera_switch").click()
    assert child(preview, QLabel, "camera_sign").text().startswith("Camera is on")
    assert shown(preview, QLabel, "camera_sign")
    frame = wait_for_frame(qtbot, controller, has_right_hand)
    assert controller.state is ON
    assert len(times) == len(set(times))
    assert times == sorted(times)

    # The picture differs from the bare frame exactly where the hand is drawn.
    view = preview.view
    assert view.frame is frame
    drawn = pixels_of(view.picture())
    nobody = np.full_like(frame.landmarks_KC, np.nan)
    view.frame = PreviewFrame(**(vars(frame) | {"landmarks_KC": nobody}))
    bare = pixels_of(view.picture())
    view.frame = frame
    assert drawn.shape == bare.shape == (view.height(), view.width(), 3)
    differs = np.abs(drawn - bare).max(axis=2) > 40
    scale = min(view.width() / 1280, view.height() / 720)
    left = (view.width() - 1280 * scale) / 2
    top = (view.height() - 720 * scale) / 2
    for x, y in frame.landmarks_KC[layout.RIGHT_HAND, :2]:
        if 0 <= x <= 1 and 0 <= y <= 1:
            column, row = int(left + x * 1280 * scale), int(top + y * 720 * scale)
            around = differs[max(0, row - 2) : row + 3, max(0, column - 2) : column + 3]
            assert around.any(), f"nothing is drawn at the hand's point ({x:.2f}, {y:.2f})"
    assert 0.001 < differs.mean() < 0.2

    numbers = child(preview, QLabel, "camera_numbers").text()
    assert all(word in numbers for word in ("fps", "ms", "dropped"))

    # Mirrored, the same hand is drawn on the other side of the picture.
    view.mirrored = True
    mirrored = pixels_of(view.picture())
    assert np.abs(mirrored[:, ::-1] - drawn).mean() < np.abs(mirrored - drawn).mean() / 2


@pytest.mark.models
@pytest.mark.real_data
def test_the_training_view_is_what_training_sees(
    qtbot: QtBot, controller: CameraController, preview: PreviewWidget, video: str
) -> None:
    import torch

    from core.landmarks.normalize import normalize

    preview.set_source(video)
    child(preview, QCheckBox, "camera_training_view").setChecked(True)
    preview.switch_on()
    frame = wait_for_frame(qtbot, controller, has_right_hand)
    assert frame.training_view is not None
    # As one frame in the middle of a batch of training: the very same bits.
    batch = torch.rand(3, 7, 75, 4)
    batch[1, 4] = torch.from_numpy(frame.landmarks_KC)
    seen = normalize(batch, torch.tensor([7, 7, 7]))
    view = frame.training_view
    assert np.array_equal(view.points_KC[layout.POSE], seen.pose_BTKC[1, 4, :, :2].numpy())
    assert np.array_equal(view.points_KC[layout.RIGHT_HAND], seen.right_BTKC[1, 4, :, :2].numpy())
    assert np.array_equal(view.right_KC, seen.right_BTKC[1, 4, :, 2:4].numpy())
    assert np.isnan(view.left_KC).all() == (not seen.left_mask_BTK[1, 4].any())
    as_training = pixels_of(preview.view.picture())
    child(preview, QCheckBox, "camera_training_view").setChecked(False)
    assert np.abs(as_training - pixels_of(preview.view.picture())).mean() > 5


def test_a_frame_without_shoulders_is_masked_in_the_training_view() -> None:
    view = training_view(np.full((75, 4), np.nan, dtype=np.float32))
    assert np.isnan(view.points_KC).all()
    assert np.isnan(view.left_KC).all()


# ---------------------------------------------------------------- on, off, hidden, closed


@pytest.mark.models
def test_hiding_releases_the_camera_and_showing_leaves_it_off(
    qtbot: QtBot, controller: CameraController, preview: PreviewWidget, images: str
) -> None:
    preview.set_source(images)
    preview.switch_on()
    wait_for(qtbot, controller, ON)
    assert shown(preview, QLabel, "camera_sign")
    preview.hide()
    wait_for(qtbot, controller, OFF)
    assert _running_threads() == []
    preview.show()
    QApplication.processEvents()
    assert controller.state is OFF
    assert not shown(preview, QLabel, "camera_sign")
    assert "off" in words(preview)


@pytest.mark.models
def test_the_camera_never_goes_on_out_of_sight(
    qtbot: QtBot, controller: CameraController, images: str
) -> None:
    window = QMainWindow()
    qtbot.addWidget(window)
    dock = QDockWidget("Camera", window)
    preview = PreviewWidget(controller)
    dock.setWidget(preview)
    window.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, dock)
    window.show()
    dock.hide()
    preview.set_source(images)
    preview.switch_on()
    assert preview.isVisible()
    wait_for(qtbot, controller, ON)
    dock.setFloating(True)
    QApplication.processEvents()
    assert controller.state is ON, "moving the dock is not hiding it"
    dock.close()
    wait_for(qtbot, controller, OFF)


@pytest.mark.models
def test_restarting_many_times_leaks_no_thread(
    qtbot: QtBot, controller: CameraController, images: str
) -> None:
    controller.start(images)
    wait_for(qtbot, controller, ON)
    before = threading.active_count()
    states: list[CameraState] = []
    controller.state_changed.connect(states.append)
    for _ in range(12):
        assert controller.stop(10)
        assert controller.state is OFF
        controller.start(images)
        wait_for(qtbot, controller, ON)
    assert states == [STOPPING, OFF, STARTING, ON] * 12
    assert threading.active_count() <= before
    assert _running_threads() == ["camera preview"]
    assert len(readers()) == 1
    assert controller.stop(10)
    assert _running_threads() == []


@pytest.mark.models
def test_another_source_takes_over_and_a_late_stop_wins(
    qtbot: QtBot, controller: CameraController, images: str, tmp_path: Path
) -> None:
    labels: list[str] = []
    controller.frame_ready.connect(lambda _: labels.append(controller.label))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "0.png").write_bytes((Path(images) / "0.png").read_bytes())
    controller.start(images)
    wait_for(qtbot, controller, ON)
    controller.start(str(tmp_path / "other"))
    qtbot.waitUntil(lambda: "other" in labels, timeout=PLENTY_MS)
    controller.start(images)
    controller.request_stop()
    wait_for(qtbot, controller, OFF)
    assert controller.failure is None
    assert _running_threads() == []


def test_stopping_before_anything_was_read_and_twice_is_harmless(
    qtbot: QtBot, controller: CameraController, images: str
) -> None:
    assert controller.stop()
    for _ in range(5):
        controller.start(images)
        assert controller.stop(10)
        assert controller.stop(10)
    assert controller.state is OFF
    assert _running_threads() == []


@pytest.mark.models
def test_a_source_that_hangs_is_let_go_at_once(
    qtbot: QtBot, controller: CameraController, images: str
) -> None:
    for _ in range(2):
        controller.start(images)
        wait_for(qtbot, controller, ON)
        (child,) = readers()
        child.suspend()
        assert controller.stop(10)
        assert controller.state is OFF
        assert readers() == []


@pytest.mark.models
def test_a_source_that_hangs_is_told_by_and_by(
    qtbot: QtBot, controller: CameraController, images: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.landmarks.capture_process.FRAME_LIMIT_S", 0.5)
    controller.start(images)
    wait_for(qtbot, controller, ON)
    with qtbot.waitSignal(controller.failed, timeout=PLENTY_MS) as failed:
        readers()[0].suspend()
    assert "Nothing was heard" in str(failed.args)
    assert controller.state is OFF
    assert readers() == []


# ---------------------------------------------------------------- what can go wrong


@pytest.mark.models
def test_a_source_that_fails_in_mid_stream_is_a_sentence_in_the_preview(
    qtbot: QtBot, controller: CameraController, preview: PreviewWidget, images: str
) -> None:
    broken = Path(images) / "1.png"
    broken.write_bytes(b"no picture")
    preview.set_source(images)
    with qtbot.waitSignal(controller.failed, timeout=PLENTY_MS) as failed:
        preview.switch_on()
    assert failed.args == [
        f"The image cannot be read: {broken}. Remove it from the folder or replace it."
    ]
    assert "cannot be read" in words(preview)
    assert "replace it" in words(preview)
    assert not shown(preview, QLabel, "camera_sign")
    assert not shown(preview, QPushButton, "camera_fetch")


@pytest.mark.models
def test_a_reader_that_crashes_leaves_the_window_with_a_sentence(
    qtbot: QtBot, controller: CameraController, preview: PreviewWidget, images: str
) -> None:
    preview.set_source(images)
    preview.switch_on()
    wait_for(qtbot, controller, ON)
    with qtbot.waitSignal(controller.failed, timeout=PLENTY_MS):
        readers()[0].kill()
    assert "has ended" in words(preview)
    assert controller.state is OFF
    assert child(preview, QPushButton, "camera_switch").isEnabled()


@pytest.mark.models
@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [("gone.mp4", None, "no such video file"), ("letter.mp4", "hello", "cannot be read as video")],
)
def test_a_file_that_cannot_be_read_is_a_sentence_in_the_preview(
    qtbot: QtBot,
    controller: CameraController,
    preview: PreviewWidget,
    tmp_path: Path,
    name: str,
    content: str | None,
    expected: str,
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    preview.set_source(str(path))
    with qtbot.waitSignal(controller.failed, timeout=PLENTY_MS):
        preview.switch_on()
    assert expected in words(preview)
    assert str(path) in words(preview)
    assert controller.state is OFF
    assert child(preview, QPushButton, "camera_switch").isEnabled()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ZeroDivisionError("nobody thought of this"), "nobody thought of this"),
        (MemoryError(), "There is not enough memory for the preview"),
    ],
)
def test_an_unexpected_error_is_a_sentence_too(
    qtbot: QtBot,
    controller: CameraController,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    expected: str,
) -> None:
    def explode() -> None:
        raise error

    monkeypatch.setattr("app.camera.preview_thread.missing_models", explode)
    with qtbot.waitSignal(controller.failed, timeout=PLENTY_MS) as failed:
        controller.start("0")
    assert expected in str(failed.args)


def test_without_a_camera_the_preview_says_what_to_do(
    qtbot: QtBot, controller: CameraController, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.camera.source_picker.list_cameras", list)
    widget = PreviewWidget(controller)
    qtbot.addWidget(widget)
    assert "No camera was found" in words(widget)
    assert not child(widget, QPushButton, "camera_switch").isEnabled()
    assert widget.source == ""
    widget.switch_on()
    assert controller.state is OFF


# ---------------------------------------------------------------- models


@pytest.fixture
def without_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SIGNSCOPE_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


async def until(condition: Callable[[], bool]) -> None:
    limit_s = time.monotonic() + PLENTY_MS / 1000
    while not condition():
        assert time.monotonic() < limit_s, "it did not come"
        await asyncio.sleep(0.01)


@pytest.mark.models
def test_missing_models_are_fetched_on_demand_and_the_camera_goes_on(
    controller: CameraController,
    preview: PreviewWidget,
    images: str,
    run_async: RunAsync,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    from core.landmarks import models
    from core.landmarks.model_sources import FolderSource
    from core.paths import models_dir

    have = models_dir()
    monkeypatch.setenv("SIGNSCOPE_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr(models, "default_sources", lambda: (FolderSource(have),))
    preview.set_source(images)

    async def scenario() -> None:
        preview.switch_on()
        button = child(preview, QPushButton, "camera_fetch")
        await until(button.isVisible)
        assert "landmark models" in words(preview)
        button.click()
        await until(lambda: controller.state is ON)
        assert controller.stop(10)

    run_async(scenario())
    assert {path.name for path in (tmp_path / "models").glob("*.task")} == set(models.REQUIRED)


def test_fetching_that_fails_says_why_and_can_be_tried_again(
    preview: PreviewWidget,
    images: str,
    without_models: Path,
    run_async: RunAsync,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from core.landmarks import models
    from core.landmarks.model_sources import FolderSource

    nowhere = FolderSource(without_models / "nowhere")
    monkeypatch.setattr(models, "default_sources", lambda: (nowhere,))
    preview.set_source(images)

    async def scenario() -> None:
        preview.switch_on()
        button = child(preview, QPushButton, "camera_fetch")
        await until(button.isVisible)
        button.click()
        await until(lambda: "could not be fetched" in words(preview))
        assert "nowhere" in words(preview)
        assert button.isVisible()

    run_async(scenario())


def test_fetching_from_a_proxy_that_never_answers_is_cancelled_at_once(
    preview: PreviewWidget,
    images: str,
    without_models: Path,
    run_async: RunAsync,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    preview.set_source(images)

    async def scenario() -> None:
        preview.switch_on()
        button = child(preview, QPushButton, "camera_fetch")
        await until(button.isVisible)
        for _ in range(2):  # and may be tried again at once
            button.click()
            await until(child(preview, QPushButton, "camera_fetch_cancel").isVisible)
            assert not child(preview, QPushButton, "camera_switch").isEnabled()
            child(preview, QPushButton, "camera_fetch_cancel").click()
            assert "The camera is off" in words(preview)
            assert child(preview, QPushButton, "camera_switch").isEnabled()
            preview.switch_on()
            await until(button.isVisible)

    with silent_server() as address:
        for scheme in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(scheme, address)
        run_async(scenario())
    assert list(without_models.glob("*.task")) == []


# ---------------------------------------------------------------- the picker


class Remembered:
    def __init__(self, source: str, folder: Path) -> None:
        self.camera_source = source
        self.last_folder = folder


def test_the_picker_offers_files_and_remembers_the_choice(
    qtbot: QtBot, controller: CameraController, images: str, tmp_path: Path
) -> None:
    settings = Remembered("", tmp_path)
    widget = PreviewWidget(controller, settings)
    qtbot.addWidget(widget)
    widget.show()
    picker = child(widget, QComboBox, "camera_picker")
    texts = [picker.itemText(i) for i in range(picker.count())]
    assert "Video file…" in texts
    assert "Folder of images…" in texts
    row = texts.index("Folder of images…")
    picker.setCurrentIndex(row)
    picker.activated.emit(row)
    dialog = child(widget, QFileDialog, "camera_path_dialog")
    assert dialog.isVisible()
    assert Path(dialog.directory().absolutePath()) == tmp_path
    dialog.fileSelected.emit(images)
    dialog.reject()
    assert widget.source == settings.camera_source == images
    assert settings.last_folder == Path(images).parent
    assert picker.currentText() == "images"

    again = PreviewWidget(controller, settings)
    qtbot.addWidget(again)
    assert again.source == images


@pytest.mark.models
def test_a_remembered_file_that_is_gone_is_named_when_switched_on(
    qtbot: QtBot, controller: CameraController, tmp_path: Path
) -> None:
    gone = tmp_path / "gone.mp4"
    widget = PreviewWidget(controller, Remembered(str(gone), tmp_path))
    qtbot.addWidget(widget)
    assert widget.source == str(gone)
    with qtbot.waitSignal(controller.failed, timeout=PLENTY_MS) as failed:
        widget.switch_on()
    assert failed.args == [f"There is no such video file or folder: {gone}. Check the path."]


def test_a_remembered_path_is_never_looked_at_by_the_window(
    qtbot: QtBot, controller: CameraController, images: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a network share that is away each look would hang the window."""
    looked: list[object] = []
    stat = os.stat

    def watched(path: Any, *args: Any, **named: Any) -> os.stat_result:
        if images in str(path):
            looked.append(path)
        return stat(path, *args, **named)

    monkeypatch.setattr(os, "stat", watched)
    widget = PreviewWidget(controller, Remembered(images, Path(images)))
    qtbot.addWidget(widget)
    widget.show()
    widget.set_source(images)
    assert widget.source == images
    assert looked == []


def test_mirroring_follows_the_kind_of_source_until_chosen(
    qtbot: QtBot, controller: CameraController, preview: PreviewWidget, images: str
) -> None:
    mirror = child(preview, QCheckBox, "camera_mirror")

    def mirrored_for(source: str) -> bool:
        preview.set_source(source)
        assert preview.view.mirrored == mirror.isChecked()
        return mirror.isChecked()

    assert (mirrored_for("0"), mirrored_for(images)) == (True, False)
    mirror.click()
    assert (mirrored_for("0"), mirrored_for(images)) == (True, True)


def _running_threads() -> list[str]:
    from shiboken6 import Shiboken

    return [
        thread.objectName()
        for thread in Shiboken.getAllValidWrappers()
        if isinstance(thread, QThread) and thread.objectName() and thread.isRunning()
    ]
