"""How a command was started and how it ends: its name, its streams, its errors in words, its exit status."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from signscope.errors import SignScopeError
from signscope.version import VERSION

EXIT_UNEXPECTED = 1
EXIT_EXPLAINED = SignScopeError.exit_status
EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_NO_READER = (
    141  # what a shell shows of a program that SIGPIPE ended; Windows has no such signal
)

_OWN_PACKAGES = {"signscope", "core", "app", "resources", "main"}
_OUTPUT_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF, errno.EFBIG}
_OTHER = "Give another path."
_MEMORY_TEXTS = ("cannot allocate memory", "failed to map segment", "can't allocate memory")


def command_name() -> str:
    """Give what a person types to start this program: as it was started, else ``signscope``.

    For hints and help. A process that is no command of ours (a test, a person's script) gets ``signscope``.
    """
    started = Path(sys.argv[0])
    if started.name == "main.py":
        return f"python {sys.argv[0]}"
    if started.name == "__main__.py" and started.parent.name == "signscope":
        return "python -m signscope"
    return "signscope"


def run_command(command: Callable[[], int]) -> int:
    """Run ``command`` in the main thread and give the exit status; whatever goes wrong is told on standard error.

    The command's own status where it ends well. 1: an unexpected error, with its traceback. 2: an error that
    says what to do. 130: Ctrl-C. 141: whoever read the output left (``... | head``).
    """
    _open_closed_streams()
    try:
        status = _status_of(command)
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()
        return EXIT_NO_READER
    except OSError as error:  # only what _status_of lets through: standard output cannot be written
        _drop_output()
        _tell(
            SignScopeError(
                f"The output cannot be written ({error.strerror})",
                hint="Make room where it goes, or send it somewhere else.",
            )
        )
        return EXIT_EXPLAINED
    return status


def _status_of(command: Callable[[], int]) -> int:
    try:
        return command()
    except (
        SystemExit
    ) as left:  # help and wrong arguments leave like this; their text is not flushed yet
        return int(left.code or 0)
    except SignScopeError as error:
        _tell(error)
        return error.exit_status
    except KeyboardInterrupt:
        _say("Interrupted.")
        return EXIT_INTERRUPTED
    except Exception as error:
        if _concerns_output(error):
            raise
        if (explained := _in_words(error)) is not None:
            _tell(explained)
            return EXIT_EXPLAINED
        _say(
            traceback.format_exc()
            + "error: this should not have happened. Please report it with the lines above and "
            f"the command that you gave (SignScope {VERSION})."
        )
        return EXIT_UNEXPECTED


def _in_words(error: Exception) -> SignScopeError | None:
    """Say what a person can do about an error of the machine; None for a mistake of ours."""
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").partition(".")[0]
        if package in _OWN_PACKAGES:
            return None
        return SignScopeError(
            "The window and the trainer are not installed",
            subject=f"{package} is missing",
            hint='Install all that they need: pip install "signscope[app]"',
        )
    if isinstance(error, ValueError) and "embedded null" in str(error):
        return SignScopeError("The name of a file or folder holds a null character", hint=_OTHER)
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return SignScopeError(
            "The name of a file or folder is too long",
            subject=f"{error.filename!s:.60}...",
            hint=_OTHER,
        )
    if _is_out_of_memory(error):
        return SignScopeError(
            "There is not enough memory for this",
            hint="Close other programs or raise the limit of this one (ulimit -v); a training run needs less with "
            "a smaller data.batch_size or model.width. What was trained is kept and can be resumed.",
        )
    return None


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError) or (
        isinstance(error, OSError) and error.errno == errno.ENOMEM
    ):
        return True
    # A library that cannot be mapped, torch's CPU allocator: the text is all that tells it.
    return isinstance(error, ImportError | RuntimeError) and any(
        text in str(error).lower() for text in _MEMORY_TEXTS
    )


# ---------------------------------------------------------------- standard streams


def _open_closed_streams() -> None:
    """Put the null device where a standard stream is closed (``>&-``, a Windows program without a console).

    Otherwise the next file that is opened takes its number, and what is printed goes into that file.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
            os.set_inheritable(opened, True)
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def _concerns_output(error: Exception) -> bool:
    """Whether ``error`` is of printing: that of a file names the file."""
    return isinstance(error, BrokenPipeError) or (
        isinstance(error, OSError) and error.errno in _OUTPUT_ERRORS and error.filename is None
    )


def _drop_output() -> None:
    """Let what is still in the buffer go nowhere; Python would complain again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _tell(error: SignScopeError) -> None:
    _say(f"error: {error.what}{f': {error.subject}' if error.subject else ''}.")
    if error.hint:
        _say(error.hint)


def _say(text: str) -> None:
    # Standard error may be as full or gone as standard output; then nobody listens.
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
