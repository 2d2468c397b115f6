"""The export dialog: every format is written, nothing is overwritten unasked, errors are told."""

from __future__ import annotations

import csv
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from xml.etree import ElementTree

import pyarrow.parquet as pq
import pytest
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QLabel, QMessageBox
from pytestqt.qtbot import QtBot
from shiboken6 import Shiboken

from app.background import Progress
from app.runs.export_dialog import ExportDialog
from app.runs.picture import PictureSource
from app.theme import LIGHT
from signscope.ledger import LedgerReader
from tests.ui.conftest import RunAsync
from tests.ui.run_folders import make_run, press, until

Scenario = Callable[[ExportDialog], Awaitable[None]]
Export = Callable[[Path, Scenario], None]


@pytest.fixture
def export(qtbot: QtBot, run_async: RunAsync, tmp_path: Path) -> Export:
    """Open the dialog for a run, do something, wait for the end of all work, and close it."""

    def do(run: Path, scenario: Scenario) -> None:
        async def whole() -> None:
            view = QLabel("a plot")
            source = PictureSource(view, lambda: None)
            dialog = ExportDialog(run, "my run", LIGHT, tmp_path, source)
            try:
                dialog.show()
                await scenario(dialog)
                await until(lambda: not dialog.busy, "the end of all work")
            finally:
                if Shiboken.isValid(dialog):
                    dialog.close()
                view.deleteLater()

        run_async(whole())

    return do


async def write(dialog: ExportDialog, kind: str, target: Path) -> None:
    dialog.choose_kind(kind)
    dialog.set_target(str(target))
    dialog.export()
    await until(lambda: not dialog.busy, "the export")


def test_every_format_is_written(export: Export, tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs", "my run", steps=33)
    with LedgerReader(run / "ledger.sqlite") as reader:
        expected = [step.loss for step in reader.steps()]

    async def write_all(dialog: ExportDialog) -> None:
        for kind in ("csv", "parquet", "tensorboard", "html", "png", "svg"):
            await write(dialog, kind, tmp_path / f"out.{kind}")
            assert dialog.messages.text() == "", kind
            assert dialog._told.text() == f"Written: out.{kind}"

    export(run, write_all)
    with (tmp_path / "out.csv").open(newline="") as file:
        assert [float(row["loss"]) for row in csv.DictReader(file)] == expected
    assert pq.read_table(tmp_path / "out.parquet")["loss"].to_pylist() == expected
    assert len(list((tmp_path / "out.tensorboard").iterdir())) == 1
    assert "my run" in (tmp_path / "out.html").read_text()
    assert (QImage(str(tmp_path / "out.png")).width()) == 1600
    assert (tmp_path / "out.svg").read_text().startswith("<?xml")


def test_the_name_follows_the_format(export: Export, tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs", "my run")

    async def choose(dialog: ExportDialog) -> None:
        assert dialog.kind == "png"
        assert dialog.target == tmp_path / "my run.png"
        dialog.choose_kind("parquet")
        assert dialog.target == tmp_path / "my run.parquet"
        assert not dialog._size.isEnabled()
        dialog.set_target(str(tmp_path / "v1.2"))
        dialog.choose_kind("tensorboard")
        assert dialog.target == tmp_path / "v1.2-tensorboard"
        dialog.choose_kind("svg")
        assert dialog.target == tmp_path / "v1.2.svg"

    export(run, choose)


@pytest.mark.parametrize(("answer", "kept"), [("Keep", True), ("Replace", False)])
@pytest.mark.parametrize("kind", ["csv", "png"])
def test_an_existing_target_is_asked_about(
    export: Export, tmp_path: Path, kind: str, answer: str, kept: bool
) -> None:
    run = make_run(tmp_path / "runs", "my run")
    target = tmp_path / f"precious.{kind}"
    target.write_text("precious")

    async def overwrite(dialog: ExportDialog) -> None:
        dialog.choose_kind(kind)
        dialog.set_target(str(target))
        dialog.export()
        await until(lambda: dialog.findChild(QMessageBox, "confirm_replace"), "the question")
        box = dialog.findChild(QMessageBox, "confirm_replace")
        assert box is not None
        assert target.name in box.text()
        await press(box, answer)
        await until(lambda: not dialog.busy, "the export")

    export(run, overwrite)
    assert (target.read_bytes() == b"precious") is kept


def test_errors_are_told_and_leave_nothing(export: Export, tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs", "my run")
    file = tmp_path / "a file"
    file.write_text("")

    async def fail(dialog: ExportDialog) -> None:
        await write(dialog, "csv", file / "out.csv")
        assert "cannot be written" in dialog.messages.text()
        await write(dialog, "png", file / "out.png")
        assert "cannot be written" in dialog.messages.text()
        (run / "ledger.sqlite").write_bytes(b"broken")
        await write(dialog, "csv", tmp_path / "out.csv")
        assert str(run / "ledger.sqlite") in dialog.messages.text()

    export(run, fail)
    assert not (tmp_path / "out.csv").exists()


def test_cancel_ends_the_export(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "runs", "my run")

    def endless(*_run: object, progress: Progress, **_options: object) -> None:
        while True:
            progress(1, 2)
            time.sleep(0.001)

    monkeypatch.setattr("core.analysis.export.formats.export_run", endless)

    async def cancel(dialog: ExportDialog) -> None:
        dialog.choose_kind("csv")
        dialog.export()
        await until(lambda: dialog._bar.value() == 500, "half of the export")
        assert "1 of 2 batches" in dialog._told.text()
        dialog.reject()  # Cancel, and Escape
        assert dialog.isVisible()
        await until(lambda: not dialog.busy, "the end of the work")
        assert "Cancelled" in dialog._told.text()
        assert dialog._go.isEnabled()

    export(run, cancel)


def test_without_plots_there_is_no_picture(
    qtbot: QtBot, run_async: RunAsync, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "runs", "my run")

    async def look() -> None:
        dialog = ExportDialog(run, "my run", LIGHT, tmp_path)
        assert dialog.kind == "csv"
        assert not dialog._kind_buttons["png"].isEnabled()
        dialog.close()
        dialog.deleteLater()

    run_async(look())


def test_a_picture_has_the_name_of_its_run_above_the_plots(export: Export, tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs", "my run", steps=3)

    async def write_picture(dialog: ExportDialog) -> None:
        await write(dialog, "svg", tmp_path / "plots.svg")
        assert dialog.messages.text() == ""

    export(run, write_picture)
    texts = [
        "".join(element.itertext()).strip()
        for element in ElementTree.parse(tmp_path / "plots.svg").iter()
        if element.tag.endswith("}text")
    ]
    assert texts[:2] == ["my run", "a plot"]


def test_the_label_of_the_file_is_not_cut(export: Export, tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs", "my run")

    async def measure(dialog: ExportDialog) -> None:
        labels = [each for each in dialog.findChildren(QLabel) if each.buddy() is not None]
        assert labels
        for label in labels:
            letters = label.text().replace("&", "")
            metrics = label.fontMetrics()
            # The letter that is underlined is set apart, without kerning.
            needed = sum(metrics.horizontalAdvance(letter) for letter in letters)
            assert label.width() >= needed, letters

    export(run, measure)
