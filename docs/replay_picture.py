"""Makes the picture of a policy replay from its run folders, with the program's own comparison plots.

    python docs/replay_picture.py RUN [RUN ...] [--out docs/images/replay.png]

The run folders are those that ``python main.py replay --out FOLDER`` leaves. Needs no display.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))


def main() -> None:
    """Read the command line and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs" / "images" / "replay.png")
    options = parser.parse_args()
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    draw(options.runs, options.out)


def draw(runs: list[Path], out: Path) -> None:
    """Overlay the runs by batch and write the picture."""
    from PySide6.QtCore import QSize
    from PySide6.QtWidgets import QApplication

    from app.runs.overlay import OverlayPlots
    from app.runs.overlay_plot import OverlaidRun
    from app.runs.picture import save_picture
    from app.theme import Theme, ThemeChoice
    from core.analysis.history import History
    from core.training.replay import STORY_SHARE
    from signscope.ledger import LedgerReader

    application = QApplication([])
    theme = Theme(application, ThemeChoice.LIGHT)
    plots = OverlayPlots(theme.colors)
    overlaid = []
    for run in runs:
        with LedgerReader(run / "ledger.sqlite") as reader:
            history = History.from_ledger(reader)
            name = str(reader.meta().get("policy", run.name))
        overlaid.append(OverlaidRun(str(run), name, history))
    plots.set_runs(overlaid)
    first_loss = float(overlaid[0].history.column("loss")[0])
    plots.set_line("loss", STORY_SHARE * first_loss, f"{STORY_SHARE:.0%} of the first loss")
    plots.fit()
    out.parent.mkdir(parents=True, exist_ok=True)
    save_picture(plots, out, QSize(1200, 720), redraw=plots.fit)
    print(out)


if __name__ == "__main__":
    main()
