"""Start pressed as soon as the window is there: the real program, a real key event, and no idle processor."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from signscope.folder import RunFolder
from tests.conftest import REPOSITORY

DELAYS_S = (0.0, 0.2, 0.5, 1.0, 2.0, 4.0)
LIMIT_S = 120.0


@pytest.fixture
def busy_cores() -> Iterator[None]:
    """Two processes that take what they get of the processor; the programs under test crowd the rest."""
    spin = [sys.executable, "-c", "while True: pass"]
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            process = stack.enter_context(subprocess.Popen(spin))
            stack.callback(process.kill)
        yield


@pytest.mark.usefixtures("busy_cores")
def test_start_trains_however_soon_after_the_opening_it_is_pressed(
    small_config: Path, tmp_path: Path
) -> None:
    running = {
        delay_s: subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.start_key", str(delay_s), str(small_config)],
            cwd=REPOSITORY,
            env=os.environ
            | {
                "QT_QPA_PLATFORM": "offscreen",
                "SIGNSCOPE_RUNS": str(tmp_path / f"runs-{delay_s}"),
                "SIGNSCOPE_SETTINGS": str(tmp_path / f"settings-{delay_s}.ini"),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for delay_s in DELAYS_S
    }
    try:
        ends = {
            delay_s: (*process.communicate(timeout=LIMIT_S), process.returncode)
            for delay_s, process in running.items()
        }
    finally:
        for process in running.values():
            process.kill()
            process.communicate()
    for delay_s, (out, err, status) in ends.items():
        assert (out, status) == ("trained\n", 0), f"pressed after {delay_s} s: {out}{err}"
        (run,) = (tmp_path / f"runs-{delay_s}").iterdir()
        assert RunFolder(run).read_info().batches > 0
