"""A training process that can be told where to die: what the kill tests start, kill and resume.

    python -m tests.e2e.kill_target CORPUS RUNS_DIR

Trains a small run in RUNS_DIR, or goes on with the one that is there. The environment variable
SIGNSCOPE_TEST_KILL (read here and nowhere in the product) names a point, ``WHAT:N``, and the process
sends itself SIGKILL when it gets there for the Nth time:

    batch:N           in batch N, in the trainer's thread
    fsync:N           before something is synced to the disk
    half:N            the same, with only half of the file written
    rename:N          before a finished file takes its name
    renamed:N         after it
    unlink:N          after an old checkpoint was removed
    commit:N          before a group of ledger rows is committed
    committed:N       after it

Without it the process prints ``step K`` for each batch, so that its parent can kill it at any moment.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.config import RunConfig
from core.training.session import TrainingJob, resume_job, run_job
from signscope import ledger
from signscope.errors import SignScopeError
from tests.tiny_run import Recorder, started_control, tiny_config

VARIABLE = "SIGNSCOPE_TEST_KILL"
EXIT_TOLD = 5  # ended with a sentence for a person
KILL_POINTS = (
    "batch",
    "fsync",
    "half",
    "rename",
    "renamed",
    "unlink",
    "commit",
    "committed",
)


def config(corpus: Path) -> RunConfig:
    """Settings in which everything that a checkpoint has to keep matters: dropout, average, best, held-out."""
    return tiny_config(
        corpus,
        data={"batch_size": 2, "test_signers": ["D02"]},
        optim={"epochs": 3, "ema_decay": 0.9},
        checkpoint={"every_batches": 2, "keep": 2},
    )


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class At:
    """Calls ``action`` the ``number``-th time (from 1) that it is reached."""

    def __init__(self, number: int, action: Callable[[], None] = die) -> None:
        self._left = number
        self._action = action

    def __call__(self, action: Callable[[], None] | None = None) -> None:
        self._left -= 1
        if self._left == 0:
            (action or self._action)()


def plant(what: str, number: int) -> Callable[[int], None]:
    """Set the death up; gives what an observer calls with each batch."""
    at = At(number)
    if what == "batch":
        return lambda step: die() if step == number else None
    if what in ("fsync", "half"):
        sync = os.fsync

        def fsync(descriptor: Any) -> None:
            def halve_and_die() -> None:
                if what == "half":
                    with contextlib.suppress(OSError):  # a folder
                        os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
                die()

            at(halve_and_die)
            sync(descriptor)

        os.fsync = fsync  # type: ignore[assignment]
    elif what in ("rename", "renamed"):
        replace = os.replace

        def renaming(source: Any, target: Any) -> None:
            if what == "rename":
                at()
            replace(source, target)
            if what == "renamed":
                at()

        os.replace = renaming  # type: ignore[assignment]
    elif what == "unlink":
        unlink = Path.unlink

        def unlinking(path: Path, missing_ok: bool = False) -> None:
            unlink(path, missing_ok)
            if path.name.startswith("step-"):
                at()

        Path.unlink = unlinking  # type: ignore[method-assign, assignment]
    elif what in ("commit", "committed"):
        leave = ledger._Transaction.__exit__

        def leaving(transaction: Any, *error: Any) -> None:
            if what == "commit":
                at()
            leave(transaction, *error)
            if what == "committed":
                at()

        ledger._Transaction.__exit__ = leaving  # type: ignore[method-assign]
    else:
        raise SystemExit(f"no such point: {what}")
    return lambda step: None


def main() -> int:
    corpus, runs_dir = Path(sys.argv[1]), Path(sys.argv[2])
    what, _, number = os.environ.get(VARIABLE, "").partition(":")
    at_step = plant(what, int(number)) if what else lambda step: print("step", step, flush=True)
    try:
        runs = [path for path in runs_dir.iterdir() if path.is_dir()]
        job = resume_job(runs[0]) if runs else TrainingJob(config(corpus), runs_dir)
        result = run_job(job, started_control(), [Recorder(lambda record: at_step(record.step))])
    except SignScopeError as error:
        print("told", error, flush=True)
        return EXIT_TOLD
    print("done", result.state, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
