"""Run folders made up for the tests of the Runs menu: real files, without a training."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PySide6.QtWidgets import QMessageBox

from core.config import config_to_toml
from signscope.folder import CorpusInfo, RunFolder
from signscope.ledger import Ledger
from signscope.records import StepRecord
from tests.tiny_run import tiny_config
from tests.unit.made_records import make_step


def make_run(
    runs_dir: Path, name: str, *, steps: list[StepRecord] | int = 20, lr: float = 2e-3, **info: Any
) -> Path:
    """Make a finished run of ``steps`` batches with settings, ledger and log; ``info`` goes into run.json."""
    values: dict[str, Any] = {
        "state": "finished",
        "device": "cpu",
        "corpus": CorpusInfo(name="tiny", path="/elsewhere/tiny", fingerprint="0", synthetic=True),
        "best_wer": 0.25,
        "epochs": 2,
        "total_epochs": 2,
        "duration_s": 12.0,
    }
    records = [make_step(i) for i in range(steps)] if isinstance(steps, int) else steps
    folder = RunFolder.create(runs_dir, name, **(values | {"batches": len(records)} | info))
    ledger = Ledger(folder.ledger_path, meta={"policy": "clip", "max_norm": 1.0})
    for record in records:
        ledger.append(record)
    ledger.close()
    config = tiny_config(Path("/elsewhere/tiny"), name=name, optim={"lr": lr})
    folder.config_path.write_text(config_to_toml(config), encoding="utf-8")
    folder.log_path.write_text("Epoch 1/2:\n  Batch 0: loss=90.00\n", encoding="utf-8")
    return folder.path


async def until(
    condition: Callable[[], object], what: str = "the condition", limit_s: float = 30
) -> None:
    """Let the event loop run until ``condition`` holds; fail after ``limit_s``."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, f"{what} did not come"
        await asyncio.sleep(0.005)


async def press(box: QMessageBox, text: str) -> None:
    """Press the button of a message box that carries ``text``."""
    next(button for button in box.buttons() if button.text() == text).click()
    await asyncio.sleep(0)
