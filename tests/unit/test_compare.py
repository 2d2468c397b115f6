from pathlib import Path

import pytest

from core.analysis.compare import (
    MISSING,
    Difference,
    differences,
    flat_settings,
)
from core.config import RunConfig, config_to_toml
from signscope.errors import RunFolderError
from signscope.folder import RunFolder


def test_only_what_differs_is_given_by_its_dotted_name(tmp_path: Path) -> None:
    first, second = RunFolder.create(tmp_path, "a"), RunFolder.create(tmp_path, "b")
    first.config_path.write_text(config_to_toml(RunConfig()), encoding="utf-8")
    other = RunConfig.model_validate(
        {"seed": 3, "optim": {"lr": 0.01}, "data": {"augment": {"mirror": 0.0}}}
    )
    text = config_to_toml(other) + "\n[new_section]\nfancy = true\n"
    second.config_path.write_text(text, encoding="utf-8")
    found = differences([flat_settings(first.path), flat_settings(second.path)])
    assert set(found) == {
        Difference("seed", (0, 3)),
        Difference("optim.lr", (RunConfig().optim.lr, 0.01)),
        Difference("data.augment.mirror", (0.5, 0.0)),
        Difference("new_section.fancy", (MISSING, True)),
    }
    assert differences([flat_settings(first.path)] * 3) == []
    assert differences([]) == []


def test_missing_or_broken_settings_are_named(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "a")
    with pytest.raises(RunFolderError, match="settings"):
        flat_settings(folder.path)
    folder.config_path.write_text("= 3")
    with pytest.raises(RunFolderError, match="settings"):
        flat_settings(folder.path)
