"""The CTC loss in the unit that SignScope shows: negative log-likelihood summed over a sentence."""

from __future__ import annotations

from enum import StrEnum

import torch
import torch.nn.functional as F
from torch import Tensor

from core.corpus.vocabulary import BLANK


class CtcRoute(StrEnum):
    """Where the CTC loss is computed."""

    NATIVE = "native"  # on the device of the model; its CUDA backward is not deterministic
    CPU = "cpu"  # on the cpu, bit-exact, at the price of a copy each way


def ctc_losses(
    log_probs_TBV: Tensor,
    targets: Tensor,
    encoded_lengths_B: Tensor,
    target_lengths_B: Tensor,
    *,
    route: CtcRoute = CtcRoute.NATIVE,
) -> Tensor:
    """Give the loss of each sentence, (B,) float32, on the device of ``log_probs_TBV``.

    Graves et al., "Connectionist temporal classification", 2006. An impossible alignment gives
    infinity; such sentences are found before a run, so infinity here is shown, never zeroed.

    Args:
        log_probs_TBV: (time, batch, classes) float32 log-probabilities.
        targets: All target classes one after the other, (sum of target lengths,) int64, cpu.
        encoded_lengths_B: Valid time steps of each sentence, int64, cpu.
        target_lengths_B: Glosses of each sentence, int64, cpu.
    """
    device = log_probs_TBV.device
    here = torch.device("cpu") if route is CtcRoute.CPU else device
    losses: Tensor = F.ctc_loss(
        log_probs_TBV.to(here),
        targets.to(here, non_blocking=True),
        encoded_lengths_B,  # the kernel wants lengths on the cpu: from a device it would read them back
        target_lengths_B,
        blank=BLANK,
        reduction="none",
        zero_infinity=False,
    )
    return losses.to(device)
