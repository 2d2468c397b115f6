"""A training process that its parent steers through a pipe, as a person steers the window.

The parent sends the words of RunEvent ("pause", "resume", "stop"); the process sends ("step", number)
after each batch, ("state", name) after each change of state, and at last ("done", state) or
("told", sentence). When the pipe is closed it stops by itself, as a window does that is closed. A
process is forked from a server that has imported torch, so that one starts in a fraction of a second.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import torch._dynamo  # noqa: F401  # an optimizer imports it: 2 s that the server spends once

from core.training.session import TrainingJob, resume_job, run_job
from signscope.errors import SignScopeError
from signscope.run_state import RunControl, RunEvent, RunSnapshot
from tests.e2e.kill_target import config
from tests.tiny_run import Recorder

LIMIT_S = 60.0
"""Longest that anything here may take; nothing waits this long unless it hangs."""


def serve(corpus: Path, runs_dir: Path, pipe: Connection) -> None:
    """Train, or go on with what is in ``runs_dir``, until finished or stopped. Runs in the process."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the window is closed
        _train(corpus, runs_dir, _quiet_after_close(pipe), pipe)


def _quiet_after_close(pipe: Connection) -> Callable[[tuple[str, object]], None]:
    lock = threading.Lock()

    def send(message: tuple[str, object]) -> None:
        with lock, contextlib.suppress(OSError):
            pipe.send(message)

    return send


def _train(
    corpus: Path, runs_dir: Path, send: Callable[[tuple[str, object]], None], pipe: Connection
) -> None:
    def tell(snapshot: RunSnapshot) -> None:
        send(("state", snapshot.state.value))

    control = RunControl(tell)
    control.apply(RunEvent.START)

    def listen() -> None:
        try:
            while True:
                control.apply_if_allowed(RunEvent(pipe.recv()))
        except (EOFError, OSError):
            control.apply_if_allowed(RunEvent.STOP)

    threading.Thread(target=listen, name="listener", daemon=True).start()
    watcher = Recorder(lambda record: send(("step", record.step)))
    try:
        runs = [path for path in runs_dir.iterdir() if path.is_dir()]
        job = resume_job(runs[0]) if runs else TrainingJob(config(corpus), runs_dir)
        result = run_job(job, control, [watcher])
    except SignScopeError as error:
        control.apply(RunEvent.FAILED)
        send(("told", str(error)))
    else:
        control.apply(RunEvent.FINISHED)
        send(("done", result.state))


class Steered:
    """The parent's end of one training process; a context manager that leaves none behind."""

    def __init__(self, corpus: Path, runs_dir: Path) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.e2e.steered"])
        self._pipe, theirs = context.Pipe()
        self._process: ForkServerProcess = context.Process(
            target=serve, args=(corpus, runs_dir, theirs)
        )
        self._process.start()
        theirs.close()
        self.last: tuple[str, object] = ("", "")
        self.paused = False

    def __enter__(self) -> Steered:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def pid(self) -> int | None:
        """Number of the process."""
        return self._process.pid

    @property
    def over(self) -> bool:
        """Whether the run said how it ended."""
        return self.last[0] in ("done", "told")

    def send(self, event: RunEvent) -> None:
        """Ask for something; nobody may be there to hear it."""
        with contextlib.suppress(OSError):
            self._pipe.send(event.value)

    def wait_for(self, *wanted: str) -> None:
        """Read messages until the run says that it is in one of these states, or is over."""
        while not self.over:
            self._receive()
            if self.last[0] == "state" and self.last[1] in wanted:
                return

    def wait_for_steps(self, count: int) -> None:
        """Read messages until so many batches were trained, or it rests, or is over."""
        while count > 0 and not self.over and not self.paused:
            self._receive()
            count -= self.last[0] == "step"

    def close(self) -> None:
        """Close the pipe and wait until the process ends by itself, as it must."""
        self._pipe.close()
        self._process.join(LIMIT_S)
        assert self._process.exitcode == 0, f"the process ended with {self._process.exitcode}"

    def kill(self) -> None:
        """SIGKILL, wherever it is."""
        self._process.kill()
        self._process.join(LIMIT_S)
        self._pipe.close()

    def _receive(self) -> None:
        assert self._pipe.poll(LIMIT_S), "the training process says nothing"
        message: tuple[str, Any] = self._pipe.recv()
        self.last = message
        if message[0] == "state":
            self.paused = message[1] == "paused"
