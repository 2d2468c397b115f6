"""Colours and dashes of overlaid runs: as many as one likes can be told apart, by colour-blind people too.

Six colours cycle; each further round uses another dash. Within a theme every two colours differ by at
least 20 in CIE Lab (a difference of 2 is just seen), also as people with deuteranopia, protanopia
or tritanopia see them; tests/ui/test_runs_overlay.py measures it.
"""

from __future__ import annotations

from dataclasses import dataclass

from app.theme import Colors

LIGHT_RUNS = ("#1f5fbf", "#d55e00", "#00a88a", "#a0006a", "#1c1c22", "#7a3b12")
DARK_RUNS = ("#7db4f5", "#f0922e", "#f2ffb2", "#a85cff", "#ff4766", "#f4bec7")
DASHES: tuple[tuple[float, ...], ...] = ((), (8, 4), (2, 3), (8, 3, 2, 3))
"""Lengths of strokes and gaps in pixels; nothing is a whole line."""


@dataclass(frozen=True, slots=True)
class RunStyle:
    """How a run is drawn."""

    color: str
    dash: tuple[float, ...]


def run_style(place: int, colors: Colors) -> RunStyle:
    """Give the style of run number ``place``, from 0, in the theme of ``colors``."""
    palette = DARK_RUNS if colors.dark else LIGHT_RUNS
    turn, number = divmod(place, len(palette))
    return RunStyle(palette[number], DASHES[turn % len(DASHES)])
