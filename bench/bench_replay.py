"""The story's claim over several seeds: how many batches clipping and skipping need to learn.

    python -m bench.bench_replay [--seeds 5] [--mp-data FOLDER --signers S1=0-29,...] [--keep FOLDER]

One JSON line a seed and one for the claim, for the demo corpus and, with ``--mp-data``, for real
clips spliced into sentences. The claim: clipping reaches 7 % of the first loss in at least 5.66
times fewer batches than skipping, or skipping never gets there within 6 times as many. Batches are
counted, not seconds, so other programs on the machine change nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from core.config import DEMO_CORPUS, RunConfig, config_from_dict
from core.corpus.importers.mp_data import import_mp_data, parse_signers
from core.training.replay import DEFAULT_POLICIES, STORY_RATIO, ReplayResult, replay, story_config
from signscope.run_state import RunControl, RunEvent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--no-demo", action="store_true", help="only the clips of --mp-data")
    parser.add_argument("--mp-data", type=Path, help="folder of MP_Data recordings")
    parser.add_argument("--signers", default="S1=0-29,S2=30-59,S3=60-89")
    parser.add_argument("--keep", type=Path, help="folder for the run folders")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        runs = options.keep or Path(temporary) / "runs"
        if not options.no_demo:
            compare("demo", story_config(DEMO_CORPUS), options.seeds, runs)
        if options.mp_data:
            corpus = Path(temporary) / "corpus"
            import_mp_data(options.mp_data, corpus, signers=parse_signers(options.signers))
            compare("real clips", real_clips_config(corpus), options.seeds, runs)


def real_clips_config(corpus: Path) -> RunConfig:
    """Give the story's settings for clips: sentences of 6-10 signs, 16 a batch, time quartered.

    A spliced sentence has about 270 frames, more than twice as many as the demo's, so time is
    quartered to start at the story's loss.
    """
    values = story_config(str(corpus)).model_dump()
    values["data"]["batch_size"] = 16
    values["model"]["strides"] = (2, 2)
    return config_from_dict(values)


def compare(name: str, config: RunConfig, seeds: int, runs: Path) -> None:
    results = []
    for seed in range(seeds):
        control = RunControl()
        control.apply(RunEvent.START)
        result = replay(
            config.model_copy(update={"seed": seed}),
            DEFAULT_POLICIES,
            steps=None,
            runs_dir=runs,
            control=control,
        )
        results.append(result)
        print(json.dumps({"name": f"replay, {name}, seed {seed}", **_row(result)}), flush=True)
    ratios = [result.ratio for result in results]
    reached = [ratio for ratio in ratios if ratio is not None]
    print(
        json.dumps(
            {
                "name": f"batches, skipping over clipping, {name}",
                "seeds": seeds,
                "clipping_got_there": len(reached),
                "skipping_never": sum(
                    result.policies["skip:100"].batches_to_share is None for result in results
                ),
                "ratio_min": min(reached, default=None),
                "ratio_median": statistics.median(reached) if reached else None,
                "unit": "times as many batches (at least, where skipping never got there)",
                "target": round(STORY_RATIO, 2),
                "held": len(reached) == seeds and all(ratio >= STORY_RATIO for ratio in reached),
            }
        ),
        flush=True,
    )


def _row(result: ReplayResult) -> dict[str, object]:
    clip, skip = result.policies["clip"], result.policies["skip:100"]
    return {
        "first_loss": round(clip.first_loss, 1),
        "first_norm": round(clip.first_norm, 1),
        "clip_batches": clip.batches_to_share,
        "clip_applied": f"{clip.applied}/{clip.batches}",
        "skip_batches": skip.batches_to_share,
        "skip_applied": f"{skip.applied}/{skip.batches}",
        "skip_last_loss": round(skip.last_loss, 1),
        "skip_longest_gap": skip.longest_gap,
        "clip_wer": clip.wer,
        "skip_wer": skip.wer,
    }


if __name__ == "__main__":
    main()
