"""What is drawn of a run: three plots over one x axis."""

from __future__ import annotations

from app.monitor.legend import CurveSpec
from app.monitor.live_plot import SHARE_WINDOW, PlotSpec

LOSS = PlotSpec(
    "Loss",
    (CurveSpec("loss", "loss", "loss", "Summed over a sentence, averaged over the batch"),),
    distribution="loss",
    top=True,
)
NORMS = PlotSpec(
    "Gradient norm",
    (
        CurveSpec(
            "grad_norm_pre", "before clipping", "norm_pre", "L2 norm of all gradients of the batch"
        ),
        CurveSpec("grad_norm_post", "after clipping", "norm_post", "What the optimiser was given"),
    ),
    log=True,
    distribution="grad_norm_pre",
)
SHARE = PlotSpec(
    "Clipped",
    (
        CurveSpec(
            "clipped_share",
            f"of the last {SHARE_WINDOW} batches",
            "share",
            f"How many of the newest {SHARE_WINDOW} batches were clipped",
            percent=True,
        ),
    ),
    share=True,
)
