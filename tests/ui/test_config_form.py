"""The form shows every setting of core.config, keeps its bounds, and gives back what it was given."""

from __future__ import annotations

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QComboBox, QDoubleSpinBox, QLabel, QLineEdit, QSpinBox
from pytestqt.qtbot import QtBot

from app.training.config_form import CORPUS_SETTING, MAIN_SETTINGS, ConfigForm, setting_fields
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
    assert "valid integer" in fault(form, "model.strides")
    assert strides.isVisible(), "a faulty field is never hidden"
    strides.setText("2, 2")
    assert form.check() == RunConfig()
    assert fault(form, "model.strides") == ""


def test_a_fault_between_settings_is_shown_at_their_section(form: ConfigForm) -> None:
    fewest = setting(form, "data.glosses_min")
    assert isinstance(fewest, QSpinBox)
    fewest.setValue(20)
    assert form.check() is None
    assert fault(form, "data") == "glosses_min is larger than glosses_max"


def test_only_a_person_changes_settings(form: ConfigForm, qtbot: QtBot) -> None:
    with qtbot.assertNotEmitted(form.changed):
        form.set_config(OTHER)
    device = setting(form, "device")
    assert isinstance(device, QComboBox)
    with qtbot.waitSignal(form.changed):
        device.setCurrentText("mps")
