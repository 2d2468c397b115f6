"""Writing a corpus: whole or not at all.

A shard is written under a temporary name, synced and renamed; the corpus changes in the one moment in
which the manifest is renamed. A crash at any point leaves the corpus as it was before, and what it
left lying about is removed by the next writer.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import filelock
import numpy as np
import pyarrow as pa

from core.corpus.format import (
    ARROW_SCHEMA,
    FRAME_VALUES,
    LOCK_NAME,
    MANIFEST_NAME,
    Manifest,
    Sample,
    ShardEntry,
    is_litter,
    is_own,
    printable,
    read_manifest,
)
from core.errors import CorpusError, MalformedInputError
from core.landmarks.layout import LARGEST_VALUE, check_landmarks
from signscope.files import write_atomically

SHARD_BYTES: Final = 64 * 2**20
"""A shard is closed when its landmarks reach this size."""


class CorpusWriter:
    """Writes a corpus; nothing is visible before the ``with`` block ends without an error.

    Args:
        path: Folder of the corpus; made when missing. It must be empty or a corpus.
        name: Name shown to people.
        synthetic: Whether the samples are generated rather than recorded; shown wherever it is used.
        note: Origin and licence in a sentence.
        replace: Whether a corpus that is there may be replaced; it stays whole until the new one is.

    Raises:
        CorpusError: The folder holds something else, a corpus stands there and ``replace`` is False,
            another writer is at work in it, or the disk refuses (at any method).
    """

    def __init__(
        self,
        path: Path,
        *,
        name: str,
        synthetic: bool = False,
        note: str = "",
        replace: bool = False,
    ) -> None:
        self._path = Path(path)
        self._name = printable(name)
        self._synthetic = synthetic
        self._note = printable(note)
        self._replace = replace
        self._lock = filelock.FileLock(self._path / LOCK_NAME)
        self._samples: list[Sample] = []
        self._buffered_bytes = 0
        self._ids: set[str] = set()
        self._shards: list[ShardEntry] = []

    def __enter__(self) -> Self:
        try:
            self._check_folder()
            self._path.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except filelock.Timeout as error:
            raise CorpusError(
                "Another program is writing this corpus",
                subject=str(self._path),
                hint="Wait until it has finished, or write to another folder.",
            ) from error
        except (OSError, ValueError) as error:  # ValueError: NUL in the path
            raise self._refused(error) from error
        self._remove_orphans()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._commit()
        finally:
            self._samples = []
            self._remove_orphans()
            self._lock.release()

    def add(self, sample: Sample) -> None:
        """Take in one sample; its landmarks are copied, at the latest, before this writer is done.

        Do not change the array before the ``with`` block has ended. Raises MalformedInputError,
        naming the sample, when it does not keep the promises of :class:`Sample`.
        """
        _check_sample(sample)
        if sample.id in self._ids:
            raise MalformedInputError(
                "Two samples have the same id", subject=sample.id, hint="Give each its own."
            )
        self._ids.add(sample.id)
        self._samples.append(sample)
        self._buffered_bytes += sample.landmarks_TKC.nbytes
        if self._buffered_bytes >= SHARD_BYTES:
            self._write_shard()

    def _commit(self) -> None:
        if self._samples:
            self._write_shard()
        manifest = Manifest(
            name=self._name,
            synthetic=self._synthetic,
            note=self._note,
            shards=tuple(self._shards),
        )
        try:
            write_atomically(
                self._path / MANIFEST_NAME, manifest.model_dump_json(indent=2).encode() + b"\n"
            )
        except OSError as error:
            raise self._refused(error) from error

    def _write_shard(self) -> None:
        content = _encode_shard(self._samples)
        file = self._path / f"shard-{uuid.uuid4().hex}.arrow"
        try:
            write_atomically(file, content)
        except OSError as error:
            raise self._refused(error) from error
        self._shards.append(
            ShardEntry(
                file=file.name,
                sha256=hashlib.sha256(content).hexdigest(),
                bytes=len(content),
                samples=len(self._samples),
                frames=sum(sample.frames for sample in self._samples),
            )
        )
        self._samples = []
        self._buffered_bytes = 0

    def _check_folder(self) -> None:
        if not self._path.exists():
            return
        if not self._path.is_dir():
            raise CorpusError(
                "A corpus is a folder, and a file stands in its place",
                subject=str(self._path),
                hint="Name another folder.",
            )
        names = [entry.name for entry in self._path.iterdir()]
        foreign = [name for name in names if not (is_own(name) or is_litter(name))]
        if foreign:
            raise CorpusError(
                f"The folder holds something that is not a corpus ({printable(min(foreign))})",
                subject=str(self._path),
                hint="Name an empty or new folder; nothing in this one was touched.",
            )
        if (self._path / MANIFEST_NAME).exists() and not self._replace:
            raise CorpusError(
                "There is a corpus already",
                subject=str(self._path),
                hint="Name another folder, or ask for it to be replaced.",
            )

    def _remove_orphans(self) -> None:
        """Remove shards that no manifest names and unfinished files; what is in use stays for later."""
        manifest = self._path / MANIFEST_NAME
        try:
            kept = {entry.file for entry in read_manifest(self._path).shards} | {LOCK_NAME}
        except CorpusError:
            if os.path.lexists(manifest):
                return  # it cannot be read now; what it names may be all that there is
            kept = {LOCK_NAME}
        with contextlib.suppress(OSError):
            for entry in self._path.iterdir():
                if is_own(entry.name) and entry.name not in kept and entry != manifest:
                    with contextlib.suppress(
                        OSError
                    ):  # open in a reader (Windows): left for the next
                        entry.unlink()

    def _refused(self, error: OSError | ValueError) -> CorpusError:
        return CorpusError(
            f"The corpus cannot be written ({getattr(error, 'strerror', None) or error})",
            subject=str(getattr(error, "filename", None) or self._path),
            hint="Check free space and permissions; a corpus that was there before is unchanged.",
        )


def _check_sample(sample: Sample) -> None:
    subject = f"sample {sample.id!r}"
    check_landmarks(sample.landmarks_TKC, subject=subject)
    faults = []
    if not sample.id or not sample.signer:
        faults.append("id and signer must not be empty")
    if any(not gloss.strip() for gloss in sample.glosses):
        faults.append("a gloss is empty")
    if not (math.isfinite(sample.fps) and sample.fps > 0):
        faults.append(f"fps is {sample.fps}")
    if sample.aspect is not None and not (math.isfinite(sample.aspect) and sample.aspect > 0):
        faults.append(f"aspect is {sample.aspect}")
    if sample.landmarks_TKC.ndim != 3 or not sample.frames:
        faults.append("there are no frames")
    if sample.landmarks_TKC.dtype != np.float32:
        faults.append(f"landmarks are {sample.landmarks_TKC.dtype}, expected float32")
    if np.isinf(sample.landmarks_TKC).any():
        faults.append("a landmark is infinite")
    elif (np.abs(sample.landmarks_TKC) > LARGEST_VALUE).any():
        faults.append(f"a landmark lies beyond {LARGEST_VALUE:g}, in fractions of the image")
    if any(
        text != printable(text)
        for text in (sample.id, sample.signer, *sample.glosses, sample.source)
    ):
        faults.append("a text is not UTF-8")
    if sample.timings is not None:
        if len(sample.timings) != len(sample.glosses):
            faults.append(f"{len(sample.timings)} timings for {len(sample.glosses)} glosses")
        if any(not 0 <= start < end <= sample.frames for start, end in sample.timings):
            faults.append(f"a gloss timing lies outside of the {sample.frames} frames")
    if faults:
        raise MalformedInputError(
            f"The sample cannot be stored: {'; '.join(faults)}",
            subject=subject,
            hint="Correct what made it; see core/corpus/format.py for what a sample holds.",
        )


def _encode_shard(samples: Sequence[Sample]) -> bytes:
    """Give the bytes of an Arrow IPC file with one record batch; equal samples give equal bytes."""
    offsets = np.cumsum([0, *(sample.frames for sample in samples)], dtype=np.int64)
    values = np.concatenate([sample.landmarks_TKC.reshape(-1) for sample in samples])
    frames = pa.FixedSizeListArray.from_arrays(pa.array(values), FRAME_VALUES)
    timings = [sample.timings for sample in samples]
    columns: dict[str, Any] = {
        "id": [sample.id for sample in samples],
        "signer": [sample.signer for sample in samples],
        "glosses": [list(sample.glosses) for sample in samples],
        "fps": [float(sample.fps) for sample in samples],
        "mirrored": [bool(sample.mirrored) for sample in samples],
        "source": [sample.source for sample in samples],
        "aspect": [sample.aspect for sample in samples],
        "gloss_starts": [None if t is None else [start for start, _ in t] for t in timings],
        "gloss_ends": [None if t is None else [end for _, end in t] for t in timings],
        "landmarks": pa.LargeListArray.from_arrays(pa.array(offsets), frames),
    }
    arrays = [
        columns[field.name]
        if isinstance(columns[field.name], pa.Array)
        else pa.array(columns[field.name], field.type)
        for field in ARROW_SCHEMA
    ]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, ARROW_SCHEMA) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=ARROW_SCHEMA))
    content: bytes = sink.getvalue().to_pybytes()
    return content
