"""Random numbers of a model from a generator that its run owns, not from the one that a process shares.

Whatever else draws in the process, or seeds PyTorch's own generator anew, a run's weights and dropout stay
the same. Modules keep no generator: it is handed in, so that a model can be copied.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class Dropout(nn.Module):
    """Dropout (Srivastava et al., 2014) whose zeros come from the generator that is handed in.

    On the cpu it draws what ``torch.nn.Dropout`` would draw from a generator in the same state.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Give ``x`` with a share of it zeroed while training, else ``x`` itself.

        ``generator`` lives on the device of ``x``; None takes the one that the process shares.
        """
        if not self.training or not self.share:
            return x
        kept = 1 - self.share
        return x * torch.empty_like(x).bernoulli_(kept, generator=generator).div_(kept)


class WeightsFrom(TorchFunctionMode):
    """Within this context modules of this thread are initialised from ``generator`` (on the cpu).

    PyTorch's modules initialise themselves with functions that take a generator, but hand none on.
    """

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self._generator = generator

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Collection[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call ``function`` with the generator, where it takes one and has none."""
        named = dict(kwargs or {})
        if "generator" in named and named["generator"] is None:
            named["generator"] = self._generator
        return function(*args, **named)
