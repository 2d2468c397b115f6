"""What a run's records look like on the disk: rows of tables, and the packed columns of curves.

Everything about a step follows from the fields of :class:`~signscope.records.StepRecord`, the one list
of its columns: the table ``steps``, its rows, the packed columns, and the names that exports use.

The file is SQLite. Every row carries a checksum (CRC-32 of its numbers and texts), because SQLite has
none for its pages: a flipped bit is found when the row is read, not believed. NaN is stored as NULL,
which is how SQLite stores it anyway, so NULL in a number means NaN; infinities are stored as they
are; minus zero becomes zero.

Curves are float32, which is exact for everything that training computes in float32 (loss, norms, clip
coefficient) and within 6e-8 of the rest; times since the epoch and step numbers keep their full width.
The exact float64 numbers of every batch are in the rows. A finite float64 beyond 3.4e38 becomes
infinite in a curve, and is then shown as non-finite.
"""

from __future__ import annotations

import dataclasses
import json
import math
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from operator import attrgetter
from typing import Any, Generic, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
import numpy.typing as npt

from signscope.records import (
    EpochRecord,
    Evaluation,
    Outcome,
    RunEventRecord,
    StepRecord,
    WordErrors,
)

APPLICATION_ID = 0x53695363  # "SiSc", in the header of every ledger
SCHEMA_VERSION = 1
CURVE_BLOCK = 1024
"""Steps in one row of the table ``curves``."""

Row = tuple[Any, ...]
AnyArray = npt.NDArray[np.generic]
Columns = dict[str, AnyArray]
R = TypeVar("R")

# ---------------------------------------------------------------- tables


@dataclass(frozen=True)
class Table:
    """A table whose columns are integers, then floats, then texts, then the checksum ``crc``."""

    name: str
    integers: tuple[str, ...]
    floats: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns but the checksum, in order."""
        return self.integers + self.floats + self.texts

    @cached_property
    def create_sql(self) -> str:
        """The statement that makes the table. Its first column is the key."""
        kinds = ["INTEGER"] * len(self.integers) + ["REAL"] * len(self.floats)
        kinds += ["TEXT NOT NULL"] * len(self.texts)
        kinds[0] = "INTEGER PRIMARY KEY"
        columns = ", ".join(
            f"{name} {kind}" for name, kind in zip(self.columns, kinds, strict=True)
        )
        return f"CREATE TABLE {self.name} ({columns}, crc INTEGER NOT NULL)"

    @cached_property
    def insert_sql(self) -> str:
        """The statement that adds a row with its checksum."""
        marks = ", ".join("?" * (len(self.columns) + 1))
        return f"INSERT INTO {self.name} ({', '.join(self.columns)}, crc) VALUES ({marks})"

    @cached_property
    def select_sql(self) -> str:
        """The start of a query for rows with their checksum."""
        return f"SELECT {', '.join(self.columns)}, crc FROM {self.name}"

    @cached_property
    def _packer(self) -> struct.Struct:
        return struct.Struct(f"<{len(self.integers)}q{len(self.floats)}d")

    @cached_property
    def _numbers(self) -> int:
        return len(self.integers) + len(self.floats)

    def checksum(self, row: Sequence[Any]) -> int:
        """CRC-32 of ``row`` (without its checksum) as it reads back from SQLite."""
        numbers = [math.nan if value is None else value for value in row[: self._numbers]]
        texts = "\0".join(row[self._numbers :])
        return zlib.crc32(texts.encode(), zlib.crc32(self._packer.pack(*numbers)))

    def sealed(self, row: Row) -> Row:
        """Add the checksum to ``row``."""
        return (*row, self.checksum(row))

    def intact(self, row: Row) -> bool:
        """Whether a row that was read, checksum last, is the row that was written."""
        try:
            return bool(self.checksum(row[:-1]) == row[-1])
        except (struct.error, TypeError, ValueError, AttributeError):
            return False  # another type than the one that was written


def _real(value: float) -> float | None:
    number = float(value)
    return None if number != number else number + 0.0


def _number(value: float | None) -> float:
    # SQLite stores 1.0 as 1 and needs the column's declared type, which no checksum covers, to undo it.
    return math.nan if value is None else float(value)


def _text(value: str) -> str:
    """Give ``value`` as SQLite can store it: half characters, as in odd file names, become '?'."""
    return value.encode("utf-8", "replace").decode("utf-8")


def _same(value: Any) -> Any:
    return value


def _texts(value: str) -> tuple[str, ...]:
    return tuple(json.loads(value))


@dataclass(frozen=True)
class _Field:
    """A field of a record: its name, how it is stored, and how it is packed for curves ("" if not)."""

    name: str
    kind: str  # the part of a Table that it belongs to
    store: Callable[[Any], Any]
    load: Callable[[Any], Any]
    packed: str = ""


def _field(name: str, hint: Any) -> _Field | None:
    """How a field of this type is stored; None for a record within a record, which has its own table."""
    packed = next(iter(getattr(hint, "__metadata__", ())), "")
    kind: Any = get_args(hint)[0] if packed else hint
    if kind is int:
        return _Field(name, "integers", int, _same, packed)
    if kind is float:
        return _Field(name, "floats", _real, _number, packed)
    if kind is str:
        return _Field(name, "texts", _text, _same, packed)
    if get_origin(kind) is tuple:
        return _Field(name, "texts", json.dumps, _texts, packed)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return _Field(name, "texts", attrgetter("value"), kind, packed)
    return None


def _fields(record: type) -> tuple[_Field, ...]:
    hints = get_type_hints(record, include_extras=True)
    found = (_field(field.name, hints[field.name]) for field in dataclasses.fields(record))
    return tuple(field for field in found if field is not None)


class RecordTable(Generic[R]):
    """The table of one kind of record, made from the fields of its class.

    Args:
        name: The table's name.
        record: The class; fields that are records themselves are left out.
        numbered: Whether the table's key is a place in it, from 1, before the record's own fields.
    """

    def __init__(self, name: str, record: type[R], *, numbered: bool = False) -> None:
        fields = _fields(record)
        ordered = [
            field
            for kind in ("integers", "floats", "texts")
            for field in fields
            if field.kind == kind
        ]
        names = {
            kind: tuple(field.name for field in ordered if field.kind == kind)
            for kind in ("integers", "floats", "texts")
        }
        key = ("id",) if numbered else ()
        self.table = Table(name, key + names["integers"], names["floats"], names["texts"])
        self._record = record
        self._values = attrgetter(*(field.name for field in ordered))
        self._store = tuple(field.store for field in ordered)
        place = {column: number for number, column in enumerate(self.table.columns)}
        self._load = tuple((field.name, place[field.name], field.load) for field in fields)

    def row(self, record: R, *key: int) -> Row:
        """Make the row of ``record``, without checksum; ``key`` is its number where the table has one."""
        values = self._values(record)
        return (*key, *[store(value) for store, value in zip(self._store, values, strict=True)])

    def record(self, row: Row, **others: Any) -> R:
        """Give back the record of a row; ``others`` are its fields that have tables of their own."""
        return self._record(
            **{name: load(row[place]) for name, place, load in self._load}, **others
        )


STEP_ROWS = RecordTable("steps", StepRecord)
EPOCH_ROWS = RecordTable("epochs", EpochRecord)
EVENT_ROWS = RecordTable("events", RunEventRecord, numbered=True)

STEPS = STEP_ROWS.table
EPOCHS = EPOCH_ROWS.table
EVALUATIONS = Table(
    "evaluations",
    ("id", "epoch", *(field.name for field in _fields(WordErrors)), "sentences"),
    ("loss", "blank_fraction", "duration_s"),
    ("split",),
)
EVENTS = EVENT_ROWS.table
META = Table("meta", ("id", "from_step"), (), ("key", "value"))
COUNTED = (STEPS, EPOCHS, EVALUATIONS, EVENTS, META)
COUNTED_NAMES = (*(table.name for table in COUNTED), "curves")
TALLY = Table("tally", ("id", *COUNTED_NAMES, "checksums"))
"""One row: how many rows each table has, so that rows that vanish are missed, and the sum of their
checksums, so that a sound row of another ledger (or of an earlier state of this one) is no match."""

VERIFIED = Table("verified", ("id", "steps", "curves", "checksums"))
"""One row: see Stretch. Earlier versions of the program neither make nor mind it."""

GENERATION = "generation"
"""Key in ``meta``: how often rows were cut, from the batch on from which they were. See LedgerReader.since."""

CURVES_SQL = (
    "CREATE TABLE curves (first_step INTEGER PRIMARY KEY, rows INTEGER NOT NULL, "
    "data BLOB NOT NULL, crc INTEGER NOT NULL)"
)
"""The drawn columns of each full stretch of CURVE_BLOCK steps (see :func:`pack`), which load a hundred
times faster than rows. They repeat the rows; signscope.invariants compares the two."""


def evaluation_row(number: int, epoch: int, evaluation: Evaluation) -> Row:
    """Make the row of one evaluation; ``number`` is its place in the table, from 1."""
    return (
        number,
        int(epoch),
        *(int(count) for count in dataclasses.astuple(evaluation.errors)),
        int(evaluation.sentences),
        _real(evaluation.loss),
        _real(evaluation.blank_fraction),
        _real(evaluation.duration_s),
        _text(evaluation.split),
    )


def evaluation_of(row: Row) -> tuple[int, Evaluation]:
    """Give back (epoch, evaluation) of a row of ``evaluations``."""
    return row[1], Evaluation(
        split=row[11],
        errors=WordErrors(*row[2:7]),
        loss=_number(row[8]),
        blank_fraction=_number(row[9]),
        sentences=row[7],
        duration_s=_number(row[10]),
    )


@dataclass(frozen=True, slots=True)
class Stretch:
    """The first ``steps`` rows of steps and ``curves`` rows of curves, and the sum of their checksums.

    The table ``verified`` keeps one whose rows were all read back and found whole, or were written long
    enough ago: it stands for them when a run is resumed.
    """

    steps: int = 0
    curves: int = 0
    checksums: int = 0

    def __add__(self, other: Stretch) -> Stretch:
        return Stretch(
            self.steps + other.steps,
            self.curves + other.curves,
            self.checksums + other.checksums,
        )

    def __sub__(self, other: Stretch) -> Stretch:
        return Stretch(
            self.steps - other.steps,
            self.curves - other.curves,
            self.checksums - other.checksums,
        )


# ---------------------------------------------------------------- columns of a step

STEP_COLUMNS: tuple[str, ...] = tuple(field.name for field in _fields(StepRecord))
"""Names of all that is known of a step, in the order of StepRecord: what exports are made of."""

OUTCOMES: tuple[Outcome, ...] = tuple(Outcome)
"""Outcomes by their code in the column ``outcome``; new ones are only ever added at the end."""

_CODES = {outcome: code for code, outcome in enumerate(OUTCOMES)}
_PACKED_ORDER = ("<i4", "<f8", "<f4", "u1")

_packed = sorted(
    (field for field in _fields(StepRecord) if field.packed),
    key=lambda field: _PACKED_ORDER.index(field.packed),
)

FLOAT_COLUMNS: tuple[str, ...] = tuple(field.name for field in _packed if field.packed == "<f4")
"""Columns kept as float32, named as in StepRecord."""

DTYPES: Mapping[str, np.dtype[np.generic]] = {
    **{field.name: np.dtype(field.packed) for field in _packed},  # outcome: index into OUTCOMES
    "clipped": np.dtype("u1"),  # 1 where clipping made the gradient smaller
}
"""Every packed column and its type: 58 bytes a step together."""

_NUMBERS = tuple(field.name for field in _packed if field.name != "outcome")
_numbers_of = attrgetter(*_NUMBERS)


def columns_of(records: Sequence[StepRecord]) -> Columns:
    """Give the packed columns of ``records``, each an array (N,) of its type in DTYPES."""
    if not records:
        return {name: np.empty(0, dtype) for name, dtype in DTYPES.items()}
    numbers_NC = np.array([_numbers_of(record) for record in records], np.float64)
    with np.errstate(over="ignore"):  # beyond float32: infinite, as the module says
        columns: Columns = {
            name: numbers_NC[:, place].astype(DTYPES[name]) for place, name in enumerate(_NUMBERS)
        }
    codes = [_CODES[record.outcome] for record in records]
    columns["outcome"] = np.array(codes, DTYPES["outcome"])
    clip_coef_N = numbers_NC[:, _NUMBERS.index("clip_coef")]
    columns["clipped"] = (clip_coef_N < 1.0).astype(DTYPES["clipped"])
    return columns


def pack(columns: Columns) -> bytes:
    """Lay the columns one behind the other, in the order of DTYPES."""
    return b"".join(columns[name].astype(dtype).tobytes() for name, dtype in DTYPES.items())


def unpack(data: bytes, rows: int) -> Columns:
    """Give the columns that :func:`pack` laid down, as views of ``data``.

    Raises:
        ValueError: ``data`` does not hold ``rows`` steps.
    """
    if len(data) != rows * sum(dtype.itemsize for dtype in DTYPES.values()):
        raise ValueError(f"{len(data)} bytes do not hold {rows} steps")
    columns: Columns = {}
    offset = 0
    for name, dtype in DTYPES.items():
        columns[name] = np.frombuffer(data, dtype, rows, offset)
        offset += rows * dtype.itemsize
    return columns


def block_checksum(first_step: int, rows: int, data: bytes) -> int:
    """CRC-32 of a row of ``curves``."""
    return zlib.crc32(data, zlib.crc32(struct.pack("<2q", first_step, rows)))
