"""What the window costs the trainer, and how late the window is, with both sides in one run.

    python -m bench.bench_window [--rounds 4] [--default-steps 200] [--small-steps 1500]

Trains the same settings headless and in the real main window (1280 x 800, plots live, camera off), turn
about, and prints one JSON line a promise: throughput in the window over headless, at least 0.97 at the
default size and at least 0.90 where a step takes about 5 ms; the 99th percentile of the lateness of the
GUI's event loop at full speed with 100,000 batches on screen, under 16 ms. Runs on whatever platform
QT_QPA_PLATFORM names (offscreen here when there is no display). Rates leave out evaluation and the
first batches of an epoch; a ratio is the median over the rounds, each of which has both sides. Lines
whose name ends with by_turns measure the same within one run, whose window rests every other second
and a half: on a machine that does other work, believe those.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import platform
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import numpy as np
import torch
from PySide6.QtCore import QEventLoop, QObject, Qt, QTimer, Slot
from PySide6.QtWidgets import QApplication, QWidget

from app.main_window import MainWindow
from app.settings import SETTINGS_VARIABLE, WindowSettings
from app.theme import Theme, ThemeChoice
from app.training.live_run import RunRequest
from app.training.run_controller import RunController
from core.config import RunConfig, config_from_dict
from core.corpus.demo import ensure_demo_corpus, make_demo_corpus
from core.landmarks.input_statistics import InputStatistics
from core.training.session import RunResult, TrainingJob, run_job
from signscope.records import (
    EpochRecord,
    Evaluation,
    Outcome,
    RunEventRecord,
    StepRecord,
    TrainingObserver,
)
from signscope.run_state import RunControl, RunEvent

LATENESS_POINTS = 100_000
LATENESS_S = 20.0
PROBE_MS = 5
TURN_MS = 1500
WARM_UP_MS = 8000
SETTLE = 5
"""Batches at the beginning of an epoch that are not timed."""


class Stopwatch:
    """Notes the batches of a run, and hands everything on to another observer.

    Args:
        inner: Who else is told; None for a headless run.
        offset: Added to the number of each batch that is handed on.
    """

    def __init__(self, inner: TrainingObserver | None = None, offset: int = 0) -> None:
        self._inner = inner
        self._offset = offset
        self.moments: list[tuple[int, int, float]] = []

    def on_run(self, total_epochs: int, batches_per_epoch: int) -> None:
        if self._inner is not None:
            self._inner.on_run(total_epochs, batches_per_epoch)

    def on_step(self, record: StepRecord) -> None:
        self.moments.append((record.epoch, record.batch_idx, time.perf_counter()))
        if self._inner is not None:
            if self._offset:
                record = dataclasses.replace(record, step=record.step + self._offset)
            self._inner.on_step(record)

    def on_epoch(self, record: EpochRecord) -> None:
        if self._inner is not None:
            self._inner.on_epoch(record)

    def on_event(self, record: RunEventRecord) -> None:
        if self._inner is not None:
            self._inner.on_event(record)

    def on_test(self, evaluation: Evaluation) -> None:
        if self._inner is not None:
            self._inner.on_test(evaluation)

    def on_inputs(self, statistics: InputStatistics) -> None:
        on_inputs = getattr(self._inner, "on_inputs", None)
        if on_inputs is not None:
            on_inputs(statistics)

    def step_s(self) -> float:
        """Mean seconds from batch to batch, within epochs."""
        spans = [
            after[2] - before[2]
            for before, after in itertools.pairwise(self.moments)
            if after[0] == before[0] and before[1] >= SETTLE
        ]
        return statistics.fmean(spans)


class Probe(QObject):
    """A precise timer in the GUI thread that notes how late each of its calls is.

    Args:
        probing: Whether the timer runs; without it only the thread's processor time is noted.
    """

    def __init__(self, probing: bool) -> None:
        super().__init__()
        self.late_ms: list[float] = []
        self.gui_share = 0.0
        """Processor time of the GUI thread as a share of one core, once stopped."""
        self._begin = time.perf_counter(), time.thread_time()
        self._due = time.perf_counter() + PROBE_MS / 1000
        self._timer = QTimer(self)
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(PROBE_MS)
        self._timer.timeout.connect(self._note)
        if probing:
            self._timer.start()

    @Slot()
    def _note(self) -> None:
        now = time.perf_counter()
        self.late_ms.append(max(0.0, 1000 * (now - self._due)))
        self._due = now + PROBE_MS / 1000

    def stop(self) -> None:
        self._timer.stop()
        wall_s = time.perf_counter() - self._begin[0]
        self.gui_share = (time.thread_time() - self._begin[1]) / wall_s


def headless(config: RunConfig, steps: int, folder: Path) -> Stopwatch:
    """Train in a thread of its own while the main thread waits, without any window."""
    watch = Stopwatch()
    control = RunControl()
    control.apply(RunEvent.START)
    job = TrainingJob(config, folder, max_steps=steps)
    thread = threading.Thread(target=run_job, args=(job, control, [watch]))
    thread.start()
    thread.join()
    return watch


def in_window(
    theme: Theme,
    config: RunConfig,
    steps: int,
    folder: Path,
    *,
    points: int = 0,
    for_s: float = 0,
    probing: bool = True,
) -> tuple[Stopwatch, Probe]:
    """Train in the main window; with ``for_s`` for so long, else for ``steps`` batches."""
    watches: list[Stopwatch] = []

    def job(request: RunRequest, control: RunControl, observer: TrainingObserver) -> RunResult:
        watches.append(Stopwatch(observer, offset=points))
        job = TrainingJob(request.config, request.runs_dir, max_steps=None if for_s else steps)
        return run_job(job, control, [watches[-1]])

    controller = RunController(job=job)
    window = MainWindow(
        theme=theme,
        settings=WindowSettings(),
        controller=controller,
        camera=QWidget(),
        runs_dir=folder,
    )
    window.next_run.show_config(config)
    window.show()
    loop = QEventLoop()
    controller.ended.connect(loop.quit)
    controller.failed.connect(loop.quit)
    assert window.start_run()
    if points:
        window.monitor.extend(made_records(points))
    probes: list[Probe] = []

    @Slot()
    def begin() -> None:
        if not probes:
            probes.append(Probe(probing))
            if for_s:
                QTimer.singleShot(round(1000 * for_s), controller.stop)

    controller.updated.connect(begin)
    loop.exec()
    assert probes, "no batch came"
    probes[0].stop()
    assert controller.shutdown(60)
    window.leave()
    window.deleteLater()
    return watches[0], probes[0]


def made_records(count: int) -> list[StepRecord]:
    """Noisy curves of ``count`` batches, so that no pixel column is empty."""
    rng = np.random.default_rng(0)
    loss, norm = rng.gamma(4.0, 3.0, count), rng.lognormal(1.0, 1.0, count)
    return [
        StepRecord(
            step,
            1,
            step,
            float(loss[step]),
            1.0,
            float(norm[step]),
            min(float(norm[step]), 1.0),
            min(1.0, 1 / float(norm[step])),
            1e-3,
            Outcome.APPLIED,
            ("a",),
            100,
            10,
            0.5,
            0.0,
            0.005,
            500.0,
            1.8e9 + step,
        )
        for step in range(count)
    ]


def within_run(
    theme: Theme, name: str, config: RunConfig, turns: int, least: float, folder: Path
) -> None:
    """Let one run's window be live and at rest by turns of a second, and compare neighbouring turns.

    At rest the GUI thread sleeps, as if there was no window. Turns so short see through the noise of
    a busy machine, which two whole runs do not.
    """
    edges: list[tuple[float, bool]] = []
    watches: list[Stopwatch] = []

    def job(request: RunRequest, control: RunControl, observer: TrainingObserver) -> RunResult:
        watches.append(Stopwatch(observer))
        return run_job(TrainingJob(request.config, request.runs_dir), control, [watches[-1]])

    controller = RunController(job=job)
    window = MainWindow(
        theme=theme,
        settings=WindowSettings(),
        controller=controller,
        camera=QWidget(),
        runs_dir=folder / name,
    )
    window.next_run.show_config(config)
    window.show()
    loop = QEventLoop()
    turn = QTimer()
    turn.setInterval(TURN_MS)

    def next_turn() -> None:
        live = not edges or not edges[-1][1]
        edges.append((time.perf_counter(), live))
        controller.set_tick(0.0 if live else 3600.0)
        if len(edges) > turns:
            turn.stop()
            controller.set_tick(0.0)
            controller.stop()

    turn.timeout.connect(next_turn)
    controller.ended.connect(loop.quit)
    controller.failed.connect(loop.quit)
    assert window.start_run()
    QTimer.singleShot(WARM_UP_MS, turn.start)
    loop.exec()
    assert controller.shutdown(60)
    window.leave()
    window.deleteLater()
    rates = [
        (live, _rate_between(watches[0].moments, begin, end))
        for (begin, live), (end, _) in itertools.pairwise(edges)
    ]
    # Each live turn against the mean of the turns at rest on its two sides.
    ratios = [
        here / ((before + after) / 2)
        for (_, before), (live, here), (_, after) in zip(rates, rates[1:], rates[2:], strict=False)
        if live and min(before, here, after) > 0
    ]
    value = statistics.median(ratios)
    tell(
        f"{name}_by_turns",
        value,
        f">= {least}",
        value >= least,
        at_rest_steps_per_s=round(statistics.median(r for live, r in rates if not live), 2),
        live_steps_per_s=round(statistics.median(r for live, r in rates if live), 2),
        turns=len(ratios),
        quartiles=[round(each, 3) for each in statistics.quantiles(ratios, n=4)],
    )


def _rate_between(moments: Sequence[tuple[int, int, float]], begin: float, end: float) -> float:
    """Batches a second within the time, evaluation left out; 0 where there were too few to tell."""
    inside = [moment for moment in moments if begin <= moment[2] < end]
    spans = [b[2] - a[2] for a, b in itertools.pairwise(inside) if a[0] == b[0]]
    return len(spans) / sum(spans) if len(spans) >= 10 else 0.0


def small_config(folder: Path) -> RunConfig:
    """Settings with which a step takes about 5 ms; more than one thread would only slow it down."""
    make_demo_corpus(folder / "corpus", signers=4, glosses=8, sentences=600)
    return config_from_dict(
        {
            "threads": 1,
            "data": {
                "corpus": str(folder / "corpus"),
                "batch_size": 2,
                "augment": {"tempo": 0.0, "rotation_deg": 0.0, "scale": 0.0},
            },
            "model": {"part_dim": 4, "width": 8, "layers": 1, "strides": [4, 2]},
            "optim": {"epochs": 100_000},
        }
    )


def machine() -> str:
    return (
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"torch {torch.__version__} with {torch.get_num_threads()} threads, "
        f"Qt on {QApplication.platformName()}, load {os.getloadavg()[0]:.1f}"
    )


def tell(name: str, value: float, target: str, passed: bool, **sides: object) -> None:
    line = {"name": name, "value": round(value, 4), "target": target, "passed": passed}
    print(json.dumps(line | sides | {"machine": machine()}), flush=True)


def throughput(
    theme: Theme, name: str, config: RunConfig, steps: int, rounds: int, least: float, folder: Path
) -> None:
    if rounds == 0:
        return
    headless_s: list[float] = []
    window_s: list[float] = []
    gui_shares: list[float] = []
    for number in range(rounds):
        for side in ("headless", "window") if number % 2 == 0 else ("window", "headless"):
            place = folder / f"{name}-{number}-{side}"
            if side == "headless":
                headless_s.append(headless(config, steps, place).step_s())
            else:
                watch, probe = in_window(theme, config, steps, place, probing=False)
                window_s.append(watch.step_s())
                gui_shares.append(probe.gui_share)
    ratios = [bare / shown for bare, shown in zip(headless_s, window_s, strict=True)]
    value = statistics.median(ratios)
    tell(
        name,
        value,
        f">= {least}",
        value >= least,
        headless_steps_per_s=_rates(headless_s),
        window_steps_per_s=_rates(window_s),
        ratios=[round(ratio, 3) for ratio in ratios],
        gui_thread_share=[round(share, 4) for share in gui_shares],
    )


def _rates(seconds: Sequence[float]) -> list[float]:
    return [round(1 / each, 2) for each in seconds]


def lateness(theme: Theme, config: RunConfig, folder: Path) -> None:
    watch, probe = in_window(
        theme, config, 0, folder / "lateness", points=LATENESS_POINTS, for_s=LATENESS_S
    )
    late = np.array(probe.late_ms)
    value = float(np.percentile(late, 99))
    tell(
        "event_loop_lateness_p99_ms",
        value,
        "< 16",
        value < 16,
        p50_ms=round(float(np.percentile(late, 50)), 2),
        max_ms=round(float(late.max()), 2),
        probes=len(late),
        points_on_screen=LATENESS_POINTS + len(watch.moments),
        steps_per_s=round(1 / watch.step_s(), 1),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4, help="0 leaves whole runs out")
    parser.add_argument("--default-steps", type=int, default=200)
    parser.add_argument("--small-steps", type=int, default=1500)
    parser.add_argument("--turns", type=int, default=61)
    parser.add_argument("--only", choices=("default", "small", "lateness"))
    options = parser.parse_args()
    application = QApplication([])
    application.setQuitOnLastWindowClosed(False)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ[SETTINGS_VARIABLE] = str(folder / "settings.ini")
        theme = Theme(application, ThemeChoice.LIGHT)
        ensure_demo_corpus()
        small = small_config(folder)
        if options.only in (None, "lateness"):
            lateness(theme, small, folder)
        if options.only in (None, "small"):
            steps, rounds = options.small_steps, options.rounds
            throughput(theme, "window_throughput_5ms", small, steps, rounds, 0.90, folder)
            within_run(theme, "window_throughput_5ms", small, options.turns, 0.90, folder)
        if options.only in (None, "default"):
            steps, rounds = options.default_steps, options.rounds
            throughput(theme, "window_throughput", RunConfig(), steps, rounds, 0.97, folder)
            within_run(theme, "window_throughput", RunConfig(), options.turns, 0.97, folder)


if __name__ == "__main__":
    main()
