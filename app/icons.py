"""The window's icons: drawn once as SVG, coloured by the theme in force."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

from PySide6.QtCore import QByteArray, QSize, Qt
from PySide6.QtGui import QIcon, QPainter, QPixmap
from PySide6.QtSvg import QSvgRenderer

_SIZES = (16, 20, 24, 32, 48, 64)


@lru_cache(maxsize=128)
def _source(name: str) -> str:
    return (files("resources") / "icons" / f"{name}.svg").read_text(encoding="utf-8")


def _pixmap(name: str, color: str, size: int) -> QPixmap:
    renderer = QSvgRenderer(QByteArray(_source(name).replace("currentColor", color).encode()))
    pixmap = QPixmap(QSize(size, size))
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    renderer.render(painter)
    painter.end()
    return pixmap


def icon(name: str, color: str, disabled: str | None = None) -> QIcon:
    """Give ``resources/icons/NAME.svg`` drawn in ``color``, and in ``disabled`` where it is disabled.

    Raises FileNotFoundError for an unknown name. GUI thread only.
    """
    result = QIcon()
    for size in _SIZES:
        result.addPixmap(_pixmap(name, color, size))
        if disabled is not None:
            result.addPixmap(_pixmap(name, disabled, size), QIcon.Mode.Disabled)
    return result


def application_icon() -> QIcon:
    """Give the program's own mark, which keeps its colours."""
    result = QIcon()
    for size in (*_SIZES, 128, 256):
        result.addPixmap(_pixmap("signscope", "#ffffff", size))
    return result
