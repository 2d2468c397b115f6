"""The comparison of runs: figures against a baseline, other settings, folders from elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest
from PySide6.QtWidgets import QTableWidget
from pytestqt.qtbot import QtBot

from app.runs.comparison import ComparisonDialog
from app.runs.loading import batches_to_share, load_run
from app.runs.run_table import percent
from app.theme import DARK, LIGHT
from core.analysis.history import History
from signscope.errors import LedgerError, RunFolderError
from signscope.folder import RunFolder
from signscope.ledger import Ledger
from signscope.records import Outcome
from tests.ui.conftest import RunAsync
from tests.ui.run_folders import make_run, until
from tests.unit.made_records import make_evaluation, make_step, non_finite_step

Compare = Callable[[list[Path], Callable[[ComparisonDialog], Awaitable[None]]], None]
MINUS = "\u2212"


@pytest.fixture
def compare(qtbot: QtBot, run_async: RunAsync, tmp_path: Path) -> Compare:
    """Open a comparison of run folders, wait until they are read, do something, and close it."""

    def do(paths: list[Path], scenario: Callable[[ComparisonDialog], Awaitable[None]]) -> None:
        async def whole() -> None:
            dialog = ComparisonDialog(LIGHT, tmp_path)
            try:
                dialog.show()
                dialog.set_runs(paths)
                await until(lambda: not dialog.busy, "the runs")
                await scenario(dialog)
                await until(lambda: not dialog.busy, "the end of all work")
            finally:
                dialog.close()
                dialog.deleteLater()

        run_async(whole())

    return do


def rows(table: QTableWidget) -> list[list[str]]:
    return [
        [
            item.text() if (item := table.item(row, place)) else ""
            for place in range(table.columnCount())
        ]
        for row in range(table.rowCount())
    ]


def losses(*values: float) -> list:  # type: ignore[type-arg]
    return [make_step(step, loss=value) for step, value in enumerate(values)]


def test_figures_and_differences(compare: Compare, tmp_path: Path) -> None:
    a = make_run(
        tmp_path,
        "a",
        steps=losses(100.0, 50.0, 7.0, 5.0),
        best_wer=0.25,
        test_wer=0.5,
        duration_s=60.0,
    )
    b = make_run(tmp_path, "b", steps=losses(100.0, 6.0), best_wer=0.125, duration_s=90.0, lr=0.5)

    async def look(dialog: ComparisonDialog) -> None:
        assert rows(dialog._figures) == [
            [
                "a",
                "25.0 %",
                "baseline",
                "50.0 %",
                "baseline",
                "3",
                "baseline",
                "4",
                "60 s",
                "baseline",
            ],
            ["b", "12.5 %", f"{MINUS}12.5", "–", "–", "2", f"{MINUS}1", "2", "90 s", "+30 s"],
        ]
        dialog._baseline.setCurrentIndex(1)
        assert rows(dialog._figures)[0][2] == "+12.5"
        assert rows(dialog._figures)[1][2] == "baseline"
        dialog._share.setValue(5.0)
        assert [row[5] for row in rows(dialog._figures)] == ["4", "never"]
        assert rows(dialog._settings) == [["optim.lr", "0.002", "0.5"]]

    compare([a, b], look)


def test_equal_settings_are_said_to_be(compare: Compare, tmp_path: Path) -> None:
    paths = [make_run(tmp_path, name) for name in ("a", "b")]

    async def look(dialog: ComparisonDialog) -> None:
        assert rows(dialog._settings) == []
        assert "same" in dialog._same.text()

    compare(paths, look)


def test_a_folder_from_another_machine_opens(compare: Compare, tmp_path: Path) -> None:
    """Nothing that a run folder names has to exist here: it is moved, renamed, and its corpus is gone."""
    path = make_run(tmp_path / "far away", "there")
    shutil.move(path, tmp_path / "brought here")

    async def look(dialog: ComparisonDialog) -> None:
        assert [run.summary.name for run in dialog.runs] == ["there"]
        assert len(dialog.plots.runs[0].history) == 20

    compare([tmp_path / "brought here"], look)


def test_many_runs_are_overlaid(compare: Compare, tmp_path: Path) -> None:
    paths = [make_run(tmp_path, f"run {number}", steps=4) for number in range(9)]

    async def look(dialog: ComparisonDialog) -> None:
        assert len(dialog.plots.runs) == 9
        styles = [dialog.plots.style_of(str(path)) for path in paths]
        assert len(set(styles)) == 9
        dialog.plots.legend.button(str(paths[0])).click()
        dialog._remove.click()
        assert [run.summary.path for run in dialog.runs] == paths[1:]
        assert not dialog._remove.isEnabled()

    compare(paths, look)


def test_unreadable_runs_are_named_and_the_others_shown(compare: Compare, tmp_path: Path) -> None:
    good, bad = make_run(tmp_path, "good"), make_run(tmp_path, "bad")
    (bad / "ledger.sqlite").write_bytes(b"not a ledger")
    (good / "config.toml").unlink()

    async def look(dialog: ComparisonDialog) -> None:
        assert [run.summary.name for run in dialog.runs] == ["good"]
        assert "bad" in dialog.messages.text()

    compare([good, bad], look)


def test_picture_and_theme(compare: Compare, tmp_path: Path) -> None:
    path = make_run(tmp_path, "a")

    async def draw(dialog: ComparisonDialog) -> None:
        dialog.recolor(DARK)
        dialog.save_picture(str(tmp_path / "out.svg"))
        assert "a" in dialog.messages.text()
        dialog.save_picture(str(tmp_path / "nowhere" / "out.svg"))
        assert "cannot be written" in dialog.messages.text()

    compare([path], draw)
    assert (tmp_path / "out.svg").read_text().startswith("<?xml")


def test_loading_gives_the_ledger(tmp_path: Path) -> None:
    steps = [make_step(0), make_step(1), non_finite_step(2)]
    path = make_run(tmp_path, "whole", steps=steps)
    seen: list[tuple[int, int]] = []
    run = load_run(path, lambda done, total: seen.append((done, total)))
    assert run.history.column("step").tolist() == [0, 1, 2]
    assert run.history.outcomes()[Outcome.APPLIED] == 2
    assert run.max_norm == 1.0
    assert run.log[-1] == "  Batch 0: loss=90.00"
    assert seen[-1] == (3, 3)


def test_loading_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="not a run folder"):
        load_run(tmp_path)
    path = make_run(tmp_path, "no ledger")
    RunFolder(path).ledger_path.unlink()
    with pytest.raises(LedgerError):
        load_run(path)


def test_batches_to_share_by_hand() -> None:
    history = History()
    assert batches_to_share(history, 0.5) is None
    history.extend([make_step(0, loss=80.0), non_finite_step(1), make_step(2, loss=40.0)])
    assert batches_to_share(history, 0.5) == 3
    assert batches_to_share(history, 0.4) is None


def test_a_run_that_trains_goes_on_in_the_comparison(compare: Compare, tmp_path: Path) -> None:
    """Also one that is resumed from an earlier batch: what was cut is replaced."""
    path = make_run(tmp_path, "a", steps=losses(*[50.0] * 10))

    async def grow(dialog: ComparisonDialog) -> None:
        history = dialog.plots.runs[0].history
        with Ledger(RunFolder(path).ledger_path) as ledger:
            for step in range(10, 15):
                ledger.append(make_step(step, loss=40.0))
            ledger.flush()
            await until(lambda: len(history) == 15, "the new batches")
            assert dialog.plots.loss.curves[str(path)].x_N[-1] == 14
            ledger.truncate_from(8, 0)
            ledger.append(make_step(8, loss=7.0))
            ledger.flush()
            await until(lambda: len(history) == 9, "the resumed run")
        assert history.column("loss")[-1] == pytest.approx(7.0)

    compare([path], grow)


def test_pointing_tells_each_runs_value_at_that_batch(compare: Compare, tmp_path: Path) -> None:
    long = make_run(tmp_path, "long", steps=losses(*[float(50 - step) for step in range(20)]))
    short = make_run(tmp_path, "short", steps=losses(*[9.0] * 5))

    async def point(dialog: ComparisonDialog) -> None:
        dialog.plots.loss.canvas.pointed.emit(3.2)
        legend = dialog.plots.legend
        assert legend.value(str(long)).startswith("47.00 · ")
        assert legend.value(str(short)).startswith("9.00 · ")
        assert dialog.plots.norms.crosshair.x is not None
        dialog.plots.loss.canvas.pointed.emit(12.0)
        assert legend.value(str(long)).startswith("38.00 · ")
        assert legend.value(str(short)) == "", "it has no such batch"
        dialog.plots.loss.canvas.left.emit()
        assert legend.value(str(long)) == ""
        assert dialog.plots.loss.crosshair.x is None

    compare([long, short], point)


def test_runs_are_compared_smoothed_by_time_and_on_a_log_scale(
    compare: Compare, tmp_path: Path
) -> None:
    path = make_run(tmp_path, "a", steps=losses(*[100.0, 10.0] * 20))

    async def choose(dialog: ComparisonDialog) -> None:
        plots, key = dialog.plots, str(path)
        assert not plots.loss.smooth[key].isVisible()
        dialog.bar.smoothing.setCurrentIndex(1)
        assert plots.loss.smooth[key].isVisible()
        mean = plots.runs[0].history.smoothed("loss", 0.9).values
        assert plots.loss.smooth[key].heights_N[-1] == pytest.approx(float(mean[-1]))
        dialog.bar.log.setChecked(True)
        assert plots.loss.curves[key].highest == pytest.approx(2.0)
        dialog.bar.axis.setCurrentIndex(2)
        history = plots.runs[0].history
        seconds = history.to_axis(np.array([39.0]), "time")[0]
        assert plots.loss.curves[key].x_N[-1] == pytest.approx(seconds)

    compare([path], choose)


def test_word_error_rates_are_compared_by_epoch(compare: Compare, tmp_path: Path) -> None:
    path = make_run(tmp_path, "a", steps=4)
    evaluation = make_evaluation()
    with Ledger(RunFolder(path).ledger_path) as ledger:
        ledger.append_evaluation(make_step(0).epoch, evaluation)

    async def choose(dialog: ComparisonDialog) -> None:
        dialog.bar.curves.setCurrentIndex(1)
        plots = dialog.plots
        assert plots.loss.isHidden()
        assert plots.wer.curves[str(path)].heights_N.tolist() == [
            pytest.approx(evaluation.errors.wer)
        ]
        plots.wer.canvas.pointed.emit(3.0)
        assert plots.legend.value(str(path)) == percent(evaluation.errors.wer)

    compare([path], choose)
