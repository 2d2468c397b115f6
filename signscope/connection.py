"""Opening the file of a ledger, which somebody else may have made: nothing in it is run.

A database can bring views and triggers of its own, which would run within our statements, so a ledger is
refused unless its schema is, word for word, the one that SignScope makes. Errors are LedgerError.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path

from signscope import schema
from signscope.errors import LedgerError

_COMPANIONS = ("-wal", "-shm", "-journal")
_OURS = {
    **{table.name: table.create_sql for table in (*schema.COUNTED, schema.TALLY, schema.VERIFIED)},
    "curves": schema.CURVES_SQL,
}


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Open a ledger for reading only.

    Raises:
        LedgerError: It is missing, no regular file, not a ledger, of an unknown format, or holds what
            SignScope did not make.
    """
    if not path.is_file():
        raise LedgerError(
            "The run has no ledger",
            subject=str(path),
            hint="Choose a run that has trained at least one batch, or look for the moved file.",
        )
    refuse_odd_companions(path)
    address = path.resolve().as_uri()
    try:
        connection = _open_whole(address)
    except sqlite3.Error as error:
        # A ledger that still has its WAL beside it needs a shared-memory file, which a folder that
        # is read-only (a disc, another person's) cannot get; without a WAL the file can be read as is.
        wal = path.with_name(path.name + "-wal")
        if error_name(error) not in ("SQLITE_CANTOPEN", "SQLITE_READONLY_CANTINIT") or wal.exists():
            raise unreadable(path, error) from error
        try:
            connection = _open(f"{address}?mode=ro&immutable=1")
        except sqlite3.Error as again:
            raise unreadable(path, again) from again
    try:
        guard(connection)
        _check_format(connection, path)
        _check_schema(connection, path)
    except (sqlite3.Error, ValueError) as error:  # ValueError: a text that is not UTF-8
        connection.close()
        raise damaged(path, str(error)) from error
    except BaseException:
        connection.close()
        raise
    return connection


def guard(connection: sqlite3.Connection) -> None:
    """Let nothing run that the file itself brings along: no function within its schema, no trigger, no view."""
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.set_authorizer(_authorize)


def refuse_odd_companions(path: Path) -> None:
    """Raise LedgerError when a file that SQLite keeps beside a ledger is a link, pipe, folder or device."""
    for suffix in _COMPANIONS:
        companion = path.with_name(path.name + suffix)
        try:
            mode = companion.lstat().st_mode
        except OSError:
            continue
        if not stat.S_ISREG(mode):
            raise LedgerError(
                "The ledger cannot be read, a file beside it is not a regular file",
                subject=str(companion),
                hint="SignScope did not make it: look who put it there, and remove it.",
            )


def damaged(path: Path, why: str) -> LedgerError:
    """Give the error for a ledger that does not hold what was written."""
    return LedgerError(
        f"The ledger is damaged: {why}",
        subject=str(path),
        hint="Restore it from a backup, or start the run anew. Its checkpoints can still be used.",
    )


def unreadable(path: Path, error: sqlite3.Error) -> LedgerError:
    """Give the error for a ledger that the system did not let us read."""
    return LedgerError(
        f"The ledger cannot be read ({error})",
        subject=str(path),
        hint="Check that the file is whole, that you may read it, and that its disk is there.",
    )


def error_name(error: sqlite3.Error) -> str:
    """Give SQLite's name of an error, such as SQLITE_BUSY; "" for one of Python's own."""
    return getattr(error, "sqlite_errorname", "")


def _authorize(
    action: int, _first: str | None, _second: str | None, _database: str | None, source: str | None
) -> int:
    # ``source`` is the trigger or the view that wants it; no statement of ours comes from one.
    if source is not None or action == sqlite3.SQLITE_ATTACH:
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK


def _check_format(connection: sqlite3.Connection, path: Path) -> None:
    if connection.execute("PRAGMA application_id").fetchone()[0] != schema.APPLICATION_ID:
        raise LedgerError(
            "This file is not a ledger of SignScope",
            subject=str(path),
            hint="Choose a run folder that SignScope made.",
        )
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version != schema.SCHEMA_VERSION:
        raise LedgerError(
            f"The ledger has format {version}, this program reads format {schema.SCHEMA_VERSION}",
            subject=str(path),
            hint="Open it with the version of SignScope that made it.",
        )


def _check_schema(connection: sqlite3.Connection, path: Path) -> None:
    for kind, name, sql in connection.execute("SELECT type, name, sql FROM sqlite_master"):
        if kind == "table" and _OURS.get(name) == sql:
            continue
        raise LedgerError(
            f"The ledger holds a {kind} that SignScope did not make ({str(name)[:80]!r})",
            subject=os.fspath(path),
            hint="Somebody changed the file: do not use it, restore it from a backup.",
        )


def _open_whole(address: str) -> sqlite3.Connection:
    """Open for reading, after letting SQLite undo what a killed process left half-written.

    A ledger changes between WAL and plain file when a run begins and ends; killed in that moment, it
    has a rollback journal beside it, which SQLite plays back for the first who may write.
    """
    try:
        return _open(f"{address}?mode=ro")
    except sqlite3.OperationalError as error:
        if error_name(error) != "SQLITE_READONLY_ROLLBACK":
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
