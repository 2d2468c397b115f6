"""What tests of the trainer share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny_run import tiny_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus that trains in a moment, one for each module of tests."""
    return tiny_corpus(tmp_path_factory.mktemp("corpus"))
