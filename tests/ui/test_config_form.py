"""The form shows every setting of core.config, keeps its bounds, and gives back what it was given."""

from __future__ import annotations

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QComboBox, QDoubleSpinBox, QLabel, QLineEdit, QSpinBox, QToolButton
from pytestqt.qtbot import QtBot

from app.training.config_form import CORPUS_SETTING, MAIN_SETTINGS, ConfigForm
from app.training.setting_editors import setting_fields
from app.training.setting_row import EXPLAINED
from core.config import RunConfig, config_from_dict
from tests.ui.conftest import setting


@pytest.fixture
def form(qtbot: QtBot) -> ConfigForm:
    form = ConfigForm()
    qtbot.addWidget(form)
    form.show()
    return form


def fault(form: ConfigForm, place: str) -> str:
    label = form.findChild(QLabel, f"fault.{place}")
    assert label is not None
    return label.text()


OTHER = config_from_dict(
    {
        "name": "another run",
        "seed": 2**31 - 1,
        "device": "cpu",
        "deterministic": "off",
        "threads": 3,
        "data": {
            "corpus": "/somewhere/else",
            "dev_signers": ["S1", "S 2"],
            "test_signers": ["S3"],
            "dev_share": 0.123456789,
            "sentences": "splice",
            "glosses_min": 2,
            "glosses_max": 3,
            "batch_size": 64,
            "augment": {"mirror": 0.0, "rotation_deg": 12.5},
        },
        "model": {"encoder": "transformer", "strides": [1, 2, 3], "dropout": 0.0},
        "optim": {"lr": 1.5e-7, "min_lr_share": 1.0, "max_norm": 345.05, "beta2": 0.9999},
        "checkpoint": {"every_minutes": 0.25},
    }
)


@pytest.mark.parametrize("config", [RunConfig(), OTHER], ids=["defaults", "other"])
def test_settings_come_back_as_they_were_given(form: ConfigForm, config: RunConfig) -> None:
    form.set_config(config)
    assert form.check() == config


def test_every_setting_has_a_field_with_its_description(form: ConfigForm) -> None:
    for name, field in setting_fields():
        if name == CORPUS_SETTING:
            continue
        editor = setting(form, name)
        assert field.description
        assert field.description.replace("<", "&lt;") in editor.toolTip(), name
        assert editor.accessibleName(), name


def test_numbers_have_the_bounds_of_the_settings(form: ConfigForm) -> None:
    batch_size = setting(form, "data.batch_size")
    assert isinstance(batch_size, QSpinBox)
    assert (batch_size.minimum(), batch_size.maximum()) == (1, 4096)
    max_norm = setting(form, "optim.max_norm")
    assert isinstance(max_norm, QDoubleSpinBox)
    assert 0 < max_norm.minimum() < 1e-6, "0 would silence every gradient and is refused"
    assert max_norm.maximum() == 1e6
    dropout = setting(form, "model.dropout")
    assert isinstance(dropout, QDoubleSpinBox)
    assert dropout.minimum() == 0
    assert 0.999 < dropout.maximum() < 1


@pytest.mark.parametrize(
    ("text", "value"), [("2e-3", 0.002), ("0,5", 0.5), ("1E-05", 1e-5), ("7", 1.0)]
)
def test_numbers_are_typed_as_people_write_them(form: ConfigForm, text: str, value: float) -> None:
    rate = setting(form, "optim.lr")
    assert isinstance(rate, QDoubleSpinBox)
    rate.setFocus()
    rate.selectAll()
    QTest.keyClicks(rate, text)
    QTest.keyClick(rate, Qt.Key.Key_Return)
    assert rate.value() == pytest.approx(value, rel=1e-9)


def test_main_settings_are_seen_at_once_and_the_rest_on_demand(form: ConfigForm) -> None:
    seen = {name for name, _ in setting_fields() if name != CORPUS_SETTING}
    assert {name for name in seen if setting(form, name).isVisible()} == set(MAIN_SETTINGS)
    form.show_all(True)
    assert {name for name in seen if setting(form, name).isVisible()} == seen


def test_a_fault_is_shown_at_its_field(form: ConfigForm) -> None:
    strides = setting(form, "model.strides")
    assert isinstance(strides, QLineEdit)
    strides.setText("2, two")
    assert form.check() is None
    said = 'Strides is "two", but has to be a list of 1 to 4 whole numbers.'
    assert fault(form, "model.strides") == said
    assert strides.isVisible(), "a faulty field is never hidden"
    strides.setText("2, 2")
    assert form.check() == RunConfig()
    assert fault(form, "model.strides") == ""


def test_a_fault_between_settings_is_shown_at_their_section(form: ConfigForm) -> None:
    fewest = setting(form, "data.glosses_min")
    assert isinstance(fewest, QSpinBox)
    fewest.setValue(20)
    assert form.check() is None
    assert fault(form, "data") == (
        "The fewest glosses of a sentence (data.glosses_min, 20) are more than "
        "the most (data.glosses_max, 10)."
    )


def test_only_a_person_changes_settings(form: ConfigForm, qtbot: QtBot) -> None:
    with qtbot.assertNotEmitted(form.changed):
        form.set_config(OTHER)
    device = setting(form, "device")
    assert isinstance(device, QComboBox)
    with qtbot.waitSignal(form.changed):
        device.setCurrentText("mps")


def reset_button(form: ConfigForm, name: str) -> QToolButton:
    found = form.findChild(QToolButton, f"reset.{name}")
    assert found is not None, name
    return found


def test_a_changed_setting_is_marked_and_reset_by_its_own_button(
    form: ConfigForm, qtbot: QtBot
) -> None:
    epochs, rate = setting(form, "optim.epochs"), setting(form, "optim.lr")
    assert isinstance(epochs, QSpinBox)
    assert isinstance(rate, QDoubleSpinBox)
    assert form.changed_settings() == []
    width = epochs.width()
    epochs.setValue(7)
    rate.setValue(0.5)
    assert form.changed_settings() == ["optim.epochs", "optim.lr"]
    button = reset_button(form, "optim.epochs")
    assert button.isVisible()
    assert button.accessibleName() == "Reset Epochs to 50"
    assert epochs.accessibleDescription().endswith("Changed, the default is 50.")
    assert not reset_button(form, "optim.max_norm").isVisible()
    assert epochs.width() == width, "nothing moves"
    with qtbot.waitSignal(form.changed):
        button.click()
    assert epochs.value() == 50
    assert form.changed_settings() == ["optim.lr"], "the others keep their values"
    assert not button.isVisible()
    assert epochs.accessibleDescription() == "Passes over the training sentences."


def test_every_setting_is_marked_when_it_differs_and_comes_back(form: ConfigForm) -> None:
    form.show_all(True)
    form.set_config(OTHER)
    defaults = RunConfig().model_dump()
    for name in form.changed_settings():
        button = reset_button(form, name)
        assert button.isVisible(), name
        button.click()
        value = defaults
        for part in name.split("."):
            value = value[part]
        assert name not in form.changed_settings(), f"{name} did not come back to {value}"
    form.set_corpus(RunConfig().data.corpus)
    assert form.check() == RunConfig()


def test_changed_settings_out_of_sight_are_counted(form: ConfigForm) -> None:
    toggle = form.findChild(QToolButton, "all_settings")
    assert toggle is not None
    assert toggle.text() == "All settings"
    form.set_config(config_from_dict({"seed": 3, "model": {"layers": 4}, "optim": {"epochs": 2}}))
    assert toggle.text() == "All settings (2 changed)"


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("clip norm", {"optim.max_norm"}),
        ("optim.beta1", {"optim.beta1"}),
        ("CHECKPOINTS minutes", {"checkpoint.every_minutes"}),
        ("held-out", {"data.test_signers"}),
        ("no such thing", set()),
    ],
)
def test_settings_are_found_by_name_meaning_and_section(
    form: ConfigForm, query: str, found: set[str]
) -> None:
    search = form.findChild(QLineEdit, "search_settings")
    assert search is not None
    names = [name for name, _ in setting_fields() if name != CORPUS_SETTING]
    search.setText(query)
    assert {name for name in names if setting(form, name).isVisible()} == found
    nothing = form.findChild(QLabel, "no_setting_found")
    assert nothing is not None
    assert nothing.isVisible() == (not found)
    search.clear()
    assert {name for name in names if setting(form, name).isVisible()} == set(MAIN_SETTINGS)
    assert not nothing.isVisible()


def test_a_fault_is_shown_though_something_else_is_searched_for(form: ConfigForm) -> None:
    search = form.findChild(QLineEdit, "search_settings")
    strides = setting(form, "model.strides")
    assert search is not None
    assert isinstance(strides, QLineEdit)
    strides.setText("")
    search.setText("epochs")
    assert form.check() is None
    assert strides.isVisible()
    assert fault(form, "model.strides") == (
        "Strides is empty, but has to be a list of 1 to 4 whole numbers."
    )


def test_hard_settings_are_explained_below_their_field(form: ConfigForm) -> None:
    names = dict(setting_fields())
    assert set(EXPLAINED) < set(names)
    for name in set(EXPLAINED) & set(MAIN_SETTINGS):
        note = form.findChild(QLabel, f"note.{name}")
        assert note is not None
        assert note.isVisible()
        assert note.y() > setting(form, name).y()
        assert note.text() != names[name].description, "the tooltip says that already"
