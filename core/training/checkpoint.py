"""Checkpoints: everything a run needs to go on, in one safetensors file that is whole or not there.

A file holds the tensors (weights, optimizer state, moving average, states of the random number
generators) and, in its header, a JSON text with the position and a SHA-256 digest over all of it.
Nothing is ever unpickled. A file is written under a temporary name, synced and renamed; reading
checks the digest, so a truncated, damaged or edited file is refused by name. No file stays open or
mapped once it is read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import queue
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from core.errors import CheckpointError
from core.faults import faults_in
from signscope.errors import SignScopeError
from signscope.files import open_regular, remove, sync_folder, write_atomically
from signscope.records import Evaluation

SCHEMA_VERSION = 2
"""Format 1 had one LSTM module for all layers, and other names for the layers of attention."""
_NAMES_OF_FORMAT_1 = (
    (re.compile(r"encoder\.lstm\.(\w+)_l(\d+)(_reverse)?$"), r"encoder.layers.\2.\1_l0\3"),
    (re.compile(r"encoder\.layers\.(layers|norm)\."), r"encoder.\1."),
)
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
    device_name: str = ""  # of the card, or the instructions of the cpu; empty: not known
    versions: dict[str, str]


@dataclass(frozen=True, slots=True)
class BestEpoch:
    """The epoch with the lowest dev WER, a share, among those whose weights are there at ``path``."""

    epoch: int
    wer: float
    loss: float
    path: Path


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
    try:
        write_atomically(path, save(dict(checkpoint.tensors), metadata))
    except (OSError, SafetensorError, MemoryError) as error:
        raise CheckpointError(
            f"The checkpoint could not be written ({getattr(error, 'strerror', None) or error})",
            subject=str(path),
            hint="Free some space or make the folder writable, then resume the run: the checkpoints before it are whole.",
        ) from error


def read_checkpoint(path: Path) -> Checkpoint:
    """Read and verify one file.

    Raises:
        CheckpointError: It is missing, truncated, damaged, edited, of another format, or larger than memory.
    """
    try:
        with open_regular(path) as file:
            data = file.read()
        tensors = load(data)
        metadata = _metadata(data)
    except MemoryError as error:
        raise CheckpointError(
            "There is too little memory to read the checkpoint",
            subject=str(path),
            hint="Close other programs and try again.",
        ) from error
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
    if found_schema not in (1, SCHEMA_VERSION):
        raise CheckpointError(
            f"The checkpoint has format {found_schema}; this version of SignScope reads formats 1 to {SCHEMA_VERSION}",
            subject=str(path),
            hint="Resume it with the version of SignScope that made it; its ledger can still be opened and exported.",
        )
    if metadata.get(_DIGEST_KEY) != _digest(state_text, tensors):
        raise _damaged(path, "its contents do not match its digest")
    if found_schema == 1:
        tensors = {_name_since_format_1(name): tensor for name, tensor in tensors.items()}
    try:
        return Checkpoint(CheckpointState.model_validate_json(state_text), tensors)
    except ValidationError as error:
        faults = "; ".join(fault.sentence() for fault in faults_in(error, CheckpointState))
        raise _damaged(path, f"its position cannot be used: {faults}") from error


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
            remove(old)


def _path_of(folder: Path, step: int) -> Path:
    return folder / f"step-{step:010d}.safetensors"


def best_epoch(folder: Path, step: int, dev_of_epoch: Mapping[int, Evaluation]) -> BestEpoch | None:
    """Give the best epoch that had ended after ``step`` batches and whose weights are still there.

    That is the one in ``best.safetensors``, unless it ended later or cannot be read; then the best of
    those that another checkpoint happens to hold. None when there is no such epoch.

    Args:
        folder: The run's checkpoint folder.
        step: Batches after which the run goes on.
        dev_of_epoch: The dev evaluation of each epoch, from the ledger.
    """
    path = best_checkpoint(folder)
    with contextlib.suppress(CheckpointError):
        state = read_checkpoint(path).state
        if state.step <= step and state.best_wer is not None:
            loss = math.inf if state.best_loss is None else state.best_loss
            return BestEpoch(state.epoch - 1, state.best_wer, loss, path)
    found = []
    for path in list_checkpoints(folder):
        with contextlib.suppress(CheckpointError):
            state = read_checkpoint(path).state
            dev = dev_of_epoch.get(state.epoch - 1) if state.batch_idx == 0 else None
            if state.step <= step and dev is not None and not math.isnan(dev.errors.wer):
                found.append(BestEpoch(state.epoch - 1, dev.errors.wer, dev.loss, path))
    return min(found, key=lambda each: (each.wer, each.loss, each.epoch), default=None)


def go_back(folder: Path, step: int, best: BestEpoch | None, keep: int) -> None:
    """Remove what a run must not find once it goes on from ``step``, and what a kill left half done.

    Checkpoints of later steps belong to a course of the run that is about to be made again, maybe
    otherwise: resuming from one of them later would mix the two. ``best`` becomes the best checkpoint;
    with None there is none. A kill may have come before the oldest beyond ``keep`` was removed. Called
    with the run's lock held.

    Raises:
        CheckpointError: One of them cannot be removed or written.
    """
    later = [path for path in list_checkpoints(folder) if path.name > _path_of(folder, step).name]
    half_written = [*folder.glob(".*.tmp"), *folder.glob(".*.part")]  # .part: up to format 1
    try:
        for path in [*later, *half_written]:
            remove(path)
        if best is None:
            remove(best_checkpoint(folder))
        elif best.path != best_checkpoint(folder):
            chosen = read_checkpoint(best.path)
            figures = {"best_wer": best.wer, "best_loss": best.loss}
            state = chosen.state.model_copy(update=figures)
            write_checkpoint(Checkpoint(state, chosen.tensors), best_checkpoint(folder))
        for path in list_checkpoints(folder)[keep:]:
            remove(path)
        sync_folder(folder)
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


def _metadata(data: bytes) -> dict[str, str]:
    """Give the texts in the header of a safetensors file that was found well formed."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    metadata: dict[str, str] = header.get("__metadata__", {})
    return metadata


def _name_since_format_1(name: str) -> str:
    for pattern, replacement in _NAMES_OF_FORMAT_1:
        name = pattern.sub(replacement, name)
    return name


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
