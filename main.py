"""SignScope's command line, and the place where its parts are put together.

Without a command the window opens. Every command imports what it needs when it runs, so that help is
quick and the window is up before torch is.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shlex
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import FlagCreatePairsOff, Positional, UseAppendAction, arg
from tyro.extras import SubcommandApp

from core.errors import ConfigError, ModelFileError, PausedItselfError
from signscope.command_line import command_name, run_command
from signscope.version import VERSION

if TYPE_CHECKING:
    from core.config import RunConfig
    from core.console import Progress
    from core.training.policy import UpdatePolicy
    from core.training.session import TrainingJob

EXIT_PAUSED_ITSELF = PausedItselfError.exit_status
NO_DISPLAY_EPOCHS = 3

commands = SubcommandApp()

OptionalPath = Annotated[Path | None, arg(metavar="PATH", help_behavior_hint="")]
OptionalInt = Annotated[int | None, arg(metavar="INT", help_behavior_hint="")]
Settings = UseAppendAction[
    Annotated[tuple[str, ...], arg(metavar="KEY=VALUE", help_behavior_hint="")]
]
Text = Annotated[str, arg(metavar="TEXT", help_behavior_hint="")]


# ---------------------------------------------------------------- window


@commands.command(is_default=True)
def window(
    camera: Text = "",
    corpus: Text = "",
    run: OptionalPath = None,
    config: OptionalPath = None,
) -> int:
    """Open the window (what happens without a command).

    Args:
        camera: Camera number, video file or folder of images for the preview, switched on at once.
        corpus: Folder of the corpus to offer for training, or 'demo'.
        run: Run folder to show.
        config: TOML file with the settings to begin with.
    """
    from core.system_libraries import check_system_libraries, display_available

    if importlib.util.find_spec("PySide6") is None:  # before a word about displays and libraries
        raise ModuleNotFoundError("No module named 'PySide6'", name="PySide6")
    if not display_available():
        return _train_without_window(corpus, config)
    check_system_libraries()
    from app.application import WindowOptions, run_application

    settings = _settings(config, corpus=corpus) if config or corpus else None
    return run_application(WindowOptions(camera=camera or None, run=run, config=settings))


def _train_without_window(corpus: str, config: Path | None) -> int:
    print(
        "No display: the window cannot open (a desktop session, `ssh -X`, or "
        f"`xvfb-run -a {command_name()}` would open it); training in this terminal instead.",
        flush=True,
    )
    from core.training.replay import story_config
    from core.training.session import TrainingJob
    from signscope.paths import runs_dir

    # Without settings of the person's own: some that learn to recognise within half a minute.
    quick = None if config else NO_DISPLAY_EPOCHS
    chosen = _settings(config, base=story_config(), corpus=corpus, epochs=quick)
    return _train_in_terminal(TrainingJob(chosen, runs_dir()), every=10)


# ---------------------------------------------------------------- training


@commands.command
def train(
    config: OptionalPath = None,
    corpus: Text = "",
    out: OptionalPath = None,
    resume: OptionalPath = None,
    checkpoint: Text = "",
    accept_changes: bool = False,
    name: Text = "",
    epochs: OptionalInt = None,
    seed: OptionalInt = None,
    device: Annotated[
        Literal["auto", "cuda", "mps", "cpu"] | None,
        arg(metavar="{auto,cuda,mps,cpu}", help_behavior_hint=""),
    ] = None,
    set: Settings = (),
    max_steps: OptionalInt = None,
    every: int = 1,
) -> int:
    """Train in this terminal. Ctrl-C stops with a checkpoint, a second Ctrl-C ends at once.

    Args:
        config: TOML file with settings; docs/settings.md lists them all.
        corpus: Folder of a corpus, or 'demo' for the built-in synthetic one.
        out: Folder in which the run's own folder is made.
        resume: Run folder to go on with, with its own settings.
        checkpoint: With --resume: file name of the checkpoint to go on from, instead of the newest.
        accept_changes: With --resume: go on although corpus, settings, code or machine have changed.
        name: Name of the run.
        epochs: Passes over the training sentences.
        seed: Seed of weights, sentences and augmentation.
        device: Where to compute.
        set: Any other setting, such as data.batch_size=8; may be given several times.
        max_steps: End after this many batches.
        every: Print each so many batches; batches that were not applied are always printed.
    """
    from core.training.session import TrainingJob, resume_job
    from signscope.paths import runs_dir

    if resume is not None:
        if config or out:
            raise ConfigError(
                "A resumed run has its own folder and settings",
                subject="--config and --out",
                hint="Leave them out with --resume, or start a new run without it.",
            )
    elif checkpoint or accept_changes:
        raise ConfigError(
            "These options belong to a resumed run",
            subject="--checkpoint and --accept-changes",
            hint="Name the run folder with --resume.",
        )
    resumed = None
    if resume is not None:
        resumed = resume_job(
            _run_folder(resume), checkpoint=checkpoint or None, accept_changes=accept_changes
        )
    chosen = _settings(
        config,
        base=resumed.config if resumed else None,
        corpus=corpus,
        epochs=epochs,
        assignments=set,
        name=name or None,
        seed=seed,
        device=device,
    )
    job = resumed or TrainingJob(chosen, out or runs_dir())
    return _train_in_terminal(replace(job, config=chosen, max_steps=max_steps), every=every)


def _train_in_terminal(job: TrainingJob, *, every: int = 1) -> int:
    """Train with text and a bar."""
    _make_demo_corpus_of(job.config)
    from core.console import ConsoleObserver, run_in_terminal
    from core.training.session import run_job

    observer = ConsoleObserver(job.config.optim.max_norm, every=every, batches=job.max_steps)
    with contextlib.closing(observer):
        result, paused_itself = run_in_terminal(lambda control: run_job(job, control, [observer]))
    print(f"Run folder: {result.run_path}")
    if result.state == "stopped":
        print(f"Go on with: {command_name()} train --resume {shlex.quote(str(result.run_path))}")
    return EXIT_PAUSED_ITSELF if paused_itself else 0


@commands.command
def replay(
    corpus: Text = "",
    policies: str = "clip,skip:100",
    steps: OptionalInt = None,
    seed: OptionalInt = None,
    json: OptionalPath = None,
    config: OptionalPath = None,
    out: OptionalPath = None,
    set: Settings = (),
) -> int:
    """Train on the same batches from the same weights, once for each update policy, and compare.

    Args:
        corpus: Folder of a corpus, or 'demo' for the built-in synthetic one.
        policies: Names with commas between: clip, none, or skip:T, which leaves out every update whose
            gradient norm is above T before clipping.
        steps: Batches for each policy. Not given: enough for clipping to get there, and six times
            what it needed for the others.
        seed: Seed of weights, sentences and augmentation.
        json: File for the result.
        config: TOML file with settings, instead of those of the story that the replay tells.
        out: Folder in which the run folders are made.
        set: Any other setting, such as data.batch_size=8; may be given several times.
    """
    from core.training import replay as policy_replay
    from signscope.paths import runs_dir

    chosen = _settings(
        config,
        base=policy_replay.story_config(),
        corpus=corpus,
        assignments=set,
        seed=seed,
    )
    _make_demo_corpus_of(chosen)
    from core.console import ConsoleObserver, run_in_terminal

    with contextlib.ExitStack() as observers:

        def observers_for(policy: UpdatePolicy, count: int) -> list[ConsoleObserver]:
            observer = ConsoleObserver(
                policy.max_norm, batches=count, label=policy.name, bar_only=True
            )
            return [observers.enter_context(contextlib.closing(observer))]

        result, paused_itself = run_in_terminal(
            lambda control: policy_replay.replay(
                chosen,
                policies.split(","),
                steps=steps,
                runs_dir=out or runs_dir(),
                control=control,
                observers_for=observers_for,
            )
        )
    print("\n".join(policy_replay.table(result)))
    if json is not None:
        policy_replay.save_result(result, json)
        print(f"Result: {json}")
    return EXIT_PAUSED_ITSELF if paused_itself else 0


@commands.command
def runs(folder: OptionalPath = None) -> int:
    """List the runs in the runs folder, newest first.

    Args:
        folder: Another folder of runs.
    """
    from core.analysis.catalogue import list_runs
    from signscope.paths import runs_dir

    folder = folder or runs_dir()
    found = list_runs(folder)
    print(f"{len(found)} runs in {folder}")
    for run in found:
        wer = "" if run.best_wer is None else f", best WER {100 * run.best_wer:.1f}%"
        wer += "" if run.test_wer is None else f", held-out WER {100 * run.test_wer:.1f}%"
        mark = " (synthetic)" if run.synthetic and "synthetic" not in run.corpus else ""
        planned = f"/{run.total_epochs}" if run.total_epochs else ""
        done = f"{run.epochs}{planned} epochs, {run.batches} batches{wer}"
        corpus = f", {run.corpus}{mark}" if run.corpus else ""  # a watched script has none
        print(f"{run.path.name}: {run.problem or f'{run.state}{corpus}, {done}'}")
    return 0


@commands.command
def export(
    run: Positional[Path],
    to: Path,
    format: Annotated[
        Literal["csv", "parquet", "tensorboard", "html"] | None,
        arg(metavar="{csv,parquet,tensorboard,html}", help_behavior_hint=""),
    ] = None,
    overwrite: bool = False,
) -> int:
    """Write every batch of a run for other programs, or a report of it as one HTML page.

    Args:
        run: Run folder, or its name in the runs folder.
        to: File to write; for TensorBoard a folder.
        format: What to write; without it the name decides: .csv, .parquet, .html, else TensorBoard.
        overwrite: Replace what is there.
    """
    from core.analysis.export.formats import export_run
    from core.console import progress_bar

    with progress_bar("Exporting", "batch") as progress:
        written = export_run(_run_folder(run), to, format, overwrite=overwrite, progress=progress)
    print(f"Written: {written}")
    return 0


@commands.command
def verify(run: Positional[Path]) -> int:
    """Read everything that a run consists of and compare it with its checksums; ends with 2 if something is wrong.

    Args:
        run: Run folder, or its name in the runs folder.
    """
    from core.training.verify import verify_run

    sound = True
    for part in verify_run(_named_folder(run)):
        sound = sound and not part.problems
        print(f"{part.name}: {part.found if not part.problems else 'NOT as it was written'}")
        for problem in part.problems:
            print(f"    {problem}")
    return 0 if sound else 2


def _make_demo_corpus_of(config: RunConfig) -> None:
    """Make the demo corpus with a bar where it is asked for and missing."""
    from core.config import DEMO_CORPUS

    if config.data.corpus == DEMO_CORPUS:
        from core.console import progress_bar
        from core.corpus.demo import ensure_demo_corpus

        with progress_bar("Making the demo corpus", "sentence") as progress:
            ensure_demo_corpus(progress)


def _run_folder(run: Path) -> Path:
    """The run folder meant by a path or by its name in the runs folder; raises RunFolderError when it is none."""
    from signscope.folder import RunFolder

    return RunFolder.open(_named_folder(run)).path


def _named_folder(run: Path) -> Path:
    from signscope.paths import runs_dir

    named = runs_dir() / run
    return named if not run.exists() and named.exists() else run


def _settings(
    path: Path | None,
    *,
    base: RunConfig | None = None,
    corpus: str = "",
    epochs: int | None = None,
    assignments: tuple[str, ...] = (),
    **top_level: Any,
) -> RunConfig:
    """The settings of a file, else ``base``, else the defaults, with what the command line says on top."""
    from core.config import config_from_dict, load_config

    start = load_config(path) if path else base
    values = start.model_dump() if start else {}
    for key, value in top_level.items():
        if value is not None:
            values[key] = value
    if corpus:
        values.setdefault("data", {})["corpus"] = corpus
    if epochs is not None:
        values.setdefault("optim", {})["epochs"] = epochs
    for assignment in assignments:
        _assign(values, assignment)
    return config_from_dict(values, source=str(path) if path else "the command line")


def _assign(values: dict[str, Any], assignment: str) -> None:
    """Put ``a.b=value`` into nested dicts; the value is TOML, or text where it is no TOML."""
    key, equals, text = assignment.partition("=")
    *sections, last = key.strip().split(".")
    if not equals or not all([*sections, last]):
        raise ConfigError(
            "A setting is given as KEY=VALUE", subject=assignment, hint="Such as data.batch_size=8."
        )
    try:
        value: Any = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):  # not only TOMLDecodeError: endless digits, deep nesting
        value = text
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ConfigError(
                f"{section} is a setting and has no parts",
                subject=assignment,
                hint="docs/settings.md lists all settings.",
            )
    values[last] = value


# ---------------------------------------------------------------- corpora


@commands.command(name="import")
def import_(
    layout: Positional[Literal["mp-data"]],
    source: Positional[Path],
    out: Path,
    signers: str,
    name: Text = "",
    fps: float = 25.0,
    skip_bad: bool = False,
    replace: bool = False,
) -> int:
    """Make a corpus of recorded landmarks.

    Args:
        layout: mp-data reads SOURCE/<label>/<sequence>/<frame>.npy with 258 values a frame.
        source: Folder that holds the recording.
        out: Folder of the new corpus.
        signers: Who signed which sequences: S1=0-29,S2=30-59,S3=60-89.
        name: Name of the corpus; empty takes the folder's.
        fps: Frames a second of the recording.
        skip_bad: Import what is well formed and list what was left out.
        replace: Replace a corpus that is there already.
    """
    from core.console import progress_bar
    from core.corpus.importers.mp_data import import_mp_data, parse_signers

    with progress_bar("Importing", "clip") as progress:
        report = import_mp_data(
            source,
            out,
            signers=parse_signers(signers),
            fps=fps,
            name=name or None,
            skip_bad=skip_bad,
            replace=replace,
            progress=progress,
        )
    print(f"{report.imported} clips imported into {out}")
    for left_out in report.left_out:
        print(f"left out: {left_out.path}: {left_out.reason}")
    return 0


@commands.command
def demo(out: Path, seed: int = 0) -> int:
    """Make the built-in synthetic corpus in a folder of its own.

    Args:
        out: Folder of the new corpus.
        seed: Other seeds give other signers and sentences.
    """
    from core.console import progress_bar
    from core.corpus.demo import make_demo_corpus
    from core.corpus.reader import Corpus

    with progress_bar("Making the demo corpus", "sentence") as progress:
        make_demo_corpus(out, seed=seed, progress=progress)
    with Corpus.open(out) as corpus:
        print(f"{len(corpus)} synthetic sentences of {len(corpus.signers)} signers in {out}")
    return 0


# ---------------------------------------------------------------- landmark models, system


@commands.command
def models(
    fetch: bool = False,
    source: Annotated[
        Path | None, arg(name="from", metavar="FOLDER", help_behavior_hint="")
    ] = None,
    quiet: bool = False,
) -> int:
    """Show where the landmark models of MediaPipe are and whether they verify.

    Args:
        fetch: Fetch those that are missing or wrong.
        source: Fetch them from this folder alone.
        quiet: Print nothing where all is well.
    """
    from core.landmarks import models as landmark_models

    if fetch or source is not None:
        _fetch_models(source)
    status = landmark_models.model_status()
    missing = [each.name for each in status if each.required and not each.verified]
    if not (quiet and not missing):
        for each in status:
            state = "verified" if each.verified else "WRONG HASH" if each.present else "missing"
            need = "" if each.required else ", not needed yet"
            print(f"{each.path}: {state} ({each.purpose}{need})")
    if missing:
        raise ModelFileError(
            "Landmark models are missing or wrong",
            subject=", ".join(missing),
            hint=f"`{command_name()} models --fetch` brings them, `--from FOLDER` takes them from a folder.",
        )
    return 0


def _fetch_models(folder: Path | None) -> None:
    from core.console import progress_bar
    from core.landmarks import models as landmark_models
    from core.landmarks.model_sources import FolderSource

    sources = None if folder is None else (FolderSource(folder),)
    with contextlib.ExitStack() as bar:
        shown = ""
        show: Progress

        def progress(name: str, done: int, total: int) -> None:
            nonlocal shown, show
            if name != shown:
                bar.close()
                shown, show = name, bar.enter_context(progress_bar(name, "B", in_bytes=True))
            show(done, total)

        landmark_models.ensure_models(sources=sources, progress=progress)


@commands.command
def system(install: bool = False) -> int:
    """Check the libraries of the operating system that the window and MediaPipe need.

    Args:
        install: Install missing ones with apt-get (Debian and Ubuntu, as root).
    """
    from core.system_libraries import check_system_libraries, missing_libraries

    packages = tuple(dict.fromkeys(library.package for library in missing_libraries()))
    if packages and install:
        _install_packages(packages)
    check_system_libraries()
    return 0


def _install_packages(packages: tuple[str, ...]) -> None:
    print(f"Installing system libraries with apt-get: {' '.join(packages)}", flush=True)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    # A failure shows apt-get's own errors, and the check that follows names the packages again.
    for command in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
        subprocess.run(
            ["apt-get", "-qq", *command],
            env=environment,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )


@commands.command
def settings() -> int:
    """Print every setting of a run with its bounds, as docs/settings.md."""
    from core.settings_page import settings_page

    sys.stdout.write(settings_page())
    return 0


@commands.command
def watch(script: Annotated[tuple[str, ...], arg(metavar="SCRIPT.PY ...")]) -> int:
    """Run any PyTorch training script unchanged and write its run: see `watch --help` for its options.

    Args:
        script: Options, the script (or -m MODULE), and its own arguments, which are passed on as they are.
    """
    # The script may have modules called core or app of its own.
    for name in [
        name for name in sys.modules if name.partition(".")[0] in ("core", "app", "resources")
    ]:
        del sys.modules[name]
    from signscope.watching.command import main as watch_script

    return watch_script(script)


# ---------------------------------------------------------------- start


def main(arguments: list[str] | None = None) -> int:
    """Run one command; gives the exit status.

    0: done, or stopped as asked. 2: wrong arguments. 3: a training run paused itself. For errors those of
    :func:`signscope.command_line.run_command`.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    return run_command(lambda: _run(arguments))


def _run(arguments: list[str]) -> int:
    if arguments[:1] == ["watch"]:
        return watch(tuple(arguments[1:]))
    if arguments == ["--version"]:
        print(f"SignScope {VERSION}")
        return 0
    status: int = commands.cli(
        args=arguments,
        prog=command_name(),
        description="Train a sign-language teacher on landmarks and watch every batch of it.",
        config=(FlagCreatePairsOff,),
    )
    return status


if __name__ == "__main__":
    sys.exit(main())
