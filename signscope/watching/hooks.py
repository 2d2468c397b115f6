"""Sees a PyTorch training loop from the functions that every loop calls, and changes nothing in it.

Wrapped while :class:`Hooks` are installed: ``torch.autograd.backward`` (every ``loss.backward()`` ends there),
the three clipping functions of ``torch.nn.utils``, ``GradScaler.scale``, ``unscale_``, ``step`` and ``update``,
``Optimizer.__init__`` and ``zero_grad``, ``Module.zero_grad``, the iterators of ``DataLoader``; beside them the global
hooks before and after ``optimizer.step``. Each wrapper calls the original with the arguments it was given.

The norm that the optimizer consumes is measured right before its step, with one ``_foreach_norm`` that gives the
norm of every parameter's gradient as well; :mod:`signscope.watching.numbers` derives the norm before clipping.

Nothing here waits for a device: numbers on one are copied without blocking and read when they have arrived.
A fault in a hook ends the watching, is told once, and never reaches the script.
"""

from __future__ import annotations

import functools
import gc
import math
import sys
import time
import types
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _BaseDataLoaderIter

from signscope.watching.arrivals import Arrivals
from signscope.watching.numbers import Account, Gradient, Number, Seen, measured, number_of
from signscope.watching.updates import Attempt, Clip, Told, Updates

_CLIPPING_MODULES = ("torch.nn.utils", "torch.nn.utils.clip_grad")
_HOLDERS = (dict, list, tuple, set, types.CellType, functools.partial)
CLIPPING = ("clip_grad_norm_", "clip_grads_with_norm_", "clip_grad_value_")


class Sink(Protocol):
    """Takes what was seen."""

    def next_update(self) -> Told:
        """Give, and forget, what the script said of the update that has just ended. In the thread that trains."""

    def named(self, optimizer: int, names: Sequence[str]) -> None:
        """An optimizer's parameters are called so, in their order. In the thread that trains, once each."""

    def seen(self, attempt: Seen) -> None:
        """One gradient came to its end. In a thread that hands on numbers; one call at a time, in their order."""

    def boundary(self) -> None:
        """An optimizer is about to step: pausing and stopping happen here. May raise KeyboardInterrupt.

        In the thread that trains.
        """

    def gave_up(self, error: Exception) -> None:
        """Watching ended because of a fault of its own. In either thread."""


class _Known:
    """What is known of one optimizer; ``number`` counts them in the order they were made."""

    def __init__(self, optimizer: Optimizer, number: int) -> None:
        self.number = number
        self.parameters: list[Tensor] = []
        self.ids: set[int] = set()
        self.gradient: Gradient | None = None  # as consumed, or as thrown away
        self.before: Gradient | None = None  # before clip_grad_value_
        self.unscaled = False
        self.named = False
        self.refresh(optimizer)

    def refresh(self, optimizer: Optimizer) -> None:
        """Take in parameter groups that were added."""
        if sum(len(group["params"]) for group in optimizer.param_groups) != len(self.parameters):
            self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
            self.ids = set(map(id, self.parameters))

    def marks(self) -> list[tuple[int, int] | None] | None:
        """Something of each gradient that changes when a backward pass adds to it; None without gradients."""
        found = [
            None if (grad := p.grad) is None else (id(grad), grad._version) for p in self.parameters
        ]
        return found if any(mark is not None for mark in found) else None

    def reached_since(self, marks: list[tuple[int, int] | None] | None) -> bool:
        """Whether a backward pass since ``marks`` left a gradient here."""
        if marks is None:
            return any(p.grad is not None for p in self.parameters)
        return self.marks() != marks


@dataclass(slots=True)
class _Clock:
    """Divides the time between attempts into waiting for data and the rest.

    The first attempt's time begins with its data or its first backward pass: not with what a script does before.
    """

    since_s: float | None = None
    data_s: float = 0.0

    def begin(self) -> float:
        """Note that work has begun; gives the time now, as time.perf_counter does."""
        now_s = time.perf_counter()
        if self.since_s is None:
            self.since_s = now_s
        return now_s

    def split(self) -> tuple[float, float]:
        """Give (seconds of waiting, other seconds) since the last call."""
        now_s = time.perf_counter()
        data_s, whole_s = self.data_s, now_s - (now_s if self.since_s is None else self.since_s)
        self.since_s, self.data_s = now_s, 0.0
        return data_s, max(0.0, whole_s - data_s)


class Hooks:
    """The wrappers, and what they saw. Install once a process; belongs to the thread that trains.

    Args:
        sink: Takes each attempt.
        early: Whether torch was not yet imported by the script, so that no call of it can be missed.
    """

    def __init__(self, sink: Sink, *, early: bool) -> None:
        self._sink = sink
        self._early = early
        self._sees_every_clip = early
        self._watching = False
        self._undo: list[Callable[[], None]] = []
        self._updates: Updates[Number] = Updates()
        self._known: weakref.WeakKeyDictionary[Optimizer, _Known] = weakref.WeakKeyDictionary()
        self._made = 0
        self._arrivals = Arrivals(self._give_up)
        self._clock = _Clock()
        self._scaler: Any = None  # the GradScaler whose scale the coming backward passes carry
        self._stepped = False  # within GradScaler.step: whether it went through to the optimizer
        self._passes: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self._loader: weakref.ref[Any] | None = None

    # ------------------------------------------------------------ installing

    def install(self) -> None:
        """Put the wrappers in place."""
        self._watching = True
        for module in (torch.nn.utils, torch.nn.utils.clip_grad):
            for name in CLIPPING:
                if hasattr(module, name):
                    self._wrap(module, name, getattr(self, f"_around_{name.rstrip('_')}"))
        if not self._early:
            self._sees_every_clip = self._replace_imported()
        self._wrap(torch.autograd, "backward", self._around_backward)
        self._wrap(torch.amp.GradScaler, "scale", self._around_scale)
        self._wrap(torch.amp.GradScaler, "unscale_", self._around_unscale)
        self._wrap(torch.amp.GradScaler, "step", self._around_scaler_step)
        self._wrap(torch.amp.GradScaler, "update", self._around_update)
        self._wrap(Optimizer, "__init__", self._around_init)
        self._wrap(Optimizer, "zero_grad", self._around_optimizer_zero_grad)
        self._wrap(nn.Module, "zero_grad", self._around_module_zero_grad)
        self._wrap(_BaseDataLoaderIter, "__next__", self._around_next)
        self._wrap(DataLoader, "__iter__", self._around_iter)
        before = register_optimizer_step_pre_hook(self._before_step)
        after = register_optimizer_step_post_hook(self._after_step)
        self._undo += [before.remove, after.remove]
        if not self._early:
            for thing in gc.get_objects():
                # isinstance would ask the object for its class, which makes some of them warn
                if issubclass(type(thing), Optimizer) and hasattr(thing, "param_groups"):
                    self._know(thing)

    def uninstall(self) -> None:
        """Put everything back as it was."""
        self._watching = False
        while self._undo:
            self._undo.pop()()

    def finish(self) -> None:
        """The script ended: tell what still waits, wait for the device, take the wrappers away."""
        self._guarded(self._account_for_the_rest)
        self.uninstall()
        self._arrivals.close()

    def _account_for_the_rest(self) -> None:
        for attempt in self._updates.ended():
            for optimizer, known in list(self._known.items()):
                if known.number == attempt.optimizer:
                    known.gradient = self._measured(known)
                    self._tell(optimizer, known, attempt)

    def _wrap(self, owner: Any, name: str, around: Callable[..., Any]) -> None:
        original = owner.__dict__[name] if isinstance(owner, type) else getattr(owner, name)

        @functools.wraps(original)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return around(original, *args, **kwargs)

        setattr(owner, name, wrapper)
        self._undo.append(lambda: setattr(owner, name, original))

    def _replace_imported(self) -> bool:
        """Replace clipping functions that modules imported before; say whether somebody else holds one still."""
        complete = True
        for name in CLIPPING:
            wrapper = getattr(torch.nn.utils, name)
            original = wrapper.__wrapped__
            for module in list(sys.modules.values()):
                # torch's own clipping functions call one another by these names
                if (
                    isinstance(module, types.ModuleType)
                    and module.__name__ not in _CLIPPING_MODULES
                ):
                    self._replace_in(module.__dict__, original, wrapper)
            holders = [
                holder
                for holder in gc.get_referrers(original)
                if isinstance(holder, _HOLDERS) and not _ours(holder, name)
            ]
            complete = complete and not holders
        return complete

    def _replace_in(self, names: dict[str, Any], original: object, wrapper: object) -> None:
        for name, value in list(names.items()):
            if value is original:
                names[name] = wrapper
                self._undo.append(functools.partial(names.__setitem__, name, original))

    # ------------------------------------------------------------ wrappers

    def _around_backward(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        before = self._guarded(self._before_backward)
        result = original(*args, **kwargs)
        roots = _argument(args, kwargs, 0, "tensors")
        self._guarded(lambda: self._after_backward(roots, before))
        return result

    def _around_clip_grad_norm(
        self, original: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        args, kwargs, parameters = _listed(args, kwargs)
        total = original(*args, **kwargs)
        limit = _argument(args, kwargs, 1, "max_norm")
        is_l2 = _argument(args, kwargs, 2, "norm_type", 2.0) == 2
        self._guarded(lambda: self._clipped(parameters, limit, total, is_l2=is_l2))
        return total

    def _around_clip_grads_with_norm(
        self, original: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        args, kwargs, parameters = _listed(args, kwargs)
        total = _argument(args, kwargs, 2, "total_norm")
        kept = total.detach().clone() if isinstance(total, Tensor) else total
        result = original(*args, **kwargs)
        limit = _argument(args, kwargs, 1, "max_norm")
        self._guarded(lambda: self._clipped(parameters, limit, kept, is_l2=False))
        return result

    def _around_clip_grad_value(
        self, original: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        args, kwargs, parameters = _listed(args, kwargs)
        limit = _argument(args, kwargs, 1, "clip_value")
        self._guarded(lambda: self._clipped(parameters, limit, None, is_l2=False))
        return original(*args, **kwargs)

    def _around_scale(self, original: Callable[..., Any], scaler: Any, outputs: Any) -> Any:
        result = original(scaler, outputs)
        if scaler.is_enabled():
            self._scaler = scaler
        return result

    def _around_unscale(self, original: Callable[..., Any], scaler: Any, optimizer: Any) -> Any:
        result = original(scaler, optimizer)
        self._guarded(lambda: self._unscaled(optimizer))
        return result

    def _around_update(
        self, original: Callable[..., Any], scaler: Any, *args: Any, **kwargs: Any
    ) -> Any:
        self._scaler = None
        return original(scaler, *args, **kwargs)

    def _around_scaler_step(
        self, original: Callable[..., Any], scaler: Any, optimizer: Any, *args: Any, **kwargs: Any
    ) -> Any:
        self._stepped = False
        result = original(scaler, optimizer, *args, **kwargs)
        if not self._stepped:
            self._guarded(lambda: self._skipped(optimizer))
        return result

    def _around_init(
        self, original: Callable[..., Any], optimizer: Any, *args: Any, **kwargs: Any
    ) -> None:
        original(optimizer, *args, **kwargs)
        self._guarded(lambda: self._know(optimizer))

    def _around_optimizer_zero_grad(
        self, original: Callable[..., Any], optimizer: Any, *args: Any, **kwargs: Any
    ) -> Any:
        self._guarded(lambda: self._clearing(optimizer))
        return original(optimizer, *args, **kwargs)

    def _around_module_zero_grad(
        self, original: Callable[..., Any], module: Any, *args: Any, **kwargs: Any
    ) -> Any:
        self._guarded(lambda: self._clearing_module(module))
        return original(module, *args, **kwargs)

    def _around_next(self, original: Callable[..., Any], iterator: Any) -> Any:
        begun_s = self._clock.begin()
        try:
            return original(iterator)
        finally:
            self._clock.data_s += time.perf_counter() - begun_s

    def _around_iter(self, original: Callable[..., Any], loader: Any) -> Any:
        self._guarded(lambda: self._pass_begins(loader))
        return original(loader)

    # ------------------------------------------------------------ what happens

    def _before_backward(self) -> list[tuple[_Known, Any]]:
        self._clock.begin()
        found = []
        for optimizer, known in list(self._known.items()):
            known.refresh(optimizer)
            marks = known.marks()
            if marks is None and self._updates.pending(known.number):  # set to None by hand
                self._discard(optimizer, known)
            found.append((known, marks))
        return found

    def _after_backward(self, roots: Any, before: list[tuple[_Known, Any]] | None) -> None:
        reached = [known.number for known, marks in before or () if known.reached_since(marks)]
        if reached:
            self._updates.backward(self._loss(roots), reached)

    def _loss(self, roots: Any) -> Number | None:
        if not isinstance(roots, Tensor):
            roots = list(roots) if isinstance(roots, Iterable) else []
            if len(roots) != 1 or not isinstance(roots[0], Tensor):
                return None
            roots = roots[0]
        if roots.numel() != 1:
            return None
        value = roots.detach().reshape(())
        scale = None if self._scaler is None else self._scaler._scale
        return number_of(value if scale is None else value / scale)

    def _clipped(self, parameters: list[Tensor], limit: Any, total: Any, *, is_l2: bool) -> None:
        """Note a call that clipped, or, without a norm that it found (by value), is about to."""
        ids = set(map(id, parameters))
        for known in self._known.values():
            if not self._updates.pending(known.number) or ids.isdisjoint(known.ids):
                continue
            if total is None and known.before is None:
                known.before = self._measured(known)
            self._updates.clipped(
                known.number,
                Clip(
                    limit=math.nan if limit is None else float(limit),
                    total=number_of(total) if isinstance(total, Tensor) else total,
                    whole=known.ids <= ids,
                    exact=is_l2 and known.ids == ids,
                    before_unscaling=self._scaler is not None and not known.unscaled,
                ),
            )

    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> Any:
        self._stepped = True
        if not self._watching:
            return None
        self._sink.boundary()
        return self._guarded(lambda: self._step_begins(optimizer, args, kwargs))

    def _step_begins(self, optimizer: Optimizer, args: Any, kwargs: Any) -> Any:
        known = self._know(optimizer)
        known.refresh(optimizer)
        closure = _argument(args, kwargs, 1, "closure")
        self._updates.step_begins(known.number, closure=callable(closure))
        if not callable(closure):
            known.gradient = self._measured(known, optimizer)
            return None

        @functools.wraps(closure)
        def called() -> Any:
            result = closure()
            self._guarded(lambda: self._closure_called(optimizer, known))
            return result

        if "closure" in kwargs:
            return args, {**kwargs, "closure": called}
        return (args[0], called, *args[2:]), kwargs

    def _closure_called(self, optimizer: Optimizer, known: _Known) -> None:
        # The gradient at the weights that the step began with; LBFGS tries others after it.
        if self._updates.closure_called(known.number) == 1:
            known.gradient = self._measured(known, optimizer)

    def _after_step(self, optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
        self._guarded(lambda: self._step_ended(optimizer))

    def _step_ended(self, optimizer: Optimizer) -> None:
        known = self._know(optimizer)
        had_gradient = known.gradient is not None
        attempt = self._updates.step_ended(known.number, had_gradient=had_gradient)
        known.unscaled = False
        self._tell(optimizer, known, attempt)

    def _unscaled(self, optimizer: Any) -> None:
        self._know(_inner(optimizer)).unscaled = True

    def _skipped(self, optimizer: Any) -> None:
        optimizer = _inner(optimizer)
        known = self._know(optimizer)
        if self._updates.pending(known.number):
            known.gradient = self._measured(known)
        known.unscaled = False
        self._tell(optimizer, known, self._updates.skipped(known.number))

    def _clearing(self, optimizer: Optimizer) -> None:
        known = self._known.get(optimizer)
        if known is not None:
            self._discard(optimizer, known)

    def _clearing_module(self, module: nn.Module) -> None:
        waiting = [
            (optimizer, known)
            for optimizer, known in self._known.items()
            if self._updates.pending(known.number)
        ]
        if waiting:
            ids = {id(parameter) for parameter in module.parameters()}
            for optimizer, known in waiting:
                if known.ids <= ids:
                    self._discard(optimizer, known)

    def _discard(self, optimizer: Optimizer, known: _Known) -> None:
        if self._updates.discards(known.number):
            known.gradient = self._measured(known)
        attempt = self._updates.cleared(known.number)
        if attempt is None and not self._updates.stepping(known.number):
            known.before = None
        self._tell(optimizer, known, attempt)

    def _pass_begins(self, loader: Any) -> None:
        self._passes[loader] = self._passes.get(loader, 0) + 1
        self._loader = weakref.ref(loader)

    # ------------------------------------------------------------ numbers

    def _measured(self, known: _Known, stepping: Optimizer | None = None) -> Gradient | None:
        """Measure the gradients; those that a fused optimizer is about to unscale itself, unscaled."""
        if stepping is not None:
            return measured(
                known.parameters,
                getattr(stepping, "grad_scale", None),
                getattr(stepping, "found_inf", None),
            )
        scaled = self._scaler is not None and not known.unscaled
        return measured(known.parameters, self._scaler._scale if scaled else None)

    def _gone(self, known: _Known) -> None:
        """The optimizer was deleted; what waited in it was thrown away with it."""
        for attempt in self._updates.gone(known.number):
            self._tell(None, known, attempt)

    def _tell(
        self, optimizer: Optimizer | None, known: _Known, attempt: Attempt[Number] | None
    ) -> None:
        if attempt is None:
            return
        if not known.named:
            known.named = True
            self._sink.named(known.number, _names(known.parameters))
        gradient, known.gradient = known.gradient, None
        before, known.before = known.before, None
        told = self._sink.next_update()
        data_s, step_s = self._clock.split()
        account = Account(
            attempt=attempt,
            gradient=gradient,
            before=before,
            optimizer=known.number,
            lr=() if optimizer is None else _rates(optimizer),
            epoch=max(self._epoch(), told.epoch),
            data_s=data_s,
            step_s=step_s,
            wall_time=time.time(),
            sees_every_clip=self._sees_every_clip,
            samples=told.samples,
        )
        self._arrivals.expect(
            account.numbers(), lambda values: self._sink.seen(account.seen(values))
        )

    def _epoch(self) -> int:
        loader = None if self._loader is None else self._loader()
        return 1 if loader is None else self._passes.get(loader, 1)

    def _know(self, optimizer: Optimizer) -> _Known:
        known = self._known.get(optimizer)
        if known is None:
            known = self._known[optimizer] = _Known(optimizer, self._made)
            self._made += 1
            weakref.finalize(optimizer, self._guarded, lambda: self._gone(known)).atexit = False
        return known

    # ------------------------------------------------------------ faults

    def _guarded(self, action: Callable[[], Any]) -> Any:
        """Give what ``action`` gives; None, and the end of watching, where it fails."""
        if not self._watching:
            return None
        try:
            return action()
        except Exception as error:
            self._give_up(error)
            return None

    def _give_up(self, error: Exception) -> None:
        self.uninstall()
        self._sink.gave_up(error)


def _names(parameters: Sequence[Tensor]) -> list[str]:
    """Name parameters as the largest module that holds them does; looks at every object once."""
    places = {id(parameter): place for place, parameter in enumerate(parameters)}
    names = [f"parameter {place}" for place in range(len(parameters))]
    modules = [thing for thing in gc.get_objects() if issubclass(type(thing), nn.Module)]
    held = {id(child) for module in modules for child in module._modules.values()}
    for module in modules:
        if id(module) not in held:  # by another: the outermost knows the whole name
            for name, parameter in module.named_parameters():
                if id(parameter) in places:
                    names[places[id(parameter)]] = name
    return names


def _rates(optimizer: Optimizer) -> tuple[Number, ...]:
    return tuple(group.get("lr", math.nan) for group in optimizer.param_groups)


def _inner(optimizer: Any) -> Optimizer:
    """Give the optimizer that a wrapper (Accelerate's) stands for."""
    while not hasattr(optimizer, "_optimizer_step_pre_hooks") and hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    return optimizer  # type: ignore[no-any-return]


def _argument(args: Any, kwargs: Any, place: int, name: str, default: Any = None) -> Any:
    """Give an argument of a wrapped function, whichever way it was handed over."""
    return kwargs.get(name, args[place] if len(args) > place else default)


def _listed(args: Any, kwargs: Any) -> tuple[Any, Any, list[Tensor]]:
    """Give the arguments of a clipping function with its parameters as a list, which a look does not use up."""
    given = _argument(args, kwargs, 0, "parameters", ())
    if isinstance(given, Tensor):
        return args, kwargs, [given]
    parameters = list(given)
    if isinstance(given, types.GeneratorType):
        # torch warns of an empty generator, and must still see one
        given = parameters or (parameter for parameter in parameters)
    elif not isinstance(given, (list, tuple)):
        given = parameters
    if args:
        return (given, *args[1:]), kwargs, parameters
    return args, {**kwargs, "parameters": given}, parameters


def _ours(holder: object, name: str) -> bool:
    """Whether whoever holds the original clipping function ``name`` is a wrapper of it, or torch itself."""
    spaces = [vars(sys.modules[module]) for module in _CLIPPING_MODULES]
    if isinstance(holder, types.CellType):
        wrappers = [space[name] for space in spaces if name in space]
        return any(holder is cell for wrapper in wrappers for cell in wrapper.__closure__ or ())
    if isinstance(holder, dict):
        return "__wrapped__" in holder or any(holder is space for space in spaces)
    return False
