"""The folder of one run: what lies where in it, who holds it, and what it says about itself.

::

    runs/<name>/
        run.json         RunInfo: state, corpus, results; replaced atomically
        config.toml      the settings (core.config)
        ledger.sqlite    every batch (signscope.ledger)
        log.txt          the lines that the run printed
        checkpoints/     core.training.checkpoint
        .lock            held by whoever trains; .lock.json beside it says who

Errors are RunFolderError. All functions may be called from any thread.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

import filelock
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from signscope.errors import RunFolderError
from signscope.run_state import RunState

SCHEMA_VERSION = 1
"""Version of run.json that this program writes, and the only one that it reads."""

INFO_FILE = "run.json"
_CHECKSUM = "sha256"  # of the other values: without it a flipped digit would be another WER
_ACTIVE = {state.value for state in RunState if state.active}
_LOCK_WAIT_S = 2.0  # a catalogue that looks whether a run is alive holds the lock for microseconds
_LEFTOVER_S = 3600.0
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)


class CorpusInfo(BaseModel):
    """The corpus that a run was trained on, as it was then."""

    model_config = ConfigDict(extra="forbid")

    name: str = ""
    path: str = ""
    fingerprint: str = Field("", description="Hex sha256 of the corpus' content.")
    synthetic: bool = False


class RunInfo(BaseModel):
    """What run.json holds. WERs are shares (0.25 is 25 %); None means not measured (yet)."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    schema_version: Literal[1] = 1
    name: str
    state: Literal[
        "idle", "running", "pausing", "paused", "stopping", "finished", "stopped", "failed"
    ] = "idle"
    device: str = ""
    corpus: CorpusInfo = CorpusInfo()
    versions: dict[str, str] = Field(default_factory=dict)
    created: float = Field(default_factory=time.time, description="Seconds since the Unix epoch.")
    note: str = ""
    error: str = Field("", description="Why the run failed, as it was told to the person.")
    best_wer: float | None = None
    test_wer: float | None = None
    epochs: int = Field(0, ge=0, description="Finished epochs.")
    total_epochs: int = Field(0, ge=0)
    batches: int = Field(0, ge=0, description="Finished batches, applied or not.")
    duration_s: float = Field(0.0, ge=0, description="Seconds spent training, pauses not counted.")


class RunFolder:
    """One run folder; holds no open file. Make it with :meth:`create` or :meth:`open`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, runs_dir: Path, name: str, **info: Any) -> Self:
        """Make a new folder for a run called ``name`` in ``runs_dir``, which is made if needed.

        The folder's name is made safe for every file system and unique; the name shown to people
        stays as given. ``info`` are further fields of :class:`RunInfo`.

        Raises:
            RunFolderError: The folder cannot be made or written.
        """
        folder = cls(_new_directory(runs_dir, safe_name(name)))
        folder.write_info(RunInfo(name=name.strip() or folder.path.name, **info))
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

    def read_info(self) -> RunInfo:
        """Read run.json.

        Raises:
            RunFolderError: It is missing, damaged, or of a version that this program does not know.
        """
        try:
            values = json.loads(self.info_path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise RunFolderError(
                f"This is not a run folder, it has no {INFO_FILE}",
                subject=str(self.path),
                hint="Choose a folder that SignScope made for a run.",
            ) from error
        except OSError as error:
            raise RunFolderError(
                f"The run folder cannot be read ({error.strerror})",
                subject=str(self.info_path),
                hint="Check that the folder still exists and that you may read it.",
            ) from error
        except (ValueError, RecursionError) as error:
            raise self._damaged(str(error)) from error
        checksum = values.pop(_CHECKSUM, None) if isinstance(values, dict) else None
        version = values.get("schema_version") if isinstance(values, dict) else None
        if isinstance(version, int) and version != SCHEMA_VERSION:
            raise RunFolderError(
                f"The run folder has format {version}, this program reads format {SCHEMA_VERSION}",
                subject=str(self.path),
                hint="Open it with the version of SignScope that made it.",
            )
        try:
            info = RunInfo.model_validate(values)
        except ValidationError as error:
            faults = "; ".join(
                f"{'.'.join(map(str, fault['loc'])) or 'content'}: {fault['msg']}"
                for fault in error.errors()
            )
            raise self._damaged(faults) from error
        if checksum != _checksum(values):
            raise self._damaged(
                "its checksum does not match, a value was changed outside SignScope"
            )
        return info

    def write_info(self, info: RunInfo) -> None:
        """Replace run.json atomically; raises RunFolderError when that is not possible."""
        values = info.model_dump(mode="json")
        values[_CHECKSUM] = _checksum(values)
        text = json.dumps(values, indent=2, ensure_ascii=False)
        write_atomically(self.info_path, text.encode() + b"\n")

    def update_info(self, **changes: Any) -> RunInfo:
        """Replace the named fields of run.json and return all of it.

        Only the holder of the lock may change the fields of training; name and note may be changed
        by anyone, and of two changes at the same moment the later wins.
        """
        values = self.read_info().model_dump() | changes
        info = RunInfo.model_validate(values)
        self.write_info(info)
        return info

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
        if info.state in _ACTIVE and not self.in_use():
            return "interrupted"
        return info.state

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold this folder for training until the context ends, or until the process dies.

        Raises:
            RunFolderError: Another holder has it (named with process and computer), or the folder
                cannot be written.
        """
        lock = filelock.FileLock(self.path / ".lock", timeout=_LOCK_WAIT_S, thread_local=False)
        if not self.path.is_dir():
            raise RunFolderError(
                "The run folder is gone", subject=str(self.path), hint="Choose another run."
            )
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
            holder = json.loads(self._holder_path.read_text(encoding="utf-8"))
            return f"process {int(holder['pid'])} on {holder['host']!s}"
        except (OSError, ValueError, TypeError, KeyError):
            return "another program"

    def _damaged(self, why: str) -> RunFolderError:
        return RunFolderError(
            f"{INFO_FILE} is damaged ({why[:300]})",
            subject=str(self.path),
            hint="Restore the file from a backup. The ledger beside it can still be exported.",
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


def _checksum(values: Any) -> str:
    """SHA-256 of JSON values, whatever their order and the white space between them."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``path`` so that a crash or a full disk leaves either the old content or the new one.

    Raises:
        RunFolderError: The disk is full, the folder is gone or read-only; the old content is whole.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{time.monotonic_ns()}.tmp")
    with _telling(path, "The file cannot be written"):
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        _sync_directory(path.parent)


def _sync_directory(folder: Path) -> None:
    """Make a rename in ``folder`` survive a power cut, where the system has a way to ask for it."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
    except OSError as error:
        raise RunFolderError(
            f"{what} ({error.strerror or error})",
            subject=str(subject),
            hint="Check that the disk has room and that the folder exists and is not read-only.",
        ) from error
