"""How a picture, its landmarks and the training view are drawn. Plain functions over a QPainter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from PySide6.QtCore import QLineF, QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QFont, QImage, QPainter, QPen, QTransform

from app.camera.preview_thread import PreviewFrame, TrainingView
from core.landmarks.layout import (
    EDGES,
    LEFT_HAND,
    N_POSE,
    POSE,
    RIGHT_HAND,
    VISIBILITY,
    present,
)

POSE_COLOR: Final = "#f4f6f8"
LEFT_COLOR: Final = "#f0922e"
RIGHT_COLOR: Final = "#56b4e9"
"""Orange and sky blue stay apart for colour-blind people, and on skin as on dark cloth."""

_OUTLINE: Final = QColor(0, 0, 0, 150)
_SEEN: Final = 0.5
_HAND_EDGES: Final = tuple(
    (a - LEFT_HAND.start, b - LEFT_HAND.start)
    for a, b in EDGES
    if LEFT_HAND.start <= a < LEFT_HAND.stop
)

_POSE_EDGES: Final = tuple((a, b) for a, b in EDGES if b < N_POSE)
_Points = npt.NDArray[np.float32]
_Edges = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class ViewColors:
    """Colours of the training view, taken from the theme in force."""

    background: QColor
    text: QColor
    muted: QColor
    faint: QColor
    left: QColor
    right: QColor


def picture_rect(frame: PreviewFrame, area: QRectF) -> QRectF:
    """Give the largest rectangle of the picture's shape in the middle of the area."""
    size = frame.image.size().toSizeF().scaled(area.size(), Qt.AspectRatioMode.KeepAspectRatio)
    result = QRectF(0, 0, size.width(), size.height())
    result.moveCenter(area.center())
    return result


def draw_picture(painter: QPainter, area: QRectF, frame: PreviewFrame, *, mirrored: bool) -> None:
    """Draw the picture with its landmarks into the area, as in a mirror if asked."""
    rect = picture_rect(frame, area)
    painter.save()
    painter.setClipRect(rect)
    if mirrored:
        painter.setTransform(QTransform(-1, 0, 0, 1, rect.left() + rect.right(), 0), combine=True)
    painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
    painter.drawImage(rect, frame.image)
    draw_landmarks(painter, rect, frame.landmarks_KC)
    painter.restore()


def draw_landmarks(painter: QPainter, rect: QRectF, landmarks_KC: _Points) -> None:
    """Draw (75, 4) raw landmarks over the picture that fills ``rect``."""
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    unit = max(1.0, rect.height() / 360)
    here_K = present(landmarks_KC)
    x_K = rect.left() + landmarks_KC[:, 0] * rect.width()
    y_K = rect.top() + landmarks_KC[:, 1] * rect.height()
    points_KC = np.stack([x_K, y_K], axis=1)
    seen_K = here_K & (np.nan_to_num(landmarks_KC[:, VISIBILITY]) >= _SEEN)
    pose = QColor(POSE_COLOR)
    guessed = QColor(POSE_COLOR)  # a hidden joint is where the landmarker guesses it: drawn faintly
    guessed.setAlpha(70)
    clear = _joined(_POSE_EDGES, seen_K)
    faint = tuple(edge for edge in _joined(_POSE_EDGES, here_K) if edge not in clear)
    _bones(painter, points_KC, faint, guessed, unit, outline=False)
    _bones(painter, points_KC, clear, pose, 1.6 * unit)
    pose_K = seen_K.copy()
    pose_K[POSE.stop :] = False
    _dots(painter, points_KC[pose_K], pose, 2.2 * unit)
    for hand, color in ((LEFT_HAND, LEFT_COLOR), (RIGHT_HAND, RIGHT_COLOR)):
        _skeleton(painter, points_KC[hand], QColor(color), 2.0 * unit)


def draw_training_view(
    painter: QPainter, area: QRectF, view: TrainingView, colors: ViewColors
) -> None:
    """Draw one normalised frame: the body in shoulder widths, each hand apart around its wrist."""
    painter.fillRect(area, colors.background)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    inset = min(area.width() / 3.5, area.height() / 2)
    body = QRectF(area)
    body.setRight(area.right() - inset)
    if np.isnan(view.points_KC[POSE]).all():
        painter.setPen(colors.text)
        flags = Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap
        painter.drawText(
            body.adjusted(16, 16, -16, -16),
            int(flags),
            "No shoulders found: training masks this frame.",
        )
    unit = min(body.width() / 4.4, body.height() / 3.6)
    middle = QPointF(body.center().x(), body.top() + 0.47 * body.height())
    painter.setPen(QPen(colors.faint, 1, Qt.PenStyle.DashLine))
    painter.drawLine(QLineF(body.left(), middle.y(), body.right(), middle.y()))
    painter.drawLine(QLineF(middle.x(), body.top(), middle.x(), body.bottom()))
    width = max(1.5, unit / 60)
    points_KC = _placed(view.points_KC, middle, unit)
    here_K = _finite(points_KC)
    painter.save()
    painter.setClipRect(body)
    edges = _joined(_POSE_EDGES, here_K)
    _bones(painter, points_KC, edges, colors.text, width, outline=False)
    _skeleton(painter, points_KC[LEFT_HAND], colors.left, width, outline=False)
    _skeleton(painter, points_KC[RIGHT_HAND], colors.right, width, outline=False)
    painter.restore()
    for row, (name, hand_KC, color) in enumerate(
        (("Left hand", view.left_KC, colors.left), ("Right hand", view.right_KC, colors.right))
    ):
        box = QRectF(body.right(), area.top() + row * inset, inset, inset).adjusted(4, 4, -4, -4)
        _draw_hand_box(painter, box, name, hand_KC, color, colors)


def _draw_hand_box(
    painter: QPainter,
    box: QRectF,
    name: str,
    hand_KC: _Points,
    color: QColor,
    colors: ViewColors,
) -> None:
    painter.setPen(QPen(colors.faint, 1))
    painter.setBrush(Qt.BrushStyle.NoBrush)
    painter.drawRoundedRect(box, 4, 4)
    font = QFont(painter.font())
    font.setPixelSize(max(10, min(13, int(box.height() / 9))))
    painter.setFont(font)
    painter.setPen(colors.text)
    title = box.adjusted(6, 4, -6, -4)
    painter.drawText(title, Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft, name)
    if np.isnan(hand_KC).all():
        painter.setPen(colors.muted)
        painter.drawText(box, Qt.AlignmentFlag.AlignCenter, "not found")
        return
    painter.save()
    painter.setClipRect(box)
    # Around the wrist, in shoulder widths: a hand is a third to a half of one long.
    placed_KC = _placed(hand_KC, box.center(), box.height() / 1.7)
    _skeleton(painter, placed_KC, color, max(1.2, box.height() / 90), outline=False)
    painter.restore()


def _placed(points_KC: _Points, origin: QPointF, unit: float) -> _Points:
    return np.asarray(points_KC * unit + (origin.x(), origin.y()), dtype=np.float32)


def _skeleton(
    painter: QPainter, points_KC: _Points, color: QColor, width: float, *, outline: bool = True
) -> None:
    """Draw a hand's 21 points and bones; NaN points are left out."""
    here_K = _finite(points_KC)
    _bones(painter, points_KC, _joined(_HAND_EDGES, here_K), color, width, outline=outline)
    _dots(painter, points_KC[here_K], color, 1.3 * width, outline=outline)


def _finite(points_KC: _Points) -> npt.NDArray[np.bool_]:
    return np.asarray(np.isfinite(points_KC).all(axis=1))


def _joined(edges: _Edges, here_K: npt.NDArray[np.bool_]) -> _Edges:
    """Give the edges of which both ends are here."""
    return tuple((a, b) for a, b in edges if here_K[a] and here_K[b])


def _bones(
    painter: QPainter,
    points_KC: _Points,
    edges: _Edges,
    color: QColor,
    width: float,
    *,
    outline: bool = True,
) -> None:
    lines = [QLineF(*map(float, points_KC[a]), *map(float, points_KC[b])) for a, b in edges]
    style, cap = Qt.PenStyle.SolidLine, Qt.PenCapStyle.FlatCap  # round ones cost twice
    if outline:
        painter.setPen(QPen(_OUTLINE, 2.2 * width, style, cap))
        painter.drawLines(lines)
    painter.setPen(QPen(color, width, style, cap))
    painter.drawLines(lines)


def _dots(
    painter: QPainter, points_KC: _Points, color: QColor, radius: float, *, outline: bool = True
) -> None:
    painter.setPen(QPen(_OUTLINE, radius / 2) if outline else Qt.PenStyle.NoPen)
    painter.setBrush(color)
    for x, y in points_KC:
        painter.drawEllipse(QPointF(float(x), float(y)), radius, radius)


def blank(width: int, height: int, ratio: float, color: QColor) -> QImage:
    """Give an RGB32 image for ``width`` x ``height`` logical pixels on a screen of that pixel ratio."""
    image = QImage(
        max(1, round(width * ratio)), max(1, round(height * ratio)), QImage.Format.Format_RGB32
    )
    image.setDevicePixelRatio(ratio)
    image.fill(color)
    return image
