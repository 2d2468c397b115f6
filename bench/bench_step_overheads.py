"""What the ledger and the checkpoints cost a step of the default size.

    python -m bench.bench_step_overheads [--rounds 12] [--device cpu]

Times are processor time, which other programs on the machine do not lengthen.
Ledger: all that appending costs the trainer's thread, plus all that the writing thread costs, as if none
of it ran beside the training; share of a step. Promise: at most 1 %. Steps with the ledger over steps
without it, taking turns, stand beside it.
Checkpoints: all that saving costs the trainer's thread, plus all that the writing thread costs while
training goes on; share of what is spent from one checkpoint to the next with the default settings.
Promise: at most 2 %. The wall time inside ``save_checkpoint``, in which the trainer really stands
still, stands beside it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

from bench.step_bench import StepBench, best_device, step_bench, tell
from signscope.ledger import Ledger
from signscope.records import StepRecord

STRETCH = 3
"""Steps between two checkpoints here: longer than writing one takes."""


class NoLedger:
    """Takes rows and forgets them."""

    def append(self, record: StepRecord) -> None:
        """Forget a row."""


class WatchedLedger:
    """Passes rows on to a real ledger and adds up what that costs."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._write = ledger._try_to_write
        ledger._try_to_write = self._timed_write  # type: ignore[method-assign]
        self.append_s: list[float] = []
        self.writer_s = 0.0

    def append(self, record: StepRecord) -> None:
        """Time one append in the trainer's thread."""
        started_s = time.thread_time()
        self._ledger.append(record)
        self.append_s.append(time.thread_time() - started_s)

    def _timed_write(self, group: list[Any]) -> Any:
        started_s = time.thread_time()
        failure = self._write(group)
        self.writer_s += time.thread_time() - started_s
        return failure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--device", default=best_device())
    options = parser.parse_args()
    with step_bench(options.device) as bench:
        ledger_cost(bench, options.rounds, options.device)
        checkpoint_cost(bench, options.rounds, options.device)


def timed_step(bench: StepBench) -> float:
    started_s = time.process_time()
    bench.step()
    return time.process_time() - started_s


def ledger_cost(bench: StepBench, rounds: int, device: str) -> None:
    watched = WatchedLedger(bench.ledger)
    with_s: list[float] = []
    without_s: list[float] = []
    trainer: Any = bench.trainer
    for number in range(2 * rounds):
        for _ in range(bench.period):
            trainer._ledger = watched if number % 2 else NoLedger()
            if not number % 2:
                without_s.append(timed_step(bench))
                trainer.step -= 1  # the ledger's rows count without a gap
            else:
                with_s.append(timed_step(bench))
    trainer._ledger = bench.ledger
    bench.ledger.flush()
    step_s = statistics.median(without_s)
    append_s = statistics.fmean(watched.append_s)
    writer_s = watched.writer_s / len(watched.append_s)
    tell(
        "ledger_per_step",
        device=device,
        steps=len(with_s),
        step_ms=round(step_s * 1e3, 3),
        append_us=round(append_s * 1e6, 1),
        writer_us=round(writer_s * 1e6, 1),
        with_over_without=round(statistics.median(with_s) / step_s, 4),
        limit_share=0.01,
        ratio=round((append_s + writer_s) / step_s, 5),
    )


def checkpoint_cost(bench: StepBench, rounds: int, device: str) -> None:
    store: Any = bench.checkpoints
    write = store._write
    writer_s: list[float] = []

    def timed_write(checkpoint: Any, best: bool) -> None:
        started_s = time.thread_time()
        write(checkpoint, best)
        writer_s.append(time.thread_time() - started_s)

    store._write = timed_write
    save_s: list[float] = []
    save_wall_s: list[float] = []
    steps_s: list[float] = []
    for _ in range(2 * rounds):
        started_s, started_wall_s = time.thread_time(), time.perf_counter()
        bench.trainer.save_checkpoint()
        save_s.append(time.thread_time() - started_s)
        save_wall_s.append(time.perf_counter() - started_wall_s)
        steps_s += [timed_step(bench) for _ in range(STRETCH)]
        store.wait()
    between_s = bench.checkpoint_interval * statistics.median(steps_s)
    cost_s = statistics.fmean(save_s) + statistics.fmean(writer_s)
    files = list(store._folder.iterdir())
    tell(
        "checkpoint_stall",
        device=device,
        checkpoints=len(save_s),
        file_mb=round(sum(path.stat().st_size for path in files) / len(files) / 1e6, 2),
        every_steps=bench.checkpoint_interval,
        save_ms=round(statistics.fmean(save_s) * 1e3, 3),
        save_wall_ms=round(statistics.median(save_wall_s) * 1e3, 3),
        writer_ms=round(statistics.fmean(writer_s) * 1e3, 3),
        limit_share=0.02,
        ratio=round(cost_s / between_s, 5),
    )


if __name__ == "__main__":
    main()
