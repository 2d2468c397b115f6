"""The whole window: a run from Start to its end, keys, errors, what is remembered, what is shown first."""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QAccessible
from PySide6.QtTest import QTest
from PySide6.QtWidgets import (
    QAbstractButton,
    QDockWidget,
    QLabel,
    QLineEdit,
    QPushButton,
    QSpinBox,
    QWidget,
)
from pytestqt.qtbot import QtBot

from app.main_window import MainWindow, first_size
from app.theme import ThemeChoice
from app.training.live_run import RunRequest
from core.config import RunConfig
from core.errors import CorpusError
from core.training.session import RunResult
from signscope.records import EventKind, RunEventRecord, TrainingObserver
from signscope.run_state import RunControl, RunState
from tests.tiny_run import BATCHES_PER_EPOCH, tiny_config, tiny_corpus
from tests.ui.conftest import MakeWindow, setting
from tests.ui.made_runs import MadeJob, bad_step, step_record

LIMIT_MS = 20_000


def label(window: MainWindow, name: str) -> str:
    found = window.findChild(QLabel, name)
    assert found is not None, name
    return found.text()


def button(window: MainWindow, key: str) -> QPushButton:
    found = window.findChild(QPushButton, f"button.{key}")
    assert found is not None, key
    return found


def wait_for(qtbot: QtBot, window: MainWindow, state: RunState) -> None:
    qtbot.waitUntil(lambda: window.controller.snapshot().state is state, timeout=LIMIT_MS)


def test_a_run_from_start_to_finish(make_window: MakeWindow, qtbot: QtBot, tmp_path: Path) -> None:
    window = make_window(folder=tmp_path / "runs")
    window.next_run.show_config(tiny_config(tiny_corpus(tmp_path)))
    button(window, "run.start").click()
    wait_for(qtbot, window, RunState.RUNNING)
    assert label(window, "run_state") == "Running"
    wait_for(qtbot, window, RunState.FINISHED)
    batches = 2 * BATCHES_PER_EPOCH
    assert window.monitor.newest == batches - 1
    assert window.monitor.loss.isVisible()
    assert label(window, "health").startswith(f"applied {batches}/{batches}, clipped ")
    assert label(window, "health").endswith("non-finite 0")
    assert window.epochs.model.rowCount() == 2
    log = window.log.text()
    assert "Epoch 1/2:" in log
    assert "Batch 0: loss=" in log
    assert "Epoch 2 complete: avg_loss=" in log
    assert window.messages.text().startswith("Run finished.")
    assert str(tmp_path / "runs") in window.messages.text()


def test_buttons_follow_the_state(make_window: MakeWindow, qtbot: QtBot) -> None:
    window = make_window(MadeJob())

    def enabled() -> list[str]:
        keys = ("run.start", "run.pause", "run.stop")
        return [key for key in keys if button(window, key).isEnabled()]

    assert enabled() == ["run.start"]
    button(window, "run.start").click()
    wait_for(qtbot, window, RunState.RUNNING)
    assert enabled() == ["run.pause", "run.stop"]
    button(window, "run.pause").click()
    wait_for(qtbot, window, RunState.PAUSED)
    assert button(window, "run.pause").text() == "Resume"
    assert label(window, "run_state") == "Paused"
    button(window, "run.pause").click()
    wait_for(qtbot, window, RunState.RUNNING)
    assert button(window, "run.pause").text() == "Pause"
    button(window, "run.stop").click()
    wait_for(qtbot, window, RunState.FINISHED)
    assert enabled() == ["run.start"]
    qtbot.waitUntil(lambda: label(window, "run_state") == "Stopped", timeout=LIMIT_MS)


def test_stopping_says_so_and_takes_no_second_request(
    make_window: MakeWindow, qtbot: QtBot
) -> None:
    slow = QtSlowStop()
    window = make_window(slow)
    window.start_run()
    wait_for(qtbot, window, RunState.RUNNING)
    button(window, "run.stop").click()
    wait_for(qtbot, window, RunState.STOPPING)
    assert label(window, "run_state") == "Stopping…"
    assert not button(window, "run.stop").isEnabled()
    assert not button(window, "run.pause").isEnabled()
    slow.may_end = True
    wait_for(qtbot, window, RunState.FINISHED)


class QtSlowStop:
    """A job that, once asked to stop, ends only when it may."""

    may_end = False

    def __call__(
        self, request: RunRequest, control: RunControl, observer: TrainingObserver
    ) -> RunResult:
        while not self.may_end:
            control.wait_for(RunState.FINISHED, timeout_s=0.01)
        return RunResult(Path("made"), "stopped", 0, 0, 0.5, 0.5)


def test_space_pauses_and_resumes_wherever_the_focus_is(
    make_window: MakeWindow, qtbot: QtBot
) -> None:
    window = make_window(MadeJob())
    window.activateWindow()
    window.start_run()
    wait_for(qtbot, window, RunState.RUNNING)
    for focus in (window.monitor.loss.canvas, button(window, "run.stop")):
        focus.setFocus()
        QTest.keyClick(focus, Qt.Key.Key_Space)
        wait_for(qtbot, window, RunState.PAUSED)
        QTest.keyClick(focus, Qt.Key.Key_Space)
        wait_for(qtbot, window, RunState.RUNNING)


def test_space_is_a_letter_in_a_text_field(make_window: MakeWindow, qtbot: QtBot) -> None:
    window = make_window(MadeJob())
    window.panel.form.show_all(True)
    name = setting(window.panel.form, "name")
    assert isinstance(name, QLineEdit)
    window.activateWindow()
    name.setFocus()
    QTest.keyClicks(name, "my run")
    assert name.text() == "my run"


def test_settings_rest_while_a_run_is_active(make_window: MakeWindow, qtbot: QtBot) -> None:
    window = make_window(MadeJob())
    assert window.panel.form.isEnabled()
    window.start_run()
    wait_for(qtbot, window, RunState.RUNNING)
    assert not window.panel.form.isEnabled()
    assert not window.actions_["corpus.open"].isEnabled()
    window.controller.stop()
    wait_for(qtbot, window, RunState.FINISHED)
    assert window.panel.form.isEnabled()
    assert window.actions_["corpus.open"].isEnabled()


def test_an_error_is_told_with_what_to_do(make_window: MakeWindow, qtbot: QtBot) -> None:
    def fails(request: RunRequest, control: RunControl, observer: TrainingObserver) -> RunResult:
        raise CorpusError("The corpus is gone", subject="/my/corpus", hint="Open another folder.")

    window = make_window(fails)
    window.start_run()
    wait_for(qtbot, window, RunState.FAILED)
    qtbot.waitUntil(lambda: window.messages.isVisible(), timeout=LIMIT_MS)
    for part in ("The corpus is gone", "/my/corpus", "Open another folder."):
        assert part in window.messages.text()
    with qtbot.waitActive(window):
        window.activateWindow()
    QTest.keyClick(window, Qt.Key.Key_Escape)
    qtbot.waitUntil(lambda: not window.messages.isVisible(), timeout=LIMIT_MS)
    assert button(window, "run.start").isEnabled()


def test_an_alert_is_told_while_the_run_rests(make_window: MakeWindow, qtbot: QtBot) -> None:
    def alerts(request: RunRequest, control: RunControl, observer: TrainingObserver) -> RunResult:
        observer.on_event(RunEventRecord(0, EventKind.ALERT, "10 batches in a row", 0.0))
        while not control.wants_stop():
            control.wait_for(RunState.STOPPING, timeout_s=1.0)
        return RunResult(Path("made"), "stopped", 0, 0, 0.5, 0.5)

    window = make_window(alerts)
    window.start_run()
    qtbot.waitUntil(lambda: "10 batches in a row" in window.messages.text(), timeout=LIMIT_MS)


def test_faulty_settings_start_nothing(make_window: MakeWindow, qtbot: QtBot) -> None:
    window = make_window(MadeJob())
    fewest = setting(window.panel.form, "data.glosses_min")
    assert isinstance(fewest, QSpinBox)
    fewest.setValue(50)
    assert not window.start_run()
    assert not window.controller.active
    assert "Some settings cannot be used" in window.messages.text()
    told = next(
        found
        for found in window.panel.form.findChildren(QLabel)
        if found.text().startswith("The fewest glosses of a sentence")
    )
    qtbot.waitUntil(lambda: not told.visibleRegion().isEmpty(), timeout=LIMIT_MS)


def test_non_finite_batches_turn_the_health_line_to_warning(
    make_window: MakeWindow, qtbot: QtBot
) -> None:
    def job(request: RunRequest, control: RunControl, observer: TrainingObserver) -> RunResult:
        for record in (step_record(0), bad_step(1), step_record(2)):
            observer.on_step(record)
        return RunResult(Path("made"), "finished", 3, 0, 0.5, 0.5)

    window = make_window(job)
    window.start_run()
    wait_for(qtbot, window, RunState.FINISHED)
    assert label(window, "health") == "applied 2/3, clipped 2, non-finite 1"
    health = window.findChild(QLabel, "health")
    assert health is not None
    assert health.property("role") == "warning"
    assert "NOT APPLIED, encoder.weight is NaN" in window.log.text()


def test_the_first_start_says_what_to_press(make_window: MakeWindow) -> None:
    window = make_window(MadeJob())
    empty = window.findChild(QWidget, "empty_plots")
    assert empty is not None
    assert empty.isVisible()
    texts = " ".join(found.text() for found in empty.findChildren(QLabel))
    assert "Press Start (F5)" in texts
    assert "synthetic" in texts
    assert window.windowTitle() == "Demo corpus (synthetic) – SignScope"


def test_synthetic_data_is_called_so_while_it_is_trained_on(
    make_window: MakeWindow, qtbot: QtBot, tmp_path: Path
) -> None:
    window = make_window(MadeJob())
    window.next_run.use_corpus(str(tiny_corpus(tmp_path)))
    assert not window.findChild(QLabel, "synthetic_data").isVisible()  # type: ignore[union-attr]
    assert window.findChild(QLabel, "synthetic_badge").isVisible()  # type: ignore[union-attr]
    assert label(window, "corpus_summary") == "2 signers, 6 glosses, 27 sentences"
    window.start_run()
    assert window.findChild(QLabel, "synthetic_data").isVisible()  # type: ignore[union-attr]


def test_a_folder_that_is_no_corpus_is_refused_with_a_message(
    make_window: MakeWindow, tmp_path: Path
) -> None:
    window = make_window(MadeJob())
    window.next_run.use_corpus(str(tmp_path))
    assert str(tmp_path) in window.messages.text()
    assert window.panel.picker.corpus == "demo"


def test_the_window_is_found_as_it_was_left(
    make_window: MakeWindow, qtbot: QtBot, tmp_path: Path
) -> None:
    corpus = tiny_corpus(tmp_path)
    first = make_window(MadeJob())
    first.resize(790, 640)  # the offscreen screen has 800 x 800
    first.actions_["dock.log"].trigger()
    first.next_run.use_corpus(str(corpus))
    epochs = setting(first.panel.form, "optim.epochs")
    assert isinstance(epochs, QSpinBox)
    epochs.setValue(7)
    first.panel.form.show_all(True)
    first.leave()
    again = make_window(MadeJob())
    assert (again.width(), again.height()) == (790, 640)
    assert not again.log.isVisible()
    assert not again.actions_["dock.log"].isChecked()
    assert again.epochs.isVisible()
    assert again.panel.picker.corpus == str(corpus)
    assert again.panel.form.shows_all
    config = again.panel.form.check()
    assert config is not None
    assert (config.optim.epochs, config.data.corpus) == (7, str(corpus))
    again.actions_["view.reset"].trigger()
    assert again.log.isVisible()
    assert again.actions_["dock.log"].isChecked()


def test_settings_travel_by_file(make_window: MakeWindow, tmp_path: Path) -> None:
    window = make_window(MadeJob())
    window.next_run.show_config(tiny_config(tiny_corpus(tmp_path)))
    saved = tmp_path / "run.toml"
    window.next_run.save(str(saved))
    window.next_run.show_config(RunConfig())
    window.next_run.load(str(saved))
    assert window.panel.form.check() == tiny_config(tiny_corpus(tmp_path))
    saved.write_text("[optim]\nmax_norm = 0\n")
    window.next_run.load(str(saved))
    assert "optim.max_norm" in window.messages.text()


def test_a_theme_is_chosen_and_remembered(make_window: MakeWindow) -> None:
    window = make_window(MadeJob())
    try:
        window.actions_["theme.dark"].trigger()
        assert window.theme.colors.dark
        assert window.settings.theme is ThemeChoice.DARK
    finally:
        window.actions_["theme.light"].trigger()
    assert not window.theme.colors.dark


def test_help_opens_and_closes(make_window: MakeWindow) -> None:
    window = make_window(MadeJob())
    for key, name in (("help.shortcuts", "shortcuts"), ("help.about", "about")):
        window.actions_[key].trigger()
        dialog = window.findChild(QWidget, name)
        assert dialog is not None
        assert dialog.isVisible()
        dialog.close()


def test_everything_that_takes_focus_has_a_name(make_window: MakeWindow) -> None:
    window = make_window(MadeJob())
    window.panel.form.show_all(True)
    nameless = [
        f"{type(widget).__name__} {widget.objectName()}"
        for widget in window.findChildren(QWidget)
        if widget.isVisible()
        and widget.focusPolicy() & Qt.FocusPolicy.TabFocus
        and not (widget.accessibleName() or getattr(widget, "text", str)())
        and not widget.objectName().startswith("qt_")  # the line edit within a spin box
    ]
    assert nameless == []


def test_the_buttons_of_a_dock_are_named_after_it(make_window: MakeWindow) -> None:
    window = make_window(MadeJob())
    names = [
        QAccessible.queryAccessibleInterface(button).text(QAccessible.Text.Name)
        for dock in window.findChildren(QDockWidget)
        for button in dock.findChildren(QAbstractButton)
        if button.objectName().startswith("qt_dockwidget_")
    ]
    assert {"Close Camera", "Float Camera", "Close Log"} <= set(names)
    assert len(set(names)) == len(names) == 10


@pytest.mark.parametrize("room", [(1280, 720), (960, 1040), (1280, 690)])
def test_the_first_window_leaves_room_for_its_frame_on_a_small_screen(
    room: tuple[int, int], make_window: MakeWindow
) -> None:
    size = first_size(QSize(*room))
    assert size.width() < room[0]
    assert size.height() <= room[1] - 40, "the frame puts the last line off the screen"
    window = make_window(MadeJob())
    window.actions_["dock.camera"].setChecked(False)
    least = window.minimumSizeHint()
    assert least.width() <= size.width() and least.height() <= size.height()
