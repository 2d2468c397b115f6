"""A hundred thousand batches of the real program: its memory does not grow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from signscope.invariants import broken_invariants
from signscope.ledger import LedgerReader
from tests.tiny_run import tiny_corpus

REPOSITORY = Path(__file__).resolve().parents[2]
STEPS = int(os.environ.get("SIGNSCOPE_TEST_LONG_RUN", 100_000))
WINDOW = 200  # batches over which memory is averaged


@pytest.mark.soak
def test_memory_grows_by_less_than_five_percent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {
        "device": "cpu",
        "threads": 1,
        "data.batch_size": 1,
        "data.prefetch": 2,
        "model.part_dim": 4,
        "model.width": 8,
        "model.layers": 1,
        "optim.epochs": STEPS,
        "checkpoint.every_batches": 500,
    }
    command = [sys.executable, "main.py", "train", "--corpus", str(tiny_corpus(tmp_path))]
    command += ["--out", str(tmp_path / "runs"), "--max-steps", str(STEPS), "--every", str(STEPS)]
    for name, value in settings.items():
        command += ["--set", f"{name}={value}"]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    (run,) = (tmp_path / "runs").iterdir()
    with LedgerReader(run / "ledger.sqlite") as reader:
        memory_mib = np.concatenate(
            [block["memory_mib"] for block in reader.columns(["memory_mib"])]
        )
        assert broken_invariants(reader) == []
    assert len(memory_mib) == STEPS
    early = float(memory_mib[STEPS // 10 :][:WINDOW].mean())
    late = float(memory_mib[-WINDOW:].mean())
    growth = late / early - 1
    with capsys.disabled():
        print(
            f"\nresident memory at step {STEPS // 10}: {early:.1f} MiB, at step {STEPS}: {late:.1f} MiB, "
            f"grown by {100 * growth:.2f} %"
        )
    assert growth < 0.05
