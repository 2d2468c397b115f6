"""The command line in this process: what it accepts and how it tells errors. Nothing here imports torch."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import main


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    try:
        status = main.main(list(arguments))
    except SystemExit as left:  # tyro leaves like this on --help and on wrong arguments
        status = left.code if isinstance(left.code, int) else 1
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "--version")
    assert status == 0
    assert out.startswith("SignScope ")


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "--help")
    assert status == 0
    for command in ("window", "train", "import", "demo", "models", "replay", "runs", "system"):
        assert f"• {command} " in out


def test_an_unknown_option_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "train", "--no-such-option", "3")
    assert status == 2
    assert "no-such-option" in out + err


def test_an_error_says_what_to_what_and_what_next(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    missing = tmp_path / "none.toml"
    status, out, err = run(capsys, "train", "--config", str(missing))
    assert (status, out) == (2, "")
    assert err.splitlines()[0] == (
        f"error: The settings cannot be read (No such file or directory): {missing}."
    )
    assert err.splitlines()[1] == "Check the path."


@pytest.mark.parametrize(
    ("assignment", "named"),
    [
        ("data.batch_size=0", "data.batch_size"),
        ("data.batch_sise=8", "data.batch_sise"),
        ("nonsense", "KEY=VALUE"),
        ("seed.more=1", "seed"),
    ],
)
def test_a_wrong_setting_is_named(
    capsys: pytest.CaptureFixture[str], assignment: str, named: str
) -> None:
    status, _, err = run(capsys, "train", "--set", "seed=3", "--set", assignment)
    assert status == 2
    assert named in err
    assert "Traceback" not in err


def test_settings_come_from_file_then_options_then_assignments(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('seed = 1\n[data]\nbatch_size = 4\ncorpus = "there"\n', encoding="utf-8")
    config = main._settings(
        path,
        corpus="here",
        epochs=7,
        assignments=('data.test_signers=["S3"]', "model.encoder=transformer", "optim.lr=1e-4"),
        seed=None,
        device="cpu",
    )
    assert (config.seed, config.device, config.optim.epochs) == (1, "cpu", 7)
    assert (config.data.batch_size, config.data.corpus) == (4, "here")
    assert config.data.test_signers == ("S3",)
    assert config.model.encoder == "transformer"
    assert config.optim.lr == 1e-4


def test_an_unexpected_error_ends_with_1_and_asks_for_a_report(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> str:
        raise ZeroDivisionError("a mistake of ours")

    monkeypatch.setattr("core.settings_page.settings_page", broken)
    status, _, err = run(capsys, "settings")
    assert status == 1
    assert "a mistake of ours" in err
    assert "Please report it" in err


def test_options_of_a_resumed_run_are_refused_elsewhere(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, _, err = run(capsys, "train", "--accept-changes")
    assert status == 2
    assert "--resume" in err


def test_missing_models_are_an_error_that_says_how_to_get_them(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGNSCOPE_MODELS", str(tmp_path / "models"))
    status, out, err = run(capsys, "models")
    assert status == 2
    assert out.count(": missing (") == 3
    assert "pose_landmarker_full.task, hand_landmarker.task" in err
    assert "--fetch" in err


@pytest.mark.models
def test_models_are_taken_from_a_folder(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.paths import models_dir

    verified = models_dir()
    monkeypatch.setenv("SIGNSCOPE_MODELS", str(tmp_path / "models"))
    status, out, _ = run(capsys, "models", "--from", str(verified))
    assert status == 0
    assert out.count(": verified") == 2
    assert sorted(path.name for path in (tmp_path / "models").glob("*.task")) == [
        "hand_landmarker.task",
        "pose_landmarker_full.task",
    ]
    assert run(capsys, "models", "--quiet")[:2] == (0, "")


def test_runs_of_an_empty_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(capsys, "runs", "--folder", str(tmp_path))[:2] == (0, f"0 runs in {tmp_path}\n")


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_endless_link(path: Path) -> None:
    path.symlink_to("/dev/zero")


def make_huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 50 * 2**30)  # takes no room: one hole


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (make_pipe, "not a regular file"),
        (make_endless_link, "not a regular file"),
        (Path.mkdir, "not a regular file"),
        (make_huge, "larger than"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "not valid TOML"),
        (lambda path: path.write_text("a = " + "[" * 50_000), "not valid TOML"),
        (lambda path: path.write_text("seed = " + "1" * 5000), "not valid TOML"),
        (lambda path: path.write_text("seed = 0x" + "f" * 5000), "number too long to show"),
        # A library may have raised the limit of recursion: then the setting is unknown, not too deep.
        (lambda path: path.write_text(".".join("a" * 2000) + " = 1"), "run.toml"),
    ],
)
def test_a_config_that_is_no_settings_file_is_told_in_a_sentence(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    make: Callable[[Path], object],
    said: str,
) -> None:
    path = tmp_path / "run.toml"
    make(path)
    status, out, err = run(capsys, "train", "--config", str(path))
    assert (status, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 2


def test_a_null_in_the_path_of_the_config_is_told_in_a_sentence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, _, err = run(capsys, "train", "--config", "a\0b")
    assert status == 2
    assert err.startswith("error: The settings cannot be read (")
    assert "a\\0b" in err
    assert "\0" not in err


@pytest.mark.parametrize("value", ["[" * 50_000, "1" * 5000])
def test_a_setting_that_no_toml_reader_takes_is_told_in_a_sentence(
    capsys: pytest.CaptureFixture[str], value: str
) -> None:
    status, _, err = run(capsys, "train", "--set", f"seed={value}")
    assert status == 2
    assert "seed" in err
    assert len(err.splitlines()) == 2
