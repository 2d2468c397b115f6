"""Choice of the compute device, and the switches that make a run repeat bit by bit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import torch

from core.config import RunConfig
from core.errors import DeviceError
from core.model.losses import CtcRoute


@dataclass(frozen=True, slots=True)
class ComputeMode:
    """Where and how a run computes."""

    device: torch.device
    deterministic: bool
    ctc_route: CtcRoute
    autocast: bool

    def describe(self) -> str:
        """Give one sentence for the log: device, precision, determinism and its cost."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else ""
        device = f"{self.device.type} ({name})" if name else self.device.type
        precision = "bf16 autocast" if self.autocast else "float32"
        if not self.deterministic:
            return f"Computing on {device}, {precision}; not bit-exact (CTC route {self.ctc_route})"
        cost = "" if self.device.type == "cpu" else ", slower by the way to the cpu and back"
        return f"Computing on {device}, {precision}, bit-exact (CTC route {self.ctc_route}{cost})"


def choose_device(asked: str) -> torch.device:
    """Give the device for ``auto``, ``cuda``, ``mps`` or ``cpu``; auto takes the first that is there.

    Raises:
        DeviceError: The asked-for device is not on this machine.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if asked == "auto":
        return torch.device(next(name for name, there in available.items() if there))
    if not available[asked]:
        hints = {
            "cuda": "Choose device auto or cpu, or install the NVIDIA driver and a CUDA build of torch (see the README).",
            "mps": "Choose device auto or cpu; mps exists on Macs with Apple silicon only.",
        }
        raise DeviceError(
            f"Device {asked} was asked for, but torch {torch.__version__} finds none here",
            subject=asked,
            hint=hints[asked],
        )
    return torch.device(asked)


def compute_mode(config: RunConfig) -> ComputeMode:
    """Resolve the settings device, deterministic and amp to what this machine will do."""
    device = choose_device(config.device)
    deterministic = config.deterministic == "on" or (
        config.deterministic == "auto" and device.type == "cpu"
    )
    on_cpu = device.type == "mps" or (deterministic and device.type == "cuda")
    return ComputeMode(
        device=device,
        deterministic=deterministic,
        # mps has no CTC kernel at all.
        ctc_route=CtcRoute.CPU if on_cpu else CtcRoute.NATIVE,
        autocast=config.optim.amp == "auto"
        and device.type == "cuda"
        and torch.cuda.is_bf16_supported(),
    )


@contextmanager
def compute_settings(mode: ComputeMode, threads: int) -> Iterator[int]:
    """Hold torch's process-wide switches for a run and give back the old ones; yields the thread count."""
    old_threads = torch.get_num_threads()
    old_deterministic = torch.are_deterministic_algorithms_enabled()
    if threads:
        torch.set_num_threads(threads)
    if mode.deterministic and mode.device.type == "cuda":
        # cuBLAS reads it once, when its first handle is made.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(mode.deterministic)
    try:
        yield torch.get_num_threads()
    finally:
        torch.use_deterministic_algorithms(old_deterministic)
        torch.set_num_threads(old_threads)


_PROCESS = psutil.Process()


def memory_mib(device: torch.device) -> float:
    """Give the memory in use in MiB: allocated by torch on cuda, else resident in the process."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device) / 2**20
    resident: int = _PROCESS.memory_info().rss
    return resident / 2**20
