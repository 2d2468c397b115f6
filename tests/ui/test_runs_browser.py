"""The run browser on real run folders: what it lists, sorts, filters, changes, and refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from PySide6.QtCore import QEvent, QItemSelectionModel, Qt
from PySide6.QtGui import QKeyEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLineEdit, QMessageBox
from pytestqt.qtbot import QtBot

from app.runs.bin import move_to_bin
from app.runs.run_browser import RunBrowser
from app.runs.run_table import COLUMNS, NAME, NOTE, STATE
from app.theme import DARK, LIGHT
from signscope.folder import RunFolder
from tests.ui.conftest import RunAsync
from tests.ui.run_folders import make_run, press, until

TITLES = [column.title for column in COLUMNS]
Scenario = Callable[[RunBrowser], Awaitable[None]]
Browse = Callable[[Path, Scenario], None]


@pytest.fixture
def browse(qtbot: QtBot, run_async: RunAsync) -> Browse:
    """Open a browser on a folder, wait for its first list, do something, and close it."""

    def do(folder: Path, scenario: Scenario, **options: object) -> None:
        async def whole() -> None:
            browser = RunBrowser(folder, LIGHT, **options)  # type: ignore[arg-type]
            try:
                browser.show()
                await until(lambda: browser._read_once, "the first list")
                await scenario(browser)
                await until(lambda: not browser._tasks.busy, "the end of all work")
            finally:
                browser.close()
                browser.deleteLater()

        run_async(whole())

    return do


def names(browser: RunBrowser) -> list[str]:
    return [browser.filter.index(row, NAME).data() for row in range(browser.filter.rowCount())]


def cell(browser: RunBrowser, name: str, title: str) -> str:
    row = names(browser).index(name)
    return str(browser.filter.index(row, TITLES.index(title)).data())


def choose(browser: RunBrowser, *wanted: str) -> None:
    selection = browser._view.selectionModel()
    selection.clear()
    for name in wanted:
        flags = QItemSelectionModel.SelectionFlag
        index = browser.filter.index(names(browser).index(name), NAME)
        selection.setCurrentIndex(index, flags.Select | flags.Rows)


def test_every_kind_of_folder_is_listed(browse: Browse, tmp_path: Path) -> None:
    make_run(tmp_path, "finished", created=300.0, best_wer=0.125, test_wer=0.5)
    make_run(tmp_path, "cut off", created=200.0, state="running", steps=7, best_wer=None)
    broken = make_run(tmp_path, "broken", created=100.0)
    (broken / "run.json").write_text("{")
    (tmp_path / "no run").mkdir()

    async def look(browser: RunBrowser) -> None:
        assert names(browser) == ["finished", "cut off", "broken"]  # newest first
        assert cell(browser, "finished", "State") == "Finished"
        assert cell(browser, "finished", "Corpus") == "tiny (synthetic)"
        assert cell(browser, "finished", "Best WER") == "12.5 %"
        assert cell(browser, "finished", "Held-out WER") == "50.0 %"
        assert cell(browser, "cut off", "State") == "Interrupted"
        assert cell(browser, "cut off", "Batches") == "7"  # from the ledger: run.json lags behind
        assert cell(browser, "cut off", "Best WER") == "–"
        assert cell(browser, "broken", "State") == "Unreadable"
        choose(browser, "broken")
        assert "damaged" in browser._details.text()
        enabled = {key for key, action in browser.actions_.items() if action.isEnabled()}
        assert enabled == {"folder", "delete"}

    browse(tmp_path, look)


def test_sorting_compares_numbers(browse: Browse, tmp_path: Path) -> None:
    for wer in (0.09, 0.5, 1.02, None):
        make_run(tmp_path, f"wer {wer}", best_wer=wer)

    async def sort(browser: RunBrowser) -> None:
        place = TITLES.index("Best WER")
        browser._view.sortByColumn(place, Qt.SortOrder.AscendingOrder)
        assert names(browser) == ["wer 0.09", "wer 0.5", "wer 1.02", "wer None"]

    browse(tmp_path, sort)


def test_filter_takes_words_in_any_column(browse: Browse, tmp_path: Path) -> None:
    make_run(tmp_path, "one", note="With augmentation")
    make_run(tmp_path, "two", state="failed", error="no memory")

    async def filter_runs(browser: RunBrowser) -> None:
        for text, expected in (
            ("AUGMENT one", ["one"]),
            ("failed", ["two"]),
            ("tiny", ["one", "two"]),
            ("one failed", []),
        ):
            browser._search.setText(text)
            assert sorted(names(browser)) == expected, text
        assert browser._stack.currentWidget() is browser._empty
        assert "one failed" in browser._empty.text()

    browse(tmp_path, filter_runs)


def test_an_empty_folder_says_what_to_do(browse: Browse, tmp_path: Path) -> None:
    async def look(browser: RunBrowser) -> None:
        assert browser._stack.currentWidget() is browser._empty
        assert "Start" in browser._empty.text()

    browse(tmp_path / "not there yet", look)


async def type_over(browser: RunBrowser, text: str) -> None:
    """Type into the open editor and press Enter."""
    editor = browser._view.findChild(QLineEdit)
    assert editor is not None
    editor.setText(text)
    for kind in (QEvent.Type.KeyPress, QEvent.Type.KeyRelease):
        QApplication.sendEvent(
            editor, QKeyEvent(kind, Qt.Key.Key_Return, Qt.KeyboardModifier.NoModifier)
        )
    await asyncio.sleep(0)


def test_enter_in_the_table_opens_the_run(browse: Browse, tmp_path: Path) -> None:
    path = make_run(tmp_path, "one")
    broken = make_run(tmp_path, "broken")
    (broken / "run.json").write_text("{")
    opened: list[Path] = []

    async def enter(browser: RunBrowser) -> None:
        browser.open_asked.connect(opened.append)
        for name in ("one", "broken"):
            choose(browser, name)
            QTest.keyClick(browser._view, Qt.Key.Key_Return)
        assert opened == [path], "also what cannot be read, or not at all"

    browse(tmp_path, enter)


def test_name_and_note_are_written_into_the_folder(browse: Browse, tmp_path: Path) -> None:
    path = make_run(tmp_path, "old name")

    async def edit(browser: RunBrowser) -> None:
        choose(browser, "old name")
        browser.actions_["rename"].trigger()
        await type_over(browser, "a better name")
        assert names(browser) == ["a better name"]
        await until(lambda: RunFolder(path).read_about().name == "a better name", "the new name")
        choose(browser, "a better name")
        browser.actions_["note"].trigger()
        await type_over(browser, "keep this one")
        await until(lambda: RunFolder(path).read_about().note == "keep this one", "the note")
        browser.actions_["rename"].trigger()
        await type_over(browser, "   ")
        assert names(browser) == ["a better name"]

    browse(tmp_path, edit)
    assert path.name == "old name"


def test_the_list_follows_the_folder_and_keeps_the_selection(
    browse: Browse, tmp_path: Path
) -> None:
    make_run(tmp_path, "first", created=1.0)
    kept = make_run(tmp_path, "kept", created=2.0)

    async def follow(browser: RunBrowser) -> None:
        choose(browser, "kept")
        make_run(tmp_path, "third", created=3.0)
        RunFolder(kept).update_info(best_wer=0.01)
        browser.refresh()
        await until(lambda: "third" in names(browser), "the new run")
        assert cell(browser, "kept", "Best WER") == "1.0 %"
        assert [run.name for run in browser.chosen()] == ["kept"]

    browse(tmp_path, follow)


def confirmation(browser: RunBrowser) -> QMessageBox | None:
    return browser.findChild(QMessageBox, "confirm_delete")


def test_delete_asks_and_moves_into_the_bin(
    browse: Browse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    runs = tmp_path / "runs"
    gone, stays = make_run(runs, "gone"), make_run(runs, "stays")

    async def delete(browser: RunBrowser) -> None:
        for answer in ("Keep", "Move to bin"):
            choose(browser, "gone")
            browser.actions_["delete"].trigger()
            await until(lambda: confirmation(browser) is not None, "the question")
            assert gone.exists()
            box = confirmation(browser)
            assert box is not None
            assert "gone" in box.text()
            await press(box, answer)
            await until(lambda: confirmation(browser) is None, "the end of the question")
        await until(lambda: names(browser) == ["stays"], "the shorter list")

    browse(runs, delete)
    assert not gone.exists()
    assert stays.exists()


def test_what_is_in_the_bin_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    path = make_run(tmp_path / "runs", "thrown away")
    ledger = (path / "ledger.sqlite").read_bytes()
    assert move_to_bin(path), "this system has no bin for the folder of tests"
    assert not path.exists()
    kept = tmp_path / "home" / "Trash" / "files" / "thrown away"
    assert (kept / "ledger.sqlite").read_bytes() == ledger


def test_a_run_in_training_is_not_deleted(browse: Browse, tmp_path: Path) -> None:
    path = make_run(tmp_path, "busy", state="running")

    async def delete(browser: RunBrowser) -> None:
        choose(browser, "busy")
        assert cell(browser, "busy", "State") == "Running"
        assert not browser.actions_["resume"].isEnabled()
        browser.actions_["delete"].trigger()
        await until(browser.messages.text, "a message")
        assert "busy" in browser.messages.text()
        assert "Stop the run first" in browser.messages.text()

    with RunFolder(path).lock():
        browse(tmp_path, delete)
    assert path.exists()


def test_a_system_without_a_bin_is_told(browse: Browse, tmp_path: Path) -> None:
    path = make_run(tmp_path, "stays")

    async def delete(browser: RunBrowser) -> None:
        browser._trash = lambda _path: False
        choose(browser, "stays")
        browser.actions_["delete"].trigger()
        await until(lambda: confirmation(browser) is not None, "the question")
        box = confirmation(browser)
        assert box is not None
        await press(box, "Move to bin")
        await until(browser.messages.text, "a message")
        assert "no bin" in browser.messages.text()
        assert str(path) in browser.messages.text()

    browse(tmp_path, delete)
    assert path.exists()


def test_actions_ask_for_what_is_chosen(browse: Browse, tmp_path: Path, qtbot: QtBot) -> None:
    a = make_run(tmp_path, "a", created=2.0, state="stopped")
    b = make_run(tmp_path, "b", created=1.0)

    async def ask(browser: RunBrowser) -> None:
        choose(browser, "a", "b")
        with qtbot.waitSignal(browser.compare_asked) as compared:
            browser.actions_["compare"].trigger()
        assert compared.args == [(a, b)]
        assert not browser.actions_["open"].isEnabled()
        choose(browser, "a")
        for key, signal in (
            ("open", browser.open_asked),
            ("resume", browser.resume_asked),
            ("export", browser.export_asked),
        ):
            with qtbot.waitSignal(signal) as asked:
                browser.actions_[key].trigger()
            assert asked.args == [a]
        choose(browser, "b")
        assert not browser.actions_["resume"].isEnabled()  # it is finished

    browse(tmp_path, ask)


def test_another_folder_can_be_listed(browse: Browse, tmp_path: Path) -> None:
    make_run(tmp_path / "mine", "here")
    there = make_run(tmp_path / "theirs", "there")

    async def change(browser: RunBrowser) -> None:
        browser.use_folder(str(there))  # a run folder stands for the folder that it is in
        await until(lambda: names(browser) == ["there"], "the other list")
        assert browser.runs_dir == tmp_path / "theirs"

    browse(tmp_path / "mine", change)


def test_states_keep_their_meaning_in_the_dark(browse: Browse, tmp_path: Path) -> None:
    make_run(tmp_path, "failed", state="failed")

    async def recolor(browser: RunBrowser) -> None:
        index = browser.filter.index(0, STATE)
        light = index.data(Qt.ItemDataRole.ForegroundRole).name()
        browser.recolor(DARK)
        dark = index.data(Qt.ItemDataRole.ForegroundRole).name()
        assert (light, dark) == (LIGHT.error, DARK.error)

    browse(tmp_path, recolor)


def test_the_note_is_the_last_column() -> None:
    assert TITLES[NOTE] == "Note"


def test_a_replays_policy_can_be_read_in_a_narrow_column(browse: Browse, tmp_path: Path) -> None:
    make_run(tmp_path, "replay 2026-11-22 21.40.00 skip:100")

    async def look(browser: RunBrowser) -> None:
        view = browser._view
        name = names(browser)[0]
        metrics = view.fontMetrics()
        assert view.columnWidth(NAME) >= metrics.horizontalAdvance(name)
        narrow = metrics.horizontalAdvance("replay…skip:100__")
        assert metrics.elidedText(name, view.textElideMode(), narrow).endswith("skip:100")

    browse(tmp_path, look)


def test_a_duration_does_not_touch_the_device(browse: Browse, tmp_path: Path) -> None:
    make_run(tmp_path, "a", duration_s=12 * 3600.0)

    async def look(browser: RunBrowser) -> None:
        view = browser._view
        browser.resize(1600, 500)
        view.selectionModel().clear()
        await asyncio.sleep(0.05)
        index = browser.filter.index(0, TITLES.index("Device"))
        rect = view.visualRect(index)
        picture = view.viewport().grab().toImage()
        ground = picture.pixelColor(rect.left(), rect.top() + 2)
        assert all(
            picture.pixelColor(x, y) == ground
            for x in range(rect.left() - 6, rect.left() + 6)
            for y in range(rect.top() + 2, rect.bottom() - 2)
        )

    browse(tmp_path, look)
