"""docs/settings.md, made of core.config: what the page says is what the program checks."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from core.config import RunConfig

_HEAD = """# Settings of a run

<!-- Made by `python main.py settings > docs/settings.md`. A test holds it against core/config.py. -->

Every setting stands in a TOML file for `python main.py train --config run.toml`, can be given one by one as
`--set section.name=value`, and is shown in the window with the same description as its tooltip. A run folder
keeps all of its settings in `config.toml`. A setting that is unknown or out of its bounds is refused by name.
"""


_BOUNDS = {
    "minimum": "from {}",
    "exclusiveMinimum": "above {}",
    "maximum": "to {}",
    "exclusiveMaximum": "below {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} values",
    "maxItems": "at most {} values",
}
"""Words for the bounds in a JSON schema, in the order in which they are written."""


def settings_page() -> str:
    """Give the page as Markdown: a table for each section, in the order of the config."""
    return "\n".join([_HEAD, *_section(RunConfig, "")]) + "\n"


def _section(section: type[BaseModel], path: str) -> list[str]:
    title = f"`[{path}]`" if path else "Top level"
    lines = [f"## {title}", ""]
    if path and section.__doc__:
        lines += [section.__doc__.strip(), ""]
    lines += ["| setting | default | allowed | what it does |", "| --- | --- | --- | --- |"]
    schemas = section.model_json_schema()["properties"]
    parts: list[str] = []
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            parts += _section(field.annotation, f"{path}.{name}" if path else name)
        else:
            lines.append(
                f"| `{name}` | `{_toml(field.default)}` | {_allowed(schemas[name])} | {field.description} |"
            )
    return [*lines, "", *parts]


def _toml(value: Any) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return str(value)


def _allowed(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{choice}`" for choice in schema["enum"])
    return (
        ", ".join(text.format(schema[key]) for key, text in _BOUNDS.items() if key in schema)
        or "any"
    )
