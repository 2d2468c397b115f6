"""What the tables of a ledger look like, and how records become rows and come back.

The file is SQLite. Every row carries a checksum (CRC-32 of its numbers and texts), because SQLite has
none for its pages: a flipped bit is found when the row is read, not believed. NaN is stored as NULL,
which is how SQLite stores it anyway, so NULL in a number means NaN; infinities are stored as they
are; minus zero becomes zero.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from signscope.records import (
    EpochRecord,
    Evaluation,
    EventKind,
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


STEPS = Table(
    "steps",
    ("step", "epoch", "batch_idx", "frames", "glosses"),
    (
        "loss",
        "loss_per_gloss",
        "grad_norm_pre",
        "grad_norm_post",
        "clip_coef",
        "lr",
        "blank_fraction",
        "data_s",
        "step_s",
        "memory_mib",
        "wall_time",
    ),
    ("outcome", "sample_ids", "detail"),
)
EPOCHS = Table(
    "epochs",
    ("epoch", "batches", "applied", "clipped", "non_finite", "large", "skipped_by_policy"),
    ("avg_loss", "duration_s", "wall_time"),
)
EVALUATIONS = Table(
    "evaluations",
    (
        "id",
        "epoch",
        "substitutions",
        "deletions",
        "insertions",
        "reference_glosses",
        "hypothesis_glosses",
        "sentences",
    ),
    ("loss", "blank_fraction", "duration_s"),
    ("split",),
)
EVENTS = Table("events", ("id", "step"), ("wall_time",), ("kind", "text"))
META = Table("meta", ("id", "from_step"), (), ("key", "value"))
COUNTED = (STEPS, EPOCHS, EVALUATIONS, EVENTS, META)
COUNTED_NAMES = (*(table.name for table in COUNTED), "curves")
TALLY = Table("tally", ("id", *COUNTED_NAMES, "checksums"))
"""One row: how many rows each table has, so that rows that vanish are missed, and the sum of their
checksums, so that a sound row of another ledger (or of an earlier state of this one) is no match."""

CURVES_SQL = (
    "CREATE TABLE curves (first_step INTEGER PRIMARY KEY, rows INTEGER NOT NULL, "
    "data BLOB NOT NULL, crc INTEGER NOT NULL)"
)
"""The drawn columns of each full stretch of CURVE_BLOCK steps (signscope.curve_columns), which
load a hundred times faster than rows. They repeat the rows; signscope.invariants compares the two."""


def block_checksum(first_step: int, rows: int, data: bytes) -> int:
    """CRC-32 of a row of ``curves``."""
    return zlib.crc32(data, zlib.crc32(struct.pack("<2q", first_step, rows)))


def _real(value: float) -> float | None:
    number = float(value)
    return None if number != number else number + 0.0


def _text(value: str) -> str:
    """Give ``value`` as SQLite can store it: half characters, as in odd file names, become '?'."""
    return value.encode("utf-8", "replace").decode("utf-8")


def _number(value: float | None) -> float:
    # SQLite stores 1.0 as 1 and needs the column's declared type, which no checksum covers, to undo it.
    return math.nan if value is None else float(value)


def step_row(record: StepRecord) -> Row:
    """Make the row of one batch, without checksum."""
    return (
        int(record.step),
        int(record.epoch),
        int(record.batch_idx),
        int(record.frames),
        int(record.glosses),
        _real(record.loss),
        _real(record.loss_per_gloss),
        _real(record.grad_norm_pre),
        _real(record.grad_norm_post),
        _real(record.clip_coef),
        _real(record.lr),
        _real(record.blank_fraction),
        _real(record.data_s),
        _real(record.step_s),
        _real(record.memory_mib),
        _real(record.wall_time),
        record.outcome.value,
        json.dumps(record.sample_ids),
        _text(record.detail),
    )


def step_record(row: Row) -> StepRecord:
    """Give back the record of a row of ``steps`` (a checksum at its end is not looked at)."""
    return StepRecord(
        step=row[0],
        epoch=row[1],
        batch_idx=row[2],
        frames=row[3],
        glosses=row[4],
        loss=_number(row[5]),
        loss_per_gloss=_number(row[6]),
        grad_norm_pre=_number(row[7]),
        grad_norm_post=_number(row[8]),
        clip_coef=_number(row[9]),
        lr=_number(row[10]),
        blank_fraction=_number(row[11]),
        data_s=_number(row[12]),
        step_s=_number(row[13]),
        memory_mib=_number(row[14]),
        wall_time=_number(row[15]),
        outcome=Outcome(row[16]),
        sample_ids=tuple(json.loads(row[17])),
        detail=row[18],
    )


def epoch_row(record: EpochRecord) -> Row:
    """Make the row of one epoch; its evaluation is a row of its own."""
    return (
        int(record.epoch),
        int(record.batches),
        int(record.applied),
        int(record.clipped),
        int(record.non_finite),
        int(record.large),
        int(record.skipped_by_policy),
        _real(record.avg_loss),
        _real(record.duration_s),
        _real(record.wall_time),
    )


def epoch_record(row: Row, dev: Evaluation | None) -> EpochRecord:
    """Give back the record of a row of ``epochs``."""
    return EpochRecord(
        epoch=row[0],
        batches=row[1],
        applied=row[2],
        clipped=row[3],
        non_finite=row[4],
        large=row[5],
        skipped_by_policy=row[6],
        avg_loss=_number(row[7]),
        duration_s=_number(row[8]),
        wall_time=_number(row[9]),
        dev=dev,
    )


def evaluation_row(number: int, epoch: int, evaluation: Evaluation) -> Row:
    """Make the row of one evaluation; ``number`` is its place in the table, from 1."""
    errors = evaluation.errors
    return (
        number,
        int(epoch),
        int(errors.substitutions),
        int(errors.deletions),
        int(errors.insertions),
        int(errors.reference_glosses),
        int(errors.hypothesis_glosses),
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
        errors=WordErrors(row[2], row[3], row[4], row[5], row[6]),
        loss=_number(row[8]),
        blank_fraction=_number(row[9]),
        sentences=row[7],
        duration_s=_number(row[10]),
    )


def event_row(number: int, record: RunEventRecord) -> Row:
    """Make the row of one event; ``number`` is its place in the table, from 1."""
    return (
        number,
        int(record.step),
        _real(record.wall_time),
        record.kind.value,
        _text(record.text),
    )


def event_record(row: Row) -> RunEventRecord:
    """Give back the record of a row of ``events``."""
    return RunEventRecord(
        step=row[1], kind=EventKind(row[3]), text=row[4], wall_time=_number(row[2])
    )
