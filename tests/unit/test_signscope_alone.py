"""signscope stands alone: nothing of the trainer or the window comes with it, only numpy and filelock."""

import subprocess
import sys
from pathlib import Path

BLOCKED = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "pydantic", "PySide6", "pyarrow", "core", "app"):
            raise ImportError(f"{name} is not for a run")

sys.meta_path.insert(0, Blocker())
"""

USE = """
from pathlib import Path
import signscope
assert not {"numpy", "filelock"} & set(sys.modules)  # each name comes when it is asked for
for name in signscope.__all__:
    getattr(signscope, name)
folder = signscope.RunFolder.create(Path(sys.argv[1]), "run", device="cpu")
with folder.lock(), signscope.Ledger(folder.ledger_path) as ledger:
    ledger.append_event(signscope.RunEventRecord(0, signscope.EventKind.INFO, "here", 1.0))
with signscope.LedgerReader(folder.ledger_path) as reader:
    reader.verify()
    print(signscope.__version__, reader.events()[0].text, folder.about.name)
"""


def alone(script: str, *arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", BLOCKED + script, *arguments],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_a_run_is_written_and_read_without_torch_pydantic_qt_or_the_trainer(tmp_path: Path) -> None:
    from signscope.version import VERSION

    assert alone(USE, str(tmp_path)) == f"{VERSION} here run\n"


def test_every_module_but_the_norms_does_without_them() -> None:
    alone(
        "import importlib, pkgutil, signscope\n"
        "for module in pkgutil.iter_modules(signscope.__path__):\n"
        "    if module.name != 'norms':\n"
        "        importlib.import_module(f'signscope.{module.name}')\n"
    )
