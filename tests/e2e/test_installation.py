"""The program installed from its wheel, away from the repository: bare, and with all that it needs."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.conftest import REPOSITORY

LIMIT_S = 240.0
SITE_PACKAGES = Path(str(importlib.metadata.distribution("pip").locate_file("")))


@dataclass(frozen=True)
class Installed:
    """An environment that holds the wheel, and a folder to work in that has packages of its own."""

    environment: Path
    work: Path

    def run(self, command: str, *arguments: object, **variables: str) -> tuple[int, str, str]:
        """Run a command of the environment in the folder; gives exit status, output, errors."""
        scripts = self.environment / ("Scripts" if os.name == "nt" else "bin")
        plain = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        ended = subprocess.run(
            [scripts / command, *map(str, arguments)],
            cwd=self.work,
            env=plain | {"COLUMNS": "100"} | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
        return ended.returncode, ended.stdout, ended.stderr

    def python(self, code: str) -> str:
        """Run Python code of a person in the environment; gives its output."""
        status, out, err = self.run("python", "-c", code)
        assert status == 0, err
        return out.strip()


def built(kind: str, source: Path, to: Path) -> Path:
    """Build a ``wheel`` or ``sdist`` with the environment's own hatchling: nothing is downloaded."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", to], cwd=source, check=True
    )
    (archive,) = to.iterdir()
    return archive


def install(wheel: Path, to: Path) -> Path:
    """Make an environment with the wheel alone in it; gives the folder that its packages are in."""
    venv.create(to, with_pip=False)
    python = to / ("Scripts" if os.name == "nt" else "bin") / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-compile"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True)
    return next(to.rglob("site-packages"))


def packages_needed(requirements: list[str]) -> Iterator[importlib.metadata.Distribution]:
    """Give the distributions that pip would bring for ``requirements``, their own needs included."""
    waiting, seen = list(requirements), set()
    while waiting:
        requirement = Requirement(waiting.pop())
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if wanted and requirement.name not in seen:
            seen.add(requirement.name)
            found = importlib.metadata.distribution(requirement.name)
            yield found
            waiting += found.requires or []


def folder_with_a_core_of_its_own(path: Path) -> Path:
    for package in ("core", "app", "resources"):
        (path / package).mkdir(parents=True)
        (path / package / "__init__.py").write_text("OWNER = 'the person'\n", encoding="utf-8")
    (path / "main.py").write_text("OWNER = 'the person'\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("wheel", REPOSITORY, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """What ``pip install signscope`` brings, and nothing else."""
    folder = tmp_path_factory.mktemp("bare")
    packages = install(wheel, folder / "environment")
    declared = importlib.metadata.Distribution.at(next(packages.glob("*.dist-info"))).requires
    assert declared is not None
    for distribution in packages_needed([text for text in declared if "extra ==" not in text]):
        for top in {Path(str(file)).parts[0] for file in distribution.files or []} - {".."}:
            if not (packages / top).exists() and top != "__pycache__":
                (packages / top).symlink_to(SITE_PACKAGES / top)
    return Installed(folder / "environment", folder_with_a_core_of_its_own(folder / "work"))


@pytest.fixture(scope="module")
def whole(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """What ``pip install signscope[app]`` brings: the packages of this environment, without its checkout.

    A path that a .pth file adds has its own .pth files left alone, so the editable install is not seen.
    """
    folder = tmp_path_factory.mktemp("whole")
    packages = install(wheel, folder / "environment")
    (packages / "others.pth").write_text(f"{SITE_PACKAGES}\n", encoding="utf-8")
    return Installed(folder / "environment", folder_with_a_core_of_its_own(folder / "work"))


# ---------------------------------------------------------------- what the archives hold


def test_the_wheel_adds_no_top_level_name_but_its_own(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"signscope"}
    assert not [name for name in names if "__pycache__" in name or "tests/" in name]
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "core", "app", "resources", "main.py"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")[:-1]
    assert {f"signscope/program/{name}" for name in tracked} <= set(names)


def test_a_wheel_built_from_the_source_archive_is_the_same(wheel: Path, tmp_path: Path) -> None:
    archive = built("sdist", REPOSITORY, tmp_path / "sdist")
    subprocess.run(["tar", "-xzf", archive, "-C", tmp_path], check=True)
    again = built("wheel", tmp_path / archive.name.removesuffix(".tar.gz"), tmp_path / "wheel")
    assert again.read_bytes() == wheel.read_bytes()


# ---------------------------------------------------------------- the base install

IMPORT_ALL = """
import importlib, pkgutil, sys
before = set(sys.modules)
import signscope
for module in pkgutil.iter_modules(signscope.__path__, "signscope."):
    if module.name != "signscope.norms":  # it is handed gradients: whoever imports it has torch
        importlib.import_module(module.name)
print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names))
import core, app, main, resources
print({package.OWNER for package in (core, app, main, resources)})
"""


def test_signscope_is_imported_beside_a_core_of_ones_own_with_numpy_and_filelock_alone(
    bare: Installed,
) -> None:
    imported, owners = bare.python(IMPORT_ALL).splitlines()
    assert set(imported.split()) <= {"signscope", "numpy", "filelock"}
    assert owners == "{'the person'}"


def test_the_base_install_brings_neither_qt_nor_mediapipe_nor_torch(bare: Installed) -> None:
    code = (
        "import importlib.util as u\n"
        "print([n for n in ('PySide6', 'mediapipe', 'torch', 'cv2', 'pyarrow') if u.find_spec(n)])"
    )
    assert bare.python(code) == "[]"


@pytest.mark.parametrize("platform", ["offscreen", ""])
@pytest.mark.parametrize("arguments", [[], ["train"]])
def test_without_its_extra_the_program_says_in_a_sentence_what_to_install(
    bare: Installed, arguments: list[str], platform: str
) -> None:
    status, out, err = bare.run("signscope", *arguments, QT_QPA_PLATFORM=platform)
    assert (status, out) == (2, "")
    assert "Traceback" not in err
    assert 'pip install "signscope[app]"' in err


def test_the_base_install_has_help_version_and_settings_of_its_command_line(
    bare: Installed,
) -> None:
    assert "• train" in bare.run("signscope", "--help")[1]
    assert bare.run("signscope", "--version")[1].startswith("SignScope ")


# ---------------------------------------------------------------- the whole program


@pytest.mark.parametrize("start", [["signscope"], ["python", "-m", "signscope"]])
def test_help_is_that_of_the_checkout_under_the_name_it_was_started_with(
    whole: Installed, start: list[str]
) -> None:
    status, out, err = whole.run(*start, "train", "--help")
    assert (status, err) == (0, "")
    name = " ".join(start)
    assert out.startswith(f"usage: {name} train")
    checkout = subprocess.run(
        [sys.executable, "main.py", "train", "--help"],
        cwd=REPOSITORY, env=os.environ | {"COLUMNS": "100"}, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert out.split("options")[-1] == checkout.split("options")[-1]


def test_the_installed_program_trains(whole: Installed, small_config: Path, tmp_path: Path) -> None:
    status, out, err = whole.run(
        "signscope", "train", "--config", small_config, "--epochs", 1, "--max-steps", 2, "--out", tmp_path / "runs",
    )  # fmt: skip
    assert status == 0, err
    assert "Batch 1: loss=" in out
    assert f"Run folder: {tmp_path}" in out


@pytest.mark.models
def test_the_installed_program_finds_the_landmark_models(whole: Installed) -> None:
    status, out, _ = whole.run("signscope", "models")
    assert status == 0
    assert out.count(": verified") >= 2


def test_the_installed_window_opens_and_closes_by_itself(
    whole: Installed, small_config: Path
) -> None:
    status, out, err = whole.run(
        "signscope-window",
        "--config",
        small_config,
        QT_QPA_PLATFORM="offscreen",
        SIGNSCOPE_EXIT_AFTER_S="0.5",
    )
    said = [line for line in err.splitlines() if "propagateSizeHints" not in line]
    assert (status, out, said) == (0, "", [])


def test_all_that_the_guide_shows_and_links_is_where_the_installed_help_looks(
    whole: Installed,
) -> None:
    code = (
        "from signscope.__main__ import use_program\n"
        "use_program()\n"
        "from app.help import user_guide\n"
        "print(user_guide())"
    )
    guide = Path(whole.python(code))
    assert guide.is_relative_to(whole.environment)
    linked = re.findall(r"\]\(([^)#:]+)", guide.read_text(encoding="utf-8"))
    assert any(link.endswith(".png") for link in linked)
    assert not [link for link in linked if not (guide.parent / link).is_file()]


SPAWNING = """
import multiprocessing
from signscope.__main__ import use_program
use_program()
from signscope.paths import runs_dir
if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.apply(runs_dir) == runs_dir())
"""


def test_processes_that_the_installed_program_spawns_find_its_modules(
    whole: Installed, tmp_path: Path
) -> None:
    script = tmp_path / "spawning.py"
    script.write_text(SPAWNING, encoding="utf-8")
    assert whole.run("python", script) == (0, "True\n", "")
