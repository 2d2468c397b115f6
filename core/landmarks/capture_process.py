"""A camera, video or folder of images that is read in a process of its own.

No read of a camera driver, a pipe or a network share can be interrupted from within its process, and a codec
that crashes takes its process along. So the process that shows pictures never reads one: a child reads, and
is killed when it is not wanted any more or does not answer.

The child writes messages to a pipe: their length, JSON, and after that of a picture its bytes. When its
parent is gone its standard input ends, and it ends too. Nothing has a name that could be left behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Final, Self

import numpy as np

from core.errors import CameraError
from core.landmarks.mailbox import Mailbox
from signscope.errors import SignScopeError

if TYPE_CHECKING:
    from core.landmarks.capture import Frame, FrameSource, ImageArray

OPEN_LIMIT_S: Final = 30.0
"""How long a source may take to its first picture; some camera drivers need ten seconds."""
FRAME_LIMIT_S: Final = 10.0
"""How long a source may take from one picture to the next."""
STILL_INTERVAL_S: Final = 0.2
"""How often a source of one picture only gives that picture again."""
LARGEST_SIDE: Final = 1920
"""Pictures are scaled down to this: a preview shows no more, and the landmarkers look at 256 pixels."""

_REAP_LIMIT_S: Final = 1.0
_LATE_S: Final = 1.0
_LENGTH: Final = struct.Struct("<I")
_START_CHILD: Final = (
    "import sys; source = sys.argv[1]; sys.path[:] = sys.argv[2:];"
    "from core.landmarks.capture_process import send_pictures; send_pictures(source)"
)


@dataclass(frozen=True)
class Picture:
    """A picture as it came, in its own time."""

    image_bgr: ImageArray
    """(height, width, 3) uint8, no side longer than ``LARGEST_SIDE``."""
    timestamp_ms: int
    """Time since the source was opened; strictly rising, also where a file starts again."""
    captured_s: float
    """``time.monotonic()`` when it was read; that clock is one for all processes of a computer."""


class CaptureProcess:
    """Pictures of a source as they are due, without end: a file starts again. The newest one wins.

    A context manager: the child runs from its beginning to its end. ``take`` belongs to one thread, all
    else may be called from any.

    Args:
        source: As for :func:`core.landmarks.capture.open_source`.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._reader = threading.Thread(target=self._read, name="camera pictures", daemon=True)
        self._pictures: Mailbox[Picture] = Mailbox()
        self._failure: CameraError | None = None
        self._seen = False
        self.label = source

    def __enter__(self) -> Self:
        with self._lock:
            if not self._pictures.closed:
                self._process = _start_child(self._source)
                self._reader.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()
        process = self._process
        if process is None:
            return
        # One that hangs in the kernel dies when it comes back from there: it is not waited for.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_REAP_LIMIT_S)
        self._reader.join(_REAP_LIMIT_S)
        if not self._reader.is_alive():
            _stdout(process).close()

    @property
    def dropped(self) -> int:
        """How many pictures were replaced by newer ones before they were taken."""
        return self._pictures.replaced

    def take(self) -> Picture | None:
        """Wait for a picture newer than the last; None after ``kill``.

        Raises:
            CameraError: The source cannot be read, or has given nothing for ``OPEN_LIMIT_S`` (the first
                picture) or ``FRAME_LIMIT_S``, or the child has ended in some other way.
        """
        limit_s = FRAME_LIMIT_S if self._seen else OPEN_LIMIT_S
        picture = self._pictures.take(limit_s)
        if self._failure is not None:
            raise self._failure
        if picture is None and not self._pictures.closed:
            raise CameraError(
                f"Nothing was heard of the source for {limit_s:.0f} seconds",
                subject=self.label,
                hint="A camera may hang and a network may be away. Check it and switch it on again.",
            )
        self._seen = True
        return picture

    def take_now(self) -> Picture | None:
        """Give the picture that waits, or None where there is none."""
        return self._pictures.take_now()

    def kill(self) -> None:
        """End the child at once, whatever it is doing. Never waits."""
        self._pictures.close()
        with self._lock:
            if self._process is not None:
                self._process.kill()
                with contextlib.suppress(OSError):
                    _stdin(self._process).close()

    def _read(self) -> None:
        """Take what the child sends until it ends. In a thread of its own, which may be left behind."""
        assert self._process is not None
        stream = _stdout(self._process)
        try:
            while (message := _receive(stream)) is not None:
                self._take_in(message, stream)
            if self._failure is None and not self._pictures.closed:
                self._failure = _ended(self.label, self._process)
        finally:
            self._pictures.close()

    def _take_in(self, message: dict[str, Any], stream: IO[bytes]) -> None:
        if "opened" in message:
            self.label = message["opened"]
        elif "failed" in message:
            what, subject, hint = message["failed"]
            self._failure = CameraError(what, subject=subject, hint=hint)
        else:
            image_bgr = np.empty(message["shape"], dtype=np.uint8)
            if _fill(stream, image_bgr.data.cast("B")):
                times = message["timestamp_ms"], message["captured_s"]
                self._pictures.put(Picture(image_bgr, *times))


def _start_child(source: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", _START_CHILD, source, *map(str, sys.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,  # a buffer's lock, held by a reader that was left behind, would abort the program
        # Ctrl-C in the terminal is for the parent, and no console opens beside a window.
        start_new_session=True,
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )


def _stdin(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdin is not None
    return process.stdin


def _stdout(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdout is not None
    return process.stdout


def _receive(stream: IO[bytes]) -> dict[str, Any] | None:
    """Give the next message, None at the end of the stream."""
    length = bytearray(_LENGTH.size)
    if not _fill(stream, memoryview(length)):
        return None
    message = bytearray(*_LENGTH.unpack(length))
    return json.loads(message) if _fill(stream, memoryview(message)) else None


def _fill(stream: IO[bytes], place: memoryview) -> bool:
    """Read until ``place`` is full; False where the stream ends before."""
    while place:
        count = stream.readinto(place)  # type: ignore[attr-defined]
        if not count:
            return False
        place = place[count:]
    return True


def _ended(label: str, process: subprocess.Popen[bytes]) -> CameraError:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_REAP_LIMIT_S)
    return CameraError(
        f"The process that reads the pictures has ended (status {process.returncode})",
        subject=label,
        hint="The picture may be damaged, or memory short. Switch it on again, or choose another source.",
    )


# ---------------------------------------------------------------- in the child


def send_pictures(source: str) -> None:
    """Write the pictures of ``source`` to standard output until the parent is gone. The child's program."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # What a library prints must not get among the pictures.
    stream = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    with contextlib.suppress(BrokenPipeError):
        try:
            _send_all(source, stream)
        except Exception as error:
            told = _told(error, source)
            _send(stream, {"failed": (told.what, told.subject, told.hint)})


def _end_with_parent() -> None:
    """Wait until the parent closes the child's standard input, or the system does when it is gone."""
    while os.read(0, 1):
        pass
    os._exit(0)


def _told(error: Exception, source: str) -> SignScopeError:
    if isinstance(error, SignScopeError):
        return error
    if isinstance(error, MemoryError):
        return CameraError(
            "There is not enough memory to read the pictures",
            subject=source,
            hint="Close other programs, or choose smaller pictures.",
        )
    traceback.print_exception(error)
    return CameraError(
        f"The pictures cannot be read ({type(error).__name__}: {error})",
        subject=source,
        hint="Switch it on again; if this comes back, please report it.",
    )


def _send_all(source: str, stream: IO[bytes]) -> None:
    from core.landmarks.capture import open_source

    following_ms = 0
    while True:  # a file stands in for a camera, which has no end: it starts again
        with open_source(source) as opened:
            _send(stream, {"opened": opened.label})
            for frame, timestamp_ms in _in_time(opened, following_ms):
                _send_picture(stream, frame.image_bgr, timestamp_ms)
                following_ms = timestamp_ms + max(1, round(1000 / opened.fps))
        if frame.index == 0:
            _send_again_and_again(stream, frame.image_bgr, following_ms)


def _in_time(source: FrameSource, offset_ms: int) -> Iterator[tuple[Frame, int]]:
    """Give the frames of a source when they are due, to the end of the last, with their timestamps."""
    started_s = time.monotonic()
    while (frame := source.read()) is not None:
        if not source.live:
            due_s = started_s + frame.timestamp_ms / 1000
            time.sleep(max(0.0, due_s - time.monotonic()))
            if time.monotonic() - due_s > _LATE_S:  # the computer slept: do not race after it
                started_s = time.monotonic() - frame.timestamp_ms / 1000
        yield frame, offset_ms + frame.timestamp_ms
    time.sleep(1 / source.fps)


def _send_again_and_again(stream: IO[bytes], image_bgr: ImageArray, timestamp_ms: int) -> None:
    """Send the only picture that there is, without reading it again."""
    while True:
        _send_picture(stream, image_bgr, timestamp_ms)
        timestamp_ms += round(1000 * STILL_INTERVAL_S)
        time.sleep(STILL_INTERVAL_S)


def _send_picture(stream: IO[bytes], image_bgr: ImageArray, timestamp_ms: int) -> None:
    from core.landmarks.capture import fit

    captured_s = time.monotonic()
    image_bgr = np.ascontiguousarray(fit(image_bgr, LARGEST_SIDE))
    message = {"shape": image_bgr.shape, "timestamp_ms": timestamp_ms, "captured_s": captured_s}
    _send(stream, message, image_bgr.data.cast("B"))


def _send(stream: IO[bytes], message: dict[str, object], payload: bytes | memoryview = b"") -> None:
    text = json.dumps(message).encode()
    stream.write(_LENGTH.pack(len(text)) + text)
    stream.write(payload)
    stream.flush()
