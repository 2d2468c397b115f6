"""Random damage to every file of a run: each ends in the named error, or changes nothing that is loaded.

What counts as accepting damage in silence:

- checkpoint, run.json, ledger: it loads, and anything loaded differs from what was written;
- config.toml is made to be edited by people, so a changed digit is another valid setting. It is accepted in
  silence if resuming the run would not say that it differs from the settings in the checkpoint;
- a ledger with a write-ahead log (of a run that runs or was killed) may lose groups of rows from its end, as if
  it had been killed earlier. What loads must then be exactly a state that the ledger once had; that it is
  too old for the checkpoint is said on resuming.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from core.config import config_to_toml, load_config
from core.errors import CheckpointError, ConfigError
from core.training.checkpoint import (
    CheckpointState,
    best_checkpoint,
    newest_checkpoint,
    read_checkpoint,
)
from core.training.provenance import resume_differences
from core.training.session import resume_job, run_job
from signscope.errors import LedgerError, RunFolderError, SignScopeError
from signscope.folder import RunFolder
from signscope.ledger import Ledger, LedgerReader
from signscope.records import EventKind, RunEventRecord
from tests.tiny_run import started_control, stop_after, tiny_config, tiny_corpus, train
from tests.unit.made_records import make_epoch, make_step

KINDS = ("checkpoint", "ledger", "live ledger", "config", "run.json")
REFUSED, SAME, TOLD, OLDER, SILENT = "refused", "same", "told on resuming", "older", "SILENT"


# ---------------------------------------------------------------- damage


def damage(data: bytes, other: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Damage ``data`` once to a few times; ``other`` is a sound file of the same kind."""
    names = []
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        if not data:
            break
        start = rng.randrange(len(data))
        end = min(len(data), start + rng.choice((1, 2, 8, 64, 512, 4096)))
        name = rng.choice(("flip", "digit", "truncate", "insert", "zero", "noise", "splice"))
        names.append(name)
        if name == "flip":
            data = data[:start] + bytes([data[start] ^ (1 << rng.randrange(8))]) + data[start + 1 :]
        elif name == "digit":
            data = with_other_digit(data, start, rng)
        elif name == "truncate":
            data = data[:start]
        elif name == "insert":
            data = data[:start] + rng.randbytes(end - start) + data[start:]
        elif name == "zero":
            data = data[:start] + bytes(end - start) + data[end:]
        elif name == "noise":
            data = data[:start] + rng.randbytes(end - start) + data[end:]
        else:  # a stretch of another file, or of another place in this one
            source = rng.choice((other, data))
            place = min(start, len(source)) if rng.random() < 0.5 else rng.randrange(len(source))
            data = data[:start] + source[place : place + end - start] + data[end:]
    return "+".join(names), data


def with_other_digit(data: bytes, start: int, rng: random.Random) -> bytes:
    """Replace the next digit: the damage that a text format hides best."""
    for place in range(start, len(data)):
        if data[place : place + 1].isdigit():
            return data[:place] + str(rng.randrange(10)).encode() + data[place + 1 :]
    return data


# ---------------------------------------------------------------- what a damaged file is found to be


@dataclass(frozen=True)
class Runs:
    """Two runs, and the ledger of a run that was killed in the middle."""

    run: Path
    other: Path
    live: Path  # ledger.sqlite with its -wal and -shm
    corpus: Path


def load_checkpoint(path: Path) -> bytes:
    checkpoint = read_checkpoint(path)
    parts = [checkpoint.state.model_dump_json().encode()]
    for name, tensor in sorted(checkpoint.tensors.items()):
        parts.append(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        parts.append(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return b"\n".join(parts)


@dataclass(frozen=True)
class Said:
    """Everything that a ledger says: its lists, as texts, and what is computed from them."""

    lists: tuple[tuple[str, ...], ...]
    rest: str

    def is_older_than(self, other: Said) -> bool:
        """Whether the lists are what the other's were at an earlier moment."""
        return self != other and all(
            mine == theirs[: len(mine)]
            for mine, theirs in zip(self.lists, other.lists, strict=True)
        )


def load_ledger(path: Path) -> Said:
    with LedgerReader(path) as reader:
        reader.verify()
        lists = (
            tuple(map(repr, reader.steps())),
            tuple(map(repr, reader.epochs())),
            tuple(map(repr, reader.events())),
            tuple(map(repr, reader.evaluations())),
            tuple(map(repr, reader.meta().items())),
        )
        assert reader.counts().batches == reader.step_count() == len(lists[0])
        curves = [
            sorted((name, column.tobytes()) for name, column in block.items())
            for block in reader.curves()
        ]
        return Said(lists, repr((reader.counts(), reader.counts(1), reader.mean_loss(1), curves)))


class Judge:
    """Says of a damaged file what became of it, and holds what it should have been."""

    def __init__(self, runs: Runs, folder: Path) -> None:
        self._folder = folder
        self._runs = runs
        self._state: CheckpointState = newest_checkpoint(runs.run / "checkpoints").state
        self._checkpoint = load_checkpoint(best_checkpoint(runs.run / "checkpoints"))
        self._ledger = load_ledger(runs.run / "ledger.sqlite")
        self._live = load_ledger(runs.live)
        self._config = load_config(runs.run / "config.toml")
        self._info = RunFolder.open(runs.run).info

    def damaged(self, kind: str, rng: random.Random) -> tuple[str, str]:
        """Damage a copy of a file of this kind; gives how, and what was made of it."""
        judge, error = {
            "checkpoint": (self._judge_checkpoint, CheckpointError),
            "ledger": (self._judge_ledger, LedgerError),
            "live ledger": (self._judge_live_ledger, LedgerError),
            "config": (self._judge_config, ConfigError),
            "run.json": (self._judge_info, RunFolderError),
        }[kind]
        place, how = self._write(kind, rng)
        try:
            return how, judge(place)
        except SignScopeError as told:
            assert type(told) is error, f"{kind}, {how}: {told!r}"
            assert str(place) in str(told), f"{kind}, {how}: {told} names no file"
            assert told.hint
            return how, REFUSED

    def _write(self, kind: str, rng: random.Random) -> tuple[Path, str]:
        if kind == "live ledger":
            for suffix in ("", "-wal", "-shm"):
                shutil.copy(f"{self._runs.live}{suffix}", self._folder / f"live.sqlite{suffix}")
            damaged = Path(
                f"{self._folder / 'live.sqlite'}{rng.choice(('-wal', '-wal', '-shm', ''))}"
            )
            how, data = damage(damaged.read_bytes(), damaged.read_bytes(), rng)
            damaged.write_bytes(data)
            return self._folder / "live.sqlite", f"{damaged.suffix} {how}"
        name = {
            "checkpoint": "checkpoints/best.safetensors",
            "ledger": "ledger.sqlite",
            "config": "config.toml",
            "run.json": "run.json",
        }[kind]
        how, data = damage(
            (self._runs.run / name).read_bytes(), (self._runs.other / name).read_bytes(), rng
        )
        if data.strip() == (self._runs.other / name).read_bytes().strip():
            return self._write(kind, rng)  # another sound file is no damage
        path = self._folder / Path(name).name
        path.write_bytes(data)
        return (self._folder if kind == "run.json" else path), how

    def _judge_checkpoint(self, path: Path) -> str:
        return SAME if load_checkpoint(path) == self._checkpoint else SILENT

    def _judge_ledger(self, path: Path) -> str:
        return SAME if load_ledger(path) == self._ledger else SILENT

    def _judge_live_ledger(self, path: Path) -> str:
        found = load_ledger(path)
        if found == self._live:
            return SAME
        return OLDER if found.is_older_than(self._live) else SILENT

    def _judge_config(self, path: Path) -> str:
        found = load_config(path)
        if found == self._config:
            return SAME
        here = self._state.model_dump() | {"config_toml": config_to_toml(found)}
        told = resume_differences(self._state, here)
        return TOLD if any("Settings were changed" in sentence for sentence in told) else SILENT

    def _judge_info(self, folder: Path) -> str:
        return SAME if RunFolder.open(folder).info == self._info else SILENT


# ---------------------------------------------------------------- the tests


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("runs")
    corpus = tiny_corpus(folder)
    run = train(tiny_config(corpus), folder / "a").run_path
    other = train(tiny_config(corpus, seed=1), folder / "b").run_path
    (folder / "live").mkdir()
    return Runs(run, other, growing_ledger(folder / "live"), corpus)


def growing_ledger(folder: Path) -> Path:
    """A copy of a ledger in the middle of a run, its rows still in the write-ahead log."""
    path = folder / "ledger.sqlite"
    records = [make_step(step) for step in range(36)]
    with Ledger(path, {"policy": "clip", "max_norm": 1.0}) as ledger:
        for start in range(0, len(records), 6):
            for record in records[start : start + 6]:
                ledger.append(record)
            ledger.flush()
        ledger.append_epoch(make_epoch(1, records))
        ledger.append_event(RunEventRecord(36, EventKind.PAUSED, "here", 1.0))
        ledger.flush()
        for suffix in ("", "-wal", "-shm"):
            shutil.copy(f"{path}{suffix}", folder / f"copy.sqlite{suffix}")
    return folder / "copy.sqlite"


@pytest.mark.parametrize("rounds", [600, pytest.param(10_000, marks=pytest.mark.soak)])
def test_random_damage_is_never_accepted_in_silence(
    runs: Runs, tmp_path: Path, rounds: int, capsys: pytest.CaptureFixture[str]
) -> None:
    judge = Judge(runs, tmp_path)
    rng = random.Random(int(os.environ.get("SIGNSCOPE_TEST_SEED", 20)))
    found: Counter[tuple[str, str]] = Counter()
    memory_before = peak_memory_mib()
    for number in range(rounds):
        kind = KINDS[number % len(KINDS)]
        how, verdict = judge.damaged(kind, rng)
        found[kind, verdict] += 1
        assert verdict != SILENT, f"round {number}: {kind} damaged by {how}"
    with capsys.disabled():
        if rounds >= 10_000:
            table = ", ".join(f"{k} {v}: {n}" for (k, v), n in sorted(found.items()))
            print(f"\ncorruptions tried: {rounds}, silent acceptances: 0 ({table})")
    # Everything was really damaged, and not all of it refused for one reason only.
    for kind in KINDS:
        share = (
            0.02 if kind == "live ledger" else 0.2
        )  # a log that lost its end is most often older
        assert found[kind, REFUSED] > share * rounds / len(KINDS)
    assert found["config", TOLD] > 0
    assert found["live ledger", OLDER] > 0
    assert peak_memory_mib() - memory_before < 200


def peak_memory_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def test_a_sound_row_of_another_ledger_is_no_match(runs: Runs, tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    shutil.copy(runs.run / "ledger.sqlite", path)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("ATTACH ? AS other", (str(runs.other / "ledger.sqlite"),))
    connection.execute("REPLACE INTO steps SELECT * FROM other.steps WHERE step = 3")
    connection.close()
    with LedgerReader(path) as reader, pytest.raises(LedgerError, match="of another ledger"):
        reader.verify()


def test_a_ledger_that_lost_rows_is_refused_by_the_checkpoint_that_counts_on_them(
    runs: Runs, tmp_path: Path
) -> None:
    control = started_control()
    run = train(
        tiny_config(runs.corpus), tmp_path, stop_after(control, 5), control=control
    ).run_path
    with Ledger(run / "ledger.sqlite") as ledger:
        ledger.truncate_from(4, 1)
    with pytest.raises(LedgerError, match="ends at batch 3, but the checkpoint was made after 6"):
        run_job(resume_job(run), started_control())


HUGE = b'{"a":{"dtype":"U8","shape":[1152921504606846976],"data_offsets":[0,1152921504606846976]}}'


def deep_json(path: Path) -> None:
    """A header that safetensors accepts, with a position nested deeper than Python can follow."""
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, path, {"signscope": "[" * 100_000, "sha256": "0"})


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\xff" * 8),  # a header of 2^64 bytes
        lambda path: path.write_bytes((10**12).to_bytes(8, "little") + b"{}"),
        lambda path: path.write_bytes((2).to_bytes(8, "little") + b"{}"),
        lambda path: path.write_bytes(
            (len(HUGE)).to_bytes(8, "little") + HUGE  # a tensor of an exabyte in a file of nothing
        ),
        deep_json,
        Path.mkdir,
        lambda path: path.symlink_to(path),
    ],
)
def test_impossible_checkpoints_are_refused_by_name(
    make: Callable[[Path], object], tmp_path: Path
) -> None:
    path = tmp_path / "step-0000000001.safetensors"
    make(path)
    with pytest.raises(CheckpointError, match="step-0000000001"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe",
        b"seed = " + b"9" * 10_000,
        b"seed = " + b"[" * 100_000,
        b"seed = 1e999",
        b"[data]\n[data]",
        b"a" * 1_000_000,
        b"seed = 0\0",
    ],
)
def test_impossible_settings_are_refused_by_name(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"config\.toml"):
        load_config(path)
