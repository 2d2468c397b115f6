"""MediaPipe's landmark model files: where they are kept, whether they verify, and fetching what is missing.

mediapipe 1.x ships no models. They live in the user's cache folder (``core.paths.models_dir()``), each
named by the sha256 below. The hash alone is trusted, so any source may bring the bytes. A file gets its
final name only by an atomic rename after its hash was checked; several processes may fetch at once.

Every function here blocks: call from a worker thread where a window must stay alive.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import filelock

from core.errors import ModelFileError
from core.landmarks.model_sources import (
    Cancelled,
    ModelFile,
    ModelSource,
    Progress,
    SourceUnavailable,
    default_sources,
    reason_of,
    stop_if,
)
from core.paths import models_dir
from signscope.files import open_regular

_log = logging.getLogger(__name__)


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
            f"The folder of model files cannot be written ({reason_of(error)})",
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
            stop_if(cancelled)
    try:
        yield
    finally:
        lock.release()


def _sha256(path: Path) -> str | None:
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EINVAL):
            return None
        raise
