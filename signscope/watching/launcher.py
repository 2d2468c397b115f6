"""Runs a script or a module as Python itself would, with something in place when it has imported torch."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import io
import runpy
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path

from signscope.errors import SignScopeError


class CannotRunError(SignScopeError):
    """The script or module to be watched is not there."""


def script(path: str, arguments: Sequence[str]) -> Callable[[], None]:
    """Give what runs ``path`` as ``python path arguments...`` would: as ``__main__``, its folder first on the path.

    Whatever the script raises leaves the call, SystemExit among it. Main thread only.

    Raises:
        CannotRunError: There is no such file, or it is not Python source.
    """
    try:
        with io.open_code(str(Path(path).absolute())) as file:
            source = file.read()
    except OSError as error:
        raise CannotRunError(
            f"The script cannot be read ({error.strerror or error})",
            subject=path,
            hint="Check its name and the folder that you are in.",
        ) from error

    def run() -> None:
        sys.argv[:] = [path, *arguments]
        _begin_path_with(Path(path).resolve().parent)
        module = types.ModuleType("__main__")
        module.__dict__.update(
            __file__=path,
            __builtins__=__builtins__,
            __cached__=None,
            __loader__=importlib.machinery.SourceFileLoader("__main__", path),
        )
        # Pickles and processes that are started find the script's names under __main__, also when it has ended.
        sys.modules["__main__"] = module
        exec(compile(source, path, "exec", dont_inherit=True), module.__dict__)

    return run


def module(name: str, arguments: Sequence[str]) -> Callable[[], None]:
    """Give what runs module ``name`` as ``python -m name arguments...`` would. Main thread only.

    Raises:
        CannotRunError: There is no such module.
    """
    _begin_path_with(Path.cwd())
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        found = None
    if found is None:
        raise CannotRunError(
            "There is no module of this name",
            subject=name,
            hint="Check the name and the folder that you are in, as for python -m.",
        )

    def run() -> None:
        sys.argv[:] = [name, *arguments]
        runpy.run_module(name, run_name="__main__", alter_sys=True)

    return run


def _begin_path_with(folder: Path) -> None:
    if not sys.flags.safe_path:
        sys.path[0] = str(folder)


def after_import(name: str, action: Callable[[], None]) -> None:
    """Call ``action`` once, as soon as module ``name`` is imported; at once if it is already."""
    if name in sys.modules:
        action()
    else:
        sys.meta_path.insert(0, _Notice(name, action))


class _Notice(importlib.machinery.PathFinder):
    """Stands first in line for one module, finds it as everyone else would, and tells when it is there."""

    def __init__(self, name: str, action: Callable[[], None]) -> None:
        self._name = name
        self._action = action

    def find_spec(  # type: ignore[override]
        self, fullname: str, path: Sequence[str] | None = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            _tell_when_loaded(spec, self._action)
        return spec


def _tell_when_loaded(spec: importlib.machinery.ModuleSpec, action: Callable[[], None]) -> None:
    loader = spec.loader
    assert loader is not None
    load = loader.exec_module

    def exec_module(module: types.ModuleType) -> None:
        del loader.exec_module
        load(module)
        action()

    loader.exec_module = exec_module  # type: ignore[method-assign]
