"""The teacher: shapes, padding that never matters, lengths, losses by hand, decoding."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.config import ModelConfig
from core.landmarks.normalize import normalize
from core.model.decoding import blank_fraction, greedy_decode
from core.model.losses import CtcRoute, ctc_losses
from core.model.teacher import Teacher, encoded_length

CLASSES = 7


def tiny(encoder: str = "bilstm", **changes: object) -> ModelConfig:
    return ModelConfig.model_validate(
        {"encoder": encoder, "part_dim": 8, "width": 16, "layers": 2, "dropout": 0.0} | changes
    )


def raw_landmarks(*lengths: int, frames: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand((len(lengths), frames or max(lengths), 75, 4), generator=generator)
    x[:, :, 11, 0] += 0.5  # shoulders apart
    for row, length in enumerate(lengths):
        x[row, length:] = math.nan
    return x, torch.tensor(lengths)


@pytest.mark.parametrize("encoder", ["bilstm", "transformer"])
def test_padding_and_neighbours_do_not_change_a_sentence(encoder: str) -> None:
    torch.manual_seed(0)
    model = Teacher(tiny(encoder), CLASSES).eval()
    x_BTKC, lengths_B = raw_landmarks(37, 20, 8)
    with torch.no_grad():
        together = model(normalize(x_BTKC, lengths_B), lengths_B)
        for row, length in enumerate(lengths_B.tolist()):
            alone_lengths = torch.tensor([length])
            alone = model(normalize(x_BTKC[row : row + 1, :length], alone_lengths), alone_lengths)
            steps = int(together.lengths_B[row])
            assert alone.log_probs_BEV.shape == (1, steps, CLASSES)
            torch.testing.assert_close(
                together.log_probs_BEV[row, :steps], alone.log_probs_BEV[0], rtol=1e-4, atol=1e-5
            )
    assert together.mask_BE.sum(1).tolist() == together.lengths_B.tolist()


@given(st.integers(1, 300), st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_encoded_length_is_what_the_convolutions_give(frames: int, strides: list[int]) -> None:
    config = tiny(strides=tuple(strides), layers=1, part_dim=4, width=8)
    x_BTKC, lengths_B = raw_landmarks(frames)
    with torch.no_grad():
        out = Teacher(config, CLASSES)(normalize(x_BTKC, lengths_B), lengths_B)
    assert out.log_probs_BEV.shape[1] == int(out.lengths_B[0]) == encoded_length(frames, config)


def test_log_probabilities_are_probabilities_and_every_weight_learns() -> None:
    torch.manual_seed(0)
    model = Teacher(tiny(), CLASSES)
    x_BTKC, lengths_B = raw_landmarks(40, 30)
    out = model(normalize(x_BTKC, lengths_B), lengths_B)
    assert out.log_probs_BEV.dtype is torch.float32
    torch.testing.assert_close(out.log_probs_BEV.exp().sum(-1), torch.ones(2, 10))
    losses_B = ctc_losses(
        out.log_probs_BEV.transpose(0, 1),
        torch.tensor([1, 2, 3, 4]),
        out.lengths_B,
        torch.tensor([2, 2]),
    )
    losses_B.mean().backward()  # type: ignore[no-untyped-call]
    dead = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []


def test_the_loss_is_summed_over_a_sentence() -> None:
    # Two frames, uniform over two classes, target one gloss: paths (g,-), (-,g), (g,g) of 1/4 each.
    log_probs_TBV = torch.full((2, 1, 2), math.log(0.5))
    for route in CtcRoute:
        (loss,) = ctc_losses(
            log_probs_TBV, torch.tensor([1]), torch.tensor([2]), torch.tensor([1]), route=route
        )
        assert float(loss) == pytest.approx(-math.log(0.75))


def test_an_impossible_alignment_is_infinite_not_zero() -> None:
    log_probs_TBV = torch.full((2, 1, 2), math.log(0.5))
    (loss,) = ctc_losses(log_probs_TBV, torch.tensor([1, 1]), torch.tensor([2]), torch.tensor([2]))
    assert math.isinf(float(loss))


def test_greedy_decoding_merges_repeats_and_drops_blanks() -> None:
    best = torch.tensor([[1, 1, 0, 1, 2, 2, 0, 3], [0, 0, 0, 0, 0, 5, 5, 5]])
    log_probs_BTV = torch.nn.functional.one_hot(best, 6).float().log()
    lengths_B = torch.tensor([8, 5])
    assert greedy_decode(log_probs_BTV, lengths_B) == [(1, 1, 2, 3), ()]
    mask_BT = torch.arange(8) < lengths_B[:, None]
    assert float(blank_fraction(log_probs_BTV, mask_BT)) == pytest.approx(7 / 13)
