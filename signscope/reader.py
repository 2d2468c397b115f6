"""Reading a ledger: while it is written, from another process, or long after the run.

A reader never writes and holds no transaction between calls, so it never holds up the writer. One
reader belongs to one thread at a time. Everything wrong with the file ends in a LedgerError.
"""

from __future__ import annotations

import contextlib
import math
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from signscope import schema as rows
from signscope.errors import LedgerError
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
    META,
    OUTCOMES,
    STEP_ROWS,
    STEPS,
    TALLY,
    Columns,
    Row,
    Table,
    columns_of,
    unpack,
)
from signscope.tally import OutcomeCounts

_CHUNK = 20_000  # rows fetched at once: large enough to be quick, small enough to show progress
_BLOCKS_AT_ONCE = 64
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
}  # OutcomeCounts.plus in the words of SQL
_COUNTS_SQL = (
    f"SELECT {', '.join(f'total({rule})' for rule in _COUNTED_SQL.values())} "
    "FROM steps WHERE step >= ? AND step < ?"
)


class LedgerReader:
    """A ledger opened for reading only; a context manager.

    Args:
        path: The ledger file.

    Raises:
        LedgerError: It is missing, is not a ledger, or has a format that this program does not know.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection = _connect(path)
        try:
            with self._reading():
                self._check_format()
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

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
            first, end = (0, 1 << 62) if epoch is None else self._epoch_range(epoch)
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
        while True:
            with self._reading():
                found = self._connection.execute(query, (start,)).fetchall()
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
        with self._reading():
            expected = self._tally()["steps"]
        found = 0
        position = -1
        while blocks := self._blocks_after(position):
            position = blocks[-1][0]
            parts = [unpack(data, count) for _first, count, data in blocks]
            joined: Columns = {
                name: np.concatenate([part[name] for part in parts]) for name in DTYPES
            }
            found += len(joined["step"])
            yield joined
        after = position + rows.CURVE_BLOCK if position >= 0 else 0
        for records in self.iter_steps(after):
            found += len(records)
            yield columns_of(records)
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

    def meta(self) -> dict[str, str]:
        """Give what the writer was told about the run, the latest value of each key."""
        return self.meta_stretches()[-1][2]

    def meta_stretches(self) -> list[tuple[int, int, dict[str, str]]]:
        """Give the stretches of batches (first, last, facts) in which those facts did not change."""
        with self._reading():
            found = self._all(META)
        starts = sorted({0, *(row[1] for row in found)})
        ends = [start - 1 for start in starts[1:]] + [1 << 62]
        return [
            (first, last, {row[2]: row[3] for row in found if row[1] <= first})
            for first, last in zip(starts, ends, strict=True)
        ]

    def verify(self) -> None:
        """Read everything and compare it with its checksums (some 100,000 rows a second).

        Raises:
            LedgerError: A byte is not what was written, or rows have vanished.
        """
        with self._reading():
            self._connection.execute("BEGIN")  # one moment of a file that may be growing
            try:
                verdict = self._value("PRAGMA quick_check(1)")
                if verdict != "ok":
                    raise self._damaged(str(verdict)[:200])
                tally = self._tally()
                found = {table.name: self._count_intact(table) for table in COUNTED}
                found["curves"] = self._count_blocks()
                for name, (count, _checksums) in found.items():
                    if count != tally[name]:
                        raise self._damaged(f"{name} has {count} rows, {tally[name]} were written")
                if sum(checksums for _count, checksums in found.values()) != tally["checksums"]:
                    raise self._damaged("some of its rows are of another ledger or another time")
            finally:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")

    def _check_format(self) -> None:
        if self._value("PRAGMA application_id") != rows.APPLICATION_ID:
            raise LedgerError(
                "This file is not a ledger of SignScope",
                subject=str(self.path),
                hint="Choose a run folder that SignScope made.",
            )
        version = self._value("PRAGMA user_version")
        if version != rows.SCHEMA_VERSION:
            raise LedgerError(
                f"The ledger has format {version}, this program reads format {rows.SCHEMA_VERSION}",
                subject=str(self.path),
                hint="Open it with the version of SignScope that made it.",
            )

    def _value(self, query: str, arguments: tuple[Any, ...] = ()) -> Any:
        row = self._connection.execute(query, arguments).fetchone()
        return None if row is None else row[0]

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
        end = (1 << 62) if last is None else last
        while first <= end:
            with self._reading():
                found = self._connection.execute(query, (first, end)).fetchall()
                chunk = [self._intact(STEPS, row) for row in found]
            if not chunk:
                return
            first = chunk[-1][0] + 1
            yield chunk

    def _blocks_after(self, position: int) -> list[tuple[int, int, bytes]]:
        with self._reading():
            found = self._connection.execute(
                "SELECT first_step, rows, data, crc FROM curves WHERE first_step > ? "
                f"ORDER BY first_step LIMIT {_BLOCKS_AT_ONCE}",
                (position,),
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

    def _count_blocks(self) -> tuple[int, int]:
        count = checksums = 0
        position = -1
        while blocks := self._blocks_after(position):
            position = blocks[-1][0]
            count += len(blocks)
            checksums += sum(rows.block_checksum(*block) for block in blocks)
        return count, checksums

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
        return LedgerError(
            f"The ledger is damaged: {why}",
            subject=str(self.path),
            hint="Restore it from a backup, or start the run anew. Its checkpoints can still be used.",
        )

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except LedgerError:
            raise
        except sqlite3.OperationalError as error:
            if _name(error) in ("SQLITE_BUSY", "SQLITE_CANTOPEN", "SQLITE_IOERR", "SQLITE_LOCKED"):
                raise _unreadable(self.path, error) from error
            raise self._damaged(str(error)) from error
        except (sqlite3.Error, ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise self._damaged(str(error)) from error


def _connect(path: Path) -> sqlite3.Connection:
    if not path.is_file():
        raise LedgerError(
            "The run has no ledger",
            subject=str(path),
            hint="Choose a run that has trained at least one batch, or look for the moved file.",
        )
    address = path.resolve().as_uri()
    try:
        connection = _open_whole(address)
    except sqlite3.Error as error:
        # A ledger that still has its WAL beside it needs a shared-memory file, which a folder that
        # is read-only (a disc, another person's) cannot get; without a WAL the file can be read as is.
        wal = path.with_name(path.name + "-wal")
        if _name(error) not in ("SQLITE_CANTOPEN", "SQLITE_READONLY_CANTINIT") or wal.exists():
            raise _unreadable(path, error) from error
        try:
            connection = _open(f"{address}?mode=ro&immutable=1")
        except sqlite3.Error as again:
            raise _unreadable(path, again) from again
    return connection


def _open_whole(address: str) -> sqlite3.Connection:
    """Open for reading, after letting SQLite undo what a killed process left half-written.

    A ledger changes between WAL and plain file when a run begins and ends; killed in that moment, it
    has a rollback journal beside it, which SQLite plays back for the first who may write.
    """
    try:
        return _open(f"{address}?mode=ro")
    except sqlite3.OperationalError as error:
        if _name(error) != "SQLITE_READONLY_ROLLBACK":
            raise
    _open(f"{address}?mode=rw").close()
    return _open(f"{address}?mode=ro")


def _open(address: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        address, uri=True, timeout=10.0, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA schema_version").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _name(error: sqlite3.Error) -> str:
    return getattr(error, "sqlite_errorname", "")


def _unreadable(path: Path, error: sqlite3.Error) -> LedgerError:
    return LedgerError(
        f"The ledger cannot be read ({error})",
        subject=str(path),
        hint="Check that the file is whole, that you may read it, and that its disk is there.",
    )


def _as_column(name: str, values: tuple[Any, ...]) -> Any:
    if name == "outcome":
        return np.array([_OUTCOME_CODES[value] for value in values], np.uint8)
    if name in STEPS.floats:
        return np.array(values, np.float64)  # None becomes NaN
    if name in STEPS.integers:
        return np.array(values, np.int64)
    return list(values)
