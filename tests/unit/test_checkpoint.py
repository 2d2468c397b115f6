"""Checkpoints are whole or refused by name."""

from __future__ import annotations

import os
import random
import stat
import threading
from pathlib import Path

import pytest
import torch

from core.errors import CheckpointError
from core.training import checkpoint as checkpoints
from core.training.checkpoint import (
    Checkpoint,
    CheckpointState,
    CheckpointStore,
    list_checkpoints,
    newest_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from signscope import files
from signscope.errors import LedgerError


def make_checkpoint(step: int = 3) -> Checkpoint:
    state = CheckpointState(
        step=step,
        epoch=1,
        batch_idx=step,
        applied=step,
        non_finite_streak=0,
        best_wer=0.5,
        policy="clip",
        config_toml='name = "a"\n',
        corpus_fingerprint="f" * 64,
        vocabulary=("HOUSE", "TEA"),
        threads=2,
        device="cpu",
        versions={"torch": "2"},
    )
    generator = torch.Generator().manual_seed(step)
    tensors = {
        "model.weight": torch.randn((5, 3), generator=generator),
        "optimizer.0.step": torch.tensor(float(step)),
        "rng.cpu": torch.arange(16, dtype=torch.uint8),
        "model.empty": torch.zeros(0),
    }
    return Checkpoint(state, tensors)


def same(left: Checkpoint, right: Checkpoint) -> bool:
    return (
        left.state == right.state
        and left.tensors.keys() == right.tensors.keys()
        and all(
            torch.equal(left.tensors[name], right.tensors[name])
            and left.tensors[name].dtype == right.tensors[name].dtype
            for name in left.tensors
        )
    )


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "step.safetensors"
    write_checkpoint(make_checkpoint(), path)
    assert same(read_checkpoint(path), make_checkpoint())
    assert [file.name for file in tmp_path.iterdir()] == ["step.safetensors"]
    assert set(read_checkpoint(path).group("optimizer")) == {"0.step"}


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "step.safetensors"
    happened: list[str] = []
    sync, rename = files.sync_file, files.replace

    def syncing(descriptor: int) -> None:
        whole = os.fstat(descriptor).st_size
        happened.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else f"file {whole}")
        sync(descriptor)

    def renaming(source: Path, target: Path) -> None:
        happened.append("rename")
        rename(source, target)

    monkeypatch.setattr(files, "sync_file", syncing)
    monkeypatch.setattr(files, "replace", renaming)
    write_checkpoint(make_checkpoint(), path)
    synced = [] if os.name == "nt" else ["folder"]
    assert happened == [f"file {path.stat().st_size}", "rename", *synced]


def corrupted(data: bytes, rng: random.Random) -> bytes:
    """Flip bits, cut, insert, overwrite or repeat a stretch."""
    start = rng.randrange(len(data))
    end = min(len(data), start + rng.randint(1, 64))
    return {
        "flip": lambda: (
            data[:start] + bytes([data[start] ^ (1 << rng.randrange(8))]) + data[start + 1 :]
        ),
        "cut": lambda: data[:start],
        "insert": lambda: data[:start] + rng.randbytes(end - start) + data[start:],
        "overwrite": lambda: data[:start] + rng.randbytes(end - start) + data[end:],
        "zero": lambda: data[:start] + bytes(end - start) + data[end:],
        "repeat": lambda: data[:end] + data[start:],
    }[rng.choice(["flip", "cut", "insert", "overwrite", "zero", "repeat"])]()


def test_random_corruptions_are_refused_by_name_or_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "step.safetensors"
    write_checkpoint(make_checkpoint(), path)
    good = path.read_bytes()
    rng = random.Random(0)
    refused = 0
    for _ in range(600):
        path.write_bytes(corrupted(good, rng))
        try:
            assert same(read_checkpoint(path), make_checkpoint())
        except CheckpointError as error:
            refused += 1
            assert str(path) in str(error)
    assert refused > 500


def test_a_truncated_newest_is_refused_and_the_one_before_offered(tmp_path: Path) -> None:
    for step in (3, 7):
        write_checkpoint(make_checkpoint(step), tmp_path / f"step-{step:010d}.safetensors")
    newest = list_checkpoints(tmp_path)[0]
    newest.write_bytes(newest.read_bytes()[:-5])
    with pytest.raises(CheckpointError, match=r"--checkpoint step-0000000003\.safetensors"):
        newest_checkpoint(tmp_path)


def test_the_newest_that_is_whole_is_offered_however_many_are_damaged(tmp_path: Path) -> None:
    for step in (1, 3, 5, 7):
        write_checkpoint(make_checkpoint(step), tmp_path / f"step-{step:010d}.safetensors")
    for damaged in list_checkpoints(tmp_path)[:2]:
        damaged.write_bytes(damaged.read_bytes()[:-5])
    with pytest.raises(CheckpointError, match=r"--checkpoint step-0000000003\.safetensors"):
        newest_checkpoint(tmp_path)


def test_another_format_is_said_by_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "step.safetensors"
    old = make_checkpoint()
    write_checkpoint(
        Checkpoint(old.state.model_copy(update={"schema_version": 0}), old.tensors), path
    )
    with pytest.raises(
        CheckpointError, match="format 0; this version of SignScope reads formats 1 to 2"
    ):
        read_checkpoint(path)


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "step.safetensors"
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError):
        read_checkpoint(path)


def test_the_store_keeps_the_last_few_and_the_best(tmp_path: Path) -> None:
    committed: list[int] = []
    store = CheckpointStore(tmp_path / "made", 2, before_write=lambda: committed.append(1))
    (tmp_path / "made").mkdir()
    for step in range(5):
        store.save(make_checkpoint(step), best=step == 1)
    store.wait()
    store.close()
    assert [read_checkpoint(path).state.step for path in list_checkpoints(tmp_path / "made")] == [
        4,
        3,
    ]
    assert read_checkpoint(checkpoints.best_checkpoint(tmp_path / "made")).state.step == 1
    assert len(committed) == 5


def test_a_failed_write_is_told_and_the_next_one_goes_through(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "gone", 2)
    store.save(make_checkpoint(1))
    with pytest.raises(CheckpointError, match="could not be written"):
        store.wait()
    (tmp_path / "gone").mkdir()
    store.save(make_checkpoint(2))
    store.wait()
    store.close()
    assert newest_checkpoint(tmp_path / "gone").state.step == 2


def test_without_its_ledger_rows_no_checkpoint_is_written(tmp_path: Path) -> None:
    def fail() -> None:
        raise LedgerError("The disk is full", subject="ledger.sqlite")

    store = CheckpointStore(tmp_path, 2, before_write=fail)
    store.save(make_checkpoint())
    with pytest.raises(LedgerError, match="disk is full"):
        store.wait()
    store.close()
    assert list_checkpoints(tmp_path) == []


def test_writing_does_not_hold_up_the_caller(tmp_path: Path) -> None:
    may_write = threading.Event()

    def wait() -> None:
        assert may_write.wait(10)

    store = CheckpointStore(tmp_path, 2, before_write=wait)
    store.save(make_checkpoint(1))
    assert list_checkpoints(tmp_path) == []  # save returned although nothing can be written yet
    may_write.set()
    store.close()
    assert len(list_checkpoints(tmp_path)) == 1
