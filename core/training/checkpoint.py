"""Checkpoints: everything a run needs to go on, in one safetensors file that is whole or not there.

A file holds the tensors (weights, optimizer state, moving average, states of the random number
generators) and, in its header, a JSON text with the position and a SHA-256 digest over all of it.
Nothing is ever unpickled. A file is written under a temporary name, synced and renamed; reading
checks the digest, so a truncated, damaged or edited file is refused by name.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from core.errors import CheckpointError
from signscope.errors import SignScopeError

SCHEMA_VERSION = 1
_STATE_KEY = "signscope"
_DIGEST_KEY = "sha256"
_BEST = "best.safetensors"


class CheckpointState(BaseModel):
    """Where a run stood, and what it was made with. Plain values only."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA_VERSION
    step: int = Field(ge=0)  # batches done; also the number of ledger rows that belong to it
    epoch: int = Field(ge=1)  # epoch of the next batch
    batch_idx: int = Field(ge=0)  # next batch within its epoch
    applied: int = Field(ge=0)  # updates applied: the position of the learning-rate schedule
    non_finite_streak: int = Field(ge=0)
    best_wer: float | None
    best_loss: float | None = None  # dev loss of the best epoch; decides between equal WERs
    policy: str
    config_toml: str
    corpus_fingerprint: str
    vocabulary: tuple[str, ...]
    threads: int = Field(ge=1)
    device: str
    versions: dict[str, str]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A position and the tensors that belong to it, all on the cpu."""

    state: CheckpointState
    tensors: Mapping[str, Tensor]

    def group(self, prefix: str) -> dict[str, Tensor]:
        """Give the tensors whose name starts with ``prefix.``, without it."""
        return {
            name[len(prefix) + 1 :]: tensor
            for name, tensor in self.tensors.items()
            if name.startswith(f"{prefix}.")
        }


def write_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write one file so that ``path`` is either the old one, whole, or the new one, whole.

    Raises:
        CheckpointError: The disk is full, the folder gone or read-only, or memory ran out; ``path``
            is as it was.
    """
    state = checkpoint.state.model_dump_json()
    metadata = {_STATE_KEY: state, _DIGEST_KEY: _digest(state, checkpoint.tensors)}
    temporary = path.with_name(f".{path.name}.part")
    try:
        data = save(dict(checkpoint.tensors), metadata)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except (OSError, SafetensorError, MemoryError) as error:
        with contextlib.suppress(OSError):  # the folder itself may be gone or read-only
            temporary.unlink(missing_ok=True)
        raise CheckpointError(
            f"The checkpoint could not be written ({getattr(error, 'strerror', None) or error})",
            subject=str(path),
            hint="Free some space or make the folder writable, then resume the run: the checkpoints before it are whole.",
        ) from error


def read_checkpoint(path: Path) -> Checkpoint:
    """Read and verify one file.

    Raises:
        CheckpointError: It is missing, truncated, damaged, edited, or of another format.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise CheckpointError(
            "The checkpoint is missing", subject=str(path), hint="Resume from another one."
        ) from error
    except (
        Exception
    ) as error:  # safetensors and torch raise many kinds for a header that makes no sense
        raise _damaged(path, f"it cannot be read: {error}") from error
    state_text = metadata.get(_STATE_KEY)
    if state_text is None:
        raise CheckpointError(
            "This is not a SignScope checkpoint",
            subject=str(path),
            hint="Choose a file from the checkpoints folder of a run.",
        )
    found_schema = _schema_version(path, state_text)
    if found_schema != SCHEMA_VERSION:
        raise CheckpointError(
            f"The checkpoint has format {found_schema}; this version of SignScope reads format {SCHEMA_VERSION}",
            subject=str(path),
            hint="Resume it with the version of SignScope that made it; its ledger can still be opened and exported.",
        )
    if metadata.get(_DIGEST_KEY) != _digest(state_text, tensors):
        raise _damaged(path, "its contents do not match its digest")
    try:
        return Checkpoint(CheckpointState.model_validate_json(state_text), tensors)
    except ValidationError as error:
        raise _damaged(path, f"its position is not valid: {error}") from error


class CheckpointStore:
    """The checkpoints of one run: written in a thread of its own, the last few and the best kept.

    One thread (the trainer) may call ``save``, ``wait`` and ``close``; at most one checkpoint is
    being written at a time, and a newer one waits for it.

    Args:
        folder: The run's checkpoint folder; made when missing.
        keep: How many of the latest are kept beside the best.
        before_write: Called in the writing thread before each file, to commit the ledger rows that
            the checkpoint counts on.
    """

    def __init__(
        self, folder: Path, keep: int, before_write: Callable[[], None] = lambda: None
    ) -> None:
        self._folder = folder
        self._keep = keep
        self._before_write = before_write
        self._queue: queue.Queue[tuple[Checkpoint, bool] | None] = queue.Queue(maxsize=1)
        self._unwritten_best: Checkpoint | None = None
        self._error: SignScopeError | None = None
        self._error_lock = threading.Lock()
        self._thread = threading.Thread(target=self._serve, name="checkpoint-writer")
        self._started = False

    def save(self, checkpoint: Checkpoint, *, best: bool = False) -> None:
        """Hand a checkpoint over for writing; waits only while an earlier one is being written."""
        if not self._started:
            self._thread.start()
            self._started = True
        self._queue.put((checkpoint, best))

    def wait(self) -> None:
        """Wait until everything handed over is on the disk; raises what kept it from there."""
        self._queue.join()
        error = self.take_error()
        if error is not None:
            raise error

    def close(self) -> None:
        """Write what is left and end the thread. Raises nothing; see ``take_error``."""
        if self._started:
            self._queue.put(None)
            self._thread.join()
            self._started = False

    def take_error(self) -> SignScopeError | None:
        """Give the first thing that went wrong in the writing thread since last asked."""
        with self._error_lock:
            error, self._error = self._error, None
        return error

    def _keep_error(self, error: SignScopeError) -> None:
        with self._error_lock:
            self._error = self._error or error

    def _serve(self) -> None:
        while (item := self._queue.get()) is not None:
            try:
                self._write(*item)
            except SignScopeError as error:
                self._keep_error(error)
            except Exception as error:  # a dead writer would hold up the trainer for ever
                self._keep_error(
                    CheckpointError(
                        f"The checkpoint could not be written ({type(error).__name__}: {error})",
                        subject=str(self._folder),
                        hint="Check the disk and resume the run.",
                    )
                )
            finally:
                self._queue.task_done()
        self._queue.task_done()

    def _write(self, checkpoint: Checkpoint, best: bool) -> None:
        if best:
            self._unwritten_best = checkpoint
        self._before_write()
        # The best first: killed between the two, the run resumes before this epoch's end and finds
        # it the best again. The other way round it would resume after it, with an older best.
        if self._unwritten_best is not None:  # of now, or of an epoch when the disk was full
            write_checkpoint(self._unwritten_best, best_checkpoint(self._folder))
            self._unwritten_best = None
        write_checkpoint(checkpoint, _path_of(self._folder, checkpoint.state.step))
        for old in list_checkpoints(self._folder)[self._keep :]:
            old.unlink(missing_ok=True)


def _path_of(folder: Path, step: int) -> Path:
    return folder / f"step-{step:010d}.safetensors"


def remove_after(folder: Path, step: int) -> None:
    """Remove what a run must not find once it goes on from ``step``, and what a kill left half-written.

    Checkpoints of later steps belong to a course of the run that is about to be made again, maybe
    otherwise: resuming from one of them later would mix the two. Called with the run's lock held.

    Raises:
        CheckpointError: One of them cannot be removed.
    """
    later = [path for path in list_checkpoints(folder) if path.name > _path_of(folder, step).name]
    best = best_checkpoint(folder)
    with contextlib.suppress(CheckpointError):  # a damaged one stays, to be named when it is needed
        if best.exists() and read_checkpoint(best).state.step > step:
            later.append(best)
    try:
        for path in [*later, *folder.glob(".*.part")]:
            path.unlink(missing_ok=True)
        _sync_folder(folder)
    except OSError as error:
        raise CheckpointError(
            f"An outdated checkpoint cannot be removed ({error.strerror or error})",
            subject=str(folder),
            hint="Check that the folder exists and is not read-only, then resume the run.",
        ) from error


def list_checkpoints(folder: Path) -> list[Path]:
    """Give the checkpoint files of a run, newest first, the best not among them."""
    return sorted(folder.glob("step-*.safetensors"), reverse=True)


def best_checkpoint(folder: Path) -> Path:
    """Give the path of the checkpoint with the lowest dev WER, whether it exists or not."""
    return folder / _BEST


def newest_checkpoint(folder: Path) -> Checkpoint:
    """Read the newest checkpoint of a run.

    Raises:
        CheckpointError: There is none, or the newest is damaged; then the one before it is offered
            by name, never taken in silence.
    """
    paths = list_checkpoints(folder)
    if not paths:
        raise CheckpointError(
            "The run has no checkpoint to resume from",
            subject=str(folder),
            hint="Start a new run with the same settings; its ledger can still be opened.",
        )
    try:
        return read_checkpoint(paths[0])
    except CheckpointError as error:
        raise CheckpointError(
            error.what, subject=error.subject, hint=_offer_older(paths, error)
        ) from error


def _offer_older(paths: list[Path], error: CheckpointError) -> str:
    for path in paths[1:]:
        try:
            read_checkpoint(path)
        except CheckpointError:
            continue
        return f"The one before it is whole: resume with --checkpoint {path.name}."
    return f"{error.hint} No older checkpoint of this run is whole."


def snapshot_tensors(groups: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Copy tensors to the cpu under ``group.name``, so that training may go on changing them."""
    return {
        f"{group}.{name}": tensor.detach().to("cpu", copy=True).contiguous()
        for group, tensors in groups.items()
        for name, tensor in tensors.items()
    }


def _digest(state_text: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(state_text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _schema_version(path: Path, state_text: str) -> object:
    try:
        return json.loads(state_text)["schema_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(path, "its position is not readable") from error


def _damaged(path: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"The checkpoint is damaged or was edited ({why})",
        subject=str(path),
        hint="Resume from an older one.",
    )


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot open a folder; its rename is journaled.
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
