"""Axes of the live plots: heights on a linear or logarithmic scale, x as batch, epoch or time."""

from __future__ import annotations

import math

import numpy as np
import pyqtgraph as pg

from app.monitor.live_curve import DecadeAxis
from core.analysis.history import Axis

_LABEL_PX = 22.0
"""Least room for one label of the height axis."""
_TIME_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200)
AXIS_NAMES: dict[Axis, str] = {"step": "batch", "epoch": "epochs done", "time": "time since start"}
"""What stands below the x axis."""


class HeightAxis(DecadeAxis):
    """The left axis. ``log`` says whether positions are logarithms."""

    log = False

    def tickValues(
        self, lowest: float, highest: float, size: float
    ) -> list[tuple[float, list[float]]]:
        """Give labelled ticks, then unlabelled ones; whole decades where there are enough of them."""
        if not self.log:
            return list(pg.AxisItem.tickValues(self, lowest, highest, size))
        if highest - lowest > 1.6:
            (_, decades), between = super().tickValues(lowest, highest, size)
            stride = math.ceil((highest - lowest) * _LABEL_PX / max(size, 1.0))
            if stride <= 1:
                return [(1.0, decades), between]
            return [(1.0, [d for d in decades if round(d) % stride == 0])]
        low, high = 10.0**lowest, 10.0**highest
        step = nice_step((high - low) / max(2.0, size / (2.5 * _LABEL_PX)))
        values = np.arange(math.ceil(low / step), math.floor(high / step) + 1) * step
        labelled: list[float] = []
        for value in np.log10(values[values > 0]).tolist():  # they crowd at the upper end
            if not labelled or (value - labelled[-1]) / (highest - lowest) * size >= _LABEL_PX:
                labelled.append(value)
        return [(1.0, labelled)]

    def tickStrings(self, values: list[float], scale: float, spacing: float) -> list[str]:
        """Label with the numbers themselves, not with their logarithms."""
        if self.log:
            return super().tickStrings(values, scale, spacing)
        return list(pg.AxisItem.tickStrings(self, values, scale, spacing))


class ShareAxis(HeightAxis):
    """A left axis of shares, labelled in percent."""

    def tickValues(
        self, _lowest: float, _highest: float, size: float
    ) -> list[tuple[float, list[float]]]:
        """Give quarters where they fit, else the ends and perhaps the middle."""
        if size < 2 * _LABEL_PX:
            return [(1.0, [0.0, 1.0])]
        return [(1.0, [0.0, 0.25, 0.5, 0.75, 1.0] if size > 5 * _LABEL_PX else [0.0, 0.5, 1.0])]

    def tickStrings(self, values: list[float], _scale: float, _spacing: float) -> list[str]:
        """Label as percent."""
        return [f"{100 * value:.0f} %" for value in values]


class XAxis(pg.AxisItem):  # type: ignore[misc]
    """The bottom axis, in batches, epochs or seconds."""

    def __init__(self) -> None:
        super().__init__(orientation="bottom")
        self.mode: Axis = "step"
        self.named = False
        """Whether its meaning stands below the numbers."""
        self.enableAutoSIPrefix(False)
        self.setStyle(hideOverlappingLabels=False)

    def set_mode(self, mode: Axis) -> None:
        """Label for another meaning of x."""
        self.mode = mode
        self.setLabel(AXIS_NAMES[mode])
        self.showLabel(self.named)
        self.picture = None
        self.update()

    def tickSpacing(self, lowest: float, highest: float, size: float) -> list[tuple[float, float]]:
        """Give the distance of labelled ticks and of those between them."""
        room = max(2.0, size / 90.0)
        rough = (highest - lowest) / room
        if self.mode == "time":
            if rough <= 0.5:
                return [(nice_step(rough), 0.0)]
            days = 86400 * math.ceil(rough / 86400)
            return [(float(next((s for s in _TIME_STEPS_S if s >= rough), days)), 0.0)]
        step = nice_step(rough)
        return [(max(step, 1.0) if self.mode == "step" else step, 0.0)]

    def tickStrings(self, values: list[float], _scale: float, spacing: float) -> list[str]:
        """Label whole batches, epochs, or hours, minutes and seconds."""
        if self.mode == "time":
            return [clock(value, spacing) for value in values]
        if self.mode == "epoch":
            return [f"{value:.6g}" if value > -1e-9 else "" for value in values]
        return [grouped(value) if value >= 0 and value == int(value) else "" for value in values]


def grouped(value: float) -> str:
    """Write a whole number with its thousands apart."""
    return f"{value:,.0f}".replace(",", "\u2009")


def clock(seconds: float, spacing: float = 1.0) -> str:
    """Write seconds as 12 s, 3:20 or 1:02:03; parts of a second where ticks are closer."""
    if seconds < -1e-9:
        return ""
    if spacing < 1.0:
        return f"{seconds:.6g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d}"
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def nice_step(rough: float) -> float:
    """Give the next number of the row 1, 2, 5, 10 at or above ``rough``."""
    if rough <= 0 or not math.isfinite(rough):
        return 1.0
    decade = 10.0 ** math.floor(math.log10(rough))
    return next(factor * decade for factor in (1, 2, 5, 10) if factor * decade >= rough * 0.999)
