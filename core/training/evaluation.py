"""Greedy decoding of a whole split: word errors, loss and share of blank frames."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import torch

from core.corpus.batching import Batch, Split
from core.corpus.vocabulary import Vocabulary
from core.landmarks.normalize import normalize
from core.model.decoding import blank_fraction, greedy_decode
from core.model.losses import ctc_losses
from core.model.teacher import Teacher
from core.model.word_errors import word_errors
from core.training.device import ComputeMode
from signscope.records import Evaluation


@torch.no_grad()
def evaluate(
    model: Teacher,
    batches: Iterable[Batch],
    vocabulary: Vocabulary,
    mode: ComputeMode,
    split: Split,
    keep_going: Callable[[], bool] = lambda: True,
) -> Evaluation | None:
    """Recognise every sentence of a split. Uses no random numbers and leaves the model in train mode.

    ``keep_going`` is asked after each batch; when it says no, there is no result. The time that it takes
    (a pause, say) is not the evaluation's.
    """
    started_s = time.perf_counter()
    elsewhere_s = 0.0
    references: list[tuple[str, ...]] = []
    hypotheses: list[tuple[str, ...]] = []
    loss_sum = blank_sum = 0.0
    frames = 0
    model.eval()
    try:
        for batch in batches:
            landmarks = normalize(
                batch.landmarks_BTKC.to(mode.device), batch.lengths_B.to(mode.device)
            )
            with torch.autocast(mode.device.type, torch.bfloat16, enabled=mode.autocast):
                out = model(landmarks, batch.lengths_B)
            losses_B = ctc_losses(
                out.log_probs_BEV.transpose(0, 1),
                batch.targets,
                out.lengths_B,
                batch.target_lengths_B,
                route=mode.ctc_route,
            )
            loss_sum += float(losses_B.sum())
            encoded = int(out.lengths_B.sum())
            blank_sum += float(blank_fraction(out.log_probs_BEV, out.mask_BE)) * encoded
            frames += encoded
            decoded = greedy_decode(out.log_probs_BEV, out.lengths_B)
            hypotheses += [vocabulary.decode(ids) for ids in decoded]
            references += batch.glosses
            asked_s = time.perf_counter()
            if not keep_going():
                return None
            elsewhere_s += time.perf_counter() - asked_s
    finally:
        model.train()
    return Evaluation(
        split=split,
        errors=word_errors(references, hypotheses),
        loss=loss_sum / len(references) if references else float("nan"),
        blank_fraction=blank_sum / frames if frames else float("nan"),
        sentences=len(references),
        duration_s=time.perf_counter() - started_s - elsewhere_s,
    )
