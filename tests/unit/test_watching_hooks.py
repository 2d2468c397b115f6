"""Real training loops, watched: what is seen is what happened, and the loop is the same as unwatched."""

from __future__ import annotations

# mypy: disable-error-code="no-untyped-call"
import functools
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from signscope.records import Outcome
from signscope.watching import hooks as hooks_module
from signscope.watching.hooks import Hooks
from signscope.watching.numbers import (
    CLIPPED_BEFORE_UNSCALING,
    NORM_NOT_SEEN,
    NOT_CLIPPED,
    PRE_NOT_SEEN,
    Seen,
)
from signscope.watching.updates import Told
from tests.conftest import REPOSITORY

Body = Callable[[], list[Tensor]]
"""Trains a model of its own and gives its parameters."""


class Collector:
    def __init__(self) -> None:
        self.attempts: list[Seen] = []
        self.errors: list[Exception] = []
        self.names: dict[int, list[str]] = {}

    def next_update(self) -> Told:
        return Told()

    def named(self, optimizer: int, names: Sequence[str]) -> None:
        self.names[optimizer] = list(names)

    def seen(self, attempt: Seen) -> None:
        self.attempts.append(attempt)

    def boundary(self) -> None:
        pass

    def gave_up(self, error: Exception) -> None:
        self.errors.append(error)


@contextmanager
def watching(*, early: bool = True) -> Iterator[Collector]:
    sink = Collector()
    hooks = Hooks(sink, early=early)
    hooks.install()
    try:
        yield sink
    finally:
        hooks.finish()


def watched(body: Body) -> list[Seen]:
    with watching() as sink:
        body()
    assert sink.errors == []
    return sink.attempts


def model(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))


def loss_of(net: nn.Module, scale: float = 1.0) -> Tensor:
    batch = torch.linspace(-3, 3, 32).reshape(4, 8)
    result = (net(batch) ** 2).mean() * scale
    assert isinstance(result, Tensor)
    return result


# ---------------------------------------------------------------- loops, as people write them


def plain() -> list[Tensor]:
    net = model()
    optimizer = torch.optim.AdamW(net.parameters(), 1e-2)
    for scale in (1.0, 1e4, 1e-4):
        optimizer.zero_grad()
        loss_of(net, scale).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        optimizer.step()
    return list(net.parameters())


def clip_then_skip() -> list[Tensor]:
    net = model()
    optimizer = torch.optim.AdamW(net.parameters(), 1e-2)
    for scale in (1e4, 1.0, 1e4, 1e4):
        optimizer.zero_grad()
        loss_of(net, scale).backward()
        if torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0) > 100:
            continue
        optimizer.step()
    return list(net.parameters())


def accumulation() -> list[Tensor]:
    net = model()
    optimizer = torch.optim.SGD(net.parameters(), 1e-2)
    for number in range(8):
        (loss_of(net) / 4).backward()
        if number % 4 == 3:
            optimizer.step()
            net.zero_grad(set_to_none=False)
    return list(net.parameters())


def gan() -> list[Tensor]:
    judge, maker = model(1), nn.Linear(8, 8)
    for_judge = torch.optim.Adam(judge.parameters(), 1e-2)
    for_maker = torch.optim.Adam(maker.parameters(), 1e-2)
    noise = torch.ones(4, 8)
    for _ in range(3):
        for_judge.zero_grad()
        (judge(maker(noise).detach()) - judge(noise)).mean().backward()
        for_judge.step()
        for_maker.zero_grad()
        judge(maker(noise)).mean().backward()
        for_maker.step()
    return [*judge.parameters(), *maker.parameters()]


def lbfgs() -> list[Tensor]:
    net = model()
    optimizer = torch.optim.LBFGS(net.parameters(), lr=0.1, max_iter=4)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(net)
        loss.backward()
        return loss

    for _ in range(2):
        optimizer.step(closure)
    return list(net.parameters())


def amp() -> list[Tensor]:
    net = model()
    optimizer = torch.optim.SGD(net.parameters(), 1e-2)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for scale in (1.0, float("inf"), 1.0):
        optimizer.zero_grad()
        scaler.scale(loss_of(net, scale)).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        scaler.step(optimizer)
        scaler.update()
    return list(net.parameters())


def amp_fused() -> list[Tensor]:
    net = model()
    optimizer = torch.optim.AdamW(net.parameters(), 1e-2, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for scale in (1.0, float("inf"), 1.0):
        optimizer.zero_grad()
        scaler.scale(loss_of(net, scale)).backward()
        scaler.step(optimizer)
        scaler.update()
    return list(net.parameters())


def amp_clipped_too_early() -> list[Tensor]:
    net = model()
    optimizer = torch.optim.SGD(net.parameters(), 1e-2)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for _ in range(2):
        optimizer.zero_grad()
        scaler.scale(loss_of(net)).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        scaler.step(optimizer)
        scaler.update()
    return list(net.parameters())


def by_value() -> list[Tensor]:
    net = model()
    optimizer = torch.optim.SGD(net.parameters(), 1e-2)
    for _ in range(2):
        optimizer.zero_grad()
        loss_of(net, 100).backward()
        torch.nn.utils.clip_grad_value_(net.parameters(), 0.5)
        optimizer.step()
    return list(net.parameters())


def set_to_none_by_hand() -> list[Tensor]:
    net = model()
    optimizer = torch.optim.SGD(net.parameters(), 1e-2)
    for number in range(3):
        loss_of(net).backward()
        if number == 2:
            optimizer.step()
        for parameter in net.parameters():
            parameter.grad = None
    return list(net.parameters())


def part_of_the_parameters_clipped() -> list[Tensor]:
    net = model()
    optimizer = torch.optim.SGD(net.parameters(), 1e-2)
    loss_of(net, 100).backward()
    torch.nn.utils.clip_grad_norm_(list(net.parameters())[:2], 0.5)
    optimizer.step()
    return list(net.parameters())


def sparse() -> list[Tensor]:
    torch.manual_seed(0)
    table = nn.Embedding(10, 4, sparse=True)
    optimizer = torch.optim.SGD(table.parameters(), 1e-2)
    for _ in range(2):
        optimizer.zero_grad()
        table(torch.tensor([1, 1, 3])).sum().backward()
        optimizer.step()
    return list(table.parameters())


def generator_of_parameters() -> list[Tensor]:
    net = model()
    optimizer = torch.optim.SGD(net.parameters(), 1e-2)
    loss_of(net, 100).backward()
    torch.nn.utils.clip_grad_norm_((p for p in net.parameters()), 0.5)
    optimizer.step()
    return list(net.parameters())


LOOPS = [
    plain,
    clip_then_skip,
    accumulation,
    gan,
    lbfgs,
    amp,
    amp_fused,
    amp_clipped_too_early,
    by_value,
    set_to_none_by_hand,
    part_of_the_parameters_clipped,
    sparse,
    generator_of_parameters,
]


@pytest.mark.parametrize("loop", LOOPS)
def test_a_watched_loop_ends_with_the_same_bytes(loop: Body) -> None:
    alone = [p.detach().clone() for p in loop()]
    draws = torch.rand(1)
    with watching() as sink:
        together = loop()
    assert torch.equal(draws, torch.rand(1))  # no random number more or less than alone
    assert sink.errors == []
    assert sink.attempts
    assert all(
        torch.equal(a.view(torch.uint8), b.detach().view(torch.uint8))
        for a, b in zip(alone, together, strict=True)
    )


@pytest.mark.parametrize("loop", LOOPS)
def test_nothing_of_torch_stays_changed(loop: Body) -> None:
    before = [
        torch.nn.utils.clip_grad_norm_,
        torch.nn.utils.clip_grad_value_,
        torch.autograd.backward,
        torch.optim.Optimizer.zero_grad,
        torch.optim.Optimizer.__init__,
        nn.Module.zero_grad,
        torch.amp.GradScaler.step,
    ]
    watched(loop)
    assert before == [
        torch.nn.utils.clip_grad_norm_,
        torch.nn.utils.clip_grad_value_,
        torch.autograd.backward,
        torch.optim.Optimizer.zero_grad,
        torch.optim.Optimizer.__init__,
        nn.Module.zero_grad,
        torch.amp.GradScaler.step,
    ]


# ---------------------------------------------------------------- what is seen


def test_the_norm_after_clipping_is_the_smaller_of_norm_and_limit() -> None:
    seen = watched(plain)
    assert [attempt.outcome for attempt in seen] == [Outcome.APPLIED] * 3
    for attempt in seen:
        assert attempt.pre is not None
        assert attempt.post == pytest.approx(min(attempt.pre, 0.5), rel=1e-5)
        assert attempt.coef is not None
        assert attempt.pre * attempt.coef == pytest.approx(attempt.post, rel=1e-5)
    assert seen[1].pre is not None
    assert seen[1].pre > 100


def test_layer_norms_are_those_before_clipping_and_add_up() -> None:
    for attempt in watched(plain):
        total = sum(norm**2 for norm in attempt.layers_pre.values()) ** 0.5
        assert total == pytest.approx(attempt.pre, rel=1e-5)
        assert list(attempt.layers_pre) == [0, 1, 2, 3]


def test_layers_are_called_as_the_model_calls_them() -> None:
    with watching() as sink:
        plain()
    assert sink.names == {0: ["0.weight", "0.bias", "2.weight", "2.bias"]}


def test_clipping_and_then_skipping_discards() -> None:
    seen = watched(clip_then_skip)
    assert [attempt.outcome for attempt in seen] == [
        Outcome.DISCARDED,
        Outcome.APPLIED,
        Outcome.DISCARDED,
        Outcome.LEFT_AT_END,
    ]
    assert all(a.pre is not None and a.pre > 100 for a in seen if a.outcome is not Outcome.APPLIED)
    assert all(
        a.post == pytest.approx(1.0, rel=1e-5) for a in seen if a.outcome is Outcome.DISCARDED
    )


def test_accumulated_passes_are_one_update_with_their_mean_loss() -> None:
    seen = watched(accumulation)
    assert [(a.outcome, a.backwards) for a in seen] == [(Outcome.APPLIED, 4)] * 2
    assert seen[0].loss == pytest.approx(loss_of(model()).item() / 4)


def test_a_gan_discards_nothing() -> None:
    seen = watched(gan)
    assert [(a.optimizer, a.outcome) for a in seen] == [
        (0, Outcome.APPLIED),
        (1, Outcome.APPLIED),
    ] * 3


def test_a_closure_is_one_update_with_the_gradient_it_began_with() -> None:
    seen = watched(lbfgs)
    assert [a.outcome for a in seen] == [Outcome.APPLIED] * 2
    net = model()
    loss = loss_of(net)
    loss.backward()
    assert seen[0].loss == pytest.approx(loss.item())
    norm = torch.nn.utils.get_total_norm([p.grad for p in net.parameters() if p.grad is not None])
    assert seen[0].pre == pytest.approx(float(norm), rel=1e-5)


@pytest.mark.parametrize("loop", [amp, amp_fused])
def test_a_scaler_is_seen_through(loop: Body) -> None:
    seen = watched(loop)
    assert [a.outcome for a in seen] == [
        Outcome.APPLIED,
        Outcome.SKIPPED_BY_SCALER,
        Outcome.APPLIED,
    ]
    net = model()
    loss = loss_of(net)
    loss.backward()
    norm = torch.nn.utils.get_total_norm([p.grad for p in net.parameters() if p.grad is not None])
    assert seen[0].loss == pytest.approx(loss.item())
    assert seen[0].pre == pytest.approx(float(norm), rel=1e-3)


def test_clipping_before_unscaling_is_said() -> None:
    seen = watched(amp_clipped_too_early)
    assert all(CLIPPED_BEFORE_UNSCALING in attempt.remarks for attempt in seen)
    assert all(a.post == pytest.approx(0.5 / 1024, rel=1e-3) for a in seen)
    assert all(CLIPPED_BEFORE_UNSCALING not in attempt.remarks for attempt in watched(amp))


@pytest.mark.parametrize("norm_type", [1.0, float("inf")])
def test_a_clip_by_another_norm_leaves_the_norm_before_it_an_l2_norm(norm_type: float) -> None:
    def loop() -> list[Tensor]:
        net = model()
        optimizer = torch.optim.SGD(net.parameters(), 1e-2)
        loss_of(net, 1e3).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 0.5, norm_type)
        optimizer.step()
        return []

    (attempt,) = watched(loop)
    net = model()
    loss_of(net, 1e3).backward()
    norm = torch.nn.utils.get_total_norm([p.grad for p in net.parameters() if p.grad is not None])
    assert attempt.pre == pytest.approx(norm.item(), rel=1e-5)


def test_clipping_by_value_measures_before_it() -> None:
    for attempt in watched(by_value):
        assert attempt.pre is not None
        assert attempt.post is not None
        assert attempt.post < attempt.pre
        assert attempt.coef == pytest.approx(attempt.post / attempt.pre)


def test_gradients_set_to_none_by_hand_are_discarded_without_a_norm() -> None:
    seen = watched(set_to_none_by_hand)
    assert [a.outcome for a in seen] == [Outcome.DISCARDED, Outcome.DISCARDED, Outcome.APPLIED]
    assert NORM_NOT_SEEN in seen[0].remarks


def test_a_clip_of_some_parameters_gives_no_guess() -> None:
    (attempt,) = watched(part_of_the_parameters_clipped)
    assert attempt.pre is None
    assert PRE_NOT_SEEN in attempt.remarks


def test_a_step_without_a_clip_is_said_where_clipping_is_used() -> None:
    def loop() -> list[Tensor]:
        net = model()
        optimizer = torch.optim.SGD(net.parameters(), 1e-2)
        for clips in (True, False):
            optimizer.zero_grad()
            loss_of(net).backward()
            if clips:
                torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
        return []

    assert [NOT_CLIPPED in attempt.remarks for attempt in watched(loop)] == [False, True]


def test_a_clipping_function_imported_before_is_seen_where_it_can_be() -> None:
    with watching(early=False) as sink:
        plain()
    assert all(attempt.pre is not None for attempt in sink.attempts)
    assert all(a.post == pytest.approx(min(a.pre or 0, 0.5), rel=1e-5) for a in sink.attempts)


def test_nothing_held_elsewhere_leaves_the_norm_of_an_unclipped_step_seen() -> None:
    code = (
        "import torch\n"
        "from tests.unit.test_watching_hooks import accumulation, watching\n"
        "with watching(early=False) as sink:\n"
        "    accumulation()\n"
        "print([attempt.pre == attempt.post for attempt in sink.attempts])\n"
    )
    # A process of its own: in this one other tests' modules hold what they like.
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    assert done.stdout == "[True, True]\n"


@pytest.mark.parametrize(
    "hold",
    [
        lambda clip: [clip],
        lambda clip: [functools.partial(clip)],
        lambda clip: [lambda *given: clip(*given)],
        lambda clip: ({"clip": clip}["clip"],),
    ],
)
def test_one_held_elsewhere_makes_the_norm_before_clipping_not_seen(
    hold: Callable[[Any], Sequence[Any]],
) -> None:
    held = hold(torch.nn.utils.clip_grad_norm_)

    def loop() -> None:
        net = model()
        optimizer = torch.optim.SGD(net.parameters(), 1e-2)
        loss_of(net, 1e3).backward()
        held[0](net.parameters(), 1.0)
        optimizer.step()

    with watching(early=False) as sink:
        loop()
    (attempt,) = sink.attempts
    assert attempt.post == pytest.approx(1.0, rel=1e-5)
    assert attempt.pre is None
    assert PRE_NOT_SEEN in attempt.remarks


# ---------------------------------------------------------------- faults of our own


FAULTY = [
    "_before_backward",
    "_after_backward",
    "_clipped",
    "_step_begins",
    "_step_ended",
    "_clearing",
    "_know",
    "_tell",
    "_loss",
    "_measured",
]


@pytest.mark.parametrize("name", FAULTY)
def test_a_fault_in_a_hook_ends_the_watching_and_not_the_script(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = [p.detach().clone() for p in plain()]

    def fault(*_: object, **__: object) -> None:
        raise RuntimeError("injected")

    monkeypatch.setattr(hooks_module.Hooks, name, fault)
    with watching() as sink:
        together = plain()
    assert [str(error) for error in sink.errors] == ["injected"]
    assert all(torch.equal(a, b.detach()) for a, b in zip(alone, together, strict=True))
