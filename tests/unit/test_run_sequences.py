"""Random sequences of what a person and a machine do to a run; it always ends as if nobody had touched it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.training.checkpoint import list_checkpoints
from signscope.folder import RunFolder
from signscope.invariants import broken_invariants
from signscope.ledger import LedgerReader
from signscope.run_state import RunEvent
from tests.e2e.steered import Steered
from tests.e2e.test_kill_resume import different_bytes

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no forkserver")

ACTIONS = ("pause", "hasty pause", "resume", "stop", "close", "kill")
Actions = Sequence[tuple[int, str]]
sequences = st.lists(
    st.tuples(st.integers(0, 6), st.sampled_from(ACTIONS)), min_size=1, max_size=10
)
in_these_tests = settings(
    deadline=None, suppress_health_check=list(HealthCheck), print_blob=True, database=None
)


@pytest.fixture(scope="module")
def uninterrupted(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs_dir = tmp_path_factory.mktemp("whole")
    finish(corpus, runs_dir)
    (run,) = runs_dir.iterdir()
    return run


def play(corpus: Path, runs_dir: Path, sequence: Actions) -> None:
    """Do each action after so many more batches; start or resume whenever nothing trains."""
    process: Steered | None = None
    try:
        for batches, action in sequence:
            if process is None:
                process = Steered(corpus, runs_dir)
            process.wait_for_steps(batches)
            if not do(process, action):
                process = None
                check(runs_dir)
    finally:
        if process is not None:
            process.kill()
    check(runs_dir)


def do(process: Steered, action: str) -> bool:
    """Do one thing; whether the process still trains, or rests, after it."""
    match action:
        case "pause":
            process.send(RunEvent.PAUSE)
            if not process.paused:
                process.wait_for("paused")
        case "hasty pause":  # the resume may overtake the pause
            process.send(RunEvent.PAUSE)
            process.send(RunEvent.RESUME)
            if process.paused:
                process.wait_for("running")
        case "resume":
            process.send(RunEvent.RESUME)
            if process.paused:
                process.wait_for("running")
        case "stop":
            process.send(RunEvent.STOP)
            process.wait_for()
        case "close":
            process.close()
            return False
        case "kill":
            process.kill()
            return False
    assert process.last[0] != "told", process.last
    if process.over:
        process.close()
    return not process.over


def check(runs_dir: Path) -> None:
    """Whatever happened, what is there is whole and says the truth."""
    for run in runs_dir.iterdir():
        if list_checkpoints(run / "checkpoints"):
            assert RunFolder.open(run).shown_state() in ("interrupted", "stopped", "finished")
            with LedgerReader(run / "ledger.sqlite") as reader:
                reader.verify()
                assert broken_invariants(reader) == []
        else:
            shutil.rmtree(run)  # killed before there was anything to resume


def finish(corpus: Path, runs_dir: Path) -> None:
    with Steered(corpus, runs_dir) as process:
        process.wait_for()
        assert process.last == ("done", "finished")
        process.close()


def ends_as_if_never_touched(
    corpus: Path, uninterrupted: Path, runs_dir: Path, sequence: Actions
) -> None:
    runs_dir.mkdir()
    play(corpus, runs_dir, sequence)
    finish(corpus, runs_dir)
    (run,) = runs_dir.iterdir()
    assert RunFolder.open(run).info.state == "finished"
    assert different_bytes(run, uninterrupted) == 0
    shutil.rmtree(runs_dir)


@pytest.mark.parametrize(
    "sequence",
    [
        [(3, "pause"), (0, "resume"), (2, "pause"), (0, "kill"), (1, "close")],
        [(1, "hasty pause"), (5, "pause"), (0, "close"), (0, "kill"), (4, "stop"), (6, "kill")],
    ],
)
def test_chosen_sequences(
    sequence: Actions, corpus: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    ends_as_if_never_touched(corpus, uninterrupted, tmp_path / "runs", sequence)


@settings(in_these_tests, max_examples=3)
@given(sequences)
def test_a_few_random_sequences(
    corpus: Path, uninterrupted: Path, tmp_path: Path, sequence: Actions
) -> None:
    ends_as_if_never_touched(corpus, uninterrupted, tmp_path / uuid4().hex, sequence)


@pytest.mark.soak
@settings(in_these_tests, max_examples=150)
@given(sequences)
def test_many_random_sequences(
    corpus: Path, uninterrupted: Path, tmp_path: Path, sequence: Actions
) -> None:
    ends_as_if_never_touched(corpus, uninterrupted, tmp_path / uuid4().hex, sequence)
