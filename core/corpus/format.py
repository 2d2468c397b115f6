"""What a corpus folder looks like: its files, the manifest, the columns of a shard, the fingerprint.

::

    CORPUS/corpus.json            the manifest: which shards belong to it, with size and sha256
    CORPUS/shard-<unique>.arrow   samples, an Arrow IPC file; immutable once it has this name

Landmarks are stored raw, as the detector gave them; the manifest and each shard say so.
:mod:`core.corpus.reader` reads a folder, :mod:`core.corpus.writer` writes one.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core.errors import CorpusError
from core.faults import faults_in
from core.landmarks.layout import N_COORDS, N_POINTS, Float32Array
from signscope.command_line import command_name
from signscope.files import read_regular

MANIFEST_NAME: Final = "corpus.json"
SCHEMA_VERSION: Final = 1
LAYOUT_NAME: Final = "mediapipe-pose33-lefthand21-righthand21-xyzv"
RAW: Final = "raw"

LOCK_NAME: Final = ".writer.lock"
FRAME_VALUES: Final = N_POINTS * N_COORDS
"""Numbers of one frame of landmarks."""

_SHARD_NAME: Final = r"shard-[0-9a-f]{32}\.arrow"
_STABLE_NAME: Final = rf"({_SHARD_NAME}|{re.escape(MANIFEST_NAME)})"
# Unfinished files are named by signscope.files; versions up to 0.1.0 only added ".tmp".
_OWN_FILE: Final = re.compile(
    rf"{_STABLE_NAME}(\.tmp)?|\.{_STABLE_NAME}\.[0-9]+-[0-9]+\.tmp|{re.escape(LOCK_NAME)}"
)
_LITTER: Final = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})

_LARGEST_MANIFEST_BYTES: Final = 2**24

ARROW_SCHEMA: Final = pa.schema(
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
        pa.field("landmarks", pa.large_list(pa.list_(pa.float32(), FRAME_VALUES)), nullable=False),
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
    where nothing was detected. From a corpus it is read-only.
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


class ShardEntry(BaseModel):
    """What the manifest says of one shard."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str = Field(pattern=rf"^{_SHARD_NAME}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)
    samples: int = Field(ge=0)
    frames: int = Field(ge=0)


class Manifest(BaseModel):
    """Everything in a corpus' manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: str = Field("signscope-corpus", pattern="^signscope-corpus$")
    schema_version: int = SCHEMA_VERSION
    name: str
    synthetic: bool
    note: str
    landmarks: str = RAW
    layout: str = LAYOUT_NAME
    shards: tuple[ShardEntry, ...]

    @property
    def fingerprint(self) -> str:
        """Hex sha256 that is the same for corpora with the same samples in the same order.

        Names of files, corpus name and note do not matter; shard hashes were taken when written.
        """
        text = "\n".join(
            [str(self.schema_version), self.landmarks, self.layout]
            + [entry.sha256 for entry in self.shards]
        )
        return hashlib.sha256(text.encode()).hexdigest()


def is_litter(name: str) -> bool:
    """Tell whether a file of this name is what systems and editors leave lying in any folder."""
    return name.startswith(".") or name.lower() in _LITTER


def printable(text: str) -> str:
    """Give ``text`` with escapes for what cannot be written as UTF-8: bytes of a file name that are none."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def is_own(name: str) -> bool:
    """Tell whether a file of this name in a corpus folder was put there by a writer."""
    return _OWN_FILE.fullmatch(name) is not None


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of the corpus in folder ``path``.

    Raises:
        CorpusError: There is no corpus, it is of an unknown schema or layout, or the manifest is damaged.
    """
    file = path / MANIFEST_NAME
    try:
        content = read_regular(file, limit=_LARGEST_MANIFEST_BYTES)
    except (
        FileNotFoundError,
        NotADirectoryError,
        ValueError,
    ) as error:  # ValueError: NUL in the path
        what = "This folder is not a corpus" if path.is_dir() else "There is no corpus here"
        raise CorpusError(
            what,
            subject=str(path),
            hint=f"A corpus folder has a {MANIFEST_NAME}. Recordings in the MP_Data layout become one "
            f"with: {command_name()} import mp-data.",
        ) from error
    except OSError as error:
        raise damaged(file, f"cannot be read ({error.strerror})") from error
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise damaged(file, "is not valid JSON") from error
    version = values.get("schema_version") if isinstance(values, dict) else None
    if isinstance(version, int) and version != SCHEMA_VERSION:
        raise CorpusError(
            f"The corpus has schema version {version}, this program reads version {SCHEMA_VERSION}",
            subject=str(path),
            hint="Open it with the version of SignScope that wrote it, or import the recordings again.",
        )
    try:
        manifest = Manifest.model_validate(values)
    except ValidationError as error:
        fault = faults_in(error, Manifest)[0]
        raise damaged(file, f"is not a corpus manifest ({fault.sentence()})") from error
    if manifest.layout != LAYOUT_NAME:
        raise CorpusError(
            f"The corpus has the landmark layout {manifest.layout!r}, expected {LAYOUT_NAME!r}",
            subject=str(path),
            hint="Import the recordings again with this version.",
        )
    return manifest


def damaged(file: Path, what: str) -> CorpusError:
    """Give the error for a file of a corpus that is not as it was written."""
    return CorpusError(
        f"A file of the corpus {what}",
        subject=str(file),
        hint="The corpus is damaged: restore it from a copy, or import the recordings again.",
    )
