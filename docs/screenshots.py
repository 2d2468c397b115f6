"""Makes the pictures of the documentation: the real window, in the middle of a real run on the demo corpus.

    python docs/screenshots.py [--out docs/images] [--batches 120] [--camera VIDEO] [--scale 2]

Needs no display. One run serves all pictures: window.png (1280 x 800, light), window-dark.png (dark),
window-large.png (2560 x 1440, light), window-small.png (1000 x 650, light), and first-start.png,
taken before the run.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

PICTURES = (
    ("window", (1280, 800), "light"),
    ("window-dark", (1280, 800), "dark"),
    ("window-large", (2560, 1440), "light"),
    ("window-small", (1000, 650), "light"),
)
LIMIT_S = 1800


def main() -> None:
    """Read the command line, prepare Qt, take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent / "images")
    parser.add_argument("--batches", type=int, default=120)
    parser.add_argument("--camera", default="")
    parser.add_argument("--scale", type=float, default=1.0)
    options = parser.parse_args()
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    os.environ["QT_SCALE_FACTOR"] = str(options.scale)
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SIGNSCOPE_SETTINGS"] = str(Path(folder) / "settings.ini")
        take_pictures(options.out, options.batches, options.camera, Path(folder) / "runs")


def take_pictures(out: Path, batches: int, camera_source: str, runs: Path) -> None:
    """Train for ``batches`` batches in the real window, then grab it in every size and theme."""
    from PySide6.QtCore import QDeadlineTimer, QEventLoop
    from PySide6.QtWidgets import QApplication

    from app.camera.camera_controller import CameraController
    from app.camera.preview_widget import PreviewWidget
    from app.main_window import ROOM_FOR_CAMERA, MainWindow
    from app.settings import WindowSettings
    from app.theme import Theme, ThemeChoice
    from app.training.run_controller import RunController
    from core.config import DEMO_CORPUS, RunConfig
    from core.corpus.demo import ensure_demo_corpus

    application = QApplication([])
    ensure_demo_corpus()
    theme = Theme(application, ThemeChoice.LIGHT)
    settings = WindowSettings()
    controller, camera = RunController(), CameraController()
    preview = PreviewWidget(camera, settings)
    window = MainWindow(
        theme=theme, settings=settings, controller=controller, camera=preview, runs_dir=runs
    )

    def pump(seconds: float) -> None:
        limit = QDeadlineTimer(round(1000 * seconds))
        while not limit.hasExpired():
            application.processEvents(QEventLoop.ProcessEventsFlag.AllEvents, 20)

    def grab(name: str, size: tuple[int, int], choice: str) -> None:
        theme.choose(ThemeChoice(choice))
        if size[0] < ROOM_FOR_CAMERA:
            window.actions_["dock.camera"].setChecked(False)
            pump(0.2)
        window.resize(*size)
        window.actions_["view.reset"].trigger()
        pump(1.5)
        window.grab().save(str(out / f"{name}.png"))
        print(out / f"{name}.png", flush=True)

    window.next_run.show_config(RunConfig())
    assert window.panel.picker.corpus == DEMO_CORPUS
    window.show()
    grab("first-start", (1280, 800), "light")
    if camera_source:
        preview.set_source(camera_source)
        preview.switch_on()
    if not window.start_run():
        raise SystemExit("the run did not start")
    limit = QDeadlineTimer(1000 * LIMIT_S)
    while window.monitor.newest < batches - 1 and controller.active and not limit.hasExpired():
        pump(0.2)
    for name, size, choice in PICTURES:
        grab(name, size, choice)
    preview.shutdown()
    controller.shutdown(120)
    window.leave()


if __name__ == "__main__":
    main()
