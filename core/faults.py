"""What is wrong with values that a model refused, in words for people.

Pydantic says why a value was refused in words for programmers. Here a fault says what was given and, read
from the model itself, what is allowed.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

_LONGEST_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Fault:
    """One reason why values were refused."""

    place: str  # dotted name of the field or, for a fault between fields, of their section
    problem: str  # goes on after the name, or is a sentence by itself where ``between``
    between: bool = False

    def sentence(self, name_of: Callable[[str], str] = str) -> str:
        """Give the whole sentence, with the field called as ``name_of`` calls its place."""
        return self.problem if self.between else f"{name_of(self.place)} {self.problem}"


def faults_in(error: ValidationError, model: type[BaseModel]) -> list[Fault]:
    """Give every fault that ``error`` names in values for ``model``, each place once."""
    found: dict[str, Fault] = {}
    for detail in error.errors():
        fault = _fault(detail["type"], detail["loc"], detail["msg"], detail.get("input"), model)
        found.setdefault(fault.place, fault)
    return list(found.values())


def _fault(
    kind: str, loc: Sequence[int | str], message: str, given: object, model: type[BaseModel]
) -> Fault:
    """Say in our words what pydantic's kind of error means; ``message`` is ours in a value_error only."""
    place = ".".join(part for part in loc if isinstance(part, str))
    if kind == "extra_forbidden":
        section, _, name = place.rpartition(".")
        known = _section(model, section.split(".") if section else [])
        close = difflib.get_close_matches(name, known.model_fields if known else (), 1)
        nearest = ".".join([*section.split("."), *close] if section else close)
        return Fault(place, f"is not known{f'; the nearest is {nearest}' if close else ''}")
    if kind == "value_error":
        return Fault(place, message.removeprefix("Value error, "), between=True)
    field = _field(model, place.split(".")) if place else None
    allowed = "another kind of value" if field is None else allowed_in(field)
    if not place:
        return Fault("", f"The whole is {shown(given)}, but has to be a table", between=True)
    if kind == "missing":
        return Fault(place, f"is missing; it has to be {allowed}")
    return Fault(place, f"is {shown(given)}, but has to be {allowed}")


def allowed_in(field: FieldInfo) -> str:
    """Say which values a field takes, as "a whole number from 1 to 50"."""
    return _allowed(field.annotation, field)


def _allowed(kind: Any, field: FieldInfo) -> str:
    if type(None) in get_args(kind):
        return f"{_allowed(get_args(kind)[0], field)} or nothing"
    if get_origin(kind) is Literal:
        *others, last = (f'"{choice}"' for choice in get_args(kind))
        return f"{', '.join(others)} or {last}" if others else last
    if kind in (int, float):
        return f"{'a whole number' if kind is int else 'a number'}{_between(field)}"
    if kind is bool:
        return "true or false"
    if kind is str:
        return f"text{_size(field, 'characters')}"
    if get_origin(kind) in (tuple, list):
        members = {int: "whole numbers", float: "numbers", str: "texts"}
        return f"a list{_size(field, members.get(get_args(kind)[0], 'values'))}"
    return "a table"


def shown(value: object) -> str:
    """Give a value as a person would write it, however long, deep or strange it is."""
    if value is None or value in ("", (), []):
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    try:
        text = f'"{value}"' if isinstance(value, str) else repr(value)
    except RecursionError:
        return "tables nested too deeply to show"
    except ValueError:
        return "a number too long to show"
    if len(text) > _LONGEST_SHOWN:
        text = f"{text[:_LONGEST_SHOWN]}… ({len(text)} characters)"
    return text


def _between(field: FieldInfo) -> str:
    limits = dict(_limits(field))
    words = (("ge", "from"), ("gt", "above"), ("le", "to"), ("lt", "below"))
    parts = [f"{word} {limits[name]:.12g}" for name, word in words if name in limits]
    return f" {' and '.join(parts) if 'lt' in limits else ' '.join(parts)}" if parts else ""


def _size(field: FieldInfo, members: str) -> str:
    limits = dict(_limits(field))
    least, most = limits.get("min_length"), limits.get("max_length")
    if least is not None and most is not None:
        return f" of {least} to {most} {members}"
    if most is not None:
        return f" of at most {most} {members}"
    if least is not None:
        return f" of at least {least} {members}" if least > 1 else ", not empty"
    return f" of {members}" if members != "characters" else ""


def _limits(field: FieldInfo) -> Iterator[tuple[str, Any]]:
    for limit in field.metadata:
        for name in ("ge", "gt", "le", "lt", "min_length", "max_length"):
            value = getattr(limit, name, None)
            if value is not None:
                yield name, value


def _field(model: type[BaseModel], parts: Sequence[str]) -> FieldInfo | None:
    """The field at a dotted place; None where the model has none, as within a table of any names."""
    *sections, last = parts
    section = _section(model, sections)
    return None if section is None else section.model_fields.get(last)


def _section(model: type[BaseModel], parts: Sequence[str]) -> type[BaseModel] | None:
    for part in parts:
        field = model.model_fields.get(part)
        kind = None if field is None else field.annotation
        tables = (each for each in (kind, *get_args(kind)) if isinstance(each, type))
        inner = next((each for each in tables if issubclass(each, BaseModel)), None)
        if inner is None:
            return None
        model = inner
    return model
