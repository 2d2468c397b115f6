"""Reading a corpus: small columns in memory, landmarks read from the shards when they are asked for.

Shards are read and never mapped into memory: a page of a file that has meanwhile become shorter, or of a
network share that is gone, is a signal which ends the process, whereas a read is an error that can be told.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import threading
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from core.corpus.format import (
    ARROW_SCHEMA,
    FRAME_VALUES,
    RAW,
    Manifest,
    Sample,
    ShardEntry,
    damaged,
    read_manifest,
)
from core.landmarks.layout import N_COORDS, N_POINTS, Float32Array
from signscope.closing import Closing
from signscope.files import open_regular

_KEPT_OPEN: Final = 64
"""Shards that stay open, so that a corpus which is replaced can still be read: some systems give a program
256 files. Further ones are opened for each read."""

_LARGEST_COLUMNS_BYTES: Final = 2**28
"""A shard with more than this beside its landmarks is damaged: no writer makes such a one."""

_FRAME_BYTES: Final = FRAME_VALUES * 4


@dataclass(frozen=True, slots=True)
class _Block:
    """What a shard holds but its landmarks: small columns as Python values, and where the landmarks lie."""

    shard: _Shard
    columns: dict[str, list[Any]]
    frames: list[int]
    offsets: list[int]  # bytes from the beginning of the file
    says_landmarks: str


class Corpus(Closing):
    """A corpus opened for reading. Safe to read from several threads.

    Small columns are in memory; landmarks are read from the shards each time they are asked for. Use
    :meth:`open`; use as a context manager or :meth:`close` to let the files go.

    Whatever reads landmarks raises CorpusError, naming the file, when a shard has become another one since.
    """

    def __init__(self, path: Path, manifest: Manifest, blocks: Sequence[_Block]) -> None:
        self.path = path
        self.name = manifest.name
        self.synthetic = manifest.synthetic
        self.note = manifest.note
        self._manifest = manifest
        self._shards = [block.shard for block in blocks]
        self._places = [(block.shard, offset) for block in blocks for offset in block.offsets]
        self.said_landmarks = frozenset(
            {manifest.landmarks, *(block.says_landmarks for block in blocks)}
        )
        """What manifest and shards say that the landmarks are; all should say ``raw``."""

        def column(name: str) -> list[Any]:
            return [value for block in blocks for value in block.columns[name]]

        self.ids: tuple[str, ...] = tuple(column("id"))
        self.signers_of: tuple[str, ...] = tuple(column("signer"))
        self.glosses_of: tuple[tuple[str, ...], ...] = tuple(map(tuple, column("glosses")))
        self.frames_of: tuple[int, ...] = tuple(n for block in blocks for n in block.frames)
        self._fps = column("fps")
        self._mirrored = column("mirrored")
        self._source = column("source")
        self._aspect = column("aspect")
        self._timings = [
            None if starts is None else tuple(zip(starts, ends, strict=True))
            for starts, ends in zip(column("gloss_starts"), column("gloss_ends"), strict=True)
        ]

    @classmethod
    def open(cls, path: Path) -> Corpus:
        """Open the corpus in folder ``path``.

        Sizes, counts and structure of every shard are checked here, its bytes by :meth:`verify`.

        Raises:
            CorpusError: There is no corpus, it is of an unknown schema, or manifest or a shard is
                missing, truncated or damaged; the message names the file.
        """
        path = Path(path)
        manifest = read_manifest(path)
        with contextlib.ExitStack() as opened:
            blocks = []
            for number, entry in enumerate(manifest.shards):
                shard = _Shard(path / entry.file, entry, keep_open=number < _KEPT_OPEN)
                opened.callback(shard.close)
                blocks.append(_read_block(shard))
            opened.pop_all()
        return cls(path, manifest, blocks)

    @property
    def fingerprint(self) -> str:
        """Hex sha256 that is the same for corpora with the same samples in the same order."""
        return self._manifest.fingerprint

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
        return self.said_landmarks == {RAW}

    def aspect_of(self, index: int) -> float | None:
        """Give width over height of the image that sample ``index`` was recorded from, where known."""
        aspect: float | None = self._aspect[index]
        return aspect

    def landmarks_of(self, index: int) -> Float32Array:
        """Give the landmarks of sample ``index``, read now: a read-only (T, 75, 4) float32."""
        shard, offset = self._places[index]
        content = shard.read(offset, self.frames_of[index] * _FRAME_BYTES)
        return np.frombuffer(content, np.float32).reshape(-1, N_POINTS, N_COORDS)

    def verify(self) -> None:
        """Read every shard and compare its hash; raises CorpusError naming the first damaged one."""
        for shard in self._shards:
            shard.verify()

    def close(self) -> None:
        """Let the files go. Samples can no longer be read; columns can."""
        self._places = []
        for shard in self._shards:
            shard.close()

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        return Sample(
            self.ids[index],
            self.signers_of[index],
            self.glosses_of[index],
            self._fps[index],
            self.landmarks_of(index),
            self._mirrored[index],
            self._source[index],
            self._timings[index],
            self._aspect[index],
        )

    def __iter__(self) -> Iterator[Sample]:
        return map(self.__getitem__, range(len(self)))


class _Shard:
    """The file of one shard, read piece by piece. Any thread.

    Raises:
        CorpusError: The file is missing, of another size than the manifest says, or no regular file.
    """

    def __init__(self, path: Path, entry: ShardEntry, *, keep_open: bool) -> None:
        self.path = path
        self.entry = entry
        self._lock = threading.Lock()
        self._kept: BufferedReader | None = None
        with contextlib.ExitStack() as stack:
            with self._told():
                file = stack.enter_context(open_regular(path))
            self._stamp = _stamp(file)
            if self._stamp[0] != entry.bytes:
                raise damaged(path, f"has {self._stamp[0]} bytes, expected {entry.bytes}")
            if keep_open:
                self._kept = file
                weakref.finalize(self, file.close)
                stack.pop_all()

    def read(self, offset: int, size: int) -> bytes:
        """Read ``size`` bytes; raises CorpusError when they are no longer those that the shard had."""
        while True:
            with self._told(), self._lock, self._file() as file:
                content = _read_at(file, offset, size)
                stamp = _stamp(file)
            if stamp == self._stamp:
                break
            self.verify()  # somebody wrote to the file: damage, or the same bytes once more
            self._stamp = stamp
        if len(content) != size:
            raise damaged(self.path, "ends too early")
        return content

    def verify(self) -> None:
        """Read the whole shard; raises CorpusError unless it has the size and hash that it was written with."""
        with self._told(), self._lock, self._file() as file:
            size = _stamp(file)[0]
            if size != self.entry.bytes:
                raise damaged(self.path, f"has {size} bytes, expected {self.entry.bytes}")
            file.seek(0)
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != self.entry.sha256:
            raise damaged(self.path, "holds other bytes than were written (sha256 differs)")

    def close(self) -> None:
        """Let the file go, if it was kept open."""
        if self._kept is not None:
            self._kept.close()

    def _file(self) -> contextlib.AbstractContextManager[BufferedReader]:
        return open_regular(self.path) if self._kept is None else contextlib.nullcontext(self._kept)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise damaged(self.path, "is missing") from error
        except OSError as error:
            raise damaged(self.path, f"cannot be read ({error.strerror})") from error


def _read_at(file: BufferedReader, offset: int, size: int) -> bytes:
    if sys.platform != "win32":  # a third of the time of seek and read
        content = os.pread(file.fileno(), size, offset)
        if len(content) == size:
            return content
    file.seek(offset)
    return file.read(size)


def _stamp(file: BufferedReader) -> tuple[int, int]:
    """Give size and time of the last change."""
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def _read_block(shard: _Shard) -> _Block:
    entry = shard.entry
    try:
        content = pa.py_buffer(_without_landmarks(shard))
        reader = pa.ipc.open_file(content)
        if not reader.schema.equals(ARROW_SCHEMA):
            raise damaged(shard.path, "has other columns than a shard of this schema")
        said = (reader.schema.metadata or {}).get(b"landmarks", b"unknown")
        batch = reader.get_batch(0)
        batch.validate(full=True)
        landmarks = batch.column("landmarks")
        values = landmarks.values.values.buffers()[1]
        starts = landmarks.offsets.to_pylist()
        columns = {
            name: batch.column(name).to_pylist()
            for name in batch.schema.names
            if name != "landmarks"
        }
    except (OSError, pa.ArrowException, MemoryError, ValueError, IndexError) as error:
        raise damaged(shard.path, f"cannot be read ({str(error).splitlines()[0]})") from error
    samples, frames = batch.num_rows, starts[-1]
    if (samples, frames) != (entry.samples, entry.frames):
        raise damaged(
            shard.path,
            f"has {samples} samples and {frames} frames, expected {entry.samples} and {entry.frames}",
        )
    begin = values.address - content.address
    if starts[0] or not 0 <= begin <= entry.bytes - frames * _FRAME_BYTES:
        raise damaged(shard.path, "has its landmarks in another place than a shard of this schema")
    _check_columns(shard, batch, columns)
    return _Block(
        shard,
        columns,
        frames=[stop - start for start, stop in pairwise(starts)],
        offsets=[begin + start * _FRAME_BYTES for start in starts[:-1]],
        says_landmarks=said.decode("utf-8", "backslashreplace"),
    )


def _without_landmarks(shard: _Shard) -> npt.NDArray[np.uint8]:
    """Give a shard's bytes with zeros for its landmarks, which the writer puts last, before the footer.

    They are by far the most of it. Zeros that nobody touches take no memory.
    """
    size, landmarks = shard.entry.bytes, shard.entry.frames * _FRAME_BYTES
    ending = shard.read(max(size - 10, 0), min(size, 10))
    # The file ends with its footer, four bytes of the footer's length, and ARROW1.
    footer = max(size - 10 - int.from_bytes(ending[:4], "little"), 0)
    columns_end = max(footer - landmarks, 0)
    if columns_end + size - footer > _LARGEST_COLUMNS_BYTES:
        raise damaged(
            shard.path, f"has more than {_LARGEST_COLUMNS_BYTES} bytes beside its landmarks"
        )
    content = np.zeros(size, np.uint8)
    for start, stop in ((0, columns_end), (footer, size)):
        content[start:stop] = np.frombuffer(shard.read(start, stop - start), np.uint8)
    return content


def _check_columns(shard: _Shard, batch: Any, columns: dict[str, list[Any]]) -> None:
    """Refuse what Arrow can hold, but no sample can."""
    empty = [
        field.name
        for field in batch.schema
        if not field.nullable and batch.column(field.name).null_count
    ]
    empty += [
        name
        for name in ("glosses", "gloss_starts", "gloss_ends")
        if batch.column(name).flatten().null_count
    ]
    if empty:
        raise damaged(shard.path, f"has no value in places of the column {empty[0]}")
    for glosses, starts, ends in zip(
        columns["glosses"], columns["gloss_starts"], columns["gloss_ends"], strict=True
    ):
        if not (starts is ends is None) and not (
            starts is not None and ends is not None and len(starts) == len(ends) == len(glosses)
        ):
            raise damaged(shard.path, "has other timings than glosses")
