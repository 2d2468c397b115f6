"""Cost of measuring the gradient norm before and after clipping, in a step of the default size.

    python -m bench.bench_norms [--rounds 12] [--device cpu]

The other side clips with torch's ``clip_grad_norm_``, as every trainer does, and knows the norm before
clipping only. Both take turns on the same batches in one run. Times are processor time of the whole
process, which other programs on the machine do not lengthen. Promise: at most 2 % of a step more.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterable

from torch import nn
from torch.nn.utils import clip_grad_norm_

from bench.step_bench import StepBench, best_device, step_bench, tell
from core.training import trainer as trainer_module
from signscope.norms import MeasuredNorms, clip_and_measure_

Clip = Callable[[Iterable[nn.Parameter], float | None], MeasuredNorms]


def clip_only(parameters: Iterable[nn.Parameter], max_norm: float | None) -> MeasuredNorms:
    """Clip without a second look at the gradients."""
    assert max_norm is not None
    pre = clip_grad_norm_(parameters, max_norm)
    return MeasuredNorms(pre, pre)


class Timed:
    """A way of clipping, and how long its steps and its clips took."""

    def __init__(self, clip: Clip) -> None:
        self._clip = clip
        self.clip_s: list[float] = []
        self.step_s: list[float] = []

    def __call__(self, parameters: Iterable[nn.Parameter], max_norm: float | None) -> MeasuredNorms:
        started_s = time.process_time()
        measured = self._clip(parameters, max_norm)
        self.clip_s.append(time.process_time() - started_s)
        return measured

    def step(self, bench: StepBench) -> None:
        trainer_module.clip_and_measure_ = self  # type: ignore[attr-defined]
        # clip_only claims that nothing was clipped; the audit of consumed gradients would object.
        bench.trainer._audit._every = 1 << 30
        started_s = time.process_time()
        bench.step()
        self.step_s.append(time.process_time() - started_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--device", default=best_device())
    options = parser.parse_args()
    both, one = Timed(clip_and_measure_), Timed(clip_only)
    with step_bench(options.device) as bench:
        for number in range(options.rounds * bench.period):
            order = (both, one) if number % 2 else (one, both)
            for side in order:
                side.step(bench)
        step_s = statistics.median(one.step_s)
        extra_s = statistics.median(both.clip_s) - statistics.median(one.clip_s)
        tell(
            "both_norms",
            device=options.device,
            threads=bench.threads,
            parameters=bench.parameters,
            steps=len(one.step_s),
            step_ms=round(step_s * 1e3, 3),
            clip_ms=round(statistics.median(one.clip_s) * 1e3, 4),
            clip_and_measure_ms=round(statistics.median(both.clip_s) * 1e3, 4),
            whole_step_ratio=round(statistics.median(both.step_s) / step_s, 4),
            limit_share=0.02,
            ratio=round(extra_s / step_s, 5),
        )


if __name__ == "__main__":
    main()
