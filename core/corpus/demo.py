"""The built-in demo corpus: procedural signers, made in seconds, labelled as synthetic.

The glosses are invented; their names are plain words so that output reads well, and they are no sign
language. A gloss is a handshape, an orientation, a place, a movement and a use of the second hand. A
sentence is co-articulated: each sign leans towards its neighbours, the handshape changes before the
place does, the hand moves from sign to sign on a minimum-jerk path. Arms are two bones solved by
inverse kinematics, fingers are chains of joint angles. Signers differ in proportions, tempo,
handedness, framing and noise, and hands are lost as a detector loses them: when fast, low or outside.

Coordinates here, until they are projected: unit = shoulder width, origin = mid-shoulder, y down, z away
from the camera. Each arm is computed in its own frame, whose first axis ("lateral") points from the
midline to the arm's own side, so that one function serves both arms.

Shape letters: F frames of all sentences of a signer, A arms (dominant, other), K points, N tokens
(signs and rests), S segments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import filelock
import numpy as np
import numpy.typing as npt

from core.corpus.format import Sample
from core.corpus.reader import Corpus
from core.corpus.writer import CorpusWriter
from core.errors import CorpusError
from core.landmarks import layout
from core.landmarks.layout import Float32Array
from core.paths import corpora_dir

DEMO_VERSION: Final = 2
DEMO_NAME: Final = "SignScope demo (synthetic)"
DEMO_NOTE: Final = (
    "Synthetic: procedural signers and invented glosses, made by SignScope. Not a sign language."
)
DEMO_SIGNERS: Final = 10
DEMO_SENTENCES: Final = 900

Array = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.intp]

# Controls of an arm, in this order: palm centre (3), finger direction (3), palm normal (3), hand (7).
_PALM, _FINGERS, _NORMAL, _HAND = slice(0, 3), slice(3, 6), slice(6, 9), slice(9, 16)
_CONTROLS = 16

# Curl of thumb, index, middle, ring, little finger; spread; opposition of the thumb: 0 to 1.
_HANDSHAPES: Final = {
    "flat": (0.2, 0.0, 0.0, 0.0, 0.0, 0.1, 0.2),
    "fist": (0.8, 1.0, 1.0, 1.0, 1.0, 0.0, 0.8),
    "index": (0.8, 0.0, 1.0, 1.0, 1.0, 0.0, 0.8),
    "v": (0.8, 0.0, 0.0, 1.0, 1.0, 0.8, 0.8),
    "y": (0.0, 1.0, 1.0, 1.0, 0.0, 0.5, 0.0),
    "five": (0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    "claw": (0.4, 0.55, 0.55, 0.55, 0.55, 0.8, 0.4),
    "o": (0.5, 0.6, 0.6, 0.6, 0.6, 0.0, 1.0),
    "thumb": (0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0),
    "relaxed": (0.3, 0.3, 0.35, 0.4, 0.45, 0.2, 0.3),
}

# Where the palm is: lateral, down, away.
_PLACES: Final = {
    "forehead": (0.12, -0.98, -0.38),
    "temple": (0.38, -0.86, -0.28),
    "cheek": (0.28, -0.62, -0.33),
    "chin": (0.05, -0.48, -0.42),
    "chest": (0.02, 0.35, -0.34),
    "neutral": (0.26, 0.45, -0.75),
    "centre": (0.12, 0.05, -0.65),
    "side": (0.72, 0.05, -0.55),
    "low": (0.25, 0.80, -0.62),
    "rest": (0.38, 1.35, -0.25),
}

# Direction of the fingers, normal of the palm.
_ORIENTATIONS: Final = {
    "up_out": ((0.0, -1.0, -0.1), (0.0, 0.0, -1.0)),
    "up_in": ((-0.1, -1.0, 0.0), (0.0, 0.0, 1.0)),
    "up_side": ((0.0, -1.0, -0.2), (-1.0, 0.0, 0.0)),
    "across_down": ((-1.0, 0.0, -0.4), (0.0, 1.0, 0.0)),
    "across_in": ((-1.0, -0.25, 0.0), (0.0, 0.0, 1.0)),
    "ahead_down": ((-0.1, -0.1, -1.0), (0.0, 1.0, 0.0)),
    "ahead_up": ((-0.2, 0.0, -1.0), (0.0, -1.0, 0.0)),
    "ahead_side": ((-0.1, -0.2, -1.0), (-1.0, 0.0, 0.0)),
    "hang": ((-0.3, 0.9, -0.2), (-0.3, 0.0, 1.0)),
}


@dataclass(frozen=True, slots=True)
class _Gloss:
    name: str
    shape: str
    orientation: str
    place: str
    movement: str
    other: str = (
        "rest"  # what the second hand does: rest, mirror (the same), base (a flat hand below)
    )
    end_shape: str = ""


# The most frequent first: the n-th is drawn in proportion to 1 / n, as words are (Zipf, 1935).
_GLOSSES: Final = (
    _Gloss("I", "index", "across_in", "chest", "tap"),
    _Gloss("HOUSE", "flat", "up_side", "centre", "out_down", "mirror"),
    _Gloss("WHERE", "index", "up_out", "side", "shake"),
    _Gloss("COFFEE", "fist", "ahead_side", "neutral", "circle", "base"),
    _Gloss("THANK-YOU", "flat", "up_in", "chin", "ahead"),
    _Gloss("YESTERDAY", "y", "up_side", "cheek", "up"),
    _Gloss("WANT", "claw", "ahead_up", "neutral", "pull", "mirror"),
    _Gloss("FATHER", "five", "up_side", "forehead", "tap"),
    _Gloss("TIME", "index", "across_down", "low", "tap_down", "base"),
    _Gloss("HELLO", "flat", "up_out", "temple", "out"),
    _Gloss("LIKE", "five", "across_in", "chest", "ahead", end_shape="o"),
    _Gloss("FRIEND", "v", "across_down", "neutral", "arc", "mirror"),
    _Gloss("YES", "fist", "up_out", "side", "nod"),
    _Gloss("MOTHER", "five", "up_side", "chin", "tap"),
    _Gloss("WORK", "fist", "ahead_down", "low", "tap_down", "base"),
    _Gloss("YOU", "index", "ahead_down", "centre", "ahead"),
    _Gloss("KNOW", "flat", "up_in", "temple", "tap"),
    _Gloss("HAPPY", "five", "across_in", "chest", "circle", "mirror"),
    _Gloss("TOMORROW", "thumb", "up_side", "cheek", "ahead"),
    _Gloss("BOOK", "flat", "ahead_side", "neutral", "twist", "mirror"),
)
DEMO_GLOSSES: Final[tuple[str, ...]] = tuple(gloss.name for gloss in _GLOSSES)
"""Names of the invented glosses."""

_PHASES = 33  # points at which each sign's controls are tabulated
_REST = len(_GLOSSES)  # the row of the table that holds the resting arms


@dataclass(frozen=True, slots=True)
class _Signer:
    name: str
    left_handed: bool
    fps: float
    aspect: float
    tempo: float
    upper_arm: float
    forearm: float
    hand: float
    neck: float
    head: float
    torso: float
    reach: float  # how far signs go out, 1 on average
    lean: float  # how much a sign leans towards its neighbours
    place_shift: Array  # where this signer makes all signs, (3,)
    token_noise: float
    centre: tuple[float, float]  # mid-shoulder in the image, in image heights from its middle
    size: float  # shoulder width in image heights
    roll: float  # radians
    yaw: float  # radians
    jitter: float  # detector noise, in shoulder widths
    lost_threshold: float


def make_demo_corpus(
    path: Path,
    *,
    signers: int = DEMO_SIGNERS,
    glosses: int = len(_GLOSSES),
    sentences: int = DEMO_SENTENCES,
    seed: int = 0,
    replace: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Make a corpus of ``sentences`` sentences of 6 to 10 glosses; the same arguments give the same bytes.

    Args:
        path: Folder of the corpus.
        signers: How many signers, named D01, D02 and so on; every fourth is left-handed.
        glosses: How many of the invented glosses are used, 1 to 20; the commonest first.
        sentences: How many in all, the same number for each signer up to one.
        seed: Of signers and sentences.
        replace: Whether a corpus at ``path`` may be replaced.
        progress: Called with sentences done and in all.

    Raises:
        CorpusError: The folder cannot be written or holds something else.
        ValueError: A count is out of its range.
    """
    if not (1 <= glosses <= len(_GLOSSES) and signers >= 1 and sentences >= 1):
        raise ValueError(f"cannot make {sentences} sentences, {signers} signers, {glosses} glosses")
    table = _control_table()
    done = 0
    with CorpusWriter(
        path, name=DEMO_NAME, synthetic=True, note=DEMO_NOTE, replace=replace
    ) as writer:
        for number in range(signers):
            count = sentences // signers + (number < sentences % signers)
            rng = np.random.default_rng(np.random.SeedSequence([seed, number]))
            signer = _make_signer(number, rng)
            for sample in _perform(signer, table, glosses, count, rng) if count else ():
                writer.add(sample)
            done += count
            if progress is not None:
                progress(done, sentences)


def demo_corpus_path() -> Path:
    """Folder of the demo corpus of this version of the program."""
    return corpora_dir() / f"demo-v{DEMO_VERSION}"


def ensure_demo_corpus(progress: Callable[[int, int], None] | None = None) -> Path:
    """Give the folder of the demo corpus, making it first where it is missing or damaged.

    Takes some seconds at the first start; a second program that asks at the same time waits.
    """
    path = demo_corpus_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path.with_name(f"{path.name}.lock"), timeout=300)
        with lock:
            if not _usable(path):
                make_demo_corpus(path, replace=True, progress=progress)
    except (OSError, filelock.Timeout) as error:
        raise CorpusError(
            f"The demo corpus cannot be made ({error})",
            subject=str(path),
            hint="Check free space and permissions, or name another folder in SIGNSCOPE_CORPORA.",
        ) from error
    return path


def _usable(path: Path) -> bool:
    try:
        with Corpus.open(path):
            return True
    except CorpusError:
        return False


def _make_signer(number: int, rng: np.random.Generator) -> _Signer:
    def around(middle: float, spread: float) -> float:
        return float(middle * (1 + rng.uniform(-spread, spread)))

    return _Signer(
        name=f"D{number + 1:02d}",
        left_handed=number % 4 == 3,
        fps=(25.0, 30.0)[number % 2],
        aspect=(4 / 3, 16 / 9)[number // 2 % 2],
        tempo=around(1.0, 0.18),
        upper_arm=around(0.80, 0.10),
        forearm=around(0.71, 0.10),
        hand=around(0.50, 0.12),
        neck=around(0.72, 0.10),
        head=around(0.21, 0.12),
        torso=around(1.42, 0.10),
        reach=around(1.0, 0.15),
        lean=float(rng.uniform(0.06, 0.16)),
        place_shift=rng.normal(0, 0.04, 3),
        token_noise=float(rng.uniform(0.02, 0.05)),
        centre=(float(rng.uniform(-0.10, 0.10)), float(rng.uniform(-0.07, 0.02))),
        size=around(0.36, 0.18),
        roll=float(np.radians(rng.uniform(-4, 4))),
        yaw=float(np.radians(rng.uniform(-14, 14))),
        jitter=float(rng.uniform(0.003, 0.010)),
        lost_threshold=float(rng.uniform(2.0, 2.6)),
    )


# --- what the hands of each gloss do ----------------------------------------------------------------


def _control_table() -> Array:
    """Give the controls of every gloss, and of rest, along its phase: (glosses + 1, phases, 2, 16)."""
    phase = np.linspace(0, 1, _PHASES)
    rest = _posture("rest", "hang", "relaxed", _PHASES)
    base = _posture("low", "across_in", "flat", _PHASES)
    table = np.empty((_REST + 1, _PHASES, 2, _CONTROLS))
    for row, gloss in enumerate(_GLOSSES):
        dominant = _moved(gloss, phase)
        table[row, :, 0] = dominant
        table[row, :, 1] = {"rest": rest, "base": base, "mirror": dominant}[gloss.other]
    table[_REST] = rest[:, None]
    return table


def _posture(place: str, orientation: str, shape: str, phases: int) -> Array:
    fingers, normal = _ORIENTATIONS[orientation]
    return np.tile(np.array([*_PLACES[place], *fingers, *normal, *_HANDSHAPES[shape]]), (phases, 1))


def _moved(gloss: _Gloss, phase: Array) -> Array:
    """Give the dominant hand's controls (phases, 16) of a gloss."""
    controls = _posture(gloss.place, gloss.orientation, gloss.shape, len(phase))
    eased = _minimum_jerk(phase)
    swing = np.sin(4 * np.pi * phase)
    dip = (1 - np.cos(4 * np.pi * phase)) / 2
    palm, fingers, normal = controls[:, _PALM], controls[:, _FINGERS], controls[:, _NORMAL]
    match gloss.movement:
        case "ahead":
            palm += np.outer(eased, (0.05, 0.18, -0.45))
        case "pull":
            palm += np.outer(eased, (-0.02, 0.02, 0.42))
        case "out":
            palm += np.outer(eased, (0.50, -0.05, -0.10))
        case "out_down":
            palm += np.outer(np.clip(2 * phase, 0, 1), (0.34, 0.12, 0))
            palm += np.outer(np.clip(2 * phase - 1, 0, 1), (0, 0.38, 0))
        case "up":
            palm += np.outer(eased, (0.12, -0.32, 0.10))
        case "arc":
            palm += np.outer(eased, (0.42, 0, 0)) + np.outer(np.sin(np.pi * phase), (0, -0.30, 0))
        case "circle":
            turn = 2 * np.pi * phase
            palm += np.outer(np.cos(turn) - 1, (0.17, 0, 0)) + np.outer(np.sin(turn), (0, 0.19, 0))
        case "tap":
            palm += np.outer(dip, (0.02, 0.03, -0.20))
        case "tap_down":
            palm += np.outer(dip, (0, -0.22, 0))
        case "shake":
            palm += np.outer(swing, (0.15, 0, 0))
        case "nod":
            fingers += np.outer(dip, (0, 0.5, -1.1))
        case "twist":
            thumb = np.cross(normal, fingers)
            normal += 0.9 * swing[:, None] * thumb
        case _:
            raise ValueError(f"unknown movement {gloss.movement}")
    if gloss.end_shape:
        target = np.array(_HANDSHAPES[gloss.end_shape])
        controls[:, _HAND] += eased[:, None] * (target - controls[:, _HAND])
    return controls


def _minimum_jerk(phase: Array) -> Array:
    """Give the smoothest way from 0 to 1 (Flash and Hogan, 1985)."""
    smooth: Array = phase**3 * (10 - 15 * phase + 6 * phase**2)
    return smooth


# --- sentences --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Script:
    """All sentences of a signer as segments, each between two tokens; a sign lies between itself."""

    token_gloss: IntArray  # (N,) row of the control table
    segment_from: IntArray  # (S,) token
    segment_to: IntArray  # (S,) token
    segment_frames: IntArray  # (S,)
    sentence_of_segment: IntArray  # (S,)


def _write_script(
    signer: _Signer, glosses: int, sentences: int, rng: np.random.Generator
) -> _Script:
    tokens: list[int] = []
    rows: list[tuple[int, int, float, float, int]] = []  # from, to, seconds, least frames, sentence
    frequency_G = 1 / np.arange(1, glosses + 1)
    for sentence in range(sentences):
        chosen: list[int] = []
        for _ in range(int(rng.integers(6, 11))):
            weight_G = frequency_G.copy()
            if chosen and glosses > 1:
                weight_G[chosen[-1]] = 0
            chosen.append(int(rng.choice(glosses, p=weight_G / weight_G.sum())))
        first = len(tokens)
        tokens += [_REST, *chosen, _REST]
        for token in range(first, len(tokens)):
            resting = tokens[token] == _REST
            seconds = rng.uniform(0.10, 0.30) if resting else rng.uniform(0.30, 0.44)
            rows.append((token, token, seconds, 2 if resting else 6, sentence))
            if token + 1 < len(tokens):
                at_rest = resting or tokens[token + 1] == _REST
                seconds = rng.uniform(0.20, 0.32) if at_rest else rng.uniform(0.10, 0.18)
                rows.append((token, token + 1, seconds, 2, sentence))
    start, end, seconds_S, least_S, sentence_S = (
        np.array(column) for column in zip(*rows, strict=True)
    )
    frames_S = np.maximum(np.rint(seconds_S * signer.fps / signer.tempo), least_S).astype(np.intp)
    return _Script(
        np.array(tokens, dtype=np.intp), start, end, frames_S, sentence_S.astype(np.intp)
    )


def _perform(
    signer: _Signer, table: Array, glosses: int, sentences: int, rng: np.random.Generator
) -> list[Sample]:
    script = _write_script(signer, glosses, sentences, rng)
    landmarks_FKC = _render(signer, _controls(signer, table, script, rng), rng)
    stops_S = np.cumsum(script.segment_frames)
    starts_S = stops_S - script.segment_frames
    is_sign_S = (script.segment_from == script.segment_to) & (
        script.token_gloss[script.segment_from] != _REST
    )
    samples = []
    for sentence in range(sentences):
        segments = np.flatnonzero(script.sentence_of_segment == sentence)
        first, last = int(starts_S[segments[0]]), int(stops_S[segments[-1]])
        signs = segments[is_sign_S[segments]]
        samples.append(
            Sample(
                id=f"{signer.name}-{sentence:03d}",
                signer=signer.name,
                glosses=tuple(
                    DEMO_GLOSSES[script.token_gloss[script.segment_from[s]]] for s in signs
                ),
                fps=signer.fps,
                landmarks_TKC=landmarks_FKC[first:last],
                source="procedural",
                timings=tuple((int(starts_S[s]) - first, int(stops_S[s]) - first) for s in signs),
                aspect=signer.aspect,
            )
        )
    return samples


def _controls(signer: _Signer, table: Array, script: _Script, rng: np.random.Generator) -> Array:
    """Give the controls of both arms over all frames of a signer: (F, 2, 16)."""
    segment_F = np.repeat(np.arange(len(script.segment_frames)), script.segment_frames)
    within_F = (
        np.arange(len(segment_F))
        - (np.cumsum(script.segment_frames) - script.segment_frames)[segment_F]
    )
    phase_F = (within_F + 0.5) / script.segment_frames[segment_F]
    token_NAC = _performed_tokens(signer, table, script, rng)
    from_F, to_F = script.segment_from[segment_F], script.segment_to[segment_F]
    in_sign_F = from_F == to_F

    # A sign rests briefly at both ends of its path; a transition stands at phase 1, then at phase 0.
    sign_phase_F = np.clip(1.3 * phase_F - 0.15, 0, 1)
    place_weight_F = np.where(in_sign_F, 0, _minimum_jerk(phase_F))[:, None, None]
    shape_weight_F = np.where(in_sign_F, 0, _minimum_jerk(np.clip(1.5 * phase_F, 0, 1)))[
        :, None, None
    ]
    leaving_FAC = _at_phase(token_NAC, from_F, np.where(in_sign_F, sign_phase_F, 1.0))
    arriving_FAC = _at_phase(token_NAC, to_F, np.where(in_sign_F, sign_phase_F, 0.0))
    controls_FAC = leaving_FAC + place_weight_F * (arriving_FAC - leaving_FAC)
    controls_FAC[..., _HAND] = leaving_FAC[..., _HAND] + shape_weight_F * (
        arriving_FAC[..., _HAND] - leaving_FAC[..., _HAND]
    )
    # Between two places the hand swings out a little, the more the farther it goes.
    distance_FA = np.linalg.norm(arriving_FAC[..., _PALM] - leaving_FAC[..., _PALM], axis=-1)
    swing_F = np.where(in_sign_F, 0, np.sin(np.pi * phase_F))
    controls_FAC[..., 2] -= 0.15 * distance_FA * swing_F[:, None]
    smoothed: Array = _smooth(controls_FAC, (0.06, 0.24, 0.40, 0.24, 0.06))
    return smoothed


def _performed_tokens(
    signer: _Signer, table: Array, script: _Script, rng: np.random.Generator
) -> Array:
    """Give each token's controls along its phase as this signer makes it here: (N, phases, 2, 16)."""
    token_NPAC = table[script.token_gloss].astype(np.float32)
    resting_N = script.token_gloss == _REST
    before_N = np.maximum(np.arange(len(resting_N)) - 1, 0)
    after_N = np.minimum(np.arange(len(resting_N)) + 1, len(resting_N) - 1)
    # The second hand often stays up between signs that need it.
    idle_N = np.array([*(gloss.other == "rest" for gloss in _GLOSSES), False])[script.token_gloss]
    keeps_up_N = np.where(
        idle_N & (rng.random(len(idle_N)) < 0.4), rng.uniform(0.2, 0.7, len(idle_N)), 0
    )
    base_C = _posture("low", "across_in", "relaxed", 1)[0]
    token_NPAC[:, :, 1] += keeps_up_N[:, None, None] * (base_C - token_NPAC[:, :, 1])
    # Tokens of one gloss differ in place and size.
    centre_NPAC = token_NPAC[..., _PALM].mean(axis=1, keepdims=True)
    size_N = signer.reach * rng.normal(1, 0.08, len(resting_N))
    token_NPAC[..., _PALM] = (
        centre_NPAC + (token_NPAC[..., _PALM] - centre_NPAC) * size_N[:, None, None, None]
    )
    token_NPAC[..., _PALM] += signer.place_shift
    token_NPAC += rng.normal(0, 1, (len(resting_N), 1, 2, _CONTROLS)) * np.repeat(
        [signer.token_noise, 0.06, 0.06], [3, 6, 7]
    )
    # Each sign leans towards the end of the one before and the beginning of the one after.
    start_NAC, end_NAC = token_NPAC[:, 0].copy(), token_NPAC[:, -1].copy()
    ramp_P = np.linspace(0, 1, _PHASES)[None, :, None, None]
    lean_N = np.where(resting_N, 0, signer.lean)[:, None, None, None]
    leaned: Array = token_NPAC + lean_N * (
        (1 - ramp_P) ** 2 * (end_NAC[before_N] - start_NAC)[:, None]
        + ramp_P**2 * (start_NAC[after_N] - end_NAC)[:, None]
    )
    return leaned.astype(np.float32)


def _at_phase(token_NPAC: Array, token_F: IntArray, phase_F: Array) -> Array:
    position_F = phase_F * (_PHASES - 1)
    below_F = np.minimum(position_F.astype(np.intp), _PHASES - 2)
    weight_F = (position_F - below_F).astype(np.float32)[:, None, None]
    low_FAC = token_NPAC[token_F, below_F]
    mixed: Array = low_FAC + weight_F * (token_NPAC[token_F, below_F + 1] - low_FAC)
    return mixed


def _unit(vectors_FC: Array) -> Array:
    unit: Array = vectors_FC / np.linalg.norm(vectors_FC, axis=-1, keepdims=True)
    return unit


def _dot(a_FC: Array, b_FC: Array) -> Array:
    product: Array = (a_FC * b_FC).sum(axis=-1, keepdims=True)
    return product


def _smooth(values_F: Array, kernel: tuple[float, ...]) -> Array:
    """Filter along the first axis with an odd, symmetric kernel; the ends are repeated."""
    reach = len(kernel) // 2
    padded = np.concatenate(
        [np.repeat(values_F[:1], reach, 0), values_F, np.repeat(values_F[-1:], reach, 0)]
    )
    smoothed: Array = sum(  # type: ignore[assignment]
        weight * padded[i : i + len(values_F)] for i, weight in enumerate(kernel)
    )
    return smoothed


# --- bodies -----------------------------------------------------------------------------------------


def _render(signer: _Signer, controls_FAC: Array, rng: np.random.Generator) -> Float32Array:
    """Give the raw landmarks (F, 75, 4) that a detector would find."""
    frames = len(controls_FAC)
    points_FKC = np.zeros((frames, layout.N_POINTS, 3), dtype=np.float32)
    points_FKC[:, layout.POSE] = _standing_body(signer, frames, rng)
    speed_FA = np.zeros((frames, 2), dtype=np.float32)
    for arm in range(2):
        right = (arm == 0) != signer.left_handed
        elbow_FC, hand_FKC = _arm(signer, controls_FAC[:, arm].astype(np.float32))
        to_image = np.array([-1 if right else 1, 1, 1], dtype=np.float32)
        _place_arm(points_FKC, elbow_FC * to_image, hand_FKC * to_image, right=right)
        wrist_FC = hand_FKC[:, 0]
        speed_FA[1:, arm] = np.linalg.norm(np.diff(wrist_FC, axis=0), axis=-1)
    points_FKC += _sway(frames, rng)[:, None]
    landmarks_FKC = _project(signer, points_FKC, rng)
    for arm in range(2):
        right = (arm == 0) != signer.left_handed
        part = layout.RIGHT_HAND if right else layout.LEFT_HAND
        lost_F = _lost(signer, landmarks_FKC[:, part], speed_FA[:, arm], rng)
        landmarks_FKC[lost_F, part] = np.nan
    return landmarks_FKC


def _standing_body(signer: _Signer, frames: int, rng: np.random.Generator) -> Array:
    """Give pose points (F, 33, 3) without arms; the head turns and tilts slowly."""
    head, neck = signer.head, signer.neck
    # Points of the head relative to its middle between the ears, on the signer's left.
    left = np.array(
        [
            *((0.16, -0.40, -0.75), (0.40, -0.42, -0.72), (0.62, -0.40, -0.62)),  # eye
            (1.0, -0.15, 0.0),  # ear
            (0.28, 0.55, -0.78),  # mouth
        ]
    )
    right = left * (-1, 1, 1)
    nose = np.array([[0.0, 0.0, -1.05]])
    relative_KC = head * np.concatenate(
        [nose, left[:3], right[:3], left[3:4], right[3:4], left[4:], right[4:]]
    )
    turn_F = 0.10 * _slow_noise(frames, rng)
    tilt_F = 0.05 * _slow_noise(frames, rng)
    head_FKC: Array = np.repeat(relative_KC[None], frames, axis=0)
    head_FKC = _rotate(head_FKC, turn_F, 0, 2)
    head_FKC = _rotate(head_FKC, tilt_F, 0, 1)
    body_FKC = np.zeros((frames, layout.N_POSE, 3), dtype=np.float32)
    body_FKC[:, :11] = head_FKC + np.array([0, -neck, -0.12])
    torso = signer.torso
    for side, sign in ((0, 1), (1, -1)):
        body_FKC[:, layout.LEFT_SHOULDER + side] = (0.5 * sign, 0, 0)
        body_FKC[:, 23 + side] = (0.32 * sign, torso, 0)
        body_FKC[:, 25 + side] = (0.34 * sign, torso + 1.15, -0.05)
        body_FKC[:, 27 + side] = (0.34 * sign, torso + 2.2, 0.1)
        body_FKC[:, 29 + side] = (0.34 * sign, torso + 2.3, 0.15)
        body_FKC[:, 31 + side] = (0.36 * sign, torso + 2.35, -0.25)
    return body_FKC


def _slow_noise(frames: int, rng: np.random.Generator) -> Array:
    """Give a smooth random curve of about unit size: knots every 20 frames, joined linearly, filtered."""
    knots = np.arange(0, frames + 20, 20)
    curve = np.interp(np.arange(frames), knots, rng.normal(0, 1, len(knots)))
    return _smooth(curve, tuple(np.full(9, 1 / 9)))


def _sway(frames: int, rng: np.random.Generator) -> Array:
    return np.stack([0.03 * _slow_noise(frames, rng) for _ in range(3)], axis=1).astype(np.float32)


def _rotate(points_FKC: Array, angle: Array | float, first: int, second: int) -> Array:
    """Rotate in the plane of two axes; ``angle`` in radians, one or one a frame."""
    cos, sin = np.cos(angle), np.sin(angle)
    if np.ndim(angle):
        cos, sin = cos[:, None], sin[:, None]
    rotated = points_FKC.copy()
    rotated[..., first] = cos * points_FKC[..., first] - sin * points_FKC[..., second]
    rotated[..., second] = sin * points_FKC[..., first] + cos * points_FKC[..., second]
    return rotated


def _arm(signer: _Signer, controls_FC: Array) -> tuple[Array, Array]:
    """Solve one arm in its own frame: elbow (F, 3) and the 21 points of the hand (F, 21, 3)."""
    fingers_FC = _unit(controls_FC[:, _FINGERS])
    normal_FC = controls_FC[:, _NORMAL]
    normal_FC = _unit(normal_FC - _dot(normal_FC, fingers_FC) * fingers_FC + 1e-3)
    thumb_FC = np.cross(normal_FC, fingers_FC)
    shoulder_C = np.array([0.5, 0, 0], dtype=np.float32)
    to_wrist_FC = controls_FC[:, _PALM] - 0.6 * signer.hand * fingers_FC - shoulder_C
    upper, fore = signer.upper_arm, signer.forearm
    direction_FC = _unit(to_wrist_FC)
    distance_F1 = np.clip(
        np.linalg.norm(to_wrist_FC, axis=-1, keepdims=True),
        abs(upper - fore) + 0.05,
        upper + fore - 0.01,
    )
    # Two bones: the elbow lies on a circle about the line to the wrist; it hangs down, out and back.
    along_F1 = (distance_F1**2 + upper**2 - fore**2) / (2 * distance_F1)
    height_F1 = np.sqrt(np.maximum(upper**2 - along_F1**2, 1e-6))
    pole_C = np.array([0.55, 0.8, 0.35], dtype=np.float32)
    pole_FC = _unit(
        pole_C - _dot(np.broadcast_to(pole_C, direction_FC.shape), direction_FC) * direction_FC
    )
    elbow_FC = shoulder_C + along_F1 * direction_FC + height_F1 * pole_FC
    wrist_FC = shoulder_C + distance_F1 * direction_FC
    axes = (fingers_FC, thumb_FC, normal_FC)
    hand_FKC = wrist_FC[:, None] + signer.hand * _hand(axes, np.clip(controls_FC[:, _HAND], 0, 1))
    return elbow_FC, hand_FKC.astype(np.float32)


# Knuckles along the fingers and towards the thumb, bones from knuckle to tip, fan of the spread fingers;
# in lengths of the hand (wrist to tip of the middle finger).
_KNUCKLES = ((0.50, 0.14), (0.52, 0.03), (0.49, -0.08), (0.44, -0.17))
_BONES = ((0.22, 0.13, 0.11), (0.24, 0.15, 0.11), (0.22, 0.14, 0.11), (0.17, 0.10, 0.09))
_FAN = (0.22, 0.04, -0.14, -0.36)
_JOINT_ANGLES = (1.45, 1.75, 1.15)  # of a finger curled all the way, radians


def _hand(axes: tuple[Array, Array, Array], hand_FC: Array) -> Array:
    """Give the 21 points (F, 21, 3) of a hand of length 1 with its wrist at the origin."""
    ahead_FC, thumbwards_FC, normal_FC = axes
    points_FKC = np.zeros((len(hand_FC), layout.N_HAND, 3), dtype=np.float32)
    _add_thumb(points_FKC, axes, hand_FC[:, :1], hand_FC[:, 6:7])
    spread_F1 = hand_FC[:, 5:6]
    for finger in range(4):
        along, side = _KNUCKLES[finger]
        fan_F1 = _FAN[finger] * (0.25 + 0.75 * spread_F1)
        straight_FC = np.cos(fan_F1) * ahead_FC + np.sin(fan_F1) * thumbwards_FC
        joint_FC = along * ahead_FC + side * thumbwards_FC
        first = 5 + 4 * finger
        points_FKC[:, first] = joint_FC
        bend_F1 = np.zeros_like(fan_F1)
        for bone, (length, angle) in enumerate(zip(_BONES[finger], _JOINT_ANGLES, strict=True)):
            bend_F1 = bend_F1 + angle * hand_FC[:, 1 + finger : 2 + finger]
            joint_FC = joint_FC + length * (
                np.cos(bend_F1) * straight_FC + np.sin(bend_F1) * normal_FC
            )
            points_FKC[:, first + bone + 1] = joint_FC
    return points_FKC


def _add_thumb(
    points_FKC: Array, axes: tuple[Array, Array, Array], curl_F1: Array, opposed_F1: Array
) -> None:
    ahead_FC, thumbwards_FC, normal_FC = axes
    joint_FC = 0.12 * ahead_FC + 0.12 * thumbwards_FC + 0.02 * normal_FC
    points_FKC[:, 1] = joint_FC
    for bone, length in enumerate((0.18, 0.15, 0.12)):
        # Opposing and curling swing the thumb from sideways, over ahead, across the palm.
        swing_F1 = 0.75 + 0.5 * opposed_F1 + (0.55 * bone) * curl_F1 + 0.45 * curl_F1
        lift_F1 = 0.25 + 0.6 * opposed_F1 + 0.15 * curl_F1
        direction_FC = (
            np.cos(swing_F1) * thumbwards_FC + np.sin(swing_F1) * ahead_FC + lift_F1 * normal_FC
        )
        joint_FC = joint_FC + length * _unit(direction_FC)
        points_FKC[:, 2 + bone] = joint_FC


def _place_arm(points_FKC: Array, elbow_FC: Array, hand_FKC: Array, *, right: bool) -> None:
    """Write an arm into the body's points, the pose's own coarse hand included."""
    side = 1 if right else 0
    points_FKC[:, layout.RIGHT_HAND if right else layout.LEFT_HAND] = hand_FKC
    points_FKC[:, layout.LEFT_ELBOW + side] = elbow_FC
    points_FKC[:, layout.LEFT_WRIST + side] = hand_FKC[:, 0]
    points_FKC[:, 17 + side] = hand_FKC[:, 17]
    points_FKC[:, 19 + side] = hand_FKC[:, 5]
    points_FKC[:, 21 + side] = hand_FKC[:, 2]


# --- the camera and the detector --------------------------------------------------------------------


def _project(signer: _Signer, points_FKC: Array, rng: np.random.Generator) -> Float32Array:
    """Give (F, 75, 4) as a camera and a detector would: fractions of the image, noisy, with visibility."""
    points_FKC = _rotate(_rotate(points_FKC, signer.yaw, 0, 2), signer.roll, 0, 1)
    nearness_FK = 1 / (1 + 0.08 * points_FKC[..., 2:])
    scale_C = np.array([signer.size / signer.aspect, signer.size], dtype=np.float32)
    centre_C = np.array([0.5 + signer.centre[0] / signer.aspect, 0.5 + signer.centre[1]])
    landmarks_FKC = np.ones((len(points_FKC), layout.N_POINTS, layout.N_COORDS), dtype=np.float32)
    landmarks_FKC[..., :2] = centre_C + scale_C * points_FKC[..., :2] * nearness_FK
    # Depth is relative to the hips, of a hand relative to its wrist, in the scale of x.
    depth_FK = points_FKC[..., 2] * scale_C[0]
    hips_F1 = depth_FK[:, [layout.LEFT_HIP, layout.RIGHT_HIP]].mean(axis=1, keepdims=True)
    landmarks_FKC[:, layout.POSE, 2] = depth_FK[:, layout.POSE] - hips_F1
    for part in (layout.LEFT_HAND, layout.RIGHT_HAND):
        landmarks_FKC[:, part, 2] = depth_FK[:, part] - depth_FK[:, part.start, None]
    noise_FKC = rng.standard_normal((*landmarks_FKC.shape[:2], 3), dtype=np.float32) * signer.jitter
    noise_FKC[..., 2] *= 3
    noise_FKC[:, [layout.LEFT_HAND_WRIST, layout.RIGHT_HAND_WRIST], 2] = 0
    landmarks_FKC[..., :3] += noise_FKC * np.array([scale_C[0], scale_C[1], scale_C[0]])
    beyond_FK = np.maximum(landmarks_FKC[:, layout.POSE, 1] - 0.95, 0)
    wobble_FK = 0.02 * rng.random(beyond_FK.shape, dtype=np.float32)
    landmarks_FKC[:, layout.POSE, 3] = np.clip(0.999 - 3 * beyond_FK - wobble_FK, 0.01, 1)
    return landmarks_FKC


def _lost(
    signer: _Signer, hand_FKC: Float32Array, speed_F: Array, rng: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Tell in which frames the detector loses a hand: in stretches, rather when fast or low, always outside."""
    middle_FC = hand_FKC[..., :2].mean(axis=1)
    unrest_F = _smooth(rng.normal(0, np.sqrt(5), len(speed_F)), (0.2, 0.2, 0.2, 0.2, 0.2))
    threshold_F = (
        signer.lost_threshold
        - 3.0 * np.clip(_smooth(speed_F, (0.25, 0.5, 0.25)) - 0.10, 0, 0.4)
        - 3.5 * np.clip((middle_FC[:, 1] - 0.86) / 0.12, 0, 1)
    )
    outside_F = ((middle_FC < -0.02) | (middle_FC > 1.02)).any(axis=1)
    lost: npt.NDArray[np.bool_] = (unrest_F > threshold_F) | outside_F
    return lost
