"""``signscope verify RUN`` reads everything of a run, and names what is not as it was written."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from main import main
from signscope.folder import RunFolder
from tests.tiny_run import tiny_config, tiny_corpus, train


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verify")
    return train(tiny_config(tiny_corpus(folder)), folder / "runs").run_path


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def verdicts(run: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, str]]:
    """The status and, of each part, what was said of it."""
    status = main(["verify", str(run)])
    lines = capsys.readouterr().out.splitlines()
    parts = [line.split(": ", 1) for line in lines if not line.startswith(" ")]
    return status, dict(parts)


def test_a_whole_run_is_told_part_by_part(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, said = verdicts(run, capsys)
    assert status == 0
    checkpoints = {f"checkpoints/{path.name}" for path in (run / "checkpoints").iterdir()}
    assert "checkpoints/best.safetensors" in checkpoints
    assert set(said) == {"run.json", "about.json", "config.toml", "ledger.sqlite", *checkpoints}
    assert not any("NOT" in text for text in said.values())


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "name", ["run.json", "about.json", "checkpoints/best.safetensors", "config.toml"]
)
def test_one_damaged_part_is_named_and_the_others_are_read(
    run: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if name == "config.toml":  # a flipped bit may be another valid setting, which resuming tells
        (run / name).write_text("[data", encoding="utf-8")
    else:
        flip(run / name)
    status, said = verdicts(run, capsys)
    assert status == 2
    assert [part for part, text in said.items() if "NOT" in text] == [name]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE steps SET loss = loss + 1 WHERE step = 0",
        "DELETE FROM steps WHERE step = 1",
        "UPDATE epochs SET applied = applied - 1 WHERE epoch = 1",
        "CREATE VIEW more AS SELECT 1",
    ],
)
def test_a_changed_ledger_is_named(
    run: Path, statement: str, capsys: pytest.CaptureFixture[str]
) -> None:
    connection = sqlite3.connect(run / "ledger.sqlite", isolation_level=None)
    connection.execute(statement)
    connection.close()
    status, said = verdicts(run, capsys)
    assert status == 2
    assert [part for part, text in said.items() if "NOT" in text] == ["ledger.sqlite"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
@pytest.mark.timeout(60)
def test_pipes_in_a_run_folder_are_named_and_do_not_hang_it(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [
        "run.json",
        "about.json",
        "config.toml",
        "ledger.sqlite",
        "checkpoints/best.safetensors",
    ]
    for name in names:
        (run / name).unlink()
        os.mkfifo(run / name)
    status, said = verdicts(run, capsys)
    assert status == 2
    assert sorted(part for part, text in said.items() if "NOT" in text) == sorted(names)


def test_what_is_no_run_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, said = verdicts(tmp_path / "missing", capsys)
    assert status == 2
    assert "NOT" in said["run.json"]


def test_a_run_that_trains_can_be_verified(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunFolder(run).lock():
        assert verdicts(run, capsys)[0] == 0
