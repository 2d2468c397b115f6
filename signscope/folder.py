"""The folder of one run: what lies where in it, who holds it, and what it says about itself.

::

    runs/<name>/
        run.json         RunInfo: state, corpus, results; written by whoever trains
        about.json       About: name, note and tags; written by whoever looks at the run
        config.toml      the settings (core.config)
        ledger.sqlite    every batch (signscope.ledger)
        log.txt          the lines that the run printed
        checkpoints/     core.training.checkpoint
        .lock            held by whoever trains; .lock.json beside it says who
        .info.lock       held for the moment in which run.json or about.json is replaced

Somebody else may have made the folder: nothing in it is opened that is not a regular file. Errors are
RunFolderError. All functions may be called from any thread.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import filelock

from signscope import files
from signscope.errors import RunFolderError
from signscope.run_info import (
    ACTIVE,
    INFO_VERSION,
    About,
    CorpusInfo,
    RunInfo,
    UnknownVersionError,
    about_bytes,
    info_bytes,
    parse_about,
    parse_info,
)

__all__ = [
    "ABOUT_FILE",
    "INFO_FILE",
    "About",
    "CorpusInfo",
    "RunFolder",
    "RunInfo",
    "default_name",
    "safe_name",
    "write_atomically",
]

INFO_FILE = "run.json"
ABOUT_FILE = "about.json"
_MOST_BYTES = 16 * 2**20  # of run.json and about.json
_LOCK_WAIT_S = 2.0  # a catalogue that looks whether a run is alive holds the lock for microseconds
_UPDATE_WAIT_S = 20.0  # an update takes milliseconds, on a slow network share longer
_LEFTOVER_S = 3600.0
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)


class RunFolder:
    """One run folder; holds no open file. Make it with :meth:`create` or :meth:`open`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, runs_dir: Path, name: str, note: str = "", **info: Any) -> Self:
        """Make a new folder for a run called ``name`` in ``runs_dir``, which is made if needed.

        The folder's name is made safe for every file system and unique; the name shown to people
        stays as given. ``info`` are fields of :class:`RunInfo`.

        Raises:
            RunFolderError: The folder cannot be made or written.
        """
        folder = cls(_new_directory(runs_dir, safe_name(name)))
        about = About(name.strip().replace("\0", "") or folder.path.name, note)
        write_atomically(folder.about_path, about_bytes(about))
        write_atomically(folder.info_path, info_bytes(RunInfo(**info)))
        with _telling(folder.path, "The run folder cannot be written"):
            folder.checkpoints_dir.mkdir()
        return folder

    @classmethod
    def open(cls, path: Path) -> Self:
        """Give the existing run folder at ``path``; raises RunFolderError when it is none."""
        folder = cls(path)
        folder.read_info()
        return folder

    @property
    def info_path(self) -> Path:
        """Where the RunInfo is."""
        return self.path / INFO_FILE

    @property
    def about_path(self) -> Path:
        """Where name, note and tags are."""
        return self.path / ABOUT_FILE

    @property
    def config_path(self) -> Path:
        """Where the settings are."""
        return self.path / "config.toml"

    @property
    def ledger_path(self) -> Path:
        """Where the ledger is."""
        return self.path / "ledger.sqlite"

    @property
    def checkpoints_dir(self) -> Path:
        """Where the checkpoints are."""
        return self.path / "checkpoints"

    @property
    def log_path(self) -> Path:
        """Where the printed lines are."""
        return self.path / "log.txt"

    @property
    def info(self) -> RunInfo:
        """The content of run.json, read anew each time; see :meth:`read_info`."""
        return self.read_info()

    @property
    def about(self) -> About:
        """Name, note and tags, read anew each time; see :meth:`read_about`."""
        return self.read_about()

    def read_info(self) -> RunInfo:
        """Read run.json.

        Raises:
            RunFolderError: It is missing, damaged, not a regular file, or of a version that this program
                does not know.
        """
        return self._read_info()[0]

    def read_about(self) -> About:
        """Read name, note and tags; runs of earlier versions have the first two in run.json.

        A run whose about.json was lost goes by the name of its folder.

        Raises:
            RunFolderError: about.json or run.json is damaged or not a regular file.
        """
        try:
            return parse_about(files.read_regular(self.about_path, limit=_MOST_BYTES))
        except FileNotFoundError:
            told = self._read_info()[1]
            return told or About(name=self.path.name)
        except OSError as error:
            raise self._unreadable(self.about_path, error) from error
        except ValueError as error:
            raise self._damaged(
                ABOUT_FILE,
                error,
                "Remove the file: the run is whole without it, only its name, note and tags are lost.",
            ) from error

    def update_info(self, **changes: Any) -> RunInfo:
        """Replace the named fields of run.json and return all of it; only the holder of the lock may.

        Raises:
            RunFolderError: run.json cannot be read or written.
            ValueError: A value is not of its field's type or outside its bounds.
        """
        with self._updating():
            info, old_about = self._read_info()
            info = dataclasses.replace(info, **changes)
            if old_about is not None and not self.about_path.exists():
                write_atomically(self.about_path, about_bytes(old_about))
            write_atomically(self.info_path, info_bytes(info))
        return info

    def update_about(self, **changes: Any) -> About:
        """Replace name, note or tags; anyone may, at any time, and of two changes the later wins.

        Raises:
            RunFolderError: about.json cannot be read or written, or a text holds what no file can hold.
        """
        with self._updating():
            try:
                about = dataclasses.replace(self.read_about(), **changes)
            except ValueError as error:
                raise RunFolderError(
                    f"What you typed cannot be kept ({error})",
                    subject=str(self.path),
                    hint="Type it again; pasted text may hold characters that cannot be seen.",
                ) from error
            write_atomically(self.about_path, about_bytes(about))
        return about

    def _read_info(self) -> tuple[RunInfo, About | None]:
        try:
            return parse_info(files.read_regular(self.info_path, limit=_MOST_BYTES))
        except FileNotFoundError as error:
            raise RunFolderError(
                f"This is not a run folder, it has no {INFO_FILE}",
                subject=str(self.path),
                hint="Choose a folder that SignScope made for a run.",
            ) from error
        except OSError as error:
            raise self._unreadable(self.info_path, error) from error
        except UnknownVersionError as error:
            raise RunFolderError(
                f"The run folder has {error}, this program reads format {INFO_VERSION} and older",
                subject=str(self.path),
                hint="Open it with the version of SignScope that made it.",
            ) from error
        except ValueError as error:
            raise self._damaged(
                INFO_FILE,
                error,
                "Restore the file from a backup. The ledger beside it can still be exported.",
            ) from error

    @contextlib.contextmanager
    def _updating(self) -> Iterator[None]:
        """Hold off every other change of run.json and about.json: reading and replacing is one step."""
        lock = self._new_lock(".info.lock", _UPDATE_WAIT_S)
        try:
            lock.acquire()
        except (filelock.Timeout, OSError) as error:
            reason = "another program holds it" if isinstance(error, filelock.Timeout) else error
            raise RunFolderError(
                f"The run folder cannot be changed ({reason})",
                subject=str(self.path),
                hint="Check that the folder is not read-only and that no program has stopped in it.",
            ) from error
        try:
            yield
        finally:
            lock.release()

    def _new_lock(self, name: str, wait_s: float) -> filelock.BaseFileLock:
        if not self.path.is_dir():  # filelock would make it anew
            raise RunFolderError(
                "The run folder is gone", subject=str(self.path), hint="Choose another run."
            )
        return filelock.FileLock(self.path / name, timeout=wait_s, thread_local=False)

    def in_use(self) -> bool:
        """Whether some process holds the lock now, that is: trains in this folder."""
        if not (self.path / ".lock").exists():
            return False
        lock = filelock.FileLock(self.path / ".lock", timeout=0)
        try:
            with lock:
                return False
        except filelock.Timeout:
            return True
        except OSError:  # a folder that cannot be written cannot be trained in
            return False

    def shown_state(self) -> str:
        """The state for people: a run that says it is running but that nobody holds was interrupted."""
        info = self.read_info()
        if info.state in ACTIVE and not self.in_use():
            return "interrupted"
        return info.state

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold this folder for training until the context ends, or until the process dies.

        Raises:
            RunFolderError: Another holder has it (named with process and computer), or the folder
                cannot be written.
        """
        lock = self._new_lock(".lock", _LOCK_WAIT_S)
        try:
            lock.acquire()
        except filelock.Timeout as error:
            raise RunFolderError(
                f"The run is in use by {self._holder()}",
                subject=str(self.path),
                hint="It can be looked at, but trained by one program only. Close it there first.",
            ) from error
        except OSError as error:
            raise RunFolderError(
                f"The run folder cannot be locked ({error.strerror or error})",
                subject=str(self.path),
                hint="Check that the folder exists, is not read-only, and lies on a disk with locks.",
            ) from error
        try:
            holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}
            write_atomically(self._holder_path, json.dumps(holder).encode())
            self._sweep()
            yield
        finally:
            with contextlib.suppress(OSError):  # the whole folder may be gone
                self._holder_path.unlink(missing_ok=True)
            lock.release()

    def _sweep(self) -> None:
        """Remove what write_atomically() left when its process was killed; no rename takes an hour."""
        with contextlib.suppress(OSError):
            for path in self.path.glob(".*.tmp"):
                if time.time() - path.stat().st_mtime > _LEFTOVER_S:
                    path.unlink(missing_ok=True)

    @property
    def _holder_path(self) -> Path:
        return self.path / ".lock.json"

    def _holder(self) -> str:
        try:
            holder = json.loads(files.read_regular(self._holder_path, limit=_MOST_BYTES))
            return f"process {int(holder['pid'])} on {holder['host']!s}"
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return "another program"

    def _damaged(self, name: str, why: ValueError, hint: str) -> RunFolderError:
        return RunFolderError(
            f"{name} is damaged ({str(why)[:300]})", subject=str(self.path), hint=hint
        )

    def _unreadable(self, path: Path, error: OSError) -> RunFolderError:
        return RunFolderError(
            f"The run folder cannot be read ({error.strerror or error})",
            subject=str(path),
            hint="Check that the folder still exists, that you may read it and who put this file there.",
        )


def safe_name(name: str) -> str:
    """Make ``name`` a folder name that Linux, macOS and Windows all take; never empty."""
    kept = re.sub(r"[^\w\-. ]+", "-", name.strip())[:80].strip(" .-")
    if not kept:
        return "run"
    return f"run-{kept}" if _RESERVED.fullmatch(kept) else kept


def default_name(corpus_name: str, created: float) -> str:
    """Name a run by its date, time (local) and corpus: ``2026-03-01 14.05 demo``."""
    moment = datetime.fromtimestamp(created, UTC).astimezone()
    return f"{moment:%Y-%m-%d %H.%M} {corpus_name}".strip()


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``path`` as :func:`signscope.files.write_atomically` does.

    Raises:
        RunFolderError: The disk is full, the folder is gone or read-only; the old content is whole.
    """
    with _telling(path, "The file cannot be written"):
        files.write_atomically(path, content)


def _new_directory(parent: Path, name: str) -> Path:
    with _telling(parent / name, "The run folder cannot be made"):
        parent.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            path = parent / (name if number == 1 else f"{name}-{number}")
            try:
                path.mkdir()
            except FileExistsError:
                number += 1
            else:
                return path


@contextlib.contextmanager
def _telling(subject: Path, what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # a path with a NUL in it is a ValueError
        raise RunFolderError(
            f"{what} ({getattr(error, 'strerror', None) or error})",
            subject=str(subject),
            hint="Check that the disk has room and that the folder exists and is not read-only.",
        ) from error
