"""Importing from the window: progress, cancel, plain words for what is malformed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PySide6.QtWidgets import QCheckBox, QLabel, QLineEdit, QPlainTextEdit, QPushButton
from pytestqt.qtbot import QtBot
from shiboken6 import Shiboken

from app.corpus.import_dialog import ImportDialog
from core.corpus.reader import Corpus
from tests.ui.conftest import RunAsync

LIMIT_S = 30


@pytest.fixture
def dialog(qtbot: QtBot, tmp_path: Path) -> Iterator[ImportDialog]:
    dialog = ImportDialog(tmp_path)
    dialog.show()
    yield dialog
    if Shiboken.isValid(dialog):
        dialog.close()


def recording(folder: Path, *, sequences: int = 3) -> Path:
    """Two labels of some short sequences, 258 values a frame."""
    values = np.random.default_rng(0).random((4, 258), np.float32)
    for label in ("hello", "thanks"):
        for sequence in range(sequences):
            place = folder / "MP_Data" / label / str(sequence)
            place.mkdir(parents=True)
            for frame in range(4):
                np.save(place / f"{frame}.npy", values[frame])
    return folder / "MP_Data"


def fill(dialog: ImportDialog, source: Path, out: Path, signers: str = "S1=0-99") -> None:
    for name, text in (("source", source), ("out", out), ("signers", signers)):
        field = dialog.findChild(QLineEdit, name)
        assert field is not None
        field.setText(str(text))


def press(dialog: ImportDialog, name: str) -> None:
    button = dialog.findChild(QPushButton, name)
    assert button is not None
    button.click()


def told(dialog: ImportDialog) -> str:
    label = dialog.findChild(QLabel, "import_told")
    assert label is not None
    return label.text()


async def until_done(dialog: ImportDialog) -> None:
    async with asyncio.timeout(LIMIT_S):
        while dialog.busy:
            await asyncio.sleep(0.005)


def test_a_recording_becomes_a_corpus_that_can_be_used(
    dialog: ImportDialog, run_async: RunAsync, tmp_path: Path, qtbot: QtBot
) -> None:
    fill(dialog, recording(tmp_path), tmp_path / "corpus")

    async def go() -> None:
        press(dialog, "import_go")
        assert dialog.busy
        await until_done(dialog)

    run_async(go())
    assert told(dialog) == f"6 sequences imported into {tmp_path / 'corpus'}."
    with Corpus.open(tmp_path / "corpus") as corpus:
        assert (len(corpus), corpus.signers, corpus.glosses) == (6, ("S1",), ("hello", "thanks"))
    with qtbot.waitSignal(dialog.imported) as blocker:
        press(dialog, "import_go")
    assert blocker.args == [str(tmp_path / "corpus")]


def test_a_malformed_file_is_named_and_may_be_left_out(
    dialog: ImportDialog, run_async: RunAsync, tmp_path: Path
) -> None:
    source = recording(tmp_path)
    (source / "hello" / "1" / "2.npy").write_bytes(b"this is no array")
    fill(dialog, source, tmp_path / "corpus")

    async def go() -> None:
        press(dialog, "import_go")
        await until_done(dialog)

    run_async(go())
    assert str(Path("hello") / "1" / "2.npy") in told(dialog)
    assert not (tmp_path / "corpus" / "manifest.json").exists()
    skip = dialog.findChild(QCheckBox, "skip_bad")
    assert skip is not None
    skip.setChecked(True)
    run_async(go())
    assert "5 sequences imported" in told(dialog)
    listed = dialog.findChild(QPlainTextEdit, "left_out")
    assert listed is not None
    assert listed.isVisible()
    assert str(Path("hello") / "1") in listed.toPlainText()


def test_wrong_input_is_told_without_an_import(
    dialog: ImportDialog, run_async: RunAsync, tmp_path: Path
) -> None:
    fill(dialog, recording(tmp_path), tmp_path / "corpus", "S1=9-3")

    async def go() -> None:
        press(dialog, "import_go")
        await until_done(dialog)

    run_async(go())
    assert "ends before it begins" in told(dialog)


@pytest.mark.parametrize("empty", ["source", "out", "signers"])
def test_an_empty_field_is_named_and_nothing_is_read(
    dialog: ImportDialog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty: str
) -> None:
    monkeypatch.chdir(recording(tmp_path))  # the folder that an empty path would mean
    fill(dialog, tmp_path / "MP_Data", tmp_path / "corpus")
    field = dialog.findChild(QLineEdit, empty)
    assert field is not None
    field.setText(" ")
    press(dialog, "import_go")
    assert not dialog.busy
    name = {"source": "Recording", "out": "Corpus", "signers": "Signers"}[empty]
    assert told(dialog) == f"The field {name} is empty."


def test_cancel_ends_an_import_and_writes_nothing(
    dialog: ImportDialog, run_async: RunAsync, tmp_path: Path
) -> None:
    fill(dialog, recording(tmp_path, sequences=100), tmp_path / "corpus", "S1=0-99")

    async def go() -> None:
        press(dialog, "import_go")
        press(dialog, "import_close")
        await until_done(dialog)

    run_async(go())
    assert told(dialog) == "Cancelled. Nothing was written."
    assert dialog.isVisible()
    assert not list(tmp_path.glob("corpus/*.arrow"))
