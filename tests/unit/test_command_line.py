"""How a command ends: streams that are full, closed or left, and errors of the machine in words."""

from __future__ import annotations

import errno
import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from signscope.command_line import EXIT_NO_READER, command_name, run_command
from tests.conftest import REPOSITORY


@pytest.fixture(params=["", "1"], ids=["buffered", "unbuffered"])
def buffering(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be written shows at once, or only when the program ends."""
    monkeypatch.setenv("PYTHONUNBUFFERED", request.param)


def in_shell(redirection: str, *arguments: object) -> tuple[int, str, str]:
    """Run ``python main.py ARGUMENTS`` with a redirection of the shell; gives status, output, errors."""
    ended = subprocess.run(
        [
            "bash",
            "-c",
            f'"$@" {redirection}',
            "bash",
            sys.executable,
            "main.py",
            *map(str, arguments),
        ],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return ended.returncode, ended.stdout, ended.stderr


# ---------------------------------------------------------------- streams


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["settings"]])
@pytest.mark.usefixtures("buffering")
def test_a_full_output_is_told_in_a_sentence(arguments: list[str]) -> None:
    status, out, err = in_shell(">/dev/full", *arguments)
    assert (status, out) == (2, "")
    assert err.splitlines()[0] == ("error: The output cannot be written (No space left on device).")
    assert len(err.splitlines()) == 2


@pytest.mark.usefixtures("buffering")
def test_where_errors_cannot_be_written_either_the_status_tells() -> None:
    assert in_shell(">/dev/full 2>/dev/full", "settings") == (2, "", "")


@pytest.mark.parametrize("redirection", [">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_closed_output_is_as_good_as_none(tmp_path: Path, redirection: str) -> None:
    assert in_shell(redirection, "settings") == (0, "", "")
    bars_and_print = ["import", "mp-data", tmp_path, "--out", tmp_path / "x", "--signers", "S=0"]
    assert in_shell(redirection, *bars_and_print)[0] == 2


def test_files_do_not_take_the_numbers_of_closed_streams(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "from signscope.command_line import run_command\n"
        f"numbers = lambda: open({str(tmp_path / 'file')!r}, 'w').fileno() < 3\n"
        "sys.exit(run_command(numbers))"
    )
    shell = f"'{sys.executable}' -c \"$1\" <&- >&- 2>&-"
    ended = subprocess.run(["bash", "-c", shell, "bash", code], cwd=REPOSITORY, timeout=60)
    assert ended.returncode == 0


@pytest.mark.usefixtures("buffering")
def test_a_reader_that_leaves_ends_the_command_in_silence() -> None:
    # More than a pipe holds, so that it is written while nobody reads any more.
    code = (
        "import sys\n"
        "from signscope.command_line import run_command\n"
        "sys.exit(run_command(lambda: print('line\\n' * 100_000) or 0))"
    )
    ended = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"'{sys.executable}' -c \"$1\" | head -1", "bash", code],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (EXIT_NO_READER, "line\n", "")


# ---------------------------------------------------------------- errors of the machine


def out_of_memory() -> int:
    return int(np.zeros(2**62, np.uint8)[0])


def imports(module: str) -> Callable[[], int]:
    def command() -> int:
        importlib.import_module(module)
        return 0

    return command


def raises(error: Exception) -> Callable[[], int]:
    def command() -> int:
        raise error

    return command


@pytest.mark.parametrize(
    "command",
    [
        out_of_memory,
        raises(OSError(errno.ENOMEM, "Cannot allocate memory")),
        raises(ImportError("libtorch_cpu.so: failed to map segment from shared object")),
        raises(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to ...")),
    ],
)
def test_too_little_memory_is_told_with_what_to_do(
    capsys: pytest.CaptureFixture[str], command: Callable[[], int]
) -> None:
    assert run_command(command) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: There is not enough memory for this.\n")
    assert "data.batch_size" in err


def test_a_missing_package_is_told_with_what_to_install(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_command(imports("no_such_package.part")) == 2
    err = capsys.readouterr().err
    assert "no_such_package is missing" in err
    assert 'pip install "signscope[app]"' in err


def test_a_missing_module_of_ours_is_a_mistake_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(imports("core.no_such_module")) == 1
    assert "Please report it" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a" * 5000, "a\0b"])
def test_a_path_that_no_system_takes_is_told_in_a_sentence(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert run_command(lambda: Path(name).stat().st_size) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: The name of a file or folder ")
    assert len(err) < 300


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("started", "said"),
    [
        ("main.py", "python main.py"),
        ("work/main.py", "python work/main.py"),
        ("/env/lib/python3.11/site-packages/signscope/__main__.py", "python -m signscope"),
        ("/env/bin/signscope", "signscope"),
        ("signscope-window.exe", "signscope"),
        ("train_teacher.py", "signscope"),
        ("/env/lib/python3.11/site-packages/pytest/__main__.py", "signscope"),
    ],
)
def test_hints_name_the_command_as_it_was_started(
    monkeypatch: pytest.MonkeyPatch, started: str, said: str
) -> None:
    monkeypatch.setattr(sys, "argv", [started])
    assert command_name() == said
