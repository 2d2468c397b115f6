"""How long a resume takes to verify a long ledger, and how long all of it takes.

    python -m bench.bench_resume [--steps 1000000] [--keep FOLDER]

Wall time: most of it is reading. A ledger that is there already (--keep) is used again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from bench.bench_history import make_records
from signscope.ledger import Ledger, LedgerReader


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument(
        "--keep", type=Path, help="folder whose ledger.sqlite is made or used again"
    )
    options = parser.parse_args()
    if options.keep:
        measure(options.keep / "ledger.sqlite", options.steps)
    else:
        with tempfile.TemporaryDirectory() as folder:
            measure(Path(folder) / "ledger.sqlite", options.steps)


def measure(path: Path, steps: int) -> None:
    if not path.exists():
        with Ledger(path, {"policy": "clip", "max_norm": 1.0}) as ledger:
            for start in range(0, steps, 10_000):
                for record in make_records(min(10_000, steps - start), start):
                    ledger.append(record)
                ledger.flush()
    began = time.perf_counter()
    ledger = Ledger(path)
    resume_s = time.perf_counter() - began
    ledger.close()
    with LedgerReader(path) as reader:
        began = time.perf_counter()
        reader.verify()
        verify_s = time.perf_counter() - began
        count = reader.step_count()
    print(
        json.dumps(
            {
                "bench": "resume",
                "steps": count,
                "file_mb": round(path.stat().st_size / 1e6, 1),
                "resume_s": round(resume_s, 2),
                "verify_all_s": round(verify_s, 2),
                "verify_rows_per_s": round(count / verify_s),
            }
        )
    )


if __name__ == "__main__":
    main()
