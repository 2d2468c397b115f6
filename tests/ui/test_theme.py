"""Colours that can be read, and told apart by everybody."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from PySide6.QtWidgets import QApplication, QLineEdit, QRadioButton, QWidget
from pytestqt.qtbot import QtBot

from app.theme import DARK, LIGHT, Colors, Theme, ThemeChoice

Array = npt.NDArray[np.float64]

# Machado, Oliveira and Fernandes 2009, full deficiency, on linear RGB.
DEFICIENCIES = {
    "none": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}


def linear(color: str) -> Array:
    values = np.array([int(color[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(first: str, second: str) -> float:
    """Contrast ratio as WCAG 2 defines it."""
    light, dark = sorted(
        (float(linear(color) @ [0.2126, 0.7152, 0.0722]) for color in (first, second)), reverse=True
    )
    return (light + 0.05) / (dark + 0.05)


def lab(rgb: Array) -> Array:
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz = to_xyz @ np.clip(rgb, 0, 1) / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("colors", [LIGHT, DARK], ids=["light", "dark"])
def test_text_and_curves_stand_out_from_their_background(colors: Colors) -> None:
    for name in ("text", "muted", "warning", "error", "success"):
        for background in (colors.base, colors.window):
            assert contrast(getattr(colors, name), background) >= 4.5, name
    assert contrast(colors.on_accent, colors.accent) >= 4.5
    assert contrast(colors.warning, colors.warning_fill) >= 4.5
    assert contrast(colors.text, colors.error_fill) >= 4.5
    for name in ("loss", "norm_pre", "norm_post", "limit", "large", "mark", "disabled"):
        assert contrast(getattr(colors, name), colors.base) >= 3.0, name


@pytest.mark.parametrize("colors", [LIGHT, DARK], ids=["light", "dark"])
def test_controls_stand_out_from_what_they_lie_on(colors: Colors) -> None:
    for name in ("field", "accent"):
        for background in (colors.base, colors.window, colors.button):
            assert contrast(getattr(colors, name), background) >= 3.0, (name, background)


@pytest.mark.parametrize("choice", [ThemeChoice.LIGHT, ThemeChoice.DARK])
@pytest.mark.parametrize("kind", [QLineEdit, QRadioButton])
def test_the_border_of_a_field_and_of_a_radio_button_is_painted_to_be_seen(
    theme: Theme, qtbot: QtBot, choice: ThemeChoice, kind: type[QLineEdit] | type[QRadioButton]
) -> None:
    theme.choose(choice)
    try:
        around = QWidget()
        control = kind(around)
        control.setGeometry(10, 10, 100, 30)
        qtbot.addWidget(around)
        picture = around.grab().toImage()
        line = [picture.pixelColor(x, 25).name() for x in range(10, 30)]
        assert max(contrast(color, theme.colors.window) for color in line) >= 3.0
    finally:
        theme.choose(ThemeChoice.LIGHT)


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
@pytest.mark.parametrize("colors", [LIGHT, DARK], ids=["light", "dark"])
def test_the_curves_of_one_plot_are_told_apart(colors: Colors, deficiency: str) -> None:
    seen = DEFICIENCIES[deficiency]
    for one, other in itertools.combinations((colors.norm_pre, colors.norm_post), 2):
        distance = np.linalg.norm(lab(seen @ linear(one)) - lab(seen @ linear(other)))
        assert distance > 40, "a distance of 2 is just noticeable, 40 is plain"


def test_a_choice_takes_effect_and_is_announced_once(qapp: QApplication) -> None:
    theme = Theme(qapp, ThemeChoice.LIGHT)
    announced: list[bool] = []

    def remember() -> None:
        announced.append(theme.colors.dark)

    theme.changed.connect(remember)
    theme.choose(ThemeChoice.DARK)
    theme.choose(ThemeChoice.DARK)
    theme.choose(ThemeChoice.LIGHT)
    assert announced == [True, False]
