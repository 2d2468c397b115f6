"""Requests to a run from another process: pause, resume, stop, through a file in its folder.

Whoever asks replaces ``control.json``; whoever trains looks at the file at each boundary of its loop, which costs
one question to the file system at most ten times a second, and does what the newest request says.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from signscope.errors import RunFolderError
from signscope.files import read_regular, write_atomically

CONTROL_FILE = "control.json"
_LIMIT = 4096
_LOOK_EVERY_S = 0.1


class Request(StrEnum):
    """What may be asked of a run elsewhere."""

    PAUSE = "pause"
    RESUME = "resume"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, who made it, and when (seconds since the Unix epoch)."""

    request: Request
    by: str
    wall_time: float


def ask(run: Path, request: Request) -> None:
    """Ask the run in folder ``run``; it takes it at its next boundary. Any thread.

    Raises:
        RunFolderError: The folder cannot be written.
    """
    by = f"process {os.getpid()} on {socket.gethostname()}"
    content = json.dumps({"request": request.value, "by": by, "wall_time": time.time()})
    try:
        write_atomically(run / CONTROL_FILE, content.encode())
    except OSError as error:
        raise RunFolderError(
            f"The run cannot be asked to {request.value} ({error.strerror or error})",
            subject=str(run),
            hint="Check that you may write in its folder.",
        ) from error


class ControlFile:
    """The end of the one who trains. One thread.

    What was asked before it is made belongs to an earlier stretch of the run and is not taken.
    """

    def __init__(self, run: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = run / CONTROL_FILE
        self._clock = clock
        self._looked_s = clock()
        self._seen = self._mark()

    def news(self) -> Asked | None:
        """Give a request that was not given before; None without one, and between looks."""
        now_s = self._clock()
        if now_s - self._looked_s < _LOOK_EVERY_S:
            return None
        self._looked_s = now_s
        mark = self._mark()
        if mark is None or mark == self._seen:
            return None
        self._seen = mark
        try:
            values = json.loads(read_regular(self._path, limit=_LIMIT))
            return Asked(Request(values["request"]), str(values["by"]), float(values["wall_time"]))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None  # no request of ours

    def _mark(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns
