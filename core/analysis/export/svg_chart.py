"""A line chart as SVG text, drawn without any window. Colours are CSS variables of the page."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

WIDTH, HEIGHT = 900, 260
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 12, 28
PLOT_WIDTH = WIDTH - LEFT - RIGHT

Numbers = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Curve:
    """One line: ``style`` is a CSS class of the page ("a", "b", "faint"); dots for short curves."""

    label: str
    style: str
    x: Numbers
    y: Numbers
    dots: bool = False


@dataclass(frozen=True)
class Chart:
    """What to draw. On a logarithmic scale numbers that are not positive are left out."""

    title: str
    x_label: str
    curves: Sequence[Curve]
    log: bool = False
    levels: Sequence[tuple[str, float]] = ()  # horizontal lines with their labels
    marks: Sequence[float] = field(default=())  # x of things to point at, such as NaN
    marks_label: str = ""


def draw(chart: Chart) -> str:
    """Give the chart as one ``<svg>`` element, 900 x 260 units; says so when there is nothing to draw."""
    curves = [_drawable(curve, chart.log) for curve in chart.curves]
    curves = [curve for curve in curves if len(curve.x)]
    label = html.escape(chart.title, quote=True)
    head = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">'
    if not curves:
        return f'{head}<text x="{WIDTH // 2}" y="{HEIGHT // 2}">No finite values</text></svg>'
    x_scale = _x_scale(curves, chart.marks)
    y_scale = _y_scale(curves, chart)
    parts = [head, *_grid(x_scale, y_scale, chart.x_label)]
    for name, value in chart.levels:
        if y_scale.holds(value):
            parts.append(_level(name, y_scale.place(value)))
    parts += [_line(curve, x_scale, y_scale) for curve in curves]
    bottom = HEIGHT - BOTTOM
    parts += [
        f'<path class="mark" d="M{x_scale.place(x):.1f} {bottom - 9} l4 8 h-8 z"/>'
        for x in chart.marks
    ]
    parts.append("</svg>")
    return "".join(parts)


def legend(chart: Chart) -> str:
    """Give the legend of a chart as HTML."""
    entries = [(curve.style, curve.label) for curve in chart.curves]
    if len(chart.marks) and chart.marks_label:
        entries.append(("mark", chart.marks_label))
    keys = "".join(
        f'<span><i class="{style}"></i>{html.escape(label)}</span>' for style, label in entries
    )
    return f'<div class="legend">{keys}</div>'


@dataclass(frozen=True)
class _Scale:
    """From numbers to units of the picture."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def place(self, value: float) -> float:
        low, high = self._of(self.low), self._of(self.high)
        return self.start + (self._of(value) - low) / (high - low) * (self.end - self.start)

    def places(self, values: Numbers) -> Numbers:
        numbers = np.log10(values, dtype=np.float64) if self.log else values.astype(np.float64)
        low, high = self._of(self.low), self._of(self.high)
        scaled: Numbers = self.start + (numbers - low) / (high - low) * (self.end - self.start)
        return scaled

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high

    def ticks(self) -> list[float]:
        if self.log:
            first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
            step = max(1, (last - first) // 6)
            powers = [10.0**power for power in range(first, last + 1, step)]
            if len(powers) >= 2:
                return powers
        return _round_numbers(self.low, self.high)

    def _of(self, value: float) -> float:
        return math.log10(value) if self.log else value


def _drawable(curve: Curve, log: bool) -> Curve:
    keep = np.isfinite(curve.y) & np.isfinite(curve.x)
    if log:
        keep &= curve.y > 0
    return Curve(curve.label, curve.style, curve.x[keep], curve.y[keep], curve.dots)


def _x_scale(curves: Sequence[Curve], marks: Sequence[float]) -> _Scale:
    low = min([*(float(curve.x.min()) for curve in curves), *marks])
    high = max([*(float(curve.x.max()) for curve in curves), *marks])
    return _Scale(low, high if high > low else low + 1, LEFT, WIDTH - RIGHT)


def _y_scale(curves: Sequence[Curve], chart: Chart) -> _Scale:
    low = min(float(curve.y.min()) for curve in curves)
    high = max(float(curve.y.max()) for curve in curves)
    if chart.log:
        low, high = low / 1.2, high * 1.2
    else:
        margin = 0.05 * (high - low) or 0.5 * abs(high) or 1.0
        low, high = low - margin if low < 0 or low > margin else 0.0, high + margin
    return _Scale(low, high, HEIGHT - BOTTOM, TOP, chart.log)


def _grid(x_scale: _Scale, y_scale: _Scale, x_label: str) -> list[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for value in y_scale.ticks():
        y = y_scale.place(value)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{right}"/>')
        parts.append(f'<text class="y" x="{LEFT - 6}" y="{y + 4:.1f}">{value:g}</text>')
    for value in x_scale.ticks():
        x = x_scale.place(value)
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 10}">{value:g}</text>')
    parts.append(f'<path class="axis" d="M{LEFT} {TOP}V{bottom}H{right}"/>')
    parts.append(f'<text class="y" x="{LEFT - 6}" y="{HEIGHT - 10}">{html.escape(x_label)}</text>')
    return parts


def _level(name: str, y: float) -> str:
    line = f'<path class="level" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
    return f'{line}<text class="left" x="{LEFT + 6}" y="{y - 4:.1f}">{html.escape(name)}</text>'


def _line(curve: Curve, x_scale: _Scale, y_scale: _Scale) -> str:
    x, y = x_scale.places(curve.x), y_scale.places(curve.y)
    points = " ".join(f"{left:.1f},{top:.1f}" for left, top in zip(x, y, strict=True))
    line = f'<polyline class="{curve.style}" points="{points}"/>'
    if not curve.dots:
        return line
    return line + "".join(
        f'<circle class="{curve.style}" cx="{left:.1f}" cy="{top:.1f}" r="3"/>'
        for left, top in zip(x, y, strict=True)
    )


def _round_numbers(low: float, high: float) -> list[float]:
    """Some four to eight round numbers within [low, high]."""
    rough = (high - low) / 8
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [round(number * step, 12) for number in range(first, last + 1)]
