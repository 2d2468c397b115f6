"""Greedy CTC decoding, and the share of frames that say nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from core.corpus.vocabulary import BLANK


def greedy_decode(log_probs_BTV: Tensor, lengths_B: Tensor) -> list[tuple[int, ...]]:
    """Give the best class of each frame with repeats merged and blanks removed, per sentence.

    Args:
        log_probs_BTV: (batch, time, classes), any device.
        lengths_B: Valid time steps of each sentence, int64, cpu.
    """
    best_BT = log_probs_BTV.argmax(dim=-1).cpu()
    decoded = []
    for best_T, length in zip(best_BT, lengths_B.tolist(), strict=True):
        merged = torch.unique_consecutive(best_T[:length])
        decoded.append(tuple(merged[merged != BLANK].tolist()))
    return decoded


def blank_fraction(log_probs_BTV: Tensor, mask_BT: Tensor) -> Tensor:
    """Give the share of valid frames whose best class is blank, () float32, on the device."""
    blank_BT = (log_probs_BTV.argmax(dim=-1) == BLANK) & mask_BT
    return blank_BT.sum() / mask_BT.sum()
