"""All that training imports is imported in one place, before any thread could meet another half-way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.conftest import REPOSITORY


def test_a_run_imports_nothing_more_of_the_circle_in_torch(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from core.training.imports import import_training\n"
        "import_training()\n"
        "from tests.tiny_run import tiny_config, tiny_corpus, train\n"
        "before = set(sys.modules)\n"
        "folder = Path(sys.argv[1])\n"
        "train(tiny_config(tiny_corpus(folder)), folder / 'runs')\n"
        "circle = ('torch._dynamo', 'torch._inductor')\n"
        "print(sorted(name for name in set(sys.modules) - before if name.startswith(circle)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == "[]\n", done.stderr
