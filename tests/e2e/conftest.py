"""The real program in a process of its own, as a person starts it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.corpus.demo import make_demo_corpus
from tests.conftest import REPOSITORY

LIMIT_S = 240.0

SMALL = """
name = "small"
device = "cpu"
threads = 1
[data]
corpus = "{corpus}"
batch_size = 4
[model]
part_dim = 8
width = 16
layers = 1
[optim]
epochs = 2
"""


@pytest.fixture(scope="session")
def small_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo corpus of 32 sentences of 8 signers."""
    path = tmp_path_factory.mktemp("e2e") / "corpus"
    make_demo_corpus(path, signers=8, glosses=5, sentences=32)
    return path


@pytest.fixture
def small_config(small_corpus: Path, tmp_path: Path) -> Path:
    """Settings of a run of some seconds on the small corpus."""
    path = tmp_path / "small.toml"
    path.write_text(SMALL.format(corpus=small_corpus.as_posix()), encoding="utf-8")
    return path


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start ``python main.py ARGUMENTS``; a variable set to None is taken out of its environment."""
    started: list[subprocess.Popen[str]] = []

    def start_program(*arguments: object, **variables: str | None) -> subprocess.Popen[str]:
        environment = {"COLUMNS": "100"} | {
            key: value for key, value in (os.environ | variables).items() if value is not None
        }
        process = subprocess.Popen(
            [sys.executable, "main.py", *map(str, arguments)],
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start_program
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def program(start: Start) -> Callable[..., tuple[int, str, str]]:
    """Run ``python main.py ARGUMENTS`` to its end; gives exit status, output, errors."""

    def run_program(*arguments: object, **variables: str | None) -> tuple[int, str, str]:
        process = start(*arguments, **variables)
        out, err = process.communicate(timeout=LIMIT_S)
        return process.returncode, out, err

    return run_program
