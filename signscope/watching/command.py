"""``signscope watch [options] script.py arguments...``: runs a script as Python would, and writes its run."""

from __future__ import annotations

import argparse
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path

from signscope.errors import SignScopeError
from signscope.watching import launcher
from signscope.watching.run import Run, begin

EXIT_EXPLAINED = 2
EXIT_INTERRUPTED = 130
_OWN_FRAMES = str(Path(__file__).parent)


def main(arguments: Sequence[str]) -> int:
    """Watch what ``arguments`` (without the word watch) name; gives the script's exit status. Main thread only.

    Nothing of SignScope's trainer or window is imported, so the script's own modules called core or app are its own.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if not options.module and not options.rest:
        parser.error("name the script to watch, as in: signscope watch train.py")
    script, rest = (
        (options.module, options.rest) if options.module else (options.rest[0], options.rest[1:])
    )
    try:
        start = (launcher.module if options.module else launcher.script)(script, rest)
        run = begin(options.name or Path(script).stem, options.out, control=options.control)
    except SignScopeError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_EXPLAINED
    print(f"SignScope watches this run: {run.path}", file=sys.stderr)
    with run:
        return _status(run, start)


def _status(run: Run, start: Callable[[], None]) -> int:
    """Run the script and end as Python would: with its own status, its own traceback, no frame of ours."""
    try:
        start()
    except SystemExit as left:
        run.failed(left)
        return _exit_status(left)
    except KeyboardInterrupt as error:
        run.failed(error)
        _print_traceback(error)
        return EXIT_INTERRUPTED
    except BaseException as error:
        run.failed(error)
        _print_traceback(error)
        return 1
    return 0


def _exit_status(left: SystemExit) -> int:
    if left.code is None or isinstance(left.code, int):
        return left.code or 0
    print(left.code, file=sys.stderr)
    return 1


def _print_traceback(error: BaseException) -> None:
    trace: types.TracebackType | None = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_OWN_FRAMES):
        trace = trace.tb_next
    sys.excepthook(type(error), error.with_traceback(trace), trace)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="signscope watch",
        usage="signscope watch [--name NAME] [--out FOLDER] [--no-control] (script.py | -m module) [arguments ...]",
        description="Run a training script unchanged and write every one of its updates, and every gradient that "
        "it throws away, into a run folder.",
        allow_abbrev=False,
    )
    parser.add_argument("--name", default="", help="name of the run; the script's, unless given")
    parser.add_argument("--out", type=Path, help="folder in which the run's own folder is made")
    parser.add_argument(
        "--no-control",
        dest="control",
        action="store_false",
        help="let nobody pause or stop the script through the run folder",
    )
    parser.add_argument(
        "-m", dest="module", metavar="MODULE", help="run a module, as python -m does"
    )
    parser.add_argument(
        "rest", nargs=argparse.REMAINDER, metavar="script.py", help="and its own arguments"
    )
    return parser
