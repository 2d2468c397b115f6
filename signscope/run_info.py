"""What a run says about itself in run.json, and what people say about it in about.json.

Both are frozen data, checked when they are made, and files of JSON with a checksum over their values:
without it a flipped digit would be another WER.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self, get_args, get_type_hints

from signscope.run_state import RunState

INFO_VERSION = 2
"""Version of run.json that this program writes. Version 1, with the name and the note in it, is read too."""

State = Literal["idle", "running", "pausing", "paused", "stopping", "finished", "stopped", "failed"]
ACTIVE = frozenset(state.value for state in RunState if state.active)
_CHECKSUM = "sha256"
_MOST_SECONDS = 2.5e11  # the year 9892; later moments cannot be shown as dates
_MOST_COUNT = 2**53


class UnknownVersionError(ValueError):
    """A file is of a version that this program does not know; ``version`` says which."""

    def __init__(self, version: int) -> None:
        super().__init__(f"format {version}")
        self.version = version


class _Checked:
    """A dataclass whose fields are of their types and within bounds, or that is not made.

    Texts hold no NUL; counts and numbers are finite, not negative and of a size that can be shown.
    """

    def __post_init__(self) -> None:
        """Check every field; raises ValueError naming the first that is wrong."""
        for name, hint in get_type_hints(type(self)).items():
            fault = _fault(hint, getattr(self, name))
            if fault:
                raise ValueError(f"{name}: {fault}")

    @classmethod
    def of_values(cls, values: Any) -> Self:
        """Make it of the values of a JSON object; raises ValueError naming what is wrong."""
        if not isinstance(values, dict):
            raise ValueError("content: it is not an object with names and values")
        hints = get_type_hints(cls)
        unknown = sorted(set(values) - set(hints))
        if unknown:
            raise ValueError(f"{unknown[0]}: there is no such value")
        try:
            return cls(
                **{name: _of_json(name, hints[name], value) for name, value in values.items()}
            )
        except TypeError as error:
            raise ValueError(str(error)) from error


def _of_json(name: str, hint: Any, value: Any) -> Any:
    if isinstance(hint, type) and issubclass(hint, _Checked):
        try:
            return hint.of_values(value)
        except ValueError as error:
            raise ValueError(f"{name}.{error}") from error
    if hint == tuple[str, ...] and isinstance(value, list):
        return tuple(value)
    return value


def _fault(hint: Any, value: Any) -> str:
    """Say what is wrong with ``value`` as a field of this type, "" if nothing."""
    if type(None) in get_args(hint):
        return "" if value is None else _fault(get_args(hint)[0], value)
    if hint is float:
        number = type(value) in (int, float) and math.isfinite(value)
        return "" if number and 0 <= value <= _MOST_SECONDS else "it is no number of a usable size"
    if hint is int:
        return "" if type(value) is int and 0 <= value < _MOST_COUNT else "it is no count"
    if hint is bool:
        return "" if type(value) is bool else "it is neither true nor false"
    if hint is str:
        return "" if _is_text(value) else "it is no text"
    if hint == tuple[str, ...]:
        fine = isinstance(value, tuple) and all(map(_is_text, value))
        return "" if fine else "it is no list of texts"
    if hint == dict[str, str]:
        fine = isinstance(value, dict) and all(map(_is_text, (*value, *value.values())))
        return "" if fine else "it does not give texts names"
    if hint == State:
        return "" if value in get_args(State) else "there is no such state"
    return "" if isinstance(value, hint) else f"it is no {hint.__name__}"


def _is_text(value: object) -> bool:
    return isinstance(value, str) and "\0" not in value


@dataclass(frozen=True)
class CorpusInfo(_Checked):
    """The corpus that a run was trained on, as it was then."""

    name: str = ""
    path: str = ""
    fingerprint: str = ""  # hex sha256 of the corpus' content
    synthetic: bool = False


@dataclass(frozen=True)
class RunInfo(_Checked):
    """What run.json holds. WERs are shares (0.25 is 25 %); None means not measured (yet)."""

    state: State = "idle"
    device: str = ""
    corpus: CorpusInfo = CorpusInfo()
    versions: dict[str, str] = field(default_factory=dict)
    created: float = field(default_factory=time.time)  # seconds since the Unix epoch
    error: str = ""  # why the run failed, as it was told to the person
    best_wer: float | None = None
    test_wer: float | None = None
    epochs: int = 0  # finished epochs
    total_epochs: int = 0
    batches: int = 0  # finished batches, applied or not
    duration_s: float = 0.0  # seconds spent training, pauses not counted


@dataclass(frozen=True)
class About(_Checked):
    """What people say about a run: about.json. Whoever changes it touches nothing of the training's."""

    name: str = ""  # as it is shown; the folder keeps its own
    note: str = ""
    tags: tuple[str, ...] = ()


def info_bytes(info: RunInfo) -> bytes:
    """Give the content of run.json."""
    return _sealed({"schema_version": INFO_VERSION, **dataclasses.asdict(info)})


def about_bytes(about: About) -> bytes:
    """Give the content of about.json."""
    return _sealed(dataclasses.asdict(about))


def parse_info(content: bytes) -> tuple[RunInfo, About | None]:
    """Read run.json; gives the name and the note too where an old one holds them.

    Raises:
        UnknownVersionError: It is of a later version.
        ValueError: It is not what was written; says why.
    """
    values, checksum = _opened(content)
    version = values.get("schema_version")
    if isinstance(version, int) and version not in (1, INFO_VERSION):
        raise UnknownVersionError(version)
    told = {key: value for key, value in values.items() if key != "schema_version"}
    about = None
    if version == 1:
        if "name" not in told:
            raise ValueError("name: it is missing")
        about = About.of_values({key: told.pop(key) for key in ("name", "note") if key in told})
    elif version is None:
        raise ValueError("schema_version: it is missing")
    info = RunInfo.of_values(told)
    _compare(values, checksum)
    return info, about


def parse_about(content: bytes) -> About:
    """Read about.json; raises ValueError when it is not what was written."""
    values, checksum = _opened(content)
    about = About.of_values(values)
    _compare(values, checksum)
    return about


def _opened(content: bytes) -> tuple[dict[str, Any], object]:
    """Give the values of a file and its checksum, which is yet to be compared."""
    try:
        values = json.loads(content.decode())
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(values, dict):
        raise ValueError("it is not an object with names and values")
    return values, values.pop(_CHECKSUM, None)


def _sealed(values: dict[str, Any]) -> bytes:
    text = json.dumps({**values, _CHECKSUM: _checksum(values)}, indent=2, ensure_ascii=False)
    # Half characters, as in odd file names, have no UTF-8; this is their escape in JSON.
    return text.encode("utf-8", "backslashreplace") + b"\n"


def _compare(values: Mapping[str, Any], checksum: object) -> None:
    if checksum != _checksum(values):
        raise ValueError("its checksum does not match, a value was changed outside SignScope")


def _checksum(values: Mapping[str, Any]) -> str:
    """SHA-256 of JSON values, whatever their order and the white space between them."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
