"""The entry of the installed program: ``signscope``, ``signscope-window`` and ``python -m signscope``."""

from __future__ import annotations

import sys
from pathlib import Path


def program_folder() -> Path:
    """Give the folder of main.py, core/ and app/: within this package when installed, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "program"
    return installed if installed.is_dir() else package.parent


def use_program() -> None:
    """Make the program importable in this process, before anything else of the same name.

    Its top-level names (core, app, main) are common ones; nothing but the program's own processes may see them.
    """
    sys.path.insert(0, str(program_folder()))


def main() -> int:
    """Run the command line of main.py; gives the exit status."""
    if sys.argv[1:2] == [
        "watch"
    ]:  # before the program's own modules can stand in the way of the script's
        from signscope.watching.command import main as watch

        return watch(sys.argv[2:])
    use_program()
    import main as program

    return program.main()


if __name__ == "__main__":
    sys.exit(main())
