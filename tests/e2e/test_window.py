from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

Program = Callable[..., tuple[int, str, str]]


def test_the_window_opens_and_closes_by_itself(program: Program, small_config: Path) -> None:
    status, out, err = program(
        "--config", small_config, QT_QPA_PLATFORM="offscreen", SIGNSCOPE_EXIT_AFTER_S="1"
    )
    said = [
        line for line in err.splitlines() if "propagateSizeHints" not in line
    ]  # Qt's offscreen plugin
    assert (status, out, said) == (0, "", [])


def test_a_wrong_config_is_told_before_the_window_opens(program: Program, tmp_path: Path) -> None:
    status, _, err = program("--config", tmp_path / "none.toml", QT_QPA_PLATFORM="offscreen")
    assert status == 2
    assert "none.toml" in err
