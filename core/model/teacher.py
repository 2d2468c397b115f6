"""The teacher: landmarks of a sentence in, log-probabilities of glosses over shortened time out.

Shape letters: B batch, T frames, K landmarks of a part, C values of a landmark, D width,
E encoder time steps, V classes (blank first).
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from core.config import ModelConfig
from core.landmarks.layout import N_HAND, N_POSE
from core.landmarks.normalize import HAND_CHANNELS, POSE_CHANNELS, NormalizedLandmarks
from core.model.draws import Dropout

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

    def forward(
        self,
        landmarks: NormalizedLandmarks,
        lengths_B: Tensor,
        generator: torch.Generator | None = None,
    ) -> TeacherOutput:
        """Recognise a batch of normalised landmarks.

        ``lengths_B`` are their frames once more, int64 on the cpu: reading the copy on the device
        would make every step wait for it. ``generator``, on the device, is what dropout draws from
        while training.
        """
        x_BTD = torch.cat(
            [
                self.pose(landmarks.pose_BTKC, landmarks.pose_mask_BTK, generator),
                self.left_hand(landmarks.left_BTKC, landmarks.left_mask_BTK, generator),
                self.right_hand(landmarks.right_BTKC, landmarks.right_mask_BTK, generator),
            ],
            dim=-1,
        )
        for conv in self.shorten:
            x_BTD, lengths_B = conv(x_BTD, lengths_B, generator)
        mask_BE = _length_mask(lengths_B, x_BTD.shape[1], x_BTD.device)
        x_BED = self.encoder(x_BTD, lengths_B, mask_BE, generator)
        # Autocast would leave the logits in bf16, whose 8 bits are too few for a log-softmax.
        log_probs_BEV = self.head(x_BED).float().log_softmax(dim=-1)
        return TeacherOutput(log_probs_BEV, lengths_B, mask_BE)


class _PartEmbedding(nn.Module):
    """All landmarks of one part and whether each is present -> one vector a frame."""

    def __init__(self, points: int, channels: int, config: ModelConfig) -> None:
        super().__init__()
        self.project = nn.Linear(points * (channels + 1), config.part_dim)
        self.norm = nn.LayerNorm(config.part_dim)
        self.dropout = Dropout(config.dropout)

    def forward(
        self, x_BTKC: Tensor, mask_BTK: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        present_BTK1 = mask_BTK.unsqueeze(-1).to(x_BTKC.dtype)
        x_BTF = torch.cat([x_BTKC, present_BTK1], dim=-1).flatten(2)
        embedded: Tensor = self.dropout(torch.relu(self.norm(self.project(x_BTF))), generator)
        return embedded


class _StridedConv(nn.Module):
    """A temporal convolution that shortens time by its stride: length -> ceil(length / stride)."""

    def __init__(self, width_in: int, width_out: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv1d(width_in, width_out, _KERNEL, stride=stride, padding=_KERNEL // 2)
        self.norm = nn.LayerNorm(width_out)
        self.dropout = Dropout(dropout)

    def forward(
        self, x_BTD: Tensor, lengths_B: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        mask_BT = _length_mask(lengths_B, x_BTD.shape[1], x_BTD.device)
        x_BDT = (x_BTD * mask_BT.unsqueeze(-1)).transpose(1, 2)
        y_BTD = self.conv(x_BDT).transpose(1, 2)
        lengths_B = (lengths_B + self.stride - 1) // self.stride
        return self.dropout(torch.relu(self.norm(y_BTD)), generator), lengths_B


class _BiLstmEncoder(nn.Module):
    """Bidirectional LSTMs, one after the other, with dropout between them and after the last.

    One module a layer: cuDNN keeps the dropout of an LSTM of several layers outside any generator, and
    a resumed run would go on with other zeros.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.LSTM(config.width, config.width // 2, batch_first=True, bidirectional=True)
            for _ in range(config.layers)
        )
        self.dropout = Dropout(config.dropout)

    def forward(
        self,
        x_BED: Tensor,
        lengths_B: Tensor,
        mask_BE: Tensor,
        generator: torch.Generator | None,
    ) -> Tensor:
        # Sorted here, on the cpu: pack_padded_sequence would send the order to the device and read it back.
        sorted_B, order_B = lengths_B.sort(descending=True)
        places_B = order_B.argsort().to(x_BED.device, non_blocking=True)
        x_BED = x_BED.index_select(0, order_B.to(x_BED.device, non_blocking=True))
        # Autocast runs an LSTM in fp16, whatever it was told; gradients above 65504 would be infinite.
        with torch.autocast(x_BED.device.type, enabled=False):
            packed = pack_padded_sequence(x_BED.float(), sorted_B, batch_first=True)
            for layer in self.layers[:-1]:
                packed = self._dropped(layer(packed)[0], generator)
            packed, _ = self.layers[-1](packed)
        out_BED, _ = pad_packed_sequence(packed, batch_first=True, total_length=x_BED.shape[1])
        dropped: Tensor = self.dropout(out_BED.index_select(0, places_B), generator)
        return dropped

    def _dropped(self, packed: PackedSequence, generator: torch.Generator | None) -> PackedSequence:
        return PackedSequence(self.dropout(packed.data, generator), packed.batch_sizes)


class _TransformerEncoder(nn.Module):
    """Pre-norm attention with the sinusoidal positions of Vaswani et al., 2017."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        layer = _AttentionLayer(config)
        self.layers = nn.ModuleList(copy.deepcopy(layer) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)

    def forward(
        self,
        x_BED: Tensor,
        lengths_B: Tensor,
        mask_BE: Tensor,
        generator: torch.Generator | None,
    ) -> Tensor:
        x_BED = x_BED + _positions(x_BED.shape[1], x_BED.shape[2], x_BED.device).to(x_BED.dtype)
        for layer in self.layers:
            x_BED = layer(x_BED, mask_BE, generator)
        encoded: Tensor = self.norm(x_BED)
        return encoded


class _AttentionLayer(nn.Module):
    """Attention and feed-forward block, each normalised before and added to its input.

    As ``torch.nn.TransformerEncoderLayer``, which offers no generator for its dropout.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(config.width, config.heads, batch_first=True)
        self.linear1 = nn.Linear(config.width, 4 * config.width)
        self.linear2 = nn.Linear(4 * config.width, config.width)
        self.norm1 = nn.LayerNorm(config.width)
        self.norm2 = nn.LayerNorm(config.width)
        self.dropout = Dropout(config.dropout)

    def forward(self, x_BED: Tensor, mask_BE: Tensor, generator: torch.Generator | None) -> Tensor:
        attended_BED = self._attend(self.norm1(x_BED), mask_BE, generator)
        x_BED = x_BED + self.dropout(attended_BED, generator)
        hidden_BEF = self.dropout(torch.relu(self.linear1(self.norm2(x_BED))), generator)
        out: Tensor = x_BED + self.dropout(self.linear2(hidden_BEF), generator)
        return out

    def _attend(self, x_BED: Tensor, mask_BE: Tensor, generator: torch.Generator | None) -> Tensor:
        weights = self.self_attn
        batch, steps, width = x_BED.shape
        # (B, E, 3 * D) -> three of (B, heads, E, D / heads)
        q, k, v = (
            F.linear(x_BED, weights.in_proj_weight, weights.in_proj_bias)
            .view(batch, steps, 3, weights.num_heads, -1)
            .permute(2, 0, 3, 1, 4)
        )
        scores_BHEE = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
        shares_BHEE = scores_BHEE.masked_fill(~mask_BE[:, None, None], -math.inf).softmax(dim=-1)
        heads_BHEC = self.dropout(shares_BHEE, generator) @ v
        out: Tensor = weights.out_proj(heads_BHEC.transpose(1, 2).reshape(batch, steps, width))
        return out


def _length_mask(lengths_B: Tensor, steps: int, device: torch.device) -> Tensor:
    """Give a (B, steps) mask that is True where a step is within its sentence."""
    return torch.arange(steps, device=device) < lengths_B.to(device, non_blocking=True).unsqueeze(1)


def _positions(steps: int, width: int, device: torch.device) -> Tensor:
    """Give (steps, width) sine and cosine position codes."""
    time_E1 = torch.arange(steps, device=device, dtype=torch.float32).unsqueeze(1)
    rate_H = torch.exp(torch.arange(0, width, 2, device=device) * (-math.log(10_000.0) / width))
    return torch.cat([torch.sin(time_E1 * rate_H), torch.cos(time_E1 * rate_H)], dim=1)
