"""Choice of the compute device, and the switches that make a run repeat bit by bit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import psutil
import torch

from core.config import RunConfig
from core.corpus.batching import Batch
from core.errors import DeviceError
from core.model.losses import CtcRoute


@dataclass(frozen=True, slots=True)
class ComputeMode:
    """Where and how a run computes."""

    device: torch.device
    deterministic: bool
    ctc_route: CtcRoute
    autocast: bool

    @property
    def device_name(self) -> str:
        """What exactly computes: another graphics card, or other instructions of the cpu, give other last bits.

        Empty on mps, which does not say.
        """
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return torch.backends.cpu.get_cpu_capability() if self.device.type == "cpu" else ""

    @property
    def bit_exact(self) -> bool:
        """Whether a run repeats, and resumes, to the last bit. Nobody promises that of mps."""
        return self.deterministic and self.device.type != "mps"

    def describe(self) -> str:
        """Give one sentence for the log: device, precision, determinism and its cost."""
        name = f" ({self.device_name})" if self.device.type == "cuda" else ""
        device = f"{self.device.type}{name}"
        precision = "bf16 autocast" if self.autocast else "float32"
        if not self.bit_exact:
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


def pinned(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Give the batches with landmarks from where cuda copies them while the processor goes on.

    Copying to page-locked memory takes time; it belongs into the thread that prepares the batches.
    """
    for batch in batches:
        if device.type == "cuda":
            yield replace(batch, landmarks_BTKC=batch.landmarks_BTKC.pin_memory())
        else:
            yield batch


_OUT_OF_MEMORY = (
    "can't allocate memory",  # cpu on Linux and macOS
    "cannot allocate memory",  # mmap
    "not enough memory",  # cpu on Windows
    "bad allocation",  # C++ on Windows
    "bad_alloc",  # C++ elsewhere
    "out of memory",  # cuda, hip and mps, allocators and drivers
    "invalid buffer size",  # mps: more than the largest buffer
    "status_alloc_failed",  # cuBLAS, cuDNN, cuSPARSE
    "allocation_failed",  # cuDNN 9: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED and its like
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out: by its class where torch has one, else by its text."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(mark in text for mark in _OUT_OF_MEMORY)
