"""``signscope watch`` over scripts as other people write them, in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core.analysis.health.assessment import assess, assess_run
from core.analysis.health.findings import FindingKind, Severity
from core.analysis.health.window import StepWindow
from main import main as program
from signscope.control import Request, ask
from signscope.folder import RunFolder
from signscope.invariants import broken_invariants
from signscope.reader import LedgerReader
from signscope.records import Outcome, StepRecord

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPTS = REPOSITORY / "tests" / "scripts"


def command(out: Path, script: Path | str, *arguments: str) -> list[str]:
    return [
        sys.executable,
        str(REPOSITORY / "main.py"),
        "watch",
        "--out",
        str(out),
        str(script),
        *arguments,
    ]


def watch(out: Path, script: Path | str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(out, script, *arguments), capture_output=True, text=True, timeout=120, check=False
    )


def only_run(out: Path) -> Path:
    (run,) = [path for path in out.iterdir() if path.is_dir()]
    return run


def rows(run: Path) -> list[StepRecord]:
    with LedgerReader(RunFolder(run).ledger_path) as reader:
        reader.verify()
        assert broken_invariants(reader) == []
        return reader.steps()


def started(out: Path, script: Path, *, at_least: int) -> tuple[subprocess.Popen[str], Path]:
    """Start watching ``script`` and wait until it has made so many steps."""
    process = subprocess.Popen(
        command(out, script), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= at_least:
            break
    return process, only_run(out)


def test_the_script_that_clips_and_then_skips_is_convicted_within_20_batches(
    tmp_path: Path,
) -> None:
    done = watch(tmp_path, SCRIPTS / "clip_then_skip.py")
    assert done.returncode == 0, done.stderr
    run = only_run(tmp_path)
    seen = rows(run)
    skipped = int(done.stdout.split()[1])
    assert len(seen) == 30
    assert sum(row.outcome.discarded for row in seen) == skipped > 20
    assert all(row.grad_norm_pre > 100 for row in seen if row.outcome.discarded)
    assert all(row.grad_norm_post == pytest.approx(1.0, rel=1e-5) for row in seen)
    early = assess(StepWindow.of_records(seen[:20]))
    assert [(f.kind, f.severity) for f in early][:1] == [(FindingKind.DISCARDED, Severity.CRITICAL)]
    (finding, *_) = assess_run(run)
    last = [row for row in seen if row.outcome is Outcome.DISCARDED][-1]
    assert f"{last.grad_norm_pre:.3g} at the last of them (batch {last.step})" in finding.evidence


@pytest.mark.parametrize(
    ("script", "updates"),
    [("clip_and_step", 30), ("accumulation", 30), ("gan", 80), ("amp", 60)],
)
def test_honest_scripts_are_acquitted(script: str, updates: int, tmp_path: Path) -> None:
    done = watch(tmp_path, SCRIPTS / f"{script}.py")
    assert done.returncode == 0, done.stderr
    run = only_run(tmp_path)
    seen = rows(run)
    assert len(seen) == updates
    assert not any(row.outcome.discarded for row in seen)
    kinds = {finding.kind for finding in assess_run(run)}
    assert not kinds & {FindingKind.DISCARDED, FindingKind.LATCHED}
    assert RunFolder(run).read_info().state == "finished"
    assert program(["verify", str(run)]) == 0
    assert program(["runs", "--folder", str(tmp_path)]) == 0


@pytest.mark.parametrize(
    ("script", "updates", "limit", "epochs"),
    [
        ("accelerated", 10, 0.1, 1),
        ("fabric", 20, 0.1, 1),
        ("lightning_trainer", 20, 0.1, 2),
        ("transformers_trainer", 12, 0.05, 2),
    ],
)
def test_the_loops_of_frameworks_are_seen_whole(
    script: str, updates: int, limit: float, epochs: int, tmp_path: Path
) -> None:
    done = watch(tmp_path / "runs", SCRIPTS / f"{script}.py", str(tmp_path / "work"))
    assert done.returncode == 0, done.stderr
    run = only_run(tmp_path / "runs")
    seen = rows(run)
    assert [row.outcome for row in seen] == [Outcome.APPLIED] * updates
    assert {row.epoch for row in seen} == set(range(1, epochs + 1))
    for row in seen:
        assert row.grad_norm_post == pytest.approx(min(row.grad_norm_pre, limit), rel=1e-4)
        assert row.loss > 0
    accumulated = {row.detail for row in seen}
    assert accumulated == ({""} if script == "fabric" else {"2 backward passes"})
    assert not {finding.kind for finding in assess_run(run)} & {FindingKind.DISCARDED}


def test_what_a_scaler_skips_stands_in_the_rows(tmp_path: Path) -> None:
    watch(tmp_path, SCRIPTS / "amp.py")
    seen = rows(only_run(tmp_path))
    skipped = [row.outcome is Outcome.SKIPPED_BY_SCALER for row in seen]
    assert skipped[0]
    assert not skipped[-1]


def test_passes_over_the_loader_are_epochs(tmp_path: Path) -> None:
    watch(tmp_path, SCRIPTS / "accumulation.py")
    seen = rows(only_run(tmp_path))
    assert [(row.epoch, row.batch_idx) for row in seen] == [
        (epoch, batch) for epoch in (1, 2) for batch in range(15)
    ]
    assert all(row.data_s >= 0 and row.step_s > 0 for row in seen)


def test_a_script_has_its_own_arguments_modules_and_exit_status(tmp_path: Path) -> None:
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "__init__.py").write_text("MINE = 'mine'\n")
    (tmp_path / "train.py").write_text(
        "import core, sys\nprint(core.MINE, sys.argv[1:], __name__, __file__)\nsys.exit(7)\n"
    )
    done = watch(tmp_path / "runs", tmp_path / "train.py", "--name", "x", "-m", "y")
    alone = subprocess.run(
        [sys.executable, str(tmp_path / "train.py"), "--name", "x", "-m", "y"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == alone.stdout
    assert done.returncode == alone.returncode == 7
    assert RunFolder(only_run(tmp_path / "runs")).read_info().state == "failed"


def test_an_error_of_the_script_looks_as_without_watching(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("def f():\n    raise ValueError('mine')\n\nf()\n")
    done = watch(tmp_path / "runs", script)
    alone = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False
    )
    assert done.returncode == alone.returncode == 1
    assert done.stderr.split("\n", 1)[1] == alone.stderr
    assert RunFolder(only_run(tmp_path / "runs")).read_info().error == "ValueError: mine"


def test_a_script_that_is_not_there_leaves_no_run(tmp_path: Path) -> None:
    done = watch(tmp_path / "runs", "nowhere.py")
    assert done.returncode == 2
    assert "nowhere.py" in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_after_kill_nothing_older_than_a_second_is_lost(tmp_path: Path) -> None:
    process, run = started(tmp_path, SCRIPTS / "endless.py", at_least=150)
    killed_at = time.time()
    os.kill(process.pid, signal.SIGKILL)
    printed, _ = process.communicate()
    seen = rows(run)
    steps = int(printed.split()[-1]) if printed.split() else 150
    assert seen[-1].wall_time > killed_at - 1
    assert steps - len(seen) < 100  # of about a hundred steps a second
    assert RunFolder(run).shown_state() == "interrupted"


def test_pause_resume_and_stop_come_through_the_run_folder(tmp_path: Path) -> None:
    process, run = started(tmp_path, SCRIPTS / "endless.py", at_least=10)
    ask(run, Request.PAUSE)
    _until(lambda: RunFolder(run).read_info().state == "paused")
    with LedgerReader(RunFolder(run).ledger_path) as reader:
        _until(lambda: reader.step_count() > 0)
        time.sleep(0.5)  # the writer's last group
        rested = reader.step_count()
        time.sleep(0.5)
        assert reader.step_count() == rested
    ask(run, Request.RESUME)
    _until(lambda: RunFolder(run).read_info().state == "running")
    ask(run, Request.STOP)
    printed, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert printed.split("\n")[-2] == "cleaned up"
    assert RunFolder(run).read_info().state == "stopped"
    assert len(rows(run)) > rested


def _until(holds: object) -> None:
    assert callable(holds)
    end_s = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.02)
