"""The teacher: landmarks of a sentence in, log-probabilities of glosses over shortened time out.

Shape letters: B batch, T frames, K landmarks of a part, C values of a landmark, D width,
E encoder time steps, V classes (blank first).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from core.config import ModelConfig
from core.landmarks.layout import N_HAND, N_POSE
from core.landmarks.normalize import HAND_CHANNELS, POSE_CHANNELS, NormalizedLandmarks

_KERNEL = 5


@dataclass(frozen=True, slots=True)
class TeacherOutput:
    """What the teacher says about a batch."""

    log_probs_BEV: Tensor  # float32, also under autocast
    lengths_B: Tensor  # valid encoder steps, int64, cpu
    mask_BE: Tensor  # True where a step is valid, on the device


def encoded_length(frames: int, config: ModelConfig) -> int:
    """Give the encoder steps that ``frames`` landmark frames become."""
    for stride in config.strides:
        frames = -(-frames // stride)
    return frames


class Teacher(nn.Module):
    """Per-part embeddings, strided temporal convolutions, an encoder, and a CTC head.

    Every layer works on one sentence at a time (no batch statistics) and never sees padding, so a
    sentence gives the same output in any batch.
    """

    def __init__(self, config: ModelConfig, classes: int) -> None:
        super().__init__()
        self.config = config
        self.pose = _PartEmbedding(N_POSE, POSE_CHANNELS, config)
        self.left_hand = _PartEmbedding(N_HAND, HAND_CHANNELS, config)
        self.right_hand = _PartEmbedding(N_HAND, HAND_CHANNELS, config)
        widths = [3 * config.part_dim] + [config.width] * len(config.strides)
        self.shorten = nn.ModuleList(
            _StridedConv(widths[i], widths[i + 1], stride, config.dropout)
            for i, stride in enumerate(config.strides)
        )
        encoders = {"bilstm": _BiLstmEncoder, "transformer": _TransformerEncoder}
        self.encoder = encoders[config.encoder](config)
        self.head = nn.Linear(config.width, classes)

    def forward(self, landmarks: NormalizedLandmarks, lengths_B: Tensor) -> TeacherOutput:
        """Recognise a batch of normalised landmarks.

        ``lengths_B`` are their frames once more, int64 on the cpu: reading the copy on the device
        would make every step wait for it.
        """
        x_BTD = torch.cat(
            [
                self.pose(landmarks.pose_BTKC, landmarks.pose_mask_BTK),
                self.left_hand(landmarks.left_BTKC, landmarks.left_mask_BTK),
                self.right_hand(landmarks.right_BTKC, landmarks.right_mask_BTK),
            ],
            dim=-1,
        )
        for conv in self.shorten:
            x_BTD, lengths_B = conv(x_BTD, lengths_B)
        mask_BE = _length_mask(lengths_B, x_BTD.shape[1], x_BTD.device)
        x_BED = self.encoder(x_BTD, lengths_B, mask_BE)
        # Autocast would leave the logits in bf16, whose 8 bits are too few for a log-softmax.
        log_probs_BEV = self.head(x_BED).float().log_softmax(dim=-1)
        return TeacherOutput(log_probs_BEV, lengths_B, mask_BE)


class _PartEmbedding(nn.Module):
    """All landmarks of one part and whether each is present -> one vector a frame."""

    def __init__(self, points: int, channels: int, config: ModelConfig) -> None:
        super().__init__()
        self.project = nn.Linear(points * (channels + 1), config.part_dim)
        self.norm = nn.LayerNorm(config.part_dim)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_BTKC: Tensor, mask_BTK: Tensor) -> Tensor:
        present_BTK1 = mask_BTK.unsqueeze(-1).to(x_BTKC.dtype)
        x_BTF = torch.cat([x_BTKC, present_BTK1], dim=-1).flatten(2)
        embedded: Tensor = self.dropout(torch.relu(self.norm(self.project(x_BTF))))
        return embedded


class _StridedConv(nn.Module):
    """A temporal convolution that shortens time by its stride: length -> ceil(length / stride)."""

    def __init__(self, width_in: int, width_out: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv1d(width_in, width_out, _KERNEL, stride=stride, padding=_KERNEL // 2)
        self.norm = nn.LayerNorm(width_out)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BTD: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        mask_BT = _length_mask(lengths_B, x_BTD.shape[1], x_BTD.device)
        x_BDT = (x_BTD * mask_BT.unsqueeze(-1)).transpose(1, 2)
        y_BTD = self.conv(x_BDT).transpose(1, 2)
        lengths_B = (lengths_B + self.stride - 1) // self.stride
        return self.dropout(torch.relu(self.norm(y_BTD))), lengths_B


class _BiLstmEncoder(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.lstm = nn.LSTM(
            config.width,
            config.width // 2,
            config.layers,
            batch_first=True,
            bidirectional=True,
            dropout=config.dropout if config.layers > 1 else 0.0,
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_BED: Tensor, lengths_B: Tensor, mask_BE: Tensor) -> Tensor:
        packed = pack_padded_sequence(x_BED, lengths_B, batch_first=True, enforce_sorted=False)
        out_BED, _ = pad_packed_sequence(
            self.lstm(packed)[0], batch_first=True, total_length=x_BED.shape[1]
        )
        dropped: Tensor = self.dropout(out_BED)
        return dropped


class _TransformerEncoder(nn.Module):
    """Pre-norm attention with the sinusoidal positions of Vaswani et al., 2017."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            config.width,
            config.heads,
            4 * config.width,
            config.dropout,
            batch_first=True,
            norm_first=True,
        )
        self.layers = nn.TransformerEncoder(
            layer, config.layers, nn.LayerNorm(config.width), enable_nested_tensor=False
        )

    def forward(self, x_BED: Tensor, lengths_B: Tensor, mask_BE: Tensor) -> Tensor:
        x_BED = x_BED + _positions(x_BED.shape[1], x_BED.shape[2], x_BED.device).to(x_BED.dtype)
        encoded: Tensor = self.layers(x_BED, src_key_padding_mask=~mask_BE)
        return encoded


def _length_mask(lengths_B: Tensor, steps: int, device: torch.device) -> Tensor:
    """Give a (B, steps) mask that is True where a step is within its sentence."""
    return torch.arange(steps, device=device) < lengths_B.to(device).unsqueeze(1)


def _positions(steps: int, width: int, device: torch.device) -> Tensor:
    """Give (steps, width) sine and cosine position codes."""
    time_E1 = torch.arange(steps, device=device, dtype=torch.float32).unsqueeze(1)
    rate_H = torch.exp(torch.arange(0, width, 2, device=device) * (-math.log(10_000.0) / width))
    return torch.cat([torch.sin(time_E1 * rate_H), torch.cos(time_E1 * rate_H)], dim=1)
