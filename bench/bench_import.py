"""Import of MP_Data recordings, and iterating a corpus against reading the .npy files one by one.

    python -m bench.bench_import

One JSON line a figure. Promise: iterating the corpus once, opening included, is at least 50 times
faster than loading the files that it was imported from; both sides touch every value, in turns, with
the files in the page cache. Uses the 900 real clips where SIGNSCOPE_DATA or ../shared/data has them,
else clips cut from the demo corpus.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from core.corpus.demo import make_demo_corpus
from core.corpus.importers.mp_data import import_mp_data, parse_signers
from core.corpus.reader import Corpus
from tests.unit.made_samples import to_values

ROUNDS = 3
CLIP_FRAMES = 30
CLIPS = 900
SIGNERS = "S1=0-29,S2=30-59,S3=60-89"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        made_s = seconds(lambda: make_demo_corpus(root / "demo"))
        tell("demo corpus made", made_s, "s", "a few seconds")
        source = write_mp_data(root)
        files = sorted((root / "MP_Data").rglob("*.npy"))
        read_files(files)  # into the page cache
        imports, iterations, loads = [], [], []
        for _ in range(ROUNDS):
            imports.append(seconds(lambda: run_import(root)))
            iterations.append(seconds(lambda: iterate(root / "corpus")))
            loads.append(seconds(lambda: read_files(files)))
        clips = len(Corpus.open(root / "corpus"))
        import_s, iterate_s, load_s = map(statistics.median, (imports, iterations, loads))
        tell(
            "import", clips / import_s, "clips/s", "-", source=source, clips=clips, files=len(files)
        )
        tell("corpus iterated once", iterate_s, "s", "-", source=source)
        tell("npy files read one by one", load_s, "s", "-", source=source)
        tell(
            "iteration against npy files",
            load_s / iterate_s,
            "times faster",
            ">= 50",
            source=source,
        )


def write_mp_data(root: Path) -> str:
    """Make ``root/MP_Data``; say from what."""
    chosen = os.environ.get("SIGNSCOPE_DATA")
    data = Path(chosen) if chosen else Path(__file__).resolve().parents[2] / "shared" / "data"
    npz = data / "traduttore-asl" / "landmarks.npz"
    if npz.is_file():
        unpack = [sys.executable, str(data / "unpack_mp_data.py"), str(npz), str(root / "MP_Data")]
        subprocess.run(unpack, check=True, stdout=subprocess.DEVNULL)
        return "traduttore-asl"
    with Corpus.open(root / "demo") as corpus:
        for number in range(CLIPS):
            values_TV = to_values(corpus.landmarks_of(number % len(corpus))[:CLIP_FRAMES])
            clip = root / "MP_Data" / f"label{number // 90}" / str(number % 90)
            clip.mkdir(parents=True)
            for frame, values in enumerate(values_TV.astype(np.float64)):
                np.save(clip / f"{frame}.npy", values)
    return "cut from the demo corpus"


def run_import(root: Path) -> None:
    signers = parse_signers(SIGNERS)
    import_mp_data(root / "MP_Data", root / "corpus", signers=signers, replace=True)


def iterate(path: Path) -> None:
    with Corpus.open(path) as corpus:
        for sample in corpus:
            np.add.reduce(sample.landmarks_TKC, axis=None)


def read_files(files: list[Path]) -> None:
    for file in files:
        np.add.reduce(np.load(file, allow_pickle=False), axis=None)


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def tell(name: str, value: float, unit: str, target: str, **more: object) -> None:
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    figure = {"name": name, "value": round(value, 4), "unit": unit, "target": target}
    print(json.dumps({"bench": "import", **figure, **more, "machine": machine}), flush=True)


if __name__ == "__main__":
    main()
