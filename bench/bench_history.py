"""History and pyramid at length: append, envelope of random views, memory, load from a ledger.

    python -m bench.bench_history [--steps 10000000] [--ledger-steps 300000] [--keep FOLDER]

One JSON line each. Times are processor time of the measuring thread, which other programs on the
machine do not lengthen; wall time stands beside it. Promises: append under 5 microseconds a record for all columns together, an
envelope in at most 1 ms at 10^7 steps with every planted spike in it, pyramids under 25 % of the raw
columns, 10^7 steps loaded from a ledger in a few seconds.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from core.analysis.envelope import Series
from core.analysis.history import History
from signscope.ledger import Ledger, LedgerReader
from signscope.records import Outcome, StepRecord
from signscope.schema import DTYPES, Columns

PIXELS = 1600
DRAWN = ("loss", "grad_norm_pre", "grad_norm_post")
RATE_HZ, DRAW_HZ = 1000, 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10_000_000)
    parser.add_argument("--ledger-steps", type=int, default=300_000)
    parser.add_argument(
        "--keep", type=Path, help="folder whose ledger.sqlite is made or used again"
    )
    options = parser.parse_args()
    appends()
    envelopes(options.steps)
    memory_and_growth(options.steps)
    if options.keep:
        loading(options.keep / "ledger.sqlite", options.ledger_steps)
    else:
        with tempfile.TemporaryDirectory() as folder:
            loading(Path(folder) / "ledger.sqlite", options.ledger_steps)


def tell(name: str, **values: Any) -> None:
    print(json.dumps({"bench": name, **values}), flush=True)


def make_records(count: int, start: int = 0) -> list[StepRecord]:
    template = StepRecord(
        step=0,
        epoch=1,
        batch_idx=0,
        loss=6.5,
        loss_per_gloss=0.8,
        grad_norm_pre=2.0,
        grad_norm_post=1.0,
        clip_coef=1.0 / (2.0 + 1e-6),
        lr=1e-3,
        outcome=Outcome.APPLIED,
        sample_ids=tuple(f"S1/hello/{number}" for number in range(16)),
        frames=3000,
        glosses=120,
        blank_fraction=0.6,
        data_s=0.0001,
        step_s=0.05,
        memory_mib=900.0,
        wall_time=1.7e9,
    )
    values = [getattr(template, field.name) for field in dataclasses.fields(template)]
    return [
        StepRecord(step, step // 1000 + 1, step % 1000, 5.0 + step % 7, *values[4:])
        for step in range(start, start + count)
    ]


class Clock:
    """Processor and wall time since it was made, in seconds."""

    def __init__(self) -> None:
        self._cpu, self._wall = time.thread_time(), time.perf_counter()

    def cpu(self) -> float:
        return time.thread_time() - self._cpu

    def wall(self) -> float:
        return time.perf_counter() - self._wall


def appends() -> None:
    count = 300_000
    records = make_records(count)
    history = History()
    clock = Clock()
    for record in records:
        history.append(record)
    len(history)
    single = clock.cpu() / count
    drained, slowest = drain(records, ())
    drawn, _slowest = drain(records, DRAWN)
    tell(
        "history_append",
        single_us=round(single * 1e6, 3),
        drained_at_30_hz_us=round(drained * 1e6, 3),
        drained_and_drawn_at_30_hz_us=round(drawn * 1e6, 3),
        slowest_drain_ms=round(slowest * 1e3, 3),
        limit_us=5.0,
        ratio=round(max(single, drained) * 1e6 / 5.0, 3),
    )


def drain(records: list[StepRecord], drawn: tuple[str, ...]) -> tuple[float, float]:
    """Seconds a record and the slowest turn of a window that drains at 30 Hz and draws some curves."""
    history = History()
    per_draw = RATE_HZ // DRAW_HZ
    slowest = 0.0
    clock = Clock()
    for start in range(0, len(records), per_draw):
        turn = Clock()
        history.extend(records[start : start + per_draw])
        for name in drawn:
            history.envelope(name, len(history) - 64, len(history), PIXELS)
        len(history)  # what was appended becomes columns with the first look at them
        slowest = max(slowest, turn.cpu())
    return clock.cpu() / len(records), slowest


def spiky(steps: int, spikes: int) -> tuple[np.ndarray[Any, np.dtype[np.float32]], list[int]]:
    """A curve with single-sample spikes, each beside a NaN, one of them the newest sample."""
    random = np.random.default_rng(1)
    samples = (5 + random.normal(size=steps)).astype(np.float32)
    places = np.unique(np.append(random.integers(2, steps - 2, size=spikes - 1), steps - 1))
    samples[places - 1] = np.nan
    samples[places] = 1000.0 + np.arange(len(places))
    return samples, places.tolist()


def envelopes(steps: int) -> None:
    samples, places = spiky(steps, 200)
    series = Series()
    clock = Clock()
    for start in range(0, steps, 65536):
        series.extend(samples[start : start + 65536])
    build_s = clock.cpu()
    random = np.random.default_rng(2)
    for width in (10**3, 10**4, 10**5, 10**6, steps):
        times, walls, shown, planted = [], [], 0, 0
        for _ in range(1000):
            first = int(random.integers(0, max(1, steps - width)))
            clock = Clock()
            _x, y = series.envelope(first, first + width - 1, PIXELS)
            times.append(clock.cpu())
            walls.append(clock.wall())
        for place in places:
            first = min(max(0, place - int(random.integers(0, width))), steps - width)
            _x, y = series.envelope(first, first + width - 1, PIXELS)
            planted += 1
            # Where two spikes share a pixel, the taller stands for both.
            tallest = np.nanmax(samples[first : first + width])
            shown += bool((y == samples[place]).any() or y.max() == tallest)
        p99_ms = float(np.quantile(times, 0.99) * 1e3)
        tell(
            "envelope",
            steps=steps,
            width=width,
            pixels=PIXELS,
            p50_ms=round(float(np.median(times)) * 1e3, 4),
            p99_ms=round(p99_ms, 4),
            max_ms=round(max(times) * 1e3, 4),
            p99_wall_ms=round(float(np.quantile(walls, 0.99)) * 1e3, 4),
            planted_spikes=planted,
            shown_spikes=shown,
            limit_ms=1.0,
            ratio=round(p99_ms, 4),
        )
    tell("pyramid_build", steps=steps, seconds=round(build_s, 3))


def memory_and_growth(steps: int) -> None:
    random = np.random.default_rng(3)
    piece = 65536
    columns: Columns = {
        name: random.random(piece).astype(dtype) if dtype.kind == "f" else np.zeros(piece, dtype)
        for name, dtype in DTYPES.items()
    }
    columns["epoch"] = np.ones(piece, np.int32)
    history = History()
    slowest = 0.0
    for start in range(0, steps, piece):
        columns["step"] = np.arange(start, start + piece, dtype=np.int32)
        columns["wall_time"] = np.arange(start, start + piece, dtype=np.float64)
        clock = Clock()
        history.extend_columns(columns)
        slowest = max(slowest, clock.cpu())
    tell(
        "history_memory",
        steps=len(history),
        columns_mb=round(history.nbytes / 1e6, 1),
        pyramids_mb=round(history.pyramid_nbytes / 1e6, 1),
        slowest_growth_ms=round(slowest * 1e3, 1),
        limit_share=0.25,
        ratio=round(history.pyramid_nbytes / history.nbytes, 4),
    )
    clock = Clock()
    history.smoothed("loss", 0.99)
    first_s = clock.cpu()
    clock = Clock()
    history.clipped_share(100)
    tell(
        "derived",
        steps=len(history),
        smoothing_s=round(first_s, 3),
        clipped_share_s=round(clock.cpu(), 3),
    )


def loading(path: Path, steps: int) -> None:
    if not path.exists():
        with Ledger(path, {"policy": "clip", "max_norm": 1.0}) as ledger:
            for start in range(0, steps, 10_000):
                for record in make_records(min(10_000, steps - start), start):
                    ledger.append(record)
                ledger.flush()
    with LedgerReader(path) as reader:
        before_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        clock = Clock()
        history = History.from_ledger(reader)
        seconds, wall = clock.cpu(), clock.wall()
    tell(
        "load_from_ledger",
        steps=len(history),
        seconds=round(seconds, 3),
        wall_s=round(wall, 3),
        seconds_for_1e7=round(seconds * 1e7 / len(history), 2),
        file_mb=round(path.stat().st_size / 1e6, 1),
        peak_rss_grew_mib=round(
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before_mib, 1
        ),
        history_mb=round((history.nbytes + history.pyramid_nbytes) / 1e6, 1),
    )


if __name__ == "__main__":
    main()
