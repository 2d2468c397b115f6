"""What the ledger costs a training run: time in the calling thread, and all processor time it takes.

    python -m bench.bench_ledger [--step-ms 50] [--steps 5000]

Between two rows the bench pauses (at most 2 ms, the cost of a row does not depend on it), so that the
writer thread wakes as often as in a run. The share is told for a step of --step-ms milliseconds: take
what your runs show as time a step. Promise: at most 1 % of a default step.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from pathlib import Path

from bench.bench_history import make_records
from signscope.ledger import Ledger, LedgerReader

DEFAULT_STEP_MS = 50.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--step-ms", type=float, default=DEFAULT_STEP_MS)
    parser.add_argument("--steps", type=int, default=5000)
    options = parser.parse_args()
    records = make_records(options.steps)
    pause = threading.Event()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.sqlite"
        ledger = Ledger(path, {"policy": "clip", "max_norm": 1.0})
        in_calls: list[float] = []
        all_threads = time.process_time()
        own_thread = time.thread_time()
        for record in records:
            before = time.perf_counter()
            ledger.append(record)
            in_calls.append(time.perf_counter() - before)
            pause.wait(min(options.step_ms, 2.0) / 1000)
        own_thread = time.thread_time() - own_thread
        before = time.perf_counter()
        ledger.flush()
        flush_s = time.perf_counter() - before
        ledger.close()
        all_threads = time.process_time() - all_threads
        with LedgerReader(path) as reader:
            before = time.perf_counter()
            reader.verify()
            verify_s = time.perf_counter() - before
        size = path.stat().st_size
    in_calls.sort()
    call_us = 1e6 * sum(in_calls) / len(in_calls)
    writer_us = 1e6 * (all_threads - own_thread) / len(records)
    step_us = options.step_ms * 1000
    print(
        json.dumps(
            {
                "bench": "ledger",
                "steps": len(records),
                "append_mean_us": round(call_us, 2),
                "append_p50_us": round(1e6 * in_calls[len(in_calls) // 2], 2),
                "append_p99_us": round(1e6 * in_calls[int(0.99 * len(in_calls))], 2),
                "append_max_ms": round(1e3 * in_calls[-1], 3),
                "writer_thread_cpu_us": round(writer_us, 2),
                "flush_ms": round(1e3 * flush_s, 2),
                "bytes_per_row": round(size / len(records)),
                "verify_rows_per_s": round(len(records) / verify_s),
                "step_ms": options.step_ms,
                "limit_share": 0.01,
                "share_of_step": round((call_us + writer_us) / step_us, 5),
                "ratio": round((call_us + writer_us) / step_us / 0.01, 4),
            }
        )
    )


if __name__ == "__main__":
    main()
