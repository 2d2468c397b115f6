from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from signscope.invariants import broken_invariants
from signscope.ledger import LedgerReader
from tests.conftest import REPOSITORY
from tests.e2e.conftest import Start

Program = Callable[..., tuple[int, str, str]]

BATCH = re.compile(
    r"  Batch (\d+): loss=\d+\.\d\d, grad_norm=\d+\.\d\d(?: -> 1\.00 \(clipped\)| \(not clipped\))"
)
EPOCH = re.compile(
    r"Epoch (\d+) complete: avg_loss=\d+\.\d\d, WER=\d+\.\d% \(S \d+ D \d+ I \d+\), "
    r"(\d+) of (\d+) batches applied, \d+ clipped, 0 non-finite"
)


def run_folder(out: str) -> Path:
    found = re.search(r"^Run folder: (.+)$", out, flags=re.MULTILINE)
    assert found, out
    return Path(found[1])


def state(run: Path) -> str:
    return str(json.loads((run / "run.json").read_text(encoding="utf-8"))["state"])


def test_a_short_run_to_finished(program: Program, small_config: Path, tmp_path: Path) -> None:
    status, out, err = program("train", "--config", small_config, "--out", tmp_path / "runs")
    assert status == 0, err
    assert "Traceback" not in err
    run = run_folder(out)
    assert state(run) == "finished"
    lines = out.splitlines()
    assert [line for line in lines if re.fullmatch(r"Epoch \d+/\d+:", line)] == [
        "Epoch 1/2:",
        "Epoch 2/2:",
    ]
    epochs = [match for match in map(EPOCH.fullmatch, lines) if match]
    assert [match[1] for match in epochs] == ["1", "2"], out
    assert all(match[2] == match[3] for match in epochs)
    batches = [match for match in map(BATCH.fullmatch, lines) if match]
    total = sum(int(match[3]) for match in epochs)
    assert len(batches) == total
    with LedgerReader(run / "ledger.sqlite") as ledger:
        assert [step.step for step in ledger.steps()] == list(range(total))
        assert [int(match[1]) for match in batches] == [step.batch_idx for step in ledger.steps()]
        assert ledger.counts().applied == total
        assert [epoch.batches for epoch in ledger.epochs()] == [total // 2, total // 2]
        assert broken_invariants(ledger) == []
    assert "batch" in err  # the bar

    table = tmp_path / "run.csv"
    status, out, err = program("export", run, "--to", table)
    assert (status, out) == (0, f"Written: {table}\n"), err
    assert len(table.read_text(encoding="utf-8").splitlines()) == total + 1
    status, out, _ = program("runs", "--folder", tmp_path / "runs")
    assert status == 0
    assert f"{run.name}: finished" in out
    assert "(synthetic)" in out


def test_ctrl_c_stops_with_a_checkpoint_and_resume_goes_on(
    start: Start, program: Program, small_config: Path, tmp_path: Path
) -> None:
    process = start(
        "train", "--config", small_config, "--out", tmp_path / "runs", "--epochs", 100_000
    )
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if line.startswith("  Batch 3:"):
            break
    process.send_signal(signal.SIGINT)
    rest, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "Stopping after this batch" in err
    run = run_folder(rest)
    assert state(run) == "stopped"
    assert f"--resume {run}" in rest
    with LedgerReader(run / "ledger.sqlite") as ledger:
        before = ledger.steps()
    assert len(before) >= 4

    goal = len(before) + 5
    status, out, err = program("train", "--resume", run, "--max-steps", goal)
    assert status == 0, err
    assert run_folder(out) == run
    assert state(run) == "finished"
    with LedgerReader(run / "ledger.sqlite") as ledger:
        after = ledger.steps()
        assert broken_invariants(ledger) == []
    assert [step.step for step in after] == list(range(goal))
    assert [step.loss for step in after[: len(before)]] == [step.loss for step in before]


def test_resuming_with_another_setting_says_so(
    program: Program, small_config: Path, tmp_path: Path
) -> None:
    status, out, err = program(
        "train", "--config", small_config, "--out", tmp_path / "runs", "--epochs", 1
    )
    assert status == 0, err
    run = run_folder(out)
    status, _, err = program("train", "--resume", run, "--epochs", 2)
    assert status == 2
    assert "epochs" in err
    assert "--accept-changes" in err
    status, out, err = program("train", "--resume", run, "--epochs", 2, "--accept-changes")
    assert status == 0, err
    with LedgerReader(run / "ledger.sqlite") as ledger:
        assert [epoch.epoch for epoch in ledger.epochs()] == [1, 2]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--corpus", "no/such/corpus"), "no/such/corpus"),
        (("--resume", "no/such/run"), "no/such/run"),
    ],
)
def test_what_cannot_be_trained_is_told_without_a_traceback(
    program: Program, arguments: tuple[str, ...], named: str
) -> None:
    status, out, err = program("train", *arguments)
    assert (status, out) == (2, "")
    first, hint = err.strip().splitlines()
    assert first.startswith("error: ")
    assert named in first
    assert len(hint) > 20


def test_cuda_where_there_is_none_is_told(program: Program, small_config: Path) -> None:
    status, out, err = program(
        "train", "--config", small_config, "--device", "cuda", CUDA_VISIBLE_DEVICES=""
    )
    assert (status, out) == (2, "")
    assert err.startswith("error: Device cuda was asked for")
    assert "Traceback" not in err


def test_replay_writes_its_result(program: Program, small_config: Path, tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    status, out, err = program(
        *("replay", "--config", small_config, "--steps", 6, "--policies", "clip,skip:0.001,none"),
        *("--json", result, "--out", tmp_path / "runs"),
    )
    assert status == 0, err
    policies = json.loads(result.read_text(encoding="utf-8"))["policies"]
    assert {name: policy["applied"] for name, policy in policies.items()} == {
        "clip": 6,
        "skip:0.001": 0,
        "none": 6,
    }
    assert len({policy["first_loss"] for policy in policies.values()}) == 1
    assert "skip:0.001" in out


def test_without_a_display_the_terminal_does_the_job(program: Program, small_config: Path) -> None:
    status, out, err = program(
        "--config", small_config, QT_QPA_PLATFORM=None, DISPLAY=None, WAYLAND_DISPLAY=None
    )
    assert status == 0, err
    first = out.splitlines()[0]
    assert first.startswith("No display")
    assert "xvfb-run" in first
    assert state(run_folder(out)) == "finished"
    assert "batch" in err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit for the size of a file")
def test_a_pause_because_nothing_more_can_be_written_ends_with_the_status_of_a_pause(
    small_config: Path, tmp_path: Path
) -> None:
    options = ["--config", small_config, "--out", tmp_path / "runs", "--set", "model.width=160"]
    command = [sys.executable, "main.py", "train", *options]
    # Room for the ledger but not for a checkpoint: what a full disk is like.
    limited = ["bash", "-c", f"ulimit -f 256; exec {shlex.join(map(str, command))}"]
    ended = subprocess.run(limited, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 3, ended.stderr
    assert "The run is paused." in ended.stdout
    assert "error: The checkpoint could not be written" in ended.stderr
    assert "Traceback" not in ended.stderr
