"""Real training processes killed with SIGKILL at random points, resumed, and compared byte by byte.

A course is one run: killed several times, resumed each time (and maybe killed again while resuming),
and at last left alone. Its final checkpoints and what its ledger says must then be those of a run that
was never interrupted: not close, but the same bytes. After every kill, whatever is in the run folder
must be whole: no torn checkpoint, no torn ledger, no torn run.json.
"""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from core.training.checkpoint import (
    best_checkpoint,
    list_checkpoints,
    read_checkpoint,
    write_checkpoint,
)
from signscope.folder import RunFolder
from signscope.invariants import broken_invariants
from signscope.ledger import LedgerReader
from tests.e2e.kill_target import EXIT_TOLD, KILL_POINTS, VARIABLE
from tests.tiny_run import tiny_corpus

REPOSITORY = Path(__file__).resolve().parents[2]
KILLED = -9
STEPS = 21
TOLD_WITHOUT_CHECKPOINT = ("no checkpoint", "not a run folder", "never began")
"""What may be said of a run that was killed before its first checkpoint: it has to be started anew."""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def uninterrupted(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    course = Course(corpus, tmp_path_factory.mktemp("whole"), random.Random(0))
    course.finish()
    return course.run


class Course:
    """One run and the processes that train it, one after the other."""

    def __init__(self, corpus: Path, runs_dir: Path, rng: random.Random) -> None:
        runs_dir.mkdir(exist_ok=True)
        self._corpus = corpus
        self._runs_dir = runs_dir
        self._rng = rng
        self.kills: Counter[str] = Counter()
        self.started_anew = 0

    @property
    def run(self) -> Path:
        (run,) = self._runs_dir.iterdir()
        return run

    def be_killed(self, plan: str) -> bool:
        """Train until killed as planned; False when the run was finished before that."""
        killed = self._killed_from_outside() if plan == "outside" else self._killed_at(plan)
        if killed:
            self.kills[plan.partition(":")[0]] += 1
            self._assert_whole()
        return killed

    def finish(self) -> None:
        """Train to the end."""
        process = self._start()
        out, _ = process.communicate(timeout=120)
        if process.returncode == EXIT_TOLD and self._before_its_first_checkpoint(out):
            return self.finish()
        assert process.returncode == 0, out
        assert out.endswith("done finished\n")
        return None

    def random_plan(self) -> str:
        what = self._rng.choice(["outside", "outside", "outside", *KILL_POINTS])
        most = {"batch": STEPS, "outside": 1, "unlink": 6, "commit": 9, "committed": 9}.get(
            what, 25
        )
        return what if what == "outside" else f"{what}:{self._rng.randint(1, most)}"

    def _killed_at(self, point: str) -> bool:
        process = self._start(point)
        out, _ = process.communicate(timeout=120)
        if process.returncode == EXIT_TOLD and self._before_its_first_checkpoint(out):
            return self._killed_at(point)
        assert process.returncode in (0, KILLED), out
        return process.returncode == KILLED

    def _killed_from_outside(self) -> bool:
        """Kill a few batches after its first sign of life, at no particular place."""
        process = self._start()
        assert process.stdout is not None
        out = ""
        for _ in range(self._rng.randint(0, 9)):
            out += process.stdout.readline()
        # The point of dying is to be random within a batch: this waits for nothing.
        time.sleep(self._rng.random() * 0.02)
        process.kill()
        out += process.communicate(timeout=120)[0]
        if process.returncode == EXIT_TOLD and self._before_its_first_checkpoint(out):
            return self._killed_from_outside()
        assert process.returncode in (0, KILLED), out
        return process.returncode == KILLED

    def _start(self, point: str = "") -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.kill_target", self._corpus, self._runs_dir],
            cwd=REPOSITORY,
            env={**os.environ, VARIABLE: point},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _before_its_first_checkpoint(self, out: str) -> bool:
        """Remove a run that had nothing to lose yet, if that is why it could not be resumed."""
        assert any(text in out for text in TOLD_WITHOUT_CHECKPOINT), out
        assert list_checkpoints(self.run / "checkpoints") == []
        shutil.rmtree(self.run)
        self.started_anew += 1
        return True

    def _assert_whole(self) -> None:
        for run in self._runs_dir.iterdir():
            found = [*list_checkpoints(run / "checkpoints"), best_checkpoint(run / "checkpoints")]
            states = [read_checkpoint(path).state for path in found if path.exists()]
            if states:
                RunFolder.open(run)
                with LedgerReader(run / "ledger.sqlite") as reader:
                    reader.verify()
                    assert reader.step_count() >= states[0].step
                    assert broken_invariants(reader) == []


def account(run: Path) -> bytes:
    """All that a ledger says which must not depend on interruptions: not times, memory and events."""
    with LedgerReader(run / "ledger.sqlite") as reader:
        reader.verify()
        assert broken_invariants(reader) == []
        steps = [
            struct.pack(
                "<5q7d",
                *(s.step, s.epoch, s.batch_idx, s.frames, s.glosses),
                *(s.loss, s.loss_per_gloss, s.grad_norm_pre, s.grad_norm_post),
                *(s.clip_coef, s.lr, s.blank_fraction),
            )
            + f"{s.outcome} {s.sample_ids} {s.detail}".encode()
            for s in reader.steps()
        ]
        epochs = [
            f"{e.epoch} {e.batches} {e.applied} {e.clipped} {e.non_finite} {e.large}".encode()
            + struct.pack("<d", e.avg_loss)
            for e in reader.epochs()
        ]
        evaluations = [
            f"{epoch} {e.split} {e.errors} {e.sentences}".encode()
            + struct.pack("<2d", e.loss, e.blank_fraction)
            for epoch, e in reader.evaluations()
        ]
    return b"\n".join([*steps, *epochs, *evaluations])


def content(path: Path) -> bytes:
    """All that a checkpoint holds. Not the file itself: safetensors writes its header in any order."""
    checkpoint = read_checkpoint(path)
    parts = [checkpoint.state.model_dump_json().encode()]
    for name, tensor in sorted(checkpoint.tensors.items()):
        parts.append(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        parts.append(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return b"\n".join(parts)


def different_bytes(left: Path, right: Path) -> int:
    """How many bytes differ in the ledgers and checkpoints of two runs: weights, optimizer, averages, RNG."""
    pairs = [(account(left), account(right))]
    files = [sorted((run / "checkpoints").iterdir()) for run in (left, right)]
    assert [path.name for path in files[0]] == [path.name for path in files[1]]
    pairs += [(content(a), content(b)) for a, b in zip(*files, strict=True)]
    return sum(
        sum(x != y for x, y in zip(a, b, strict=False)) + abs(len(a) - len(b)) for a, b in pairs
    )


def test_the_comparison_sees_a_single_bit(uninterrupted: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(uninterrupted, copy)
    assert different_bytes(uninterrupted, copy) == 0
    path = best_checkpoint(copy / "checkpoints")
    found = read_checkpoint(path)
    found.tensors["model.pose.project.weight"].reshape(-1).view(torch.uint8)[5] ^= 1
    write_checkpoint(found, path)
    assert different_bytes(uninterrupted, copy) == 1


def test_a_run_killed_four_times_ends_as_if_never_touched(
    corpus: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    course = Course(corpus, tmp_path / "runs", random.Random(4))
    # While a checkpoint is half written, between the rows and their commit, between the best and
    # the last checkpoint of an epoch, and anywhere.
    for plan in ("half:9", "commit:5", "renamed:8", "outside"):
        assert course.be_killed(plan), f"{plan} was never reached"
    course.finish()
    assert sum(course.kills.values()) == 4
    assert different_bytes(course.run, uninterrupted) == 0


@pytest.mark.soak
def test_fifty_kills_leave_no_byte_different(
    corpus: Path, uninterrupted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("SIGNSCOPE_TEST_SEED", time.time_ns() % 2**32))
    kills: Counter[str] = Counter()
    different = courses = anew = 0
    for course in _courses(corpus, tmp_path, seed):
        planned = min(random.Random(seed + courses).randint(1, 8), 50 - kills.total())
        while course.kills.total() < planned and course.be_killed(course.random_plan()):
            pass
        course.finish()
        different += different_bytes(course.run, uninterrupted)
        kills += course.kills
        anew += course.started_anew
        courses += 1
        if kills.total() == 50:
            break
    with capsys.disabled():
        print(
            f"\nkills survived: {kills.total()} over {courses} runs ({dict(kills)}), bytes different: "
            f"{different}, killed before the first checkpoint and started anew: {anew}, seed {seed}"
        )
    assert kills.total() == 50
    assert different == 0


def _courses(corpus: Path, folder: Path, seed: int) -> Iterator[Course]:
    number = 0
    while True:
        yield Course(corpus, folder / f"course-{number}", random.Random(seed + 1000 * number))
        number += 1
