"""Overlaid runs: colours that stay apart for everybody, curves that lose no spike, pictures of any size."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QColor, QImage
from PySide6.QtSvg import QSvgRenderer
from pytestqt.qtbot import QtBot

from app.main_window import MainWindow
from app.runs.overlay import OverlayPlots
from app.runs.overlay_plot import OverlaidRun
from app.runs.picture import save_picture
from app.runs.run_colors import DARK_RUNS, DASHES, LIGHT_RUNS, run_style
from app.theme import DARK, LIGHT, Colors
from core.analysis.history import History
from core.errors import ExportError
from tests.unit.made_records import make_step, non_finite_step

# Machado, Oliveira, Fernandes (2009): how a dichromat sees linear RGB.
SIGHTS = {
    "everybody": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
WHITE = np.array([0.95047, 1.0, 1.08883])


def linear(color: str) -> npt.NDArray[np.float64]:
    c = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def lab(rgb: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    x = TO_XYZ @ np.clip(rgb, 0, 1) / WHITE
    f = np.where(x > 0.008856, np.cbrt(x), 7.787 * x + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("palette", [LIGHT_RUNS, DARK_RUNS], ids=["light", "dark"])
@pytest.mark.parametrize("sight", SIGHTS)
def test_colours_stay_apart(palette: tuple[str, ...], sight: str) -> None:
    seen = [lab(np.asarray(SIGHTS[sight]) @ linear(color)) for color in palette]
    nearest = min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(seen, 2))
    assert nearest >= 20


@pytest.mark.parametrize(
    ("palette", "colors"), [(LIGHT_RUNS, LIGHT), (DARK_RUNS, DARK)], ids=["light", "dark"]
)
def test_every_colour_is_seen_on_its_ground(palette: tuple[str, ...], colors: Colors) -> None:
    def luminance(color: str) -> float:
        return float(linear(color) @ [0.2126, 0.7152, 0.0722])

    for color in palette:
        low, high = sorted((luminance(color), luminance(colors.base)))
        assert (high + 0.05) / (low + 0.05) >= 3.0, color


def test_styles_repeat_only_after_every_dash() -> None:
    count = len(LIGHT_RUNS) * len(DASHES)
    assert len({run_style(place, LIGHT) for place in range(count)}) == count
    assert run_style(count, LIGHT) == run_style(0, LIGHT)


def history(steps: int, *, spike: int | None = None, bad: int | None = None) -> History:
    made = History()
    for step in range(steps):
        if step == bad:
            made.append(non_finite_step(step))
        else:
            made.append(make_step(step, loss=500.0 if step == spike else 50.0))
    return made


@pytest.fixture
def plots(qtbot: QtBot) -> Iterator[OverlayPlots]:
    view = OverlayPlots(LIGHT)
    qtbot.addWidget(view)
    view.resize(640, 480)
    with qtbot.waitExposed(view):
        view.show()
    yield view


def test_a_spike_of_one_sample_is_drawn(plots: OverlayPlots) -> None:
    plots.set_runs(
        [
            OverlaidRun("a", "a", history(20_000)),
            OverlaidRun("b", "b", history(20_000, spike=13_337, bad=13_338)),
        ]
    )
    assert plots.loss.curves["b"].highest == 500.0
    assert plots.loss.curves["b"].points <= 2 * 640
    assert plots.loss.marks["b"].count == 1
    assert plots.loss.marks["a"].count == 0
    low, high = plots.loss.view.viewRange()[1]
    assert low <= 0.0
    assert high >= 500.0


def test_the_whole_of_the_longest_run_is_in_sight(plots: OverlayPlots) -> None:
    plots.set_runs([OverlaidRun("a", "a", history(30)), OverlaidRun("b", "b", history(900))])
    first, last = plots.loss.view.viewRange()[0]
    assert first <= 0 < 899 <= last
    assert plots.norms.view.viewRange()[0] == pytest.approx([first, last])


def test_the_legend_hides_and_shows(plots: OverlayPlots, qtbot: QtBot) -> None:
    runs = [OverlaidRun("a", "a", history(30, spike=5)), OverlaidRun("b", "b", history(30))]
    plots.set_runs(runs)
    button = plots.legend.button("a")
    assert "hide" in button.toolTip()
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)  # type: ignore[no-untyped-call]
    assert not plots.loss.curves["a"].isVisible()
    assert not plots.norms.curves["a"].isVisible()
    assert plots.loss.view.viewRange()[1][1] < 100  # the range is that of what is shown
    plots.set_runs([*runs, OverlaidRun("c", "c", history(5))])
    assert not plots.loss.curves["a"].isVisible(), "another run showed the hidden one again"
    qtbot.keyClick(button, Qt.Key.Key_Space)  # type: ignore[no-untyped-call]
    assert plots.loss.curves["a"].isVisible()
    assert plots.loss.view.viewRange()[1][1] >= 500


def test_a_held_range_stays_until_fit(plots: OverlayPlots) -> None:
    growing = history(100)
    plots.set_runs([OverlaidRun("a", "a", growing)])
    plots.loss.view.setXRange(10, 20, padding=0)
    plots.loss.view.x_moved.emit()
    growing.extend([make_step(step) for step in range(100, 200)])
    plots.refresh()
    assert plots.loss.view.viewRange()[0] == pytest.approx([10, 20])
    plots.loss.view.fit_asked.emit()
    assert plots.loss.view.viewRange()[0][1] >= 199


def test_runs_that_are_gone_leave_nothing(plots: OverlayPlots) -> None:
    plots.set_runs([OverlaidRun("a", "a", history(5)), OverlaidRun("b", "b", history(5))])
    plots.set_runs([OverlaidRun("b", "b", history(5))])
    assert list(plots.loss.curves) == ["b"]
    assert plots.style_of("b") == run_style(0, LIGHT)
    plots.set_runs([])
    assert plots.runs == ()


def test_lines_are_told_beside_the_heading(plots: OverlayPlots) -> None:
    plots.set_runs([OverlaidRun("a", "a", history(5))])
    plots.set_line("norms", 100.0, "dashed: T")
    assert plots.norms.line is not None
    assert plots.norms.line.value() == pytest.approx(math.log10(100.0))
    plots.set_line("norms", None)
    assert plots.norms.line is None


def colors_in(image: QImage) -> set[str]:
    return {
        image.pixelColor(x, y).name()
        for x in range(image.width())
        for y in range(0, image.height(), 2)
    }


def test_pictures_have_the_size_and_the_curves(plots: OverlayPlots, tmp_path: Path) -> None:
    plots.set_runs([OverlaidRun("a", "a", history(300, spike=10))])
    size = QSize(517, 411)
    before = plots.size()
    for name in ("plot.png", "plot.svg"):
        save_picture(plots, tmp_path / name, size, 1.5)
    image = QImage(str(tmp_path / "plot.png"))
    assert image.size() == size
    assert QColor(LIGHT_RUNS[0]).name() in colors_in(image)
    renderer = QSvgRenderer(str(tmp_path / "plot.svg"))
    assert renderer.isValid()
    text = (tmp_path / "plot.svg").read_text()
    assert f'stroke="{LIGHT_RUNS[0]}"' in text
    assert "Gradient norm before clipping" in text
    assert plots.size() == before


def test_an_impossible_picture_is_refused(plots: OverlayPlots, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="size"):
        save_picture(plots, tmp_path / "plot.png", QSize(0, 10))
    with pytest.raises(ExportError, match="cannot be written"):
        save_picture(plots, tmp_path / "no folder" / "plot.png", QSize(100, 100))
    assert list(tmp_path.iterdir()) == []


def test_a_picture_of_the_plots_has_no_buttons(
    make_window: Callable[..., MainWindow], tmp_path: Path
) -> None:
    window = make_window()
    plot = window.monitor.loss
    seen: list[bool] = []
    save_picture(
        window.monitor.plots_view,
        tmp_path / "plots.png",
        QSize(800, 600),
        redraw=lambda: seen.append(plot.log_button.isHidden()),
    )
    assert seen[0], "the button is in the picture"
    assert not plot.log_button.isHidden(), "the button is gone from the window"
