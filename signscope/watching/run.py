"""A run that somebody's own training loop writes: begun, told about, ended.

Everything that is seen becomes a row of the run's ledger, through threads of its own, so the loop never waits for a
disk. A fault in here ends the watching, is told once on standard error, and leaves the script alone.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import math
import os
import platform
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from signscope.control import Asked, ControlFile, Request
from signscope.details import DETAILS_FILE, Details, Metric
from signscope.folder import RunFolder, default_name, write_atomically
from signscope.invariants import WATCHED
from signscope.ledger import Ledger
from signscope.paths import runs_dir
from signscope.records import EventKind, RunEventRecord, StepRecord
from signscope.version import VERSION
from signscope.watching.launcher import after_import
from signscope.watching.updates import Told

if TYPE_CHECKING:
    from signscope.watching.hooks import Hooks
    from signscope.watching.numbers import Seen

_PAUSE_LOOK_S = 0.1
_current: Run | None = None


class Run:
    """One watched training and its run folder. Made by :func:`signscope.watch`; a context manager.

    Its methods cost microseconds, raise nothing after the run was made, and do nothing once it has ended or in a
    process forked from this one. They may be called from any thread; :meth:`samples` belongs to the one that trains.

    Args:
        folder: A new run folder, whose lock is held until :meth:`finish`.
        control: Whether pause and stop from elsewhere are taken.
    """

    def __init__(self, folder: RunFolder, *, control: bool) -> None:
        self.path = folder.path
        """The run folder."""
        self._folder = folder
        self._held = contextlib.ExitStack()
        self._held.enter_context(folder.lock())
        self._ledger = Ledger(folder.ledger_path, meta={"source": WATCHED})
        self._details = Details(folder.path / DETAILS_FILE)
        self._writer = _Writer(self._ledger, self._details, folder, control=control)
        self._hooks: Hooks | None = None
        self._pid = os.getpid()
        self._ending = threading.Lock()
        self._ended = False
        self._state, self._error = "finished", ""
        versions = {"python": platform.python_version(), "signscope": VERSION}
        folder.update_info(state="running", versions=versions)
        self._writer.event(EventKind.STARTED, f"Watching: {' '.join(sys.argv)[:300]}")
        # torch may come later, or never; the hooks are in place before the script's next import.
        early = "torch" not in sys.modules
        after_import("torch", lambda: self._install(early))
        atexit.register(self.finish)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self.failed(error)
        self.finish()

    def log(self, **figures: float) -> None:
        """Add figures of the script's own, such as ``wer=0.31``, at the update that comes next."""
        with self._harmless() as watching:
            for name, value in figures.items() if watching else ():
                self._details.metric(Metric(self._writer.begun, time.time(), name, float(value)))

    def samples(self, ids: Sequence[object]) -> None:
        """Say which samples the coming update is made of; micro-batches add up. Forgotten after it."""
        with self._harmless() as watching:
            self._writer.waiting_samples += tuple(map(str, ids)) if watching else ()

    def epoch(self, number: int, **figures: float) -> None:
        """Say that epoch ``number`` (from 1) begins, whatever passes over a DataLoader say, and add figures."""
        with self._harmless():
            self._writer.told_epoch = int(number)
        self.log(**figures)

    def note(self, text: str) -> None:
        """Write a line into the run's log, at the update that comes next."""
        with self._harmless() as watching:
            if watching:
                self._writer.event(EventKind.INFO, str(text))

    def failed(self, error: BaseException) -> None:
        """Say that the script ended with ``error``; a KeyboardInterrupt is a stop, SystemExit(0) none."""
        if isinstance(error, KeyboardInterrupt):
            self._state = "stopped"
        elif not (isinstance(error, SystemExit) and not error.code):
            self._state, self._error = "failed", f"{type(error).__name__}: {error}"[:1000]

    def finish(self) -> None:
        """End the run; gradients that still wait become its last rows. Does nothing the second time."""
        with self._ending:
            if self._ended or os.getpid() != self._pid:
                return
            self._ended = True
        atexit.unregister(self.finish)
        with self._harmless():
            if self._hooks is not None:
                self._hooks.finish()
            self._close()

    def _install(self, early: bool) -> None:
        with self._harmless():
            from signscope.watching.hooks import Hooks

            self._hooks = Hooks(self._writer, early=early)
            self._hooks.install()
            if hasattr(os, "register_at_fork"):
                os.register_at_fork(after_in_child=self._hooks.uninstall)

    def _close(self) -> None:
        writer = self._writer
        if writer.stop_asked and self._state == "finished":  # its own clean-up caught the interrupt
            self._state = "stopped"
        with self._held:
            kinds = {"finished": EventKind.FINISHED, "stopped": EventKind.STOPPED}
            text = self._error or f"{self._state.capitalize()} after {writer.steps} updates"
            writer.event(kinds.get(self._state, EventKind.ERROR), text)
            self._ledger.close()
            self._folder.update_info(
                state=self._state,
                error=self._error,
                batches=writer.steps,
                epochs=writer.epoch,
                duration_s=writer.duration_s,
            )
            self._details.close()

    @contextlib.contextmanager
    def _harmless(self) -> Iterator[bool]:
        """Keep whatever goes wrong in here from the script: it is told on standard error.

        Gives whether the run goes on, here: not after its end, and not in a forked process, whose copies of the
        writing threads do not run.
        """
        try:
            yield not self._ended and os.getpid() == self._pid
        except Exception as error:
            print(f"SignScope: {error}", file=sys.stderr)


class _Writer:
    """Takes what the hooks saw to the run's files, and requests from there to the loop."""

    def __init__(
        self, ledger: Ledger, details: Details, folder: RunFolder, *, control: bool
    ) -> None:
        self._ledger = ledger
        self._details = details
        self._folder = folder
        self._control = ControlFile(folder.path) if control else None
        self.begun = 0  # updates that ended, some of whose numbers are still on their way
        self.steps = 0
        self.epoch = 0
        self.duration_s = 0.0
        self.told_epoch = 0
        self.stop_asked = False
        self.waiting_samples: tuple[str, ...] = ()
        self._passes = 0
        self._batch_idx = 0

    def event(self, kind: EventKind, text: str) -> None:
        """Add a line to the run's log."""
        self._ledger.append_event(RunEventRecord(self.begun, kind, text, time.time()))

    def next_update(self) -> Told:
        self.begun += 1
        samples, self.waiting_samples = self.waiting_samples, ()
        return Told(samples, self.told_epoch)

    def named(self, optimizer: int, names: Sequence[str]) -> None:
        self._details.name_layers(optimizer, names)

    def seen(self, attempt: Seen) -> None:
        self._enter(attempt.epoch)
        self._ledger.append(
            StepRecord(
                step=self.steps,
                epoch=self.epoch,
                batch_idx=self._batch_idx,
                loss=_number(attempt.loss),
                loss_per_gloss=math.nan,
                grad_norm_pre=_number(attempt.pre),
                grad_norm_post=_number(attempt.post),
                clip_coef=_number(attempt.coef),
                lr=attempt.lr[0] if attempt.lr else math.nan,
                outcome=attempt.outcome,
                sample_ids=attempt.samples,
                frames=0,
                glosses=0,
                blank_fraction=math.nan,
                data_s=attempt.data_s,
                step_s=attempt.step_s,
                memory_mib=math.nan,
                wall_time=attempt.wall_time,
                detail=_detail(attempt),
            )
        )
        self._details.layers(self.steps, attempt.optimizer, attempt.layers_pre)
        self.steps += 1
        self._batch_idx += 1
        self.duration_s += attempt.data_s + attempt.step_s

    def boundary(self) -> None:
        asked = None if self._control is None else self._control.news()
        if asked is not None and asked.request is Request.PAUSE:
            self.event(EventKind.PAUSED, f"Paused by {asked.by}")
            asked = self._rest()
            self.event(EventKind.RESUMED, f"Resumed by {asked.by}")
        if asked is not None and asked.request is Request.STOP:
            self.event(EventKind.INFO, f"Stop asked by {asked.by}")
            self.stop_asked = True
            raise KeyboardInterrupt(f"SignScope: stop asked by {asked.by}")

    def gave_up(self, error: Exception) -> None:
        text = f"Watching ended by a fault of SignScope's own ({type(error).__name__}: {error})"
        print(f"SignScope: {text}. The script goes on unwatched.", file=sys.stderr)
        with contextlib.suppress(Exception):
            self.event(EventKind.ERROR, text)

    def _enter(self, passes: int) -> None:
        if passes > self._passes:  # passes without an update between them are no epochs
            self._passes = passes
            self.epoch, self._batch_idx = self.epoch + 1, 0

    def _rest(self) -> Asked:
        assert self._control is not None
        self._folder.update_info(state="paused")
        while True:
            time.sleep(_PAUSE_LOOK_S)
            asked = self._control.news()
            if asked is not None and asked.request is not Request.PAUSE:
                self._folder.update_info(state="running")
                return asked


def begin(
    name: str = "",
    out: str | Path | None = None,
    config: Mapping[str, Any] | None = None,
    *,
    control: bool = True,
) -> Run:
    """Make a run folder and watch this process from now on; see :func:`signscope.watch`.

    Under ``signscope watch`` the process is watched already: that run is named, told the settings, and given.
    """
    global _current
    if _current is None or _current._ended:
        _current = _new_run(name, out, control=control)
    elif name:
        with _current._harmless():
            _current._folder.update_about(name=name)
    if config is not None:
        with _current._harmless():
            _keep_config(_current.path, config)
    return _current


def _new_run(name: str, out: str | Path | None, *, control: bool) -> Run:
    started = Path(sys.argv[0]).stem if sys.argv and sys.argv[0] else "python"
    folder = RunFolder.create(
        runs_dir() if out is None else Path(out), name or default_name(started, time.time())
    )
    return Run(folder, control=control)


def _keep_config(run: Path, config: Mapping[str, Any]) -> None:
    """Write the script's settings beside the run; what JSON cannot say is kept as its text."""
    text = json.dumps(dict(config), indent=2, ensure_ascii=False, default=str)
    write_atomically(run / "script-settings.json", text.encode())


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _detail(attempt: Seen) -> str:
    told = list(attempt.remarks)
    if attempt.backwards > 1 and attempt.closures < 2:
        told.insert(0, f"{attempt.backwards} backward passes")
    if attempt.optimizer:
        told.insert(0, f"optimizer {attempt.optimizer}")
    return "; ".join(told)
