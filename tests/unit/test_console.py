from __future__ import annotations

import contextlib
import io
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from core.console import ConsoleObserver, progress_bar, run_in_terminal
from signscope.records import (
    EpochRecord,
    EventKind,
    Outcome,
    RunEventRecord,
    StepRecord,
)
from signscope.run_state import RunControl, RunEvent, RunState
from tests.conftest import REPOSITORY

STEP = StepRecord(
    step=0,
    epoch=1,
    batch_idx=0,
    loss=91.67,
    loss_per_gloss=11.0,
    grad_norm_pre=95.74,
    grad_norm_post=1.0,
    clip_coef=1 / 95.74,
    lr=1e-3,
    outcome=Outcome.APPLIED,
    sample_ids=("a",),
    frames=10,
    glosses=8,
    blank_fraction=0.5,
    data_s=0.0,
    step_s=0.1,
    memory_mib=1.0,
    wall_time=0.0,
)
ALERT = RunEventRecord(step=1, kind=EventKind.ALERT, text="look at this", wall_time=0.0)
INFO = RunEventRecord(step=1, kind=EventKind.INFO, text="by the way", wall_time=0.0)


class Screen(io.StringIO):
    """A terminal that remembers everything written to it."""

    def isatty(self) -> bool:
        return True


def observe(**options: object) -> tuple[str, str]:
    """Show a short run; gives the text and what the bar wrote."""
    out, bar = io.StringIO(), io.StringIO()
    observer = ConsoleObserver(1.0, out=out, bar_out=bar, **options)  # type: ignore[arg-type]
    with contextlib.closing(observer):
        observer.on_run(2, 2)
        observer.on_step(STEP)
        observer.on_step(replace(STEP, step=1, batch_idx=1, clip_coef=1.0, grad_norm_pre=0.89))
        observer.on_event(ALERT)
        observer.on_event(INFO)
        observer.on_epoch(EpochRecord(1, 2, 8.5, 2, 1, 0, 0, 0, 1.0, 0.0))
    return out.getvalue(), bar.getvalue()


def test_text_is_the_log_of_the_run() -> None:
    text, _ = observe()
    assert text.splitlines()[:3] == [
        "Epoch 1/2:",
        "  Batch 0: loss=91.67, grad_norm=95.74 -> 1.00 (clipped)",
        "  Batch 1: loss=91.67, grad_norm=0.89 (not clipped)",
    ]
    assert "Warning: look at this" in text
    assert text.splitlines()[-1].startswith("Epoch 1 complete: avg_loss=8.50, 2 of 2 batches")


def test_every_leaves_out_batches_but_none_that_was_not_applied() -> None:
    out = io.StringIO()
    with contextlib.closing(
        ConsoleObserver(1.0, every=10, out=out, bar_out=io.StringIO())
    ) as observer:
        observer.on_run(1, 30)
        for step in range(30):
            outcome = Outcome.SKIPPED_NON_FINITE_LOSS if step == 13 else Outcome.APPLIED
            observer.on_step(replace(STEP, step=step, batch_idx=step, outcome=outcome))
    shown = [line.split()[1] for line in out.getvalue().splitlines() if "Batch" in line]
    assert shown == ["0:", "10:", "13:", "20:"]


def test_bar_only_prints_nothing_but_alerts() -> None:
    text, bar = observe(bar_only=True, label="skip:100")
    assert len(text.splitlines()) == 1
    assert "look at this" in text
    assert "0/4" in bar


def test_bar_in_a_file_writes_whole_lines() -> None:
    _, bar = observe()
    assert "\r" not in bar
    assert bar.endswith("\n")


def test_bar_on_a_screen_counts_a_resumed_run_from_where_it_stands() -> None:
    screen = Screen()
    with contextlib.closing(ConsoleObserver(1.0, out=io.StringIO(), bar_out=screen)) as observer:
        observer.on_run(10, 10)
        observer.on_step(replace(STEP, step=41, epoch=5, batch_idx=1))
        observer._bar.refresh()
    assert "Epoch 5/10" in screen.getvalue()
    assert "42/100" in screen.getvalue()


def test_progress_bar_draws_nothing_when_nothing_is_to_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with progress_bar("Importing"):
        pass
    assert capsys.readouterr().err == ""
    with progress_bar("Importing", "clip") as progress:
        progress(1, 3)
        progress(3, 3)
    assert "3/3" in capsys.readouterr().err


# ---------------------------------------------------------------- control


def test_a_run_that_pauses_itself_is_stopped_and_told() -> None:
    def work(control: RunControl) -> RunState:
        control.apply(RunEvent.PAUSE)
        control.wait_while_paused()
        return control.snapshot().state

    assert run_in_terminal(work) == (RunState.STOPPING, True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_for_a_stop_and_the_old_handler_comes_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)

    def work(control: RunControl) -> bool:
        signal.raise_signal(number)
        return control.wait_for(RunState.STOPPING, timeout_s=10)

    assert run_in_terminal(work) == (True, False)
    assert signal.getsignal(number) is before


def test_an_error_passes_through() -> None:
    controls = []

    def work(control: RunControl) -> None:
        controls.append(control)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        run_in_terminal(work)
    assert controls[0].snapshot().state is RunState.FAILED


def test_a_second_signal_ends_at_once() -> None:
    code = (
        "import signal\n"
        "from core.console import run_in_terminal\n"
        "def work(control):\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "    print('still here')\n"
        "run_in_terminal(work)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 128 + signal.SIGINT
    assert ended.stdout == ""
    assert "Ctrl-C again" in ended.stderr
