"""The promises of the project's own files: versions, layers, pages made by scripts, checks that bite."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

from core.settings_page import settings_page
from tests.conftest import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def pins() -> dict[NormalizedName, Version]:
    """What constraints.txt says, by name; fails on a line that is not an exact version."""
    found: dict[NormalizedName, Version] = {}
    for line in (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, version = line.split("==")
            assert canonicalize_name(name) not in found, f"{name} stands twice"
            found[canonicalize_name(name)] = Version(version)
    return found


def direct_requirements() -> list[Requirement]:
    extras = [text for texts in PROJECT["optional-dependencies"].values() for text in texts]
    named = [Requirement(text) for text in [*PROJECT["dependencies"], *extras]]
    return [requirement for requirement in named if requirement.name != PROJECT["name"]]


def run_python(code: str, **environment: str) -> str:
    """Run ``code`` in a fresh interpreter in the repository; gives its standard output."""
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


# ---------------------------------------------------------------- versions


def test_every_direct_dependency_is_bounded_and_pinned_within_its_bounds() -> None:
    pinned = pins()
    for requirement in direct_requirements():
        operators = {specifier.operator for specifier in requirement.specifier}
        assert operators == {"=="} or {">=", "<"} <= operators, requirement
        assert pinned[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_torch_is_pinned_without_naming_one_build_of_it() -> None:
    assert str(pins()[canonicalize_name("torch")]) == "2.13.0"


def test_the_environment_holds_the_pinned_versions() -> None:
    installed: dict[NormalizedName, Version] = {
        canonicalize_name(dist.metadata["Name"]): Version(Version(dist.version).public)
        for dist in importlib.metadata.distributions()
    }
    pinned = pins()
    wrong = {
        name: f"{installed[name]}, not {pinned[name]}"
        for name in pinned.keys() & installed.keys()
        if installed[name] != pinned[name]
    }
    assert not wrong
    assert pinned.keys() & installed.keys() >= {
        canonicalize_name(requirement.name) for requirement in direct_requirements()
    }


def test_both_opencv_wheels_have_one_version_and_cv2_imports() -> None:
    versions = {
        importlib.metadata.version(name) for name in ("opencv-python", "opencv-contrib-python")
    }
    assert len(versions) == 1
    imported = run_python("import cv2; print(cv2.__version__, hasattr(cv2, 'VideoCapture'))")
    assert f"{Version(imported.split()[0])}" == ".".join(versions.pop().split(".")[:3])
    assert imported.endswith("True")


REFERENCE_PROBE = """
import sys
from PySide6.QtCore import QObject, QTimer, Signal

class Sender(QObject):
    sent = Signal(object, bool)

def counts():
    return [sys.getrefcount(value) for value in (None, True, False)]

sender, timer = Sender(), QTimer()
sender.sent.connect(lambda value, flag: None)
before = counts()
for number in range(2000):
    sender.sent.emit(None, number % 2 == 0)
    sender.setProperty("value", None)
    sender.property("value")
    timer.setSingleShot(number % 2 == 0)
    timer.isSingleShot()
    sender.blockSignals(False)
print(max(abs(now - then) for now, then in zip(counts(), before)))
"""


def test_pyside_does_not_lose_references() -> None:
    """PySide6 6.12.0 on Python 3.10 and 3.11 dies in this loop: it drops references to None, True, False.

    In a process of its own, because the whole process dies. On Python 3.12 and newer these objects are
    immortal and their counts never change.
    """
    assert int(run_python(REFERENCE_PROBE)) < 100


# ---------------------------------------------------------------- layers

IMPORT_ALL = """
import importlib, pkgutil, sys
import {package} as package
for module in pkgutil.walk_packages(package.__path__, "{package}."):
    importlib.import_module(module.name)
print(*sorted(name for name in sys.modules if name.partition(".")[0] in {forbidden}))
"""


def test_all_of_core_imports_without_qt() -> None:
    forbidden = {"PySide6", "shiboken6", "pyqtgraph", "qasync", "app"}
    assert run_python(IMPORT_ALL.format(package="core", forbidden=forbidden)) == ""


def test_the_window_imports_neither_torch_nor_mediapipe() -> None:
    code = (
        "import sys, main, app.application\n"
        "print(*sorted({'torch', 'mediapipe', 'cv2', 'pyarrow'} & set(sys.modules)))"
    )
    assert run_python(code) == ""


# ---------------------------------------------------------------- pages


def test_settings_page_is_current() -> None:
    page = (REPOSITORY / "docs" / "settings.md").read_text(encoding="utf-8")
    assert page == settings_page(), "run: python main.py settings > docs/settings.md"


def test_pages_name_only_commands_and_targets_that_exist() -> None:
    help_text = run_python("import main; main.main(['--help'])")
    commands = set(re.findall(r"• (\w+)", help_text))
    assert "train" in commands
    targets = set(
        re.findall(r"^(\w+):", (REPOSITORY / "Makefile").read_text("utf-8"), flags=re.MULTILINE)
    )
    for page in [REPOSITORY / "README.md", *REPOSITORY.glob("docs/**/*.md")]:
        text = page.read_text(encoding="utf-8")
        assert (
            set(re.findall(r"(?:python main\.py|`signscope|  signscope) ([a-z]+)", text))
            <= commands
        ), page
        assert set(re.findall(r"`make (\w+)`", text)) <= targets, page


def test_pages_link_only_to_what_is_there() -> None:
    pages = [
        REPOSITORY / "README.md",
        REPOSITORY / "CHANGELOG.md",
        *REPOSITORY.glob("docs/**/*.md"),
    ]
    dead = [
        f"{page.relative_to(REPOSITORY)}: {link}"
        for page in pages
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
        if "://" not in link and not (page.parent / link).exists()
    ]
    assert not dead


def test_architecture_names_only_modules_that_exist() -> None:
    page = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    modules = {path.stem for path in REPOSITORY.glob("[acs]*/**/*.py")}
    named = set(re.findall(r"(\w+)\.py", page))
    assert len(named) > 40
    assert named - modules - {"main"} == set()


def test_the_tree_of_the_architecture_has_every_module_in_its_folder() -> None:
    page = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    tree = page.partition("## The tree")[2].partition("\n## ")[0]
    folders: list[str] = []  # one for every two spaces of indentation beyond the first four
    missing: list[Path] = []
    for line in tree.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2 - 2
        if not line.startswith("    ") or depth > len(folders):
            continue  # a line that goes on with the text of the one before
        del folders[depth:]
        folder = REPOSITORY.joinpath(*folders)
        opened = re.match(r"\s+([\w/]+)/ ?", line)
        if opened:
            folders += opened[1].split("/")
            folder /= opened[1]
            missing += [] if folder.is_dir() else [folder]
        named = re.findall(r"\w+\.py", line)
        missing += [folder / name for name in named if not (folder / name).is_file()]
    assert not missing
    for top in ("app", "core", "signscope"):
        for package in (REPOSITORY / top).rglob("__init__.py"):
            assert f"{package.parent.name}/" in tree, f"{package.parent} is not in the tree"


# ---------------------------------------------------------------- the checks of conftest

LEAKY = """
import threading, pytest
from PySide6.QtWidgets import QWidget
kept = []
def test_thread():
    done = threading.Event()
    kept.append(done)
    threading.Thread(target=done.wait, args=(60,), name="leaky", daemon=True).start()
def test_widget(qapp):
    kept.append(QWidget(objectName="lost"))
def test_skip():
    pytest.skip("for no good reason")
def test_clean(qtbot):
    widget = QWidget()
    qtbot.addWidget(widget)
    widget.show()
"""


def test_leaks_and_unexpected_skips_fail_by_name(tmp_path: Path) -> None:
    path = tmp_path / "test_leaky.py"
    path.write_text(LEAKY, encoding="utf-8")
    options = "-q -p no:cacheprovider -p tests.conftest -c pyproject.toml"
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *options.split(), str(path)],
        cwd=REPOSITORY,
        env=os.environ | {"SIGNSCOPE_STRICT": "1", "SIGNSCOPE_LEAK_WAIT_S": "0.2"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "threads left running: leaky (started at" in ended.stdout
    assert "top-level widgets left alive: PySide6.QtWidgets.QWidget 'lost'" in ended.stdout
    assert "skipped without being allowed to" in ended.stdout
    assert "1 failed, 3 passed, 2 errors" in ended.stdout
