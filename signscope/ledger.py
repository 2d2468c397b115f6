"""The ledger of a run: one row a batch, written in groups by a thread that never holds up training.

SQLite in WAL mode (on a network share with a rollback journal), every group one transaction that survives a
power cut (synchronous FULL). What a row looks like is in signscope.schema; reading is in signscope.reader and given here as well.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType

from signscope import schema as rows
from signscope.closing import Closing
from signscope.connection import guard, refuse_odd_companions
from signscope.errors import LedgerError
from signscope.file_systems import network_file_system
from signscope.reader import LedgerReader
from signscope.records import EpochRecord, Evaluation, RunEventRecord, StepRecord
from signscope.schema import (
    COUNTED,
    EPOCH_ROWS,
    EPOCHS,
    EVALUATIONS,
    EVENT_ROWS,
    EVENTS,
    META,
    STEP_ROWS,
    STEPS,
    TALLY,
    VERIFIED,
    Row,
    Stretch,
    columns_of,
    pack,
)

__all__ = ["Ledger", "LedgerReader"]

GROUP_ROWS = 64
"""The writer wakes when this many rows wait ..."""
GROUP_S = 0.25
"""... or this many seconds after the first of them, whichever comes first."""

RECHECKED = 65_536
"""The newest batches that are read back at every resume, however often they were before."""

_Entry = StepRecord | EpochRecord | RunEventRecord | tuple[int, Evaluation]
_NEW_TALLY = dict.fromkeys(TALLY.columns[1:], 0)


class Ledger(Closing):
    """The writing end of a ledger; a context manager. Only the holder of the run's lock makes one.

    An existing file is verified and continued, a missing one is made. Of a long ledger only what can have
    changed is verified: all but the batches that an earlier verification, or the writing of ``RECHECKED``
    newer ones, left behind; their sum of checksums stands for them. LedgerReader.verify() reads them all. ``append...`` cost a few
    microseconds and never wait for the disk. When the writer fails (disk full, folder deleted), the
    next call of any method raises the LedgerError; the rows are kept and tried again by the next
    ``flush()``, so a person who freed space loses nothing.

    Args:
        path: The ledger file; its folder must exist.
        meta: Facts about the run that the invariants need, such as ``policy`` and ``max_norm``.
            On an existing file they hold from the next batch on.

    Raises:
        LedgerError: The file cannot be made or written, is damaged, or is of an unknown format.
    """

    def __init__(self, path: Path, meta: Mapping[str, str | float] | None = None) -> None:
        self.path = path
        self._changed = threading.Condition()
        self._waiting: list[_Entry] = []
        self._accepted = 0
        self._written = 0
        self._flushing = 0
        self.notice = ""
        """What people should know about how this ledger is written; "" when there is nothing."""
        self._closing = False
        self._failure: LedgerError | None = None
        self._database_lock = threading.Lock()
        self._tally: dict[str, int] = {}
        self._all = self._verified = self._soon_verified = Stretch()
        self._block: list[StepRecord] = []
        self._connection = self._open(meta or {})
        self._thread = threading.Thread(target=self._write_groups, name="ledger", daemon=True)
        self._thread.start()

    def append(self, record: StepRecord) -> None:
        """Add one batch. Any thread; the row is kept even when this raises an earlier failure."""
        self._append(record)

    def append_epoch(self, record: EpochRecord) -> None:
        """Add one finished epoch and, where it has one, its dev evaluation."""
        self._append(record)
        if record.dev is not None:
            self._append((record.epoch, record.dev))

    def append_evaluation(self, epoch: int, evaluation: Evaluation) -> None:
        """Add an evaluation made after ``epoch``, other than the dev evaluation of an EpochRecord."""
        self._append((epoch, evaluation))

    def append_event(self, record: RunEventRecord) -> None:
        """Add something worth remembering that is not a batch."""
        self._append(record)

    def flush(self) -> None:
        """Return when everything appended before is on disk; tries again after a failure.

        Raises:
            LedgerError: It cannot be written; says how many rows are not on disk.
        """
        with self._changed:
            if self._closing:
                raise self._closed()
            self._failure = None
            target = self._accepted
            self._flushing += 1
            self._changed.notify_all()
            try:
                self._changed.wait_for(lambda: self._written >= target or self._failure is not None)
            finally:
                self._flushing -= 1
            self._raise_failure()

    def truncate_from(self, step: int, epoch: int) -> None:
        """Cut what an interrupted run did after its checkpoint: it is about to be made again.

        Batches from ``step`` on, epochs and evaluations from ``epoch`` on, every held-out
        evaluation, and events after ``step`` are removed, in one transaction.
        """
        self.flush()
        with self._database_lock, self._naming_failures():
            with _Transaction(self._connection):
                everything = self._all - self._cut(step, epoch)
                verified = everything if self._verified.steps > step else self._verified
                self._write_verified(verified)
                tally = self._counted_anew(everything)
                self._write_tally(tally)
            self._all, self._verified, self._tally = everything, verified, tally
            if self._soon_verified.steps > step:
                self._soon_verified = verified
            self._block = self._unpacked_steps()

    def _cut(self, step: int, epoch: int) -> Stretch:
        """Remove what truncate_from() says, and tell readers; give the batches and curves that are gone."""
        gone = self._cut_steps(step)
        # The held-out evaluation ends a run: one that goes on makes it again.
        others = [
            ("DELETE FROM epochs WHERE epoch >= ?", epoch),
            ("DELETE FROM evaluations WHERE epoch >= ? OR split = 'test'", epoch),
            ("DELETE FROM events WHERE step > ?", step),
        ]
        removed = gone.steps + sum(
            self._connection.execute(statement, (first,)).rowcount for statement, first in others
        )
        self._begin_meta_at(step)
        if removed:
            self._begin_generation_at(step)
        return gone

    def _cut_steps(self, step: int) -> Stretch:
        """Remove batches and curves from ``step`` on; give how many, with their checksums."""
        cut = {}
        first_block = step - rows.CURVE_BLOCK + 1
        for name, key, first in (("steps", "step", step), ("curves", "first_step", first_block)):
            condition = f"FROM {name} WHERE {key} >= ?"
            cut[name] = self._connection.execute(
                f"SELECT count(*), coalesce(sum(crc), 0) {condition}", (first,)
            ).fetchone()
            self._connection.execute(f"DELETE {condition}", (first,))
        return Stretch(cut["steps"][0], cut["curves"][0], cut["steps"][1] + cut["curves"][1])

    def _begin_generation_at(self, step: int) -> None:
        """Let readers know that rows were cut: what they read before may not fit what they read next."""
        query = "SELECT coalesce(max(CAST(value AS INTEGER)), 0) FROM meta WHERE key = ?"
        newest: int = self._connection.execute(query, (rows.GENERATION,)).fetchone()[0]
        row = META.sealed((self._next_number("meta"), step, rows.GENERATION, str(newest + 1)))
        self._connection.execute(META.insert_sql, row)

    def _counted_anew(self, long: Stretch) -> dict[str, int]:
        """Give the tally of the short tables as they are now, and of the two long ones as ``long`` says."""
        tally = dict(_NEW_TALLY) | {"steps": long.steps, "curves": long.curves}
        tally["checksums"] = long.checksums
        for table in COUNTED:
            if table != STEPS:
                query = f"SELECT count(*), coalesce(sum(crc), 0) FROM {table.name}"
                tally[table.name], checksums = self._connection.execute(query).fetchone()
                tally["checksums"] += checksums
        return tally

    def close(self) -> None:
        """Write what waits and close the file; a second call does nothing.

        Raises:
            LedgerError: Rows could not be written; says how many. The file is closed all the same.
        """
        with self._changed:
            if self._closing:
                return
            self._failure = None
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        # A plain single file is easier to copy, and to read from a folder that is read-only. Not
        # possible while someone reads: then the WAL stays, which is as good.
        with contextlib.suppress(sqlite3.Error):
            self._connection.execute("PRAGMA busy_timeout = 100")
            self._connection.execute("PRAGMA journal_mode = DELETE")
        self._connection.close()
        with self._changed:
            self._raise_failure()

    def _append(self, entry: _Entry) -> None:
        with self._changed:
            if self._closing:
                raise self._closed()
            self._waiting.append(entry)
            self._accepted += 1
            if len(self._waiting) in (1, GROUP_ROWS):
                self._changed.notify_all()
            self._raise_failure()

    def _raise_failure(self) -> None:
        """Tell of a failure with the number of rows that wait now. Called with the lock held."""
        if self._failure is not None:
            raise LedgerError(
                f"{self._failure.what}; {len(self._waiting)} row(s) are not on disk",
                subject=self._failure.subject,
                hint=self._failure.hint,
            ) from self._failure

    def _open(self, meta: Mapping[str, str | float]) -> sqlite3.Connection:
        fresh = self._fresh()
        verified = Stretch()
        if not fresh:
            self._all, verified = _verify(self.path)
        with self._naming_failures():
            connection = sqlite3.connect(
                self.path, timeout=30.0, isolation_level=None, check_same_thread=False
            )
            try:
                self._connection = connection
                guard(connection)
                connection.execute("PRAGMA synchronous = FULL")
                # macOS: past the cache of the drive; elsewhere these two do nothing.
                connection.execute("PRAGMA fullfsync = ON")
                connection.execute("PRAGMA checkpoint_fullfsync = ON")
                if fresh:
                    self._create()
                self._choose_journal()
                self._inode = self.path.stat().st_ino
                row = connection.execute(TALLY.select_sql).fetchone()
                self._tally = dict(zip(TALLY.columns[1:], row[1:-1], strict=True))
                self._block = self._unpacked_steps()
                with _Transaction(connection):
                    self._add_meta(meta)
                    connection.execute(
                        VERIFIED.create_sql.replace("TABLE", "TABLE IF NOT EXISTS", 1)
                    )
                    self._write_verified(verified)
                self._verified, self._soon_verified = verified, self._all
            except BaseException:
                connection.close()
                raise
        return connection

    def _fresh(self) -> bool:
        """Whether there is nothing yet; a pipe or a device in its place would hang SQLite for ever."""
        with self._naming_failures():
            refuse_odd_companions(self.path)
            if not self.path.exists():
                return True
            if not self.path.is_file():
                raise OSError(errno.EINVAL, "it is not a regular file")
            return self.path.stat().st_size == 0

    def _choose_journal(self) -> None:
        """A write-ahead log, or where the memory that it shares does not reach, a rollback journal."""
        run = self._connection.execute
        kind = network_file_system(self.path.parent)
        if kind:
            # Exclusive until then: the shared memory of a log that a copied run may have cannot be used here.
            run("PRAGMA locking_mode = EXCLUSIVE")
            run("PRAGMA journal_mode = DELETE")
            run("PRAGMA locking_mode = NORMAL")
            run("SELECT count(*) FROM tally").fetchone()  # the mode changes with the next access
            self.notice = (
                f"The run folder lies on a network share ({kind}): its ledger is written with a rollback "
                "journal, which is slower than on a local disk but as safe."
            )
        else:
            run("PRAGMA journal_mode = WAL")

    def _create(self) -> None:
        with _Transaction(self._connection):
            for table in (*COUNTED, TALLY):
                self._connection.execute(table.create_sql)
            self._connection.execute(rows.CURVES_SQL)
            self._write_tally(_NEW_TALLY)
            self._connection.execute(f"PRAGMA application_id = {rows.APPLICATION_ID}")
            self._connection.execute(f"PRAGMA user_version = {rows.SCHEMA_VERSION}")

    def _add_meta(self, meta: Mapping[str, str | float]) -> None:
        found = self._connection.execute("SELECT key, value FROM meta ORDER BY id")
        known = dict(found.fetchall())
        from_step = self._tally["steps"] if known else 0
        for key, value in meta.items():
            if known.get(key) != str(value):
                row = META.sealed((self._tally["meta"] + 1, from_step, key, str(value)))
                self._connection.execute(META.insert_sql, row)
                _count(self._tally, META.name, [row])
        self._write_tally(self._tally)

    def _begin_meta_at(self, step: int) -> None:
        """Let facts that were to hold from a later batch on hold from ``step`` on."""
        later = self._connection.execute(
            f"{META.select_sql} WHERE from_step > ? ORDER BY id", (step,)
        ).fetchall()
        self._connection.execute("DELETE FROM meta WHERE from_step > ?", (step,))
        self._connection.executemany(
            META.insert_sql, [META.sealed((number, step, *rest)) for number, _, *rest, _ in later]
        )

    def _unpacked_steps(self) -> list[StepRecord]:
        """The newest batches that no full row of ``curves`` covers yet."""
        newest = self._connection.execute(
            "SELECT first_step + rows FROM curves ORDER BY first_step DESC LIMIT 1"
        ).fetchone()
        found = self._connection.execute(
            f"{STEPS.select_sql} WHERE step >= ? ORDER BY step", newest or (0,)
        )
        return [STEP_ROWS.record(row) for row in found]

    def _write_groups(self) -> None:
        """The writer thread: until closed, write what waits whenever a group is due."""
        while True:
            with self._changed:
                self._changed.wait_for(self._due)
                if not self._closing and not self._flushing and len(self._waiting) < GROUP_ROWS:
                    self._changed.wait_for(
                        lambda: self._closing or self._flushing or len(self._waiting) >= GROUP_ROWS,
                        GROUP_S,
                    )
                group = list(self._waiting)
                closing = self._closing
            failure = self._try_to_write(group)
            with self._changed:
                if failure is None:
                    del self._waiting[: len(group)]
                    self._written += len(group)
                else:
                    self._failure = failure
                self._changed.notify_all()
                if closing:
                    return

    def _due(self) -> bool:
        return self._closing or (bool(self._waiting) and self._failure is None)

    def _try_to_write(self, group: list[_Entry]) -> LedgerError | None:
        if not group:
            return None
        try:
            with self._database_lock, self._naming_failures():
                self._check_place()
                self._write(group)
        except LedgerError as failure:
            return failure
        return None

    def _write(self, group: list[_Entry]) -> None:
        """Write ``group`` in one transaction; after a failure nothing of it is there."""
        tally = dict(self._tally)
        batches = [entry for entry in group if isinstance(entry, StepRecord)]
        block = self._block + batches
        with _Transaction(self._connection):
            sealed = [STEPS.sealed(STEP_ROWS.row(record)) for record in batches]
            self._connection.executemany(STEPS.insert_sql, sealed)
            curves: list[Row] = []
            while len(block) >= rows.CURVE_BLOCK:
                curves.append(self._write_block(block[: rows.CURVE_BLOCK]))
                del block[: rows.CURVE_BLOCK]
            added = _count(tally, STEPS.name, sealed) + _count(tally, "curves", curves)
            everything = self._all + Stretch(len(sealed), len(curves), added)
            due = everything.steps - self._soon_verified.steps >= RECHECKED
            if due:
                self._write_verified(self._soon_verified)
            for entry in group:
                if not isinstance(entry, StepRecord):
                    self._write_other(entry, tally)
            self._write_tally(tally)
        if due:
            self._verified, self._soon_verified = self._soon_verified, everything
        self._all = everything
        self._tally = tally
        self._block = block

    def _write_block(self, records: list[StepRecord]) -> Row:
        data = pack(columns_of(records))
        first, count = records[0].step, len(records)
        row = (first, count, data, rows.block_checksum(first, count, data))
        self._connection.execute("INSERT INTO curves VALUES (?, ?, ?, ?)", row)
        return row

    def _write_other(
        self, entry: EpochRecord | RunEventRecord | tuple[int, Evaluation], tally: dict[str, int]
    ) -> None:
        row: Row
        if isinstance(entry, EpochRecord):
            table, row = EPOCHS, EPOCH_ROWS.row(entry)
        elif isinstance(entry, RunEventRecord):
            number = self._next_number("events")
            table, row = EVENTS, EVENT_ROWS.row(entry, number)
        else:
            number = self._next_number("evaluations")
            table, row = EVALUATIONS, rows.evaluation_row(number, *entry)
        sealed = table.sealed(row)
        self._connection.execute(table.insert_sql, sealed)
        _count(tally, table.name, [sealed])

    def _next_number(self, table: str) -> int:
        found: int = self._connection.execute(
            f"SELECT coalesce(max(id), 0) + 1 FROM {table}"
        ).fetchone()[0]
        return found

    def _write_tally(self, counts: Mapping[str, int]) -> None:
        row = TALLY.sealed((1, *(counts[name] for name in TALLY.columns[1:])))
        self._connection.execute(TALLY.insert_sql.replace("INSERT", "INSERT OR REPLACE", 1), row)

    def _write_verified(self, stretch: Stretch) -> None:
        row = VERIFIED.sealed((1, stretch.steps, stretch.curves, stretch.checksums))
        self._connection.execute(VERIFIED.insert_sql.replace("INSERT", "INSERT OR REPLACE", 1), row)

    def _closed(self) -> LedgerError:
        return LedgerError(
            "The ledger is closed", subject=str(self.path), hint="Open the run again to go on."
        )

    @contextlib.contextmanager
    def _naming_failures(self) -> Iterator[None]:
        """Turn whatever goes wrong with the file into a LedgerError."""
        try:
            yield
        except LedgerError:
            raise
        except Exception as error:
            raise _write_failure(self.path, error) from error

    def _check_place(self) -> None:
        """A deleted file would take rows without complaint until it is closed: look for it by name."""
        if self.path.stat().st_ino != self._inode:
            raise FileNotFoundError(f"another file is now at {os.fspath(self.path)}")


def _count(tally: dict[str, int], table: str, sealed: list[Row]) -> int:
    """Add rows, checksum last, to a tally; give the sum of their checksums."""
    checksums: int = sum(row[-1] for row in sealed)
    tally[table] += len(sealed)
    tally["checksums"] += checksums
    return checksums


def _verify(path: Path) -> tuple[Stretch, Stretch]:
    """Verify what can have changed; give what is known to be whole, and that without the newest batches."""
    with LedgerReader(path) as reader:
        known = reader.verified()
        if known.steps:
            with contextlib.suppress(LedgerError):
                return reader.verify_since(known, RECHECKED)
            # What is wrong may be the mark alone: only all of the ledger can tell.
        return reader.verify(RECHECKED)


class _Transaction:
    """BEGIN IMMEDIATE ... COMMIT, or ROLLBACK when the block or the commit fails."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._connection.execute("COMMIT")
        except BaseException:
            kind = BaseException
            raise
        finally:
            if kind is not None and self._connection.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")


def _write_failure(path: Path, error: Exception) -> LedgerError:
    name = str(getattr(error, "sqlite_errorname", ""))
    if isinstance(error, FileNotFoundError) or not path.parent.is_dir():
        what, hint = "The run folder is gone", "Put it back, or stop the run."
    elif name == "SQLITE_FULL":
        what, hint = "The disk is full", "Free space on the disk of the run, then resume."
    elif name.startswith("SQLITE_READONLY") or isinstance(error, PermissionError):
        what, hint = "The ledger is read-only", "Make the run folder writable, then resume."
    elif name.startswith("SQLITE_CONSTRAINT"):
        what = f"A row contradicts one that the ledger has ({error})"
        hint = "Stop the run and resume it from its checkpoint."
    elif name in ("SQLITE_BUSY", "SQLITE_LOCKED"):
        what, hint = "Another program is writing to the ledger", "Close it there, then resume."
    else:
        what = f"The ledger cannot be written ({error})"
        hint = "Check the disk of the run, then resume."
    return LedgerError(what, subject=str(path), hint=hint)
