"""Reading a ledger: while it is written, from another process, or long after the run.

A reader never writes and holds no transaction between calls, so it never holds up the writer. One
reader belongs to one thread at a time. Everything wrong with the file ends in a LedgerError.
"""

from __future__ import annotations

import contextlib
import math
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from signscope import schema as rows
from signscope.closing import Closing
from signscope.connection import damaged, error_name, open_for_reading, unreadable
from signscope.errors import LedgerCutError, LedgerError
from signscope.records import (
    LARGE_GRAD_NORM,
    EpochRecord,
    Evaluation,
    Outcome,
    RunEventRecord,
    StepRecord,
)
from signscope.schema import (
    COUNTED,
    DTYPES,
    EPOCH_ROWS,
    EPOCHS,
    EVALUATIONS,
    EVENT_ROWS,
    EVENTS,
    GENERATION,
    META,
    OUTCOMES,
    STEP_ROWS,
    STEPS,
    TALLY,
    VERIFIED,
    Columns,
    Row,
    Stretch,
    Table,
    columns_of,
    unpack,
)
from signscope.tally import OutcomeCounts

T = TypeVar("T")

_CHUNK = 20_000  # rows fetched at once: large enough to be quick, small enough to show progress
_BLOCKS_AT_ONCE = 64
_LAST = 1 << 62  # above every step
_OUTCOME_CODES = {outcome.value: code for code, outcome in enumerate(OUTCOMES)}


def _one_of(outcomes: Iterable[Outcome]) -> str:
    return f"outcome IN ({', '.join(repr(outcome.value) for outcome in outcomes)})"


_COUNTED_SQL = {
    "batches": "1",
    "applied": _one_of(outcome for outcome in Outcome if outcome.applied),
    "clipped": "clip_coef < 1.0",
    "non_finite": _one_of(outcome for outcome in Outcome if outcome.non_finite),
    "large": f"grad_norm_pre > {LARGE_GRAD_NORM}",
    "skipped_by_policy": _one_of([Outcome.SKIPPED_BY_POLICY]),
    "out_of_memory": _one_of([Outcome.FAILED_OUT_OF_MEMORY]),
    "skipped_by_scaler": _one_of([Outcome.SKIPPED_BY_SCALER]),
    "discarded": _one_of(outcome for outcome in Outcome if outcome.discarded),
}  # OutcomeCounts.plus in the words of SQL
_COUNTS_SQL = (
    f"SELECT {', '.join(f'total({rule})' for rule in _COUNTED_SQL.values())} "
    "FROM steps WHERE step >= ? AND step < ?"
)


@dataclass(frozen=True, slots=True)
class Place:
    """How far a ledger was read: the first batch that was not, and the generation that was read."""

    step: int = 0
    generation: int = 0


START = Place()


@dataclass(frozen=True, slots=True)
class News:
    """What is new in a ledger: see :meth:`LedgerReader.since`."""

    cut: bool  # whether batches that were read before are gone
    kept: int  # batches before this one are still as they were read; forget the others
    steps: tuple[StepRecord, ...]  # from ``kept`` on
    place: Place  # to ask from the next time


def until_uncut(read: Callable[[], T], tries: int = 10) -> T:
    """Give what ``read`` gives, calling it anew when rows were cut under it.

    Raises:
        LedgerCutError: That happened ``tries`` times; a run is resumed by hand, so something is wrong.
    """
    for _ in range(tries - 1):
        with contextlib.suppress(LedgerCutError):
            return read()
    return read()


class LedgerReader(Closing):
    """A ledger opened for reading only; a context manager.

    Reading in pieces (iter_steps, columns, curves) raises LedgerCutError when the run is resumed from an
    earlier batch meanwhile; see :func:`until_uncut`.

    Args:
        path: The ledger file.

    Raises:
        LedgerError: It is missing, is not a ledger, or has a format that this program does not know.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection = open_for_reading(path)

    def close(self) -> None:
        """Close the file; the reader cannot be used after it."""
        self._connection.close()

    def last_step(self) -> int | None:
        """Give the number of the newest batch, None when there is none yet."""
        with self._reading():
            step: int | None = self._value("SELECT max(step) FROM steps")
        return step

    def counts(self, epoch: int | None = None) -> OutcomeCounts:
        """Count the batches of one epoch, or of the whole run, by what became of them.

        Counted by SQLite without checking each row's checksum; :meth:`verify` does that.
        """
        with self._reading():
            first, end = (0, _LAST) if epoch is None else self._epoch_range(epoch)
            found = self._connection.execute(_COUNTS_SQL, (first, end)).fetchone()
            return OutcomeCounts(**dict(zip(_COUNTED_SQL, map(int, found), strict=True)))

    def mean_loss(self, epoch: int) -> float:
        """Mean over all batches of an epoch whose loss is finite, applied or not; NaN for none."""
        with self._reading():
            found = self._connection.execute(
                "SELECT loss FROM steps WHERE step >= ? AND step < ? AND loss IS NOT NULL",
                self._epoch_range(epoch),
            )
            losses = [loss for (loss,) in found if math.isfinite(loss)]
            return math.fsum(losses) / len(losses) if losses else math.nan

    def step(self, step: int) -> StepRecord | None:
        """Give the record of one batch, None when the ledger does not have it."""
        found = self.steps(step, step)
        return found[0] if found else None

    def steps(self, first: int = 0, last: int | None = None) -> list[StepRecord]:
        """Give the records of batches ``first`` to ``last``, both included; None is the newest.

        Raises:
            LedgerError: A row is not what was written.
        """
        return [record for chunk in self.iter_steps(first, last) for record in chunk]

    def iter_steps(self, first: int = 0, last: int | None = None) -> Iterator[list[StepRecord]]:
        """Like :meth:`steps`, in chunks, for runs that do not fit into memory as records."""
        for chunk in self._step_rows(first, last):
            with self._reading():
                yield [STEP_ROWS.record(row) for row in chunk]

    def columns(
        self, names: Sequence[str], start: int = 0, chunk: int = _CHUNK
    ) -> Iterator[dict[str, Any]]:
        """Give columns of the rows from step ``start`` on, ``chunk`` rows at a time.

        Names are those of StepRecord. Numbers come as float64 or int64 arrays, ``outcome`` as uint8
        codes (index into ``signscope.schema.OUTCOMES``), texts as lists. Checksums are
        not checked (see :meth:`verify`). For curves, :meth:`curves` is far quicker.
        """
        unknown = set(names) - set(STEPS.columns)
        if unknown or not names:
            raise ValueError(f"no such columns: {sorted(unknown)}")
        query = f"SELECT step, {', '.join(names)} FROM steps WHERE step >= ? ORDER BY step LIMIT {chunk:d}"
        generation = self.generation()
        while True:
            with self._reading():
                found = self._connection.execute(query, (start,)).fetchall()
                self.check_uncut(generation)
                if not found:
                    return
                start = found[-1][0] + 1
                by_column = list(zip(*found, strict=True))
                columns = {
                    name: _as_column(name, values)
                    for name, values in zip(names, by_column[1:], strict=True)
                }
            yield columns

    def curves(self) -> Iterator[Columns]:
        """Give the columns that curves are drawn from, oldest first, some 65,000 steps at a time.

        Types as in ``signscope.schema.DTYPES``; checksums are checked. Ends with an error
        when fewer steps were found than the ledger counted at the start.
        """
        with self.snapshot(), self._reading():
            expected = self._tally()["steps"]
            generation = self.generation()
        found = 0
        position = -1
        while blocks := self._blocks_after(position):
            position = blocks[-1][0]
            parts = [unpack(data, count) for _first, count, data in blocks]
            joined: Columns = {
                name: np.concatenate([part[name] for part in parts]) for name in DTYPES
            }
            found += len(joined["step"])
            self.check_uncut(generation)
            yield joined
        after = position + rows.CURVE_BLOCK if position >= 0 else 0
        for records in self.iter_steps(after):
            found += len(records)
            yield columns_of(records)
        self.check_uncut(generation)
        if found < expected:
            raise self._damaged(f"{expected - found} of its steps are missing")

    def step_count(self) -> int:
        """How many batches the ledger holds."""
        with self._reading():
            return self._tally()["steps"]

    def epochs(self) -> list[EpochRecord]:
        """Give the finished epochs, each with its latest dev evaluation."""
        dev = {epoch: found for epoch, found in self.evaluations() if found.split == "dev"}
        with self._reading():
            return [EPOCH_ROWS.record(row, dev=dev.get(row[0])) for row in self._all(EPOCHS)]

    def evaluations(self) -> list[tuple[int, Evaluation]]:
        """Give every evaluation as (epoch, evaluation), in the order they were made."""
        with self._reading():
            return [rows.evaluation_of(row) for row in self._all(EVALUATIONS)]

    def events(self) -> list[RunEventRecord]:
        """Give everything worth remembering that is not a batch, in the order it happened."""
        with self._reading():
            return [EVENT_ROWS.record(row) for row in self._all(EVENTS)]

    def generation(self) -> int:
        """How often rows were cut; what was read before and after another number may not fit together."""
        cuts = self._cuts()
        return cuts[-1][1] if cuts else 0

    def since(self, place: Place = START, most: int = _CHUNK) -> News:
        """Give what came after ``place``: the next batches, at most ``most``, and from where on rows were cut.

        Ask again with the ``place`` of the answer. Nothing new is an answer without ``steps``.

        Raises:
            LedgerError: A row is not what was written.
        """
        with self.snapshot(), self._reading():
            cuts = self._cuts()
            kept = min([place.step, *(step for step, number in cuts if number > place.generation)])
            query = f"{STEPS.select_sql} WHERE step >= ? ORDER BY step LIMIT {most:d}"
            found = self._connection.execute(query, (kept,)).fetchall()
            steps = tuple(STEP_ROWS.record(self._intact(STEPS, row)) for row in found)
        end = steps[-1].step + 1 if steps else kept
        generation = cuts[-1][1] if cuts else 0
        return News(kept < place.step, kept, steps, Place(end, generation))

    def meta(self) -> dict[str, str]:
        """Give what the writer was told about the run, the latest value of each key."""
        return self.meta_stretches()[-1][2]

    def meta_stretches(self) -> list[tuple[int, int, dict[str, str]]]:
        """Give the stretches of batches (first, last, facts) in which those facts did not change."""
        with self._reading():
            found = [row for row in self._all(META) if row[2] != GENERATION]
        starts = sorted({0, *(row[1] for row in found)})
        ends = [start - 1 for start in starts[1:]] + [_LAST]
        return [
            (first, last, {row[2]: row[3] for row in found if row[1] <= first})
            for first, last in zip(starts, ends, strict=True)
        ]

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let everything that is read within see one moment of a ledger that may be growing.

        For reads that must agree with one another. On a network share it holds up the writer.
        """
        if self._connection.in_transaction:
            yield
            return
        with self._reading():
            self._connection.execute("BEGIN")
        try:
            yield
        finally:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")

    def verify(self, recheck: int = 0) -> tuple[Stretch, Stretch]:
        """Read everything and compare it with its checksums (some 100,000 rows a second).

        Gives what :meth:`verify_since` gives.

        Raises:
            LedgerError: A byte is not what was written, or rows have vanished.
        """
        with self.snapshot():
            with self._reading():
                verdict = self._value("PRAGMA quick_check(1)")
            if verdict != "ok":
                raise self._damaged(str(verdict)[:200])
            return self.verify_since(Stretch(), recheck)

    def verified(self) -> Stretch:
        """Give what the writer left as known to be whole; nothing where that is not certain."""
        with self._reading():
            if not self._value("SELECT count(*) FROM sqlite_master WHERE name = 'verified'"):
                return Stretch()
            row = self._connection.execute(VERIFIED.select_sql).fetchone()
        return Stretch(*row[1:-1]) if row is not None and VERIFIED.intact(row) else Stretch()

    def verify_since(self, known: Stretch, recheck: int) -> tuple[Stretch, Stretch]:
        """Read everything but the rows of ``known``, whose sum of checksums stands for them.

        Gives what is known now: all of it, and all but the newest ``recheck`` batches.

        Raises:
            LedgerError: A byte is not what was written, rows have vanished, or ``known`` is not of this
                ledger.
        """
        with self.snapshot(), self._reading():
            tally = self._tally()
            short = {table.name: self._count_intact(table) for table in COUNTED if table != STEPS}
            end = Stretch(tally["steps"], tally["curves"])
            middle_step = max(known.steps, end.steps - recheck)
            middle = Stretch(middle_step, max(known.curves, middle_step // rows.CURVE_BLOCK))
            older = known + self._stretch(known, middle)
            found = older + self._stretch(middle, None)
            counts = {name: count for name, (count, _) in short.items()}
            for name, count in (counts | {"steps": found.steps, "curves": found.curves}).items():
                if count != tally[name]:
                    raise self._damaged(f"{name} has {count} rows, {tally[name]} were written")
            if found.checksums + sum(sums for _, sums in short.values()) != tally["checksums"]:
                raise self._damaged("some of its rows are of another ledger or another time")
            return found, older

    def _value(self, query: str, arguments: tuple[Any, ...] = ()) -> Any:
        row = self._connection.execute(query, arguments).fetchone()
        return None if row is None else row[0]

    def _cuts(self) -> list[tuple[int, int]]:
        """(batch from which on rows were cut, generation that began with it), in the order they happened."""
        with self._reading():
            found = self._connection.execute(
                f"{META.select_sql} WHERE key = ? ORDER BY id", (GENERATION,)
            )
            return [(row[1], int(row[3])) for row in (self._intact(META, row) for row in found)]

    def check_uncut(self, generation: int) -> None:
        """Raise LedgerCutError when rows were cut since ``generation`` was read."""
        if self.generation() != generation:
            raise LedgerCutError(
                "The run went on from an earlier batch while its ledger was read",
                subject=str(self.path),
                hint="Read it again.",
            )

    def _tally(self) -> dict[str, int]:
        row = self._connection.execute(TALLY.select_sql).fetchone()
        if row is None or not TALLY.intact(row):
            raise self._damaged("the count of its rows does not match its checksum")
        return dict(zip(TALLY.columns, row[:-1], strict=True))

    def _all(self, table: Table) -> list[Row]:
        """Rows of a short table in order of their key, each compared with its checksum."""
        key = table.columns[0]
        found = self._connection.execute(f"{table.select_sql} ORDER BY {key}").fetchall()
        return [self._intact(table, row) for row in found]

    def _intact(self, table: Table, row: Row) -> Row:
        if not table.intact(row):
            raise self._damaged(f"row {row[0]} of {table.name} does not match its checksum")
        return row

    def _step_rows(self, first: int, last: int | None) -> Iterator[list[Row]]:
        query = f"{STEPS.select_sql} WHERE step >= ? AND step <= ? ORDER BY step LIMIT {_CHUNK}"
        end = _LAST if last is None else last
        generation = self.generation()
        while first <= end:
            with self._reading():
                found = self._connection.execute(query, (first, end)).fetchall()
                chunk = [self._intact(STEPS, row) for row in found]
            self.check_uncut(generation)
            if not chunk:
                return
            first = chunk[-1][0] + 1
            yield chunk

    def _blocks_after(self, position: int, end: int = _LAST) -> list[tuple[int, int, bytes]]:
        with self._reading():
            found = self._connection.execute(
                "SELECT first_step, rows, data, crc FROM curves "
                "WHERE first_step > ? AND first_step < ? "
                f"ORDER BY first_step LIMIT {_BLOCKS_AT_ONCE}",
                (position, end),
            ).fetchall()
            for first, count, data, crc in found:
                if rows.block_checksum(first, count, data) != crc:
                    raise self._damaged(f"the curves from step {first} do not match their checksum")
            return [(first, count, data) for first, count, data, _crc in found]

    def _count_intact(self, table: Table) -> tuple[int, int]:
        """Give the number of rows and the sum of their checksums, each compared with its row."""
        key = table.columns[0]
        count = checksums = 0
        for row in self._connection.execute(f"{table.select_sql} ORDER BY {key}"):
            checksums += self._intact(table, row)[-1]
            count += 1
        return count, checksums

    def _stretch(self, start: Stretch, end: Stretch | None) -> Stretch:
        """Count the rows from ``start`` to before ``end`` with their checksums, each compared with its row."""
        last_step = _LAST if end is None else end.steps
        last_block_step = _LAST if end is None else end.curves * rows.CURVE_BLOCK
        count = checksums = 0
        query = f"{STEPS.select_sql} WHERE step >= ? AND step < ? ORDER BY step"
        for row in self._connection.execute(query, (start.steps, last_step)):
            checksums += self._intact(STEPS, row)[-1]
            count += 1
        blocks = 0
        position = start.curves * rows.CURVE_BLOCK - 1
        while found := self._blocks_after(position, last_block_step):
            position = found[-1][0]
            blocks += len(found)
            checksums += sum(rows.block_checksum(*block) for block in found)
        return Stretch(count, blocks, checksums)

    def _epoch_range(self, epoch: int) -> tuple[int, int]:
        """Steps [first, end) of an epoch. Epochs only ever rise, so both ends are found by halving."""
        return self._first_step_of(epoch), self._first_step_of(epoch + 1)

    def _first_step_of(self, epoch: int) -> int:
        low = 0
        high: int = (self._value("SELECT max(step) FROM steps") or 0) + 1
        while low < high:
            middle = (low + high) // 2
            found = self._value("SELECT epoch FROM steps WHERE step = ?", (middle,))
            if found is not None and found < epoch:
                low = middle + 1
            else:
                high = middle
        return low

    def _damaged(self, why: str) -> LedgerError:
        return damaged(self.path, why)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except LedgerError:
            raise
        except sqlite3.OperationalError as error:
            if error_name(error) in (
                "SQLITE_BUSY",
                "SQLITE_CANTOPEN",
                "SQLITE_IOERR",
                "SQLITE_LOCKED",
            ):
                raise unreadable(self.path, error) from error
            raise self._damaged(str(error)) from error
        except (sqlite3.Error, ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise self._damaged(str(error)) from error


def _as_column(name: str, values: tuple[Any, ...]) -> Any:
    if name == "outcome":
        return np.array([_OUTCOME_CODES[value] for value in values], np.uint8)
    if name in STEPS.floats:
        return np.array(values, np.float64)  # None becomes NaN
    if name in STEPS.integers:
        return np.array(values, np.int64)
    return list(values)
