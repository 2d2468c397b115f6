"""Everything that a run consists of, read and compared with its checksums."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from core.config import load_config
from core.training.checkpoint import read_checkpoint
from signscope.errors import SignScopeError
from signscope.folder import ABOUT_FILE, INFO_FILE, RunFolder
from signscope.invariants import WATCHED, broken_invariants
from signscope.reader import LedgerReader


@dataclass(frozen=True, slots=True)
class VerifiedPart:
    """One file of a run: what was found in it, and what is wrong with it (nothing: it is whole)."""

    name: str
    found: str
    problems: tuple[str, ...] = ()


def verify_run(path: Path) -> Iterator[VerifiedPart]:
    """Read run.json, about.json, the settings, every checkpoint, and every row and curve of the ledger.

    A ledger takes about ten seconds for a million batches. A damaged part is told, and the next one read.
    """
    folder = RunFolder(path)
    yield _read(INFO_FILE, lambda: f"whole, the run is {folder.read_info().state}")
    yield _read(ABOUT_FILE, lambda: f"whole, the run is called {folder.read_about().name!r}")
    if not _watched(folder):  # a script that was watched keeps settings of its own, or none
        yield _read(folder.config_path.name, lambda: _settings(folder))
    for checkpoint in sorted(folder.checkpoints_dir.glob("*.safetensors")):
        yield _read(f"checkpoints/{checkpoint.name}", partial(_checkpoint, checkpoint))
    yield _ledger(folder)


def _read(name: str, read: Callable[[], str]) -> VerifiedPart:
    try:
        return VerifiedPart(name, read())
    except SignScopeError as error:
        return VerifiedPart(name, "", (str(error),))


def _watched(folder: RunFolder) -> bool:
    try:
        with LedgerReader(folder.ledger_path) as reader:
            return reader.meta().get("source") == WATCHED
    except SignScopeError:
        return False  # what is wrong with the ledger is told of the ledger


def _settings(folder: RunFolder) -> str:
    load_config(folder.config_path)
    return "readable; resuming compares it with the checkpoint"


def _checkpoint(path: Path) -> str:
    return f"whole, made after {read_checkpoint(path).state.step} batches"


def _ledger(folder: RunFolder) -> VerifiedPart:
    name = folder.ledger_path.name
    try:
        with LedgerReader(folder.ledger_path) as reader, reader.snapshot():
            reader.verify()
            found = f"whole, {reader.step_count()} batches, every row, curve and invariant checked"
            return VerifiedPart(name, found, tuple(broken_invariants(reader)))
    except SignScopeError as error:
        return VerifiedPart(name, "", (str(error),))
