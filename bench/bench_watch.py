"""What watching a training costs: a plain loop alone, with SignScope, and with other loggers, by turns.

    python -m bench.bench_watch [--rounds 20] [--steps 40]

Two loops: one of about 2 ms a step and one of about 20 ms (an MLP and AdamW, one compute thread). Each round runs each
side for ``--steps`` steps, in a new order; the figure is the median over the rounds of a side's time over the plain
loop's time in the same round, in processor time of the whole process, so threads that write count in full and other
programs do not. SignScope records loss, norm before and after clipping, the norm of every layer, the learning rate,
waiting and step time and the outcome; the others what their call records: TensorBoard and Trackio the loss and the norm,
``wandb.watch`` a histogram of every gradient a step. Those that are not installed are named and left out.
Promise: at most 5 % of the 2 ms step and 2 % of the 20 ms step.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

import signscope

LOOPS = {"2 ms": (128, 6, 64), "20 ms": (256, 8, 384)}
"""Width, hidden layers and batch of each loop."""

Log = Callable[[int, float, float], None]
Side = Callable[[nn.Module, Path], "contextlib.AbstractContextManager[Log | None]"]


@contextlib.contextmanager
def plain(_net: nn.Module, _folder: Path) -> Iterator[Log | None]:
    """Nobody watches."""
    yield None


@contextlib.contextmanager
def watched(_net: nn.Module, folder: Path) -> Iterator[Log | None]:
    """SignScope, told nothing."""
    with signscope.watch("bench", folder):
        yield None


@contextlib.contextmanager
def tensorboard(_net: nn.Module, folder: Path) -> Iterator[Log | None]:
    """Two add_scalar a step, through tensorboardX as the program itself uses it."""
    from tensorboardX import SummaryWriter

    with SummaryWriter(str(folder)) as writer:

        def log(step: int, loss: float, norm: float) -> None:
            writer.add_scalar("loss", loss, step)
            writer.add_scalar("norm", norm, step)

        yield log


@contextlib.contextmanager
def trackio(_net: nn.Module, folder: Path) -> Iterator[Log | None]:
    """One log of two figures a step, kept locally."""
    os.environ["TRACKIO_DIR"] = str(folder)
    import trackio as tracker  # type: ignore[import-not-found]

    tracker.init(project="bench", embed=False)
    yield lambda step, loss, norm: tracker.log({"loss": loss, "norm": norm})
    tracker.finish()


@contextlib.contextmanager
def wandb_watch(net: nn.Module, folder: Path) -> Iterator[Log | None]:
    """wandb.watch at every step, offline, and one log of two figures."""
    import wandb  # type: ignore[import-not-found]

    run = wandb.init(mode="offline", dir=str(folder), settings=wandb.Settings(silent=True))
    wandb.watch(net, log="gradients", log_freq=1)
    yield lambda step, loss, norm: run.log({"loss": loss, "norm": norm})
    wandb.unwatch(net)
    run.finish()


SIDES: dict[str, tuple[Side, str]] = {
    "plain": (plain, "torch"),
    "signscope": (watched, "torch"),
    "tensorboard": (tensorboard, "tensorboardX"),
    "trackio": (trackio, "trackio"),
    "wandb.watch": (wandb_watch, "wandb"),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--without", nargs="*", default=[], help="sides to leave out")
    options = parser.parse_args()
    torch.set_num_threads(1)
    missing = [name for name, (_, module) in SIDES.items() if not importlib.util.find_spec(module)]
    if missing:
        tell(figure="not installed, left out", value=missing)
    names = [name for name in SIDES if name not in (*missing, *options.without)]
    for loop in LOOPS:
        measure(loop, names, options.rounds, options.steps)


def measure(loop: str, names: list[str], rounds: int, steps: int) -> None:
    """Print the ratio of every side to the plain loop."""
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        for name in random.Random(number).sample(names, len(names)):
            times[name].append(one_turn(loop, SIDES[name][0], steps))
    plain_s = statistics.median(times["plain"]) / steps
    for name in names:
        ratios = [mine / bare for mine, bare in zip(times[name], times["plain"], strict=True)]
        tell(
            figure=f"step of {loop} with {name} over without",
            value=round(statistics.median(ratios), 4),
            quartiles=[round(each, 4) for each in statistics.quantiles(ratios, n=4)[::2]],
            plain_step_ms=round(1000 * plain_s, 3),
            rounds=rounds,
        )


def one_turn(loop: str, side: Side, steps: int) -> float:
    """Give the processor time of ``steps`` steps, after some that are not counted."""
    width, depth, batch = LOOPS[loop]
    torch.manual_seed(0)
    layers = [each for _ in range(depth) for each in (nn.Linear(width, width), nn.ReLU())]
    net = nn.Sequential(*layers, nn.Linear(width, 1))
    inputs = torch.randn(batch, width)
    with tempfile.TemporaryDirectory() as folder, side(net, Path(folder)) as log:
        optimizer = torch.optim.AdamW(net.parameters(), 1e-4)
        for step in range(-10, steps):
            if step == 0:
                started_s = time.process_time()
            optimizer.zero_grad()
            loss = net(inputs).pow(2).mean()
            loss.backward()
            norm = nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            if log is not None:
                log(step, float(loss), float(norm))
        return time.process_time() - started_s


def tell(**values: Any) -> None:
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    main()
