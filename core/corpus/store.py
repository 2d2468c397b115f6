"""The corpus on disk: a folder of Arrow IPC shards and one manifest, memory-mapped, read without copying.

::

    CORPUS/corpus.json            the manifest: which shards belong to it, with size and sha256
    CORPUS/shard-<unique>.arrow   samples; immutable once it has this name

A shard is written under a temporary name, synced and renamed; the corpus changes in the one moment in
which the manifest is renamed. A crash at any point leaves the corpus as it was before, and what it
left lying about is removed by the next writer.

Landmarks are stored raw, as the detector gave them; the manifest and each shard say so.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import filelock
import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core.errors import AlreadyNormalizedError, CorpusError, MalformedInputError
from core.landmarks.layout import N_COORDS, N_POINTS, Float32Array, check_landmarks

MANIFEST_NAME: Final = "corpus.json"
SCHEMA_VERSION: Final = 1
LAYOUT_NAME: Final = "mediapipe-pose33-lefthand21-righthand21-xyzv"
RAW: Final = "raw"

SHARD_BYTES: Final = 64 * 2**20
"""A shard is closed when its landmarks reach this size."""

_LOCK_NAME = ".writer.lock"
_SHARD_NAME = r"shard-[0-9a-f]{32}\.arrow"
_OWN_FILE = re.compile(
    rf"({_SHARD_NAME}|{re.escape(MANIFEST_NAME)})(\.tmp)?|{re.escape(_LOCK_NAME)}"
)
_FRAME_VALUES = N_POINTS * N_COORDS
_GUARD_CLIPS = 32

_ARROW_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("signer", pa.string(), nullable=False),
        pa.field("glosses", pa.list_(pa.string()), nullable=False),
        pa.field("fps", pa.float64(), nullable=False),
        pa.field("mirrored", pa.bool_(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("aspect", pa.float64()),
        pa.field("gloss_starts", pa.list_(pa.int32())),
        pa.field("gloss_ends", pa.list_(pa.int32())),
        pa.field("landmarks", pa.large_list(pa.list_(pa.float32(), _FRAME_VALUES)), nullable=False),
    ],
    metadata={
        "signscope_schema": str(SCHEMA_VERSION),
        "landmarks": RAW,
        "layout": LAYOUT_NAME,
    },
)


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One clip or sentence of one signer.

    ``landmarks_TKC`` is float32 (frames, 75, 4) in the layout of ``core.landmarks.layout``, raw, NaN
    where nothing was detected. From a corpus it is a read-only view of the mapped file.
    """

    id: str
    signer: str
    glosses: tuple[str, ...]
    fps: float  # frames a second
    landmarks_TKC: Float32Array
    mirrored: bool = False  # recorded from a mirror image; the landmarks were turned back already
    source: str = ""  # where it came from: a folder, a camera, a generator
    timings: tuple[tuple[int, int], ...] | None = (
        None  # first and last-plus-one frame of each gloss
    )
    aspect: float | None = None  # width over height of the image, where known

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.landmarks_TKC)


class _ShardEntry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str = Field(pattern=rf"^{_SHARD_NAME}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)
    samples: int = Field(ge=0)
    frames: int = Field(ge=0)


class _Manifest(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    format: str = Field("signscope-corpus", pattern="^signscope-corpus$")
    schema_version: int = SCHEMA_VERSION
    name: str
    synthetic: bool
    note: str
    landmarks: str = RAW
    layout: str = LAYOUT_NAME
    shards: tuple[_ShardEntry, ...]


@dataclass(frozen=True, slots=True)
class _Block:
    """One record batch: its landmarks, still in the mapped file, and its small columns as Python values."""

    landmarks_FKC: Float32Array
    columns: dict[str, list[Any]]
    offsets: list[int]
    says_landmarks: str


class Corpus:
    """A corpus opened for reading. Safe to read from several threads.

    Small columns are in memory; landmarks stay in the memory-mapped shards and ``corpus[i]`` copies
    nothing. Use :meth:`open`; use as a context manager or :meth:`close` to let the mappings go (views
    that are still held keep their own shard mapped).
    """

    def __init__(self, path: Path, manifest: _Manifest, blocks: Sequence[_Block]) -> None:
        self.path = path
        self.name = manifest.name
        self.synthetic = manifest.synthetic
        self.note = manifest.note
        self._manifest = manifest
        self._landmarks = [
            block.landmarks_FKC[start:stop]
            for block in blocks
            for start, stop in zip(block.offsets, block.offsets[1:], strict=False)
        ]
        self._said_landmarks = {manifest.landmarks, *(block.says_landmarks for block in blocks)}

        def column(name: str) -> list[Any]:
            return [value for block in blocks for value in block.columns[name]]

        self.ids: tuple[str, ...] = tuple(column("id"))
        self.signers_of: tuple[str, ...] = tuple(column("signer"))
        self.glosses_of: tuple[tuple[str, ...], ...] = tuple(map(tuple, column("glosses")))
        self.frames_of: tuple[int, ...] = tuple(map(len, self._landmarks))
        self._fps = column("fps")
        self._mirrored = column("mirrored")
        self._source = column("source")
        self._aspect = column("aspect")
        self._timings = [
            None if starts is None or ends is None else tuple(zip(starts, ends, strict=True))
            for starts, ends in zip(column("gloss_starts"), column("gloss_ends"), strict=True)
        ]

    @classmethod
    def open(cls, path: Path) -> Corpus:
        """Map the corpus in folder ``path``.

        Sizes, counts and structure of every shard are checked here, its bytes by :meth:`verify`.

        Raises:
            CorpusError: There is no corpus, it is of an unknown schema, or manifest or a shard is
                missing, truncated or damaged; the message names the file.
        """
        path = Path(path)
        manifest = _read_manifest(path)
        return cls(
            path, manifest, [b for entry in manifest.shards for b in _map_shard(path, entry)]
        )

    @property
    def fingerprint(self) -> str:
        """Hex sha256 that is the same for corpora with the same samples in the same order.

        Names of files, corpus name and note do not matter; shard hashes were taken when written.
        """
        text = "\n".join(
            [str(self._manifest.schema_version), self._manifest.landmarks, self._manifest.layout]
            + [entry.sha256 for entry in self._manifest.shards]
        )
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def signers(self) -> tuple[str, ...]:
        """All signers, sorted."""
        return tuple(sorted(set(self.signers_of)))

    @property
    def glosses(self) -> tuple[str, ...]:
        """All glosses, sorted."""
        return tuple(sorted({gloss for glosses in self.glosses_of for gloss in glosses}))

    @property
    def raw(self) -> bool:
        """Whether manifest and all shards say that the landmarks are raw."""
        return self._said_landmarks == {RAW}

    def aspect_of(self, index: int) -> float | None:
        """Give width over height of the image that sample ``index`` was recorded from, where known."""
        aspect: float | None = self._aspect[index]
        return aspect

    def landmarks_of(self, index: int) -> Float32Array:
        """Give the landmarks of sample ``index``, a read-only view of (T, 75, 4) float32."""
        return self._landmarks[index]

    def verify(self) -> None:
        """Read every shard and compare its hash; raises CorpusError naming the first damaged one."""
        for entry in self._manifest.shards:
            file = self.path / entry.file
            try:
                with file.open("rb") as stream:
                    found = hashlib.file_digest(stream, "sha256").hexdigest()
            except OSError as error:
                raise _damaged(file, f"cannot be read ({error.strerror})") from error
            if found != entry.sha256:
                raise _damaged(file, "holds other bytes than were written (sha256 differs)")

    def close(self) -> None:
        """Let the mapped files go. Samples can no longer be read; columns can."""
        self._landmarks = []

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        return Sample(
            self.ids[index],
            self.signers_of[index],
            self.glosses_of[index],
            self._fps[index],
            self._landmarks[index],
            self._mirrored[index],
            self._source[index],
            self._timings[index],
            self._aspect[index],
        )

    def __iter__(self) -> Iterator[Sample]:
        return map(self.__getitem__, range(len(self)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def check_trainable(corpus: Corpus) -> None:
    """Refuse a corpus that must not be trained on; TrainingData calls this.

    Checks the bytes of all shards, what the schema says about the landmarks, and the numbers of a
    sample of clips spread over the corpus. Imports torch.

    Raises:
        AlreadyNormalizedError: The schema says, or the numbers look as if, landmarks are normalised.
        CorpusError: The corpus is empty or damaged.
    """
    from core.landmarks.normalize import refuse_if_normalized  # keeps torch out of readers

    if not corpus.raw:
        said = ", ".join(sorted(corpus._said_landmarks - {RAW}))
        raise AlreadyNormalizedError(
            f"The corpus says that its landmarks are {said!r}, not raw",
            subject=str(corpus.path),
            hint="Training normalises landmarks itself, exactly once; normalised twice they lose hand "
            "size and position. A corpus is refused when its schema says that it is normalised, or when "
            "its numbers look it. Import or record it again without normalisation.",
        )
    if not len(corpus):
        raise CorpusError(
            "The corpus has no samples",
            subject=str(corpus.path),
            hint="Import or record some first.",
        )
    corpus.verify()
    step = max(1, len(corpus) // _GUARD_CLIPS)
    for index in range(0, len(corpus), step):
        refuse_if_normalized(
            corpus.landmarks_of(index), subject=f"{corpus.path}, sample {corpus.ids[index]}"
        )


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
        self._name = name
        self._synthetic = synthetic
        self._note = note
        self._replace = replace
        self._lock = filelock.FileLock(self._path / _LOCK_NAME)
        self._samples: list[Sample] = []
        self._buffered_bytes = 0
        self._ids: set[str] = set()
        self._shards: list[_ShardEntry] = []

    def __enter__(self) -> Self:
        self._check_folder()
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except filelock.Timeout as error:
            raise CorpusError(
                "Another program is writing this corpus",
                subject=str(self._path),
                hint="Wait until it has finished, or write to another folder.",
            ) from error
        except OSError as error:
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
        manifest = _Manifest(
            name=self._name,
            synthetic=self._synthetic,
            note=self._note,
            shards=tuple(self._shards),
        )
        try:
            _write_and_rename(
                self._path / MANIFEST_NAME, manifest.model_dump_json(indent=2).encode() + b"\n"
            )
        except OSError as error:
            raise self._refused(error) from error

    def _write_shard(self) -> None:
        content = _encode_shard(self._samples)
        file = self._path / f"shard-{uuid.uuid4().hex}.arrow"
        try:
            _write_and_rename(file, content)
        except OSError as error:
            raise self._refused(error) from error
        self._shards.append(
            _ShardEntry(
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
        foreign = [entry.name for entry in self._path.iterdir() if not _is_own(entry)]
        if foreign:
            raise CorpusError(
                f"The folder holds something that is not a corpus ({min(foreign)})",
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
        try:
            kept = {entry.file for entry in _read_manifest(self._path).shards}
        except CorpusError:
            kept = set()
        kept |= {MANIFEST_NAME, _LOCK_NAME}
        for entry in self._path.iterdir():
            if _is_own(entry) and entry.name not in kept:
                try:
                    entry.unlink()
                except OSError:
                    continue  # still mapped by a reader (Windows): the next writer removes it

    def _refused(self, error: OSError) -> CorpusError:
        return CorpusError(
            f"The corpus cannot be written ({error.strerror or error})",
            subject=str(error.filename or self._path),
            hint="Check free space and permissions; a corpus that was there before is unchanged.",
        )


def _is_own(entry: Path) -> bool:
    return _OWN_FILE.fullmatch(entry.name) is not None


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
    if sample.timings is not None:
        if len(sample.timings) != len(sample.glosses):
            faults.append(f"{len(sample.timings)} timings for {len(sample.glosses)} glosses")
        if any(not 0 <= start < end <= sample.frames for start, end in sample.timings):
            faults.append(f"a gloss timing lies outside of the {sample.frames} frames")
    if faults:
        raise MalformedInputError(
            f"The sample cannot be stored: {'; '.join(faults)}",
            subject=subject,
            hint="Correct what made it; see core/corpus/store.py for what a sample holds.",
        )


def _encode_shard(samples: Sequence[Sample]) -> bytes:
    """Give the bytes of an Arrow IPC file with one record batch; equal samples give equal bytes."""
    offsets = np.cumsum([0, *(sample.frames for sample in samples)], dtype=np.int64)
    values = np.concatenate([sample.landmarks_TKC.reshape(-1) for sample in samples])
    frames = pa.FixedSizeListArray.from_arrays(pa.array(values), _FRAME_VALUES)
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
        for field in _ARROW_SCHEMA
    ]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, _ARROW_SCHEMA) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=_ARROW_SCHEMA))
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _write_and_rename(file: Path, content: bytes) -> None:
    """Give ``file`` this content at once or not at all, also across a power cut."""
    temporary = file.with_name(file.name + ".tmp")
    with temporary.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(file)
    if os.name == "posix":  # makes the rename itself durable; Windows cannot sync a folder
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _read_manifest(path: Path) -> _Manifest:
    file = path / MANIFEST_NAME
    try:
        content = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        what = "This folder is not a corpus" if path.is_dir() else "There is no corpus here"
        raise CorpusError(
            what,
            subject=str(path),
            hint=f"A corpus folder has a {MANIFEST_NAME}. Recordings in the MP_Data layout become one "
            "with: python main.py import mp-data.",
        ) from error
    except OSError as error:
        raise _damaged(file, f"cannot be read ({error.strerror})") from error
    try:
        values = json.loads(content)
    except ValueError as error:
        raise _damaged(file, "is not valid JSON") from error
    version = values.get("schema_version") if isinstance(values, dict) else None
    if isinstance(version, int) and version != SCHEMA_VERSION:
        raise CorpusError(
            f"The corpus has schema version {version}, this program reads version {SCHEMA_VERSION}",
            subject=str(path),
            hint="Open it with the version of SignScope that wrote it, or import the recordings again.",
        )
    try:
        manifest = _Manifest.model_validate(values)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "content"
        raise _damaged(file, f"is not a corpus manifest ({where}: {fault['msg']})") from error
    if manifest.layout != LAYOUT_NAME:
        raise CorpusError(
            f"The corpus has the landmark layout {manifest.layout!r}, expected {LAYOUT_NAME!r}",
            subject=str(path),
            hint="Import the recordings again with this version.",
        )
    return manifest


def _map_shard(path: Path, entry: _ShardEntry) -> list[_Block]:
    file = path / entry.file
    try:
        size = file.stat().st_size
        if size != entry.bytes:
            raise _damaged(file, f"has {size} bytes, expected {entry.bytes}")
        with pa.memory_map(str(file)) as source:
            reader = pa.ipc.open_file(source)
            if not reader.schema.equals(_ARROW_SCHEMA):
                raise _damaged(file, "has other columns than a shard of this schema")
            said = (reader.schema.metadata or {}).get(b"landmarks", b"unknown").decode()
            blocks = [
                _map_batch(reader.get_batch(i), said) for i in range(reader.num_record_batches)
            ]
    except FileNotFoundError as error:
        raise _damaged(file, "is missing") from error
    except (OSError, pa.ArrowException) as error:
        raise _damaged(file, f"cannot be read ({str(error).splitlines()[0]})") from error
    samples = sum(len(block.offsets) - 1 for block in blocks)
    frames = sum(len(block.landmarks_FKC) for block in blocks)
    if (samples, frames) != (entry.samples, entry.frames):
        raise _damaged(
            file,
            f"has {samples} samples and {frames} frames, expected {entry.samples} and {entry.frames}",
        )
    return blocks


def _map_batch(batch: Any, said: str) -> _Block:
    batch.validate(full=True)
    landmarks = batch.column("landmarks")
    values = landmarks.values.values.to_numpy(zero_copy_only=True)
    return _Block(
        landmarks_FKC=values.reshape(-1, N_POINTS, N_COORDS),
        columns={
            name: batch.column(name).to_pylist()
            for name in batch.schema.names
            if name != "landmarks"
        },
        offsets=landmarks.offsets.to_pylist(),
        says_landmarks=said,
    )


def _damaged(file: Path, what: str) -> CorpusError:
    return CorpusError(
        f"A file of the corpus {what}",
        subject=str(file),
        hint="The corpus is damaged: restore it from a copy, or import the recordings again.",
    )
