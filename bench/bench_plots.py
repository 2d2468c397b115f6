"""The live plots at length: redraw, lateness of the window, and spikes shown, beside pyqtgraph's own curves.

    python -m bench.bench_plots [--steps 1000000] [--repeats 200] [--seconds 5]

One JSON line each; ``--steps 10000000`` is the promised size and takes a few minutes, nearly all of
it pyqtgraph's. Everything runs in one process, without a display, on one thread. Times are processor
time of that thread, which other programs on the machine do not lengthen; lateness is wall time.

``redraw``: a run with so many steps is followed at 1000 steps/s drawn at 30 Hz. ``prepare`` is what
leads to the data handed over (MonitorView.redraw with all plots; setData for pyqtgraph, which draws
the three curves of the upper two plots), ``paint`` is the painting that follows into an image.
``lateness``: how late a 5 ms timer of the event loop comes while that goes on for some seconds.
``spikes``: 40 single samples planted in one curve, 20 beside a NaN, one the newest; counted is which of
them are in the points handed to the painter, in a view about each, from the whole run down to 300
batches (pyqtgraph's ``naive`` curve is drawn whole, whatever the view is).
"""

from __future__ import annotations

import argparse
import json
import os
import time
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import numpy as np
import numpy.typing as npt
import pyqtgraph as pg
from PySide6.QtCore import QTimer
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QApplication, QVBoxLayout, QWidget

from app.monitor.live_curve import LiveCurve, TimeView
from app.monitor.monitor_view import MonitorView
from app.theme import LIGHT
from core.analysis.envelope import Series
from core.analysis.history import History
from signscope.schema import DTYPES, Columns

Floats = npt.NDArray[np.float32]

RATE_HZ, DRAW_HZ = 1000, 30
SIZE = (1600, 900)
CURVES = ("loss", "grad_norm_pre", "grad_norm_post")
PIECE = 65536
TIMER_MS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=200, help="redraws of ours")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long lateness is measured")
    options = parser.parse_args()
    application = QApplication([])
    history = make_history(options.steps)
    ours = redraw_ours(application, history, options.repeats)
    for mode in ("naive", "peak"):
        theirs = redraw_theirs(application, history, mode, options.steps)
        tell(
            "redraw", **theirs, ratio_to_ours=round(theirs["both_p50_ms"] / ours["both_p50_ms"], 1)
        )
    lateness(application, history, options.seconds)
    spikes(options.steps)


def tell(name: str, **values: Any) -> None:
    print(json.dumps({"bench": name, **values}), flush=True)


def make_columns(random: np.random.Generator, start: int, count: int) -> Columns:
    steps = np.arange(start, start + count)
    columns: Columns = {name: np.zeros(count, dtype) for name, dtype in DTYPES.items()}
    columns["step"] = steps.astype(np.int32)
    columns["epoch"] = (steps // 284 + 1).astype(np.int32)
    columns["wall_time"] = 1.8e9 + 0.001 * steps
    columns["loss"] = (6 + 85 * np.exp(-steps / 1e4) + random.gamma(2, 1.2, count)).astype("<f4")
    norms = np.exp(random.normal(0.9, 0.6, count)).astype("<f4")
    norms[steps % 50_000 == 49_999] = np.nan
    columns["grad_norm_pre"] = norms
    columns["grad_norm_post"] = np.minimum(norms, np.float32(1))
    columns["clip_coef"] = np.minimum(np.float32(1), 1 / norms).astype("<f4")
    columns["clipped"] = (norms > 1).astype("u1")
    return columns


def make_history(steps: int) -> History:
    random = np.random.default_rng(0)
    history = History()
    for start in range(0, steps, PIECE):
        history.extend_columns(make_columns(random, start, min(PIECE, steps - start)))
    return history


def make_view(history: History) -> MonitorView:
    follow, fit = QAction("follow"), QAction("fit")
    follow.setCheckable(True)
    view = MonitorView(follow, fit, LIGHT)
    follow.setParent(view)
    fit.setParent(view)
    view.resize(*SIZE)
    view.show()
    view.clear(history)
    QApplication.processEvents()
    view.fit()
    return view


def catch_up(application: QApplication, view: MonitorView) -> float:
    """Let the computed curves be computed; give the slowest redraw of that in ms."""
    slowest = 0.0
    for _ in range(10_000):
        begin = time.thread_time()
        view.redraw()
        slowest = max(slowest, time.thread_time() - begin)
        application.processEvents()
        if not view.computing:
            break
    return 1e3 * slowest


def summary(prepare: list[float], paint: list[float]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    both = [a + b for a, b in zip(prepare, paint, strict=True)]
    for name, times in (("prepare", prepare), ("paint", paint), ("both", both)):
        result[f"{name}_p50_ms"] = round(1e3 * float(np.median(times)), 3)
        result[f"{name}_p99_ms"] = round(1e3 * float(np.quantile(times, 0.99)), 3)
    return result


def redraw_ours(application: QApplication, history: History, repeats: int) -> dict[str, Any]:
    random = np.random.default_rng(1)
    result: dict[str, Any] = {}
    view = make_view(history)
    slowest = catch_up(application, view)
    for name, span in (("whole run", 0), ("newest 10000", 10_000)):
        if span:
            view.move_x(float(view.newest - span), float(view.newest + span / 12))
        prepare, paint = [], []
        for _ in range(repeats):
            columns = make_columns(random, view.newest + 1, RATE_HZ // DRAW_HZ)
            history.extend_columns(columns)
            begin = time.thread_time()
            view.redraw()
            middle = time.thread_time()
            for plot in view.plots:
                plot.canvas.viewport().repaint()
            end = time.thread_time()
            prepare.append(middle - begin)
            paint.append(end - middle)
        found = {"mode": "ours", "view": name, "steps": len(history), **summary(prepare, paint)}
        result = result or found
        tell("redraw", **found, limit_ms=2.0, ratio=round(found["prepare_p99_ms"] / 2.0, 3))
    tell("first_look", steps=len(history), slowest_redraw_ms=round(slowest, 2))
    view.deleteLater()
    return result


class Theirs(QWidget):
    """The same curves as pyqtgraph would draw them."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        layout = QVBoxLayout(self)
        self.plots = [pg.PlotWidget(background="w"), pg.PlotWidget(background="w")]
        self.plots[1].setLogMode(y=True)
        self.plots[1].setXLink(self.plots[0])
        self.curves = []
        for name, color in zip(CURVES, (LIGHT.loss, LIGHT.norm_pre, LIGHT.norm_post), strict=True):
            plot = self.plots[0 if name == "loss" else 1]
            curve = plot.plot(pen=pg.mkPen(color, width=1))
            if mode == "peak":
                curve.setDownsampling(auto=True, method="peak")
                curve.setClipToView(True)
            self.curves.append(curve)
        for plot in self.plots:
            layout.addWidget(plot)
        self.resize(*SIZE)


def redraw_theirs(
    application: QApplication, history: History, mode: str, steps: int
) -> dict[str, Any]:
    widget = Theirs(mode)
    widget.show()
    application.processEvents()
    x_N = history.column("step")
    for plot in widget.plots:
        plot.setXRange(0, len(x_N) * 1.02, padding=0)  # clipping and auto-range exclude each other
        plot.setYRange(*((0, 100) if plot is widget.plots[0] else (-1, 3)), padding=0)
    prepare, paint = [], []
    for _ in range(3 if steps > 2_000_000 else 8):
        begin = time.thread_time()
        for name, curve in zip(CURVES, widget.curves, strict=True):
            curve.setData(x_N, history.column(name))
        middle = time.thread_time()
        for plot in widget.plots:
            plot.viewport().repaint()
        end = time.thread_time()
        prepare.append(middle - begin)
        paint.append(end - middle)
    widget.deleteLater()
    return {"mode": mode, "view": "whole run", "steps": len(history), **summary(prepare, paint)}


class Heartbeat:
    """How late a timer of the event loop comes."""

    def __init__(self) -> None:
        self.late_s: list[float] = []
        self._due = time.perf_counter() + TIMER_MS / 1e3
        self._timer = QTimer()
        self._timer.setTimerType(self._timer.timerType().PreciseTimer)
        self._timer.timeout.connect(self._beat)
        self._timer.start(TIMER_MS)

    def _beat(self) -> None:
        now = time.perf_counter()
        self.late_s.append(max(0.0, now - self._due))
        self._due = now + TIMER_MS / 1e3

    def stop(self) -> None:
        self._timer.stop()


def lateness(application: QApplication, history: History, seconds: float) -> None:
    random = np.random.default_rng(2)
    view = make_view(history)
    catch_up(application, view)
    redraws = 0

    def tick() -> None:
        nonlocal redraws
        history.extend_columns(make_columns(random, view.newest + 1, RATE_HZ // DRAW_HZ))
        if view.pacer.take_turn(time.monotonic()):
            view.redraw()
            redraws += 1

    for busy in (False, True):
        redraws = 0
        timer = QTimer()
        timer.timeout.connect(tick)
        heart = Heartbeat()
        if busy:
            timer.start(1000 // DRAW_HZ)
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            application.processEvents()
            time.sleep(0.0005)
        timer.stop()
        heart.stop()
        p99_ms = 1e3 * float(np.quantile(heart.late_s, 0.99))
        tell(
            "lateness",
            window="followed at 1000 steps/s" if busy else "idle",
            steps=len(history),
            redraws_per_s=round(redraws / seconds, 1),
            p50_ms=round(1e3 * float(np.median(heart.late_s)), 3),
            p99_ms=round(p99_ms, 3),
            max_ms=round(1e3 * max(heart.late_s), 3),
            load=round(os.getloadavg()[0], 1),
            limit_ms=16.0,
            ratio=round(p99_ms / 16.0, 3),
        )
    view.deleteLater()


def plant(steps: int, count: int) -> tuple[Floats, list[int], set[int]]:
    """A curve with single spikes, each of its own height, where they are, and which are beside a NaN.

    They are far enough apart that no two share a pixel of the whole run; the last is the newest sample.
    """
    random = np.random.default_rng(3)
    samples = (5 + random.normal(size=steps)).astype(np.float32)
    apart = steps // count
    places = np.arange(1, count) * apart + random.integers(-apart // 3, apart // 3, size=count - 1)
    places = np.append(places, steps - 1)
    beside = places[:-1:2]
    samples[beside - 1] = np.nan
    samples[places] = 1000.0 + np.arange(len(places))
    return samples, places.tolist(), set(beside.tolist())


def spikes(steps: int) -> None:
    samples, places, beside = plant(steps, 40)
    x_N = np.arange(steps)
    series = Series()
    series.extend(samples)
    host = TimeView()
    curve = LiveCurve("#000000")
    host.addItem(curve)
    width = SIZE[0] - 100
    plots = {mode: Theirs(mode) for mode in ("naive", "peak")}
    for each in plots.values():
        each.show()
        each.curves[0].setData(x_N, samples)
    QApplication.processEvents()
    for span in sorted({s for s in (300, 10_000, 100_000, 1_000_000, steps) if s <= steps}):
        names = ("ours", *plots)
        shown = {name: [0, 0, 0] for name in names}  # plain, beside a NaN, the newest
        planted = [0, 0, 0]
        for place in places:
            kind = 2 if place == steps - 1 else 1 if place in beside else 0
            planted[kind] += 1
            first = min(max(0, place - span // 3), steps - span)
            last = first + span - 1
            curve.set_points(*series.envelope(first, last, width))
            drawn = {"ours": curve.heights_N}
            for mode, each in plots.items():
                each.plots[0].setXRange(first, last, padding=0)
                _x, y = each.curves[0].getData()
                drawn[mode] = drawn_points(y)
            for name in names:
                shown[name][kind] += bool((drawn[name] == samples[place]).any())
        kinds = ("plain", "beside_nan", "newest")
        tell(
            "spikes",
            steps=steps,
            view=span,
            planted=dict(zip(kinds, planted, strict=True)),
            **{name: dict(zip(kinds, shown[name], strict=True)) for name in names},
            points={name: len(drawn[name]) for name in names},
        )
    for each in plots.values():
        each.deleteLater()


def drawn_points(y: Floats | None) -> Floats:
    """What of a curve's data is painted: a point is seen when a line to a neighbour is drawn."""
    if y is None or not len(y):
        return np.empty(0, np.float32)
    finite = np.isfinite(y)
    before = np.concatenate(([False], finite[:-1]))
    after = np.concatenate((finite[1:], [False]))
    kept: Floats = y[finite & (before | after)]
    return kept


if __name__ == "__main__":
    main()
