"""A value that is refused is told in a sentence: the setting, what was given, what is allowed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core.config import RunConfig, config_from_dict, load_config
from core.errors import ConfigError
from core.faults import faults_in, shown

PYDANTIC = re.compile(
    r"Input should|valid (integer|number|string|tuple|dict)|after validation|Extra inputs|unable to parse"
    r"|Value error|validation error|pydantic|type=",
    re.IGNORECASE,
)

WRONG: dict[str, Any] = {
    "text": "seven",
    "no text": "",
    "long text": "x" * 500,
    "a number": 7,
    "a broken number": 2.5,
    "below every bound": -1e30,
    "above every bound": 1e30,
    "no number": float("nan"),
    "endless": float("inf"),
    "a truth": True,
    "nothing": None,
    "a list": ["a", "b"],
    "an empty list": [],
    "a long list": [2] * 9,
    "a list of lists": [[1]],
    "a table": {"a": 1},
}


def settings(model: type[BaseModel] = RunConfig, prefix: str = "") -> list[str]:
    found = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found += [f"{prefix}{name}", *settings(kind, f"{prefix}{name}.")]
        else:
            found.append(f"{prefix}{name}")
    return found


def nested(name: str, value: Any) -> dict[str, Any]:
    for part in reversed(name.split(".")):
        value = {part: value}
    assert isinstance(value, dict)
    return value


@pytest.mark.parametrize("name", settings())
def test_every_wrong_value_of_every_setting_is_told_in_a_sentence(name: str) -> None:
    refused = 0
    for kind, value in WRONG.items():
        try:
            config_from_dict(nested(name, value))
        except ConfigError as error:
            refused += 1
            assert name in error.what, kind
            assert not PYDANTIC.search(str(error)), f"{kind}: {error.what}"
            between = re.match(r"One setting cannot be used: The ", error.what)
            told = " is not known" in error.what or " has to be " in error.what
            assert between or told, f"{kind}: {error.what}"
    assert refused >= len(WRONG) // 2, "a setting takes at most a few kinds of values"


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("model.strides", [], "model.strides is empty, but has to be a list of 1 to 4 whole numbers"),
        ("model.strides", [2, "two"], 'model.strides is "two", but has to be a list of 1 to 4 whole numbers'),
        ("data.batch_size", 0, "data.batch_size is 0, but has to be a whole number from 1 to 4096"),
        ("data.batch_size", 2.5, "data.batch_size is 2.5, but has to be a whole number from 1 to 4096"),
        ("data.dev_share", 1, "data.dev_share is 1, but has to be a number above 0 and below 1"),
        ("optim.lr", "fast", 'optim.lr is "fast", but has to be a number above 0 to 1'),
        ("model.encoder", "gru", 'model.encoder is "gru", but has to be "bilstm" or "transformer"'),
        ("data.corpus", "", "data.corpus is empty, but has to be text, not empty"),
        ("data.dev_signers", "S1", 'data.dev_signers is "S1", but has to be a list of texts'),
        ("optim", 3, "optim is 3, but has to be a table"),
        ("optim.learning_rate", 1, "optim.learning_rate is not known"),
        ("optim.max_nrm", 1, "optim.max_nrm is not known; the nearest is optim.max_norm"),
        ("sed", 1, "sed is not known; the nearest is seed"),
    ],
)  # fmt: skip
def test_the_sentence_names_what_was_given_and_what_is_allowed(
    name: str, value: Any, sentence: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        config_from_dict(nested(name, value))
    assert caught.value.what == f"One setting cannot be used: {sentence}"


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"data": {"glosses_min": 20, "glosses_max": 3}}, ("data.glosses_min, 20", "data.glosses_max, 3")),
        ({"data": {"dev_signers": ["S1"], "test_signers": ["S1"]}}, ('"S1"', "dev signers", "held-out")),
        ({"model": {"width": 33}}, ("model.width", "33", "even")),
        ({"model": {"encoder": "transformer", "width": 10}}, ("model.width, 10", "model.heads, 4")),
        ({"model": {"strides": [2, 9]}}, ("model.strides", "2, 9", "from 1 to 4")),
    ],
)  # fmt: skip
def test_settings_that_do_not_go_together_are_named_with_both_values(
    values: dict[str, Any], parts: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigError) as caught:
        config_from_dict(values)
    for part in parts:
        assert part in caught.value.what


def test_every_faulty_setting_is_told_once(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('seed = -1\n[model]\nstrides = ["a", "b"]\n', encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert caught.value.what == (
        "2 settings cannot be used: seed is -1, but has to be a whole number from 0 to 2147483647; "
        'model.strides is "a", but has to be a list of 1 to 4 whole numbers'
    )
    assert caught.value.subject == str(path)


def test_what_is_too_long_or_too_deep_to_show_is_said_so() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert shown(deep) == "tables nested too deeply to show"
    assert shown(10**9999) == "a number too long to show"
    assert shown("x" * 500).endswith("… (502 characters)")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")
    size: int = Field(ge=0)


class _Whole(BaseModel):
    parts: tuple[_Part, ...]
    share: float | None
    names: dict[str, str]
    ready: bool


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"parts": [{"size": -1}]}, "parts.size is -1, but has to be a whole number from 0"),
        ({"parts": [{}]}, "parts.size is missing; it has to be a whole number from 0"),
        ({"share": "all"}, 'share is "all", but has to be a number or nothing'),
        ({"names": {"ready": 3}}, "names.ready is 3, but has to be another kind of value"),
        ({"ready": "soon"}, 'ready is "soon", but has to be true or false'),
    ],
)
def test_files_of_the_program_are_judged_in_the_same_words(
    change: dict[str, Any], sentence: str
) -> None:
    right: dict[str, Any] = {"parts": [{"size": 1}], "share": None, "names": {}, "ready": True}
    with pytest.raises(ValidationError) as caught:
        _Whole.model_validate(right | change)
    assert [fault.sentence() for fault in faults_in(caught.value, _Whole)] == [sentence]
