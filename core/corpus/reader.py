"""Reading a corpus: small columns in memory, landmarks in memory-mapped shards, without copying."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from core.corpus.format import (
    ARROW_SCHEMA,
    RAW,
    Manifest,
    Sample,
    ShardEntry,
    damaged,
    read_manifest,
)
from core.landmarks.layout import N_COORDS, N_POINTS, Float32Array


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

    def __init__(self, path: Path, manifest: Manifest, blocks: Sequence[_Block]) -> None:
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
        self.said_landmarks = frozenset(
            {manifest.landmarks, *(block.says_landmarks for block in blocks)}
        )
        """What manifest and shards say that the landmarks are; all should say ``raw``."""

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
        manifest = read_manifest(path)
        return cls(
            path, manifest, [b for entry in manifest.shards for b in _map_shard(path, entry)]
        )

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
                raise damaged(file, f"cannot be read ({error.strerror})") from error
            if found != entry.sha256:
                raise damaged(file, "holds other bytes than were written (sha256 differs)")

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


def _map_shard(path: Path, entry: ShardEntry) -> list[_Block]:
    file = path / entry.file
    try:
        size = file.stat().st_size
        if size != entry.bytes:
            raise damaged(file, f"has {size} bytes, expected {entry.bytes}")
        with pa.memory_map(str(file)) as source:
            reader = pa.ipc.open_file(source)
            if not reader.schema.equals(ARROW_SCHEMA):
                raise damaged(file, "has other columns than a shard of this schema")
            said = (reader.schema.metadata or {}).get(b"landmarks", b"unknown").decode()
            blocks = [
                _map_batch(reader.get_batch(i), said) for i in range(reader.num_record_batches)
            ]
    except FileNotFoundError as error:
        raise damaged(file, "is missing") from error
    except (OSError, pa.ArrowException) as error:
        raise damaged(file, f"cannot be read ({str(error).splitlines()[0]})") from error
    samples = sum(len(block.offsets) - 1 for block in blocks)
    frames = sum(len(block.landmarks_FKC) for block in blocks)
    if (samples, frames) != (entry.samples, entry.frames):
        raise damaged(
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
