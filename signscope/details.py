"""What stands beside the ledger of a run: a script's own figures, and the norms of its layers.

A file of its own, so that nothing in it can hold up or harm the ledger. SQLite; rows are collected and written
about once a second, in a thread of their own; what was not yet written when a process is killed is lost, the ledger's
rows are not. Layers are stored in blocks of float32, four bytes a layer and batch before compression.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from signscope.closing import Closing
from signscope.errors import LedgerError

DETAILS_FILE = "details.sqlite"
LAYER_BLOCK = 256
"""Batches in one block of layer norms."""

_WRITE_EVERY_S = 1.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS metrics (step INTEGER NOT NULL, wall_time REAL NOT NULL, name TEXT NOT NULL, value REAL);
CREATE TABLE IF NOT EXISTS layers (optimizer INTEGER NOT NULL, first INTEGER NOT NULL, steps BLOB NOT NULL,
    norms BLOB NOT NULL, PRIMARY KEY (optimizer, first));
CREATE TABLE IF NOT EXISTS layer_names (optimizer INTEGER PRIMARY KEY, names TEXT NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure of the script's own, at the update that came next. ``value`` NaN is not a number."""

    step: int
    wall_time: float  # seconds since the Unix epoch
    name: str
    value: float


class Details:
    """The writing end. Its methods cost microseconds and may be called from any thread.

    Args:
        path: The file; its folder must exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._metrics: list[Metric] = []
        self._layers: dict[int, list[tuple[int, Mapping[int, float]]]] = {}
        self._names: dict[int, tuple[str, ...]] = {}
        self._names_changed: set[int] = set()
        self._closing = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._serve, name="run details", daemon=True)
        self._thread.start()

    def metric(self, metric: Metric) -> None:
        """Add one figure."""
        with self._lock:
            self._metrics.append(metric)

    def name_layers(self, optimizer: int, names: Sequence[str]) -> None:
        """Say what the layers of an optimizer are called, in the order of its parameters."""
        with self._lock:
            self._names[optimizer] = tuple(names)
            self._names_changed.add(optimizer)

    def layers(self, step: int, optimizer: int, norms: Mapping[int, float]) -> None:
        """Add the norms of one batch, by place among the optimizer's parameters; others are NaN."""
        with self._lock:
            self._layers.setdefault(optimizer, []).append((step, norms))

    def close(self) -> None:
        """Write what is left and end the thread.

        Raises:
            LedgerError: It could not be written; the run's ledger is whole without it.
        """
        self._closing.set()
        self._thread.join()
        if self._failure is not None:
            raise LedgerError(
                f"The details of the run could not be written ({self._failure})",
                subject=str(self._path),
                hint="The run itself is kept whole; layers and own figures from here on are missing.",
            )

    def _serve(self) -> None:
        try:
            with contextlib.closing(
                sqlite3.connect(self._path, isolation_level=None)
            ) as connection:
                connection.executescript(f"PRAGMA journal_mode = TRUNCATE; {_SCHEMA}")
                while not self._closing.wait(_WRITE_EVERY_S):
                    self._write(connection, last=False)
                self._write(connection, last=True)
        except (sqlite3.Error, OSError) as error:
            self._failure = error

    def _write(self, connection: sqlite3.Connection, *, last: bool) -> None:
        with self._lock:
            metrics, self._metrics = self._metrics, []
            names = {number: self._names[number] for number in self._names_changed}
            self._names_changed.clear()
            blocks = {number: _whole(rows, last) for number, rows in self._layers.items()}
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO metrics VALUES (?, ?, ?, ?)",
            [(m.step, m.wall_time, m.name, m.value) for m in metrics],
        )
        connection.executemany(
            "INSERT OR REPLACE INTO layer_names VALUES (?, ?)",
            [(number, json.dumps(list(each))) for number, each in names.items()],
        )
        connection.executemany(
            "INSERT INTO layers VALUES (?, ?, ?, ?)",
            [_block(number, rows) for number, found in blocks.items() for rows in found],
        )
        connection.execute("COMMIT")


def _whole(
    rows: list[tuple[int, Mapping[int, float]]], last: bool
) -> list[list[tuple[int, Mapping[int, float]]]]:
    """Take whole blocks out of ``rows``; at the end also the begun one."""
    found = []
    while len(rows) >= LAYER_BLOCK or (last and rows):
        found.append(rows[:LAYER_BLOCK])
        del rows[:LAYER_BLOCK]
    return found


def _block(
    optimizer: int, rows: list[tuple[int, Mapping[int, float]]]
) -> tuple[int, int, bytes, bytes]:
    width = 1 + max((place for _, norms in rows for place in norms), default=-1)
    norms_NL = np.full((len(rows), width), np.nan, "<f4")
    for row, (_, norms) in enumerate(rows):
        for place, norm in norms.items():
            norms_NL[row, place] = norm
    steps_N = np.array([step for step, _ in rows], "<i8")
    return (
        optimizer,
        int(steps_N[0]),
        zlib.compress(steps_N.tobytes()),
        zlib.compress(norms_NL.tobytes()),
    )


@dataclass(frozen=True)
class LayerNorms:
    """Norms before clipping of the layers of one optimizer, oldest batch first."""

    steps_N: npt.NDArray[np.int64]
    norms_NL: npt.NDArray[np.float32]  # NaN where a layer had no gradient or its norm was not seen
    names: tuple[str, ...]  # L of them; "parameter 3" where nothing is known


class DetailsReader(Closing):
    """Reads the details of a run, also while they are written; a context manager.

    Raises:
        LedgerError: The file is missing or cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=10
            )
            self._connection.execute("PRAGMA trusted_schema = OFF")
        except sqlite3.Error as error:
            raise self._unreadable(error) from error

    def close(self) -> None:
        """Close the file; the reader cannot be used after it."""
        self._connection.close()

    def metrics(self) -> list[Metric]:
        """Give the script's own figures, oldest first."""
        try:
            found = self._connection.execute(
                "SELECT step, wall_time, name, value FROM metrics ORDER BY rowid"
            )
            return [
                Metric(step, at, name, np.nan if value is None else value)
                for step, at, name, value in found
            ]
        except (sqlite3.Error, ValueError) as error:
            raise self._unreadable(error) from error

    def optimizers(self) -> list[int]:
        """Give the numbers of the optimizers whose layers were measured."""
        try:
            found = self._connection.execute("SELECT optimizer FROM layer_names ORDER BY optimizer")
            return [number for (number,) in found]
        except sqlite3.Error as error:
            raise self._unreadable(error) from error

    def layers(self, optimizer: int) -> LayerNorms:
        """Give the layer norms of one optimizer; (0, L) where there are none."""
        try:
            blocks = self._connection.execute(
                "SELECT steps, norms FROM layers WHERE optimizer = ? ORDER BY first", (optimizer,)
            ).fetchall()
            told = self._connection.execute(
                "SELECT names FROM layer_names WHERE optimizer = ?", (optimizer,)
            ).fetchone()
            steps = [np.frombuffer(zlib.decompress(data), "<i8") for data, _ in blocks]
            norms = [
                np.frombuffer(zlib.decompress(data), "<f4").reshape(len(steps_N), -1)
                for steps_N, (_, data) in zip(steps, blocks, strict=True)
            ]
            names = tuple(json.loads(told[0])) if told else ()
        except (sqlite3.Error, zlib.error, ValueError, TypeError) as error:
            raise self._unreadable(error) from error
        width = max([len(names), *(block.shape[1] for block in norms)])
        names += tuple(f"parameter {place}" for place in range(len(names), width))
        wide = [np.pad(b, ((0, 0), (0, width - b.shape[1])), constant_values=np.nan) for b in norms]
        return LayerNorms(
            np.concatenate([np.empty(0, np.int64), *steps]),
            np.concatenate([np.empty((0, width), np.float32), *wide]),
            names,
        )

    def _unreadable(self, error: Exception) -> LedgerError:
        return LedgerError(
            f"The details of the run cannot be read ({error})",
            subject=str(self._path),
            hint="The run itself can be opened without them.",
        )
