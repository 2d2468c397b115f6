"""Every setting of a run: typed, bounded, described; read from and written to TOML.

The window builds its form and its tooltips from these models, the command line its options, the run
folder its ``config.toml``: a setting is named, bounded and explained here and nowhere else.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal, Self

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from core.errors import ConfigError
from core.faults import faults_in, shown
from signscope.files import read_regular
from signscope.folder import RunFolder

_LARGEST_FILE = 2**16
"""Bytes of a settings file; a real one has some thousand."""

DEMO_CORPUS = "demo"
"""Value of ``DataConfig.corpus`` that means the built-in synthetic corpus."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class AugmentConfig(_Section):
    """Random changes to training sentences, made on raw landmarks before normalisation."""

    mirror: float = Field(
        0.5, ge=0, le=1, description="Share of sentences shown mirrored, left and right exchanged."
    )
    tempo: float = Field(
        0.2, ge=0, le=0.9, description="Tempo changes by up to this share, faster or slower."
    )
    rotation_deg: float = Field(
        8.0, ge=0, le=45, description="Rotation in the image plane by up to this many degrees."
    )
    scale: float = Field(0.1, ge=0, le=0.9, description="Size changes by up to this share.")
    hand_dropout: float = Field(
        0.05, ge=0, le=1, description="Chance that a hand is hidden for a short stretch."
    )
    frame_dropout: float = Field(0.05, ge=0, le=0.9, description="Share of frames left out.")


class DataConfig(_Section):
    """Which corpus is trained on, and how sentences and batches are made of it."""

    corpus: str = Field(
        DEMO_CORPUS,
        min_length=1,
        description="Folder of the corpus, or 'demo' for the built-in synthetic one.",
    )
    dev_signers: tuple[str, ...] = Field(
        (),
        description="Signers whose clips measure progress. None: dev_share of the training clips.",
    )
    test_signers: tuple[str, ...] = Field(
        (), description="Signers held out of training, evaluated once at the end."
    )
    dev_share: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="Share of each training signer's clips kept for the dev split when no dev signer is named.",
    )
    sentences: Literal["auto", "clips", "splice"] = Field(
        "auto",
        description="Use clips as they are, splice them into sentences, or decide by whether every clip has one gloss.",
    )
    glosses_min: int = Field(6, ge=1, le=50, description="Fewest glosses in a spliced sentence.")
    glosses_max: int = Field(10, ge=1, le=50, description="Most glosses in a spliced sentence.")
    transition_frames: int = Field(
        4,
        ge=0,
        le=60,
        description="Longest interpolated transition between two spliced clips, in frames.",
    )
    idle_chance: float = Field(
        0.2, ge=0, le=1, description="Chance of an idle clip between two spliced clips."
    )
    idle_gloss: str = Field(
        "-",
        description="Gloss of clips without a sign. They are never a target, only inserted between signs.",
    )
    sentences_per_epoch: int = Field(
        400, ge=1, le=10_000_000, description="Spliced sentences made for each epoch."
    )
    dev_sentences: int = Field(
        80, ge=1, le=1_000_000, description="Spliced sentences in the dev and test splits."
    )
    batch_size: int = Field(8, ge=1, le=4096, description="Sentences in a batch.")
    prefetch: int = Field(
        2,
        ge=0,
        le=64,
        description="Batches prepared ahead in a thread of their own; 0 prepares them in line.",
    )
    augment: AugmentConfig = AugmentConfig()

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.glosses_min > self.glosses_max:
            raise ValueError(
                f"The fewest glosses of a sentence (data.glosses_min, {self.glosses_min}) are more than "
                f"the most (data.glosses_max, {self.glosses_max})"
            )
        both = sorted(set(self.dev_signers) & set(self.test_signers))
        if both:
            raise ValueError(
                f"{shown(', '.join(both))} stands both among the dev signers (data.dev_signers) and among "
                "the held-out signers (data.test_signers), but may stand in one of them"
            )
        return self


class ModelConfig(_Section):
    """Shape of the teacher."""

    encoder: Literal["bilstm", "transformer"] = Field(
        "bilstm", description="Recurrent or attention encoder."
    )
    part_dim: int = Field(
        64, ge=4, le=1024, description="Width of the embedding of each body part."
    )
    width: int = Field(160, ge=8, le=4096, description="Width of convolutions and encoder.")
    layers: int = Field(2, ge=1, le=24, description="Encoder layers.")
    heads: int = Field(4, ge=1, le=64, description="Attention heads of the transformer encoder.")
    strides: tuple[int, ...] = Field(
        (2, 2),
        min_length=1,
        max_length=4,
        description="Strides of the temporal convolutions; their product shortens time.",
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="Dropout in embeddings and encoder.")

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.width % 2:
            raise ValueError(f"The width (model.width) is {self.width}, but has to be even")
        if self.encoder == "transformer" and self.width % self.heads:
            raise ValueError(
                f"The width (model.width, {self.width}) has to be a multiple of the attention heads "
                f"(model.heads, {self.heads})"
            )
        if any(not 1 <= stride <= 4 for stride in self.strides):
            raise ValueError(
                f"The strides (model.strides) are {', '.join(map(str, self.strides))}, but each has to be "
                "a whole number from 1 to 4"
            )
        return self


class OptimConfig(_Section):
    """Optimizer, learning-rate schedule and clipping."""

    epochs: int = Field(50, ge=1, le=1_000_000, description="Passes over the training sentences.")
    lr: float = Field(
        3e-3, gt=0, le=1, description="Highest learning rate, reached after the warm-up."
    )
    min_lr_share: float = Field(
        0.02, ge=0, le=1, description="Learning rate at the end as a share of the highest."
    )
    warmup_steps: int = Field(
        20,
        ge=0,
        le=10_000_000,
        description="Applied updates over which the learning rate rises from zero.",
    )
    weight_decay: float = Field(0.01, ge=0, le=1, description="Decoupled weight decay of AdamW.")
    beta1: float = Field(
        0.9, ge=0, lt=1, description="AdamW's decay of the gradient's running mean."
    )
    beta2: float = Field(
        0.98, ge=0, lt=1, description="AdamW's decay of the squared gradient's running mean."
    )
    max_norm: float = Field(
        1.0,
        gt=0,
        le=1e6,
        description="Gradients with a larger norm are scaled down to this norm, and always applied.",
    )
    ema_decay: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Decay of the moving average of the weights used for evaluation; 0 turns it off.",
    )
    amp: Literal["auto", "off"] = Field(
        "auto", description="bf16 autocast on CUDA where the card has it, or off."
    )
    non_finite_pause: int = Field(
        10, ge=1, le=1_000_000, description="This many non-finite batches in a row pause the run."
    )


class CheckpointConfig(_Section):
    """When and how many checkpoints are kept."""

    every_batches: int = Field(
        200,
        ge=0,
        le=10_000_000,
        description="Checkpoint after this many batches; 0 only at the end of an epoch.",
    )
    every_minutes: float = Field(
        5.0, ge=0, le=10_000, description="Checkpoint after this many minutes; 0 turns it off."
    )
    keep: int = Field(
        3, ge=1, le=1000, description="How many of the latest checkpoints are kept beside the best."
    )


class RunConfig(_Section):
    """All settings of one run."""

    name: str = Field(
        "", max_length=120, description="Name of the run; empty takes the date and the corpus."
    )
    seed: int = Field(
        0, ge=0, le=2**31 - 1, description="Seed of weights, sentences and augmentation."
    )
    device: Literal["auto", "cuda", "mps", "cpu"] = Field(
        "auto", description="Where to compute. auto: cuda where there is one, else mps, else cpu."
    )
    deterministic: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Bit-exact runs. auto: on for cpu, off for cuda, where it is slower and computes CTC on the cpu.",
    )
    threads: int = Field(
        0,
        ge=0,
        le=1024,
        description="Compute threads on the cpu; 0 leaves torch's choice. Another number changes sums in their last bits.",
    )
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    optim: OptimConfig = OptimConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()


def config_from_dict(values: dict[str, Any], *, source: str = "the settings") -> RunConfig:
    """Check ``values`` and return the config; raises ConfigError with the full dotted name of each fault."""
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        faults = faults_in(error, RunConfig)
        count = "One setting" if len(faults) == 1 else f"{len(faults)} settings"
        raise ConfigError(
            f"{count} cannot be used: {'; '.join(fault.sentence() for fault in faults)}",
            subject=source,
            hint="Correct or remove them; every setting is listed with its bounds in docs/settings.md.",
        ) from error


def load_config(path: Path) -> RunConfig:
    """Read a TOML file; raises ConfigError when it is missing, not TOML, or holds a wrong setting."""
    try:
        content = read_regular(path, limit=_LARGEST_FILE)
    except OSError as error:
        raise ConfigError(
            f"The settings cannot be read ({error.strerror})",
            subject=str(path).replace("\0", "\\0"),
            hint="Check the path.",
        ) from error
    try:
        values = tomllib.loads(content.decode("utf-8"))
    except (
        ValueError,
        RecursionError,
    ) as error:  # not only TOMLDecodeError: endless digits, deep nesting
        raise ConfigError(
            f"The settings are not valid TOML ({error})",
            subject=str(path),
            hint="Correct the named line.",
        ) from error
    return config_from_dict(values, source=str(path))


def load_run_config(folder: RunFolder) -> RunConfig:
    """Read the settings of a run that is to go on.

    Raises:
        ConfigError: The run never began, or its settings cannot be read.
    """
    if not folder.config_path.exists():
        raise ConfigError(
            "This run never began, so there is nothing to go on from: it has no settings",
            subject=str(folder.path),
            hint="Start a new run; this folder may be deleted.",
        )
    return load_config(folder.config_path)


def config_to_toml(config: RunConfig) -> str:
    """Give the config as TOML that ``load_config`` reads back to an equal config."""
    return tomli_w.dumps(config.model_dump(mode="json"))
