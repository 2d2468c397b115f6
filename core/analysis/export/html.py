"""One HTML page about one run, that needs nothing else: no network, no script, no other file."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from core.analysis.compare import flat_settings
from core.analysis.envelope import Coordinates, Floats
from core.analysis.export.svg_chart import PLOT_WIDTH, Chart, Curve, draw, legend
from core.analysis.export.targets import new_file
from core.analysis.health.assessment import assess_run
from core.analysis.health.findings import Finding
from core.analysis.history import History
from signscope.errors import RunFolderError
from signscope.folder import RunFolder, RunInfo
from signscope.invariants import broken_invariants
from signscope.reader import LedgerReader
from signscope.records import LARGE_GRAD_NORM, EpochRecord, Evaluation, EventKind
from signscope.tally import OutcomeCounts

_MOST_MARKS = 400
_SMOOTHING = 0.98
_KEY_EVENTS = (EventKind.ALERT, EventKind.ERROR, EventKind.PAUSED, EventKind.RESUMED)


def report_html(
    run: Path,
    target: Path,
    *,
    pictures: Mapping[str, bytes] | None = None,
    findings: Sequence[Finding] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the report of the run in folder ``run`` to ``target`` and give ``target`` back.

    It shows loss, norms and word error rate as pictures (every extreme of every pixel is in them),
    the counts, the epochs, what the ledger says about itself, the findings and the settings.

    Args:
        run: A run folder.
        target: The page.
        pictures: Further pictures, PNG or SVG, by their captions.
        findings: What to tell about the health of the run; None lets the detectors look.
        overwrite: Whether an existing page is replaced.

    Raises:
        ExportError: The target exists, or cannot be written.
        RunFolderError: The run cannot be read; LedgerError: its ledger is missing or damaged.
    """
    folder = RunFolder(run)
    info = folder.read_info()
    with LedgerReader(folder.ledger_path) as reader:
        history = History.from_ledger(reader)
        epochs, evaluations, meta = reader.epochs(), reader.evaluations(), reader.meta()
        sections = [
            _summary(folder, info),
            _counts(reader.counts(), evaluations),
            *_charts(history, epochs, meta),
            *_pictures(pictures or {}),
            _findings(assess_run(run) if findings is None else findings),
            _soundness(broken_invariants(reader)),
            _events(reader),
            _epoch_table(epochs),
            _settings(run),
        ]
    page = _PAGE.format(
        title=html.escape(folder.read_about().name), style=_STYLE, body="\n".join(sections)
    )
    with new_file(target, overwrite=overwrite) as file:
        file.write(page.encode())
    return target


def _summary(folder: RunFolder, info: RunInfo) -> str:
    about = folder.read_about()
    synthetic = " (synthetic, not real signing)" if info.corpus.synthetic else ""
    created = datetime.fromtimestamp(info.created, UTC)
    lines = [
        ("State", folder.shown_state()),
        ("Corpus", f"{info.corpus.name}{synthetic}"),
        ("Device", info.device),
        ("Started", f"{created:%Y-%m-%d %H:%M} UTC"),
        ("Training time", _duration(info.duration_s)),
        ("Epochs", f"{info.epochs} of {info.total_epochs}"),
        ("Best WER on dev", _percent(info.best_wer)),
        ("WER held out", _percent(info.test_wer)),
        ("Versions", ", ".join(f"{name} {version}" for name, version in info.versions.items())),
        ("Note", about.note),
    ]
    rows = [line for line in lines if line[1]]
    return f"<h1>{html.escape(about.name)}</h1>{_pairs(rows)}"


def _counts(counts: OutcomeCounts, evaluations: Sequence[tuple[int, Evaluation]]) -> str:
    left_out = counts.not_applied
    rows = [
        ("Batches", f"{counts.batches}"),
        ("Applied", f"{counts.applied}"),
        ("Not applied", f"{left_out}"),
        ("Clipped", f"{counts.clipped}"),
        ("Non-finite", f"{counts.non_finite}"),
        (f"Norm above {LARGE_GRAD_NORM:g}", f"{counts.large}"),
        ("Skipped by policy", f"{counts.skipped_by_policy}"),
        ("Out of memory", f"{counts.out_of_memory}"),
    ]
    rows += [
        (name, f"{count}")
        for name, count in (
            ("Skipped by the GradScaler", counts.skipped_by_scaler),
            ("Discarded by the script", counts.discarded),
        )
        if count
    ]
    for epoch, evaluation in evaluations:
        if evaluation.split != "dev":
            rows.append((f"WER on {evaluation.split}, epoch {epoch}", _errors(evaluation)))
    return f"<h2>Batches</h2>{_pairs(rows)}"


def _charts(
    history: History, epochs: Sequence[EpochRecord], meta: Mapping[str, str]
) -> Iterable[str]:
    last = len(history) - 1
    marks_x, _count = history.series("loss").non_finite_marks(0, last, _MOST_MARKS)
    marks = history.to_axis(marks_x, "step").tolist()

    def drawn(name: str) -> tuple[Coordinates, Floats]:
        return history.envelope(name, 0, last, PLOT_WIDTH)

    smooth_x, smooth_y = history.smoothed("loss", _SMOOTHING).envelope(0, last, PLOT_WIDTH)
    yield _figure(
        Chart(
            "Loss of every batch",
            "batch",
            [
                Curve("loss", "faint", *drawn("loss")),
                Curve("smoothed", "a", history.to_axis(smooth_x, "step"), smooth_y),
            ],
            log=True,
            marks=marks,
            marks_label="not finite",
        )
    )
    levels = [(f"{LARGE_GRAD_NORM:g}", LARGE_GRAD_NORM)]
    if meta.get("policy", "clip") == "clip" and "max_norm" in meta:
        levels.append((f"max_norm {meta['max_norm']}", float(meta["max_norm"])))
    yield _figure(
        Chart(
            "Gradient norm of every batch",
            "batch",
            [
                Curve("before clipping", "a", *drawn("grad_norm_pre")),
                Curve("after clipping", "b", *drawn("grad_norm_post")),
            ],
            log=True,
            levels=levels,
            marks=marks,
            marks_label="not finite",
        )
    )
    yield _figure(Chart("Learning rate", "batch", [Curve("lr", "a", *drawn("lr"))]))
    measured = [record for record in epochs if record.dev is not None]
    wers = [record.dev.errors.wer * 100 for record in measured if record.dev is not None]
    numbers = np.array([record.epoch for record in measured], np.float64)
    curve = Curve("WER on dev, %", "a", numbers, np.array(wers, np.float64), dots=True)
    yield _figure(Chart("Word error rate", "epoch", [curve]))


def _figure(chart: Chart) -> str:
    caption = html.escape(chart.title)
    return f"<figure><figcaption>{caption}</figcaption>{legend(chart)}{draw(chart)}</figure>"


def _pictures(pictures: Mapping[str, bytes]) -> Iterable[str]:
    for caption, content in pictures.items():
        kind = "png" if content.startswith(b"\x89PNG") else "svg+xml"
        data = base64.b64encode(content).decode("ascii")
        text = html.escape(caption, quote=True)
        image = f'<img alt="{text}" src="data:image/{kind};base64,{data}">'
        yield f"<figure><figcaption>{text}</figcaption>{image}</figure>"


def _findings(findings: Sequence[Finding]) -> str:
    if not findings:
        return "<h2>Health</h2><p>No detector has anything to say.</p>"
    items = []
    for finding in findings:
        where = "" if finding.first_step is None else f" (from batch {finding.first_step} on)"
        title = html.escape(f"{finding.severity.capitalize()}: {finding.title}{where}")
        text = html.escape(f"{finding.evidence} {finding.what_to_do}")
        items.append(f"<dt class='{finding.severity}'>{title}</dt><dd>{text}</dd>")
    return f"<h2>Health</h2><dl class='findings'>{''.join(items)}</dl>"


def _soundness(broken: Sequence[str]) -> str:
    if not broken:
        text = "<p>The ledger is sound: every batch is accounted for, and its numbers agree.</p>"
    else:
        items = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in broken)
        text = f"<ul class='broken'>{items}</ul>"
    return f"<h2>Ledger</h2>{text}"


def _events(reader: LedgerReader) -> str:
    told = [event for event in reader.events() if event.kind in _KEY_EVENTS]
    rows = [(f"batch {event.step}", f"{event.kind}: {event.text}") for event in told]
    return f"<h2>Events</h2>{_pairs(rows)}" if rows else ""


def _epoch_table(epochs: Sequence[EpochRecord]) -> str:
    titles = [
        "Epoch",
        "Mean loss",
        "WER",
        "S",
        "D",
        "I",
        "Batches",
        "Applied",
        "Clipped",
        "Non-finite",
        "Large",
        "Duration",
    ]
    rows = [
        (
            f"{record.epoch}",
            f"{record.avg_loss:.4g}",
            *(_edits(record.dev) if record.dev else ("-", "-", "-", "-")),
            f"{record.batches}",
            f"{record.applied}",
            f"{record.clipped}",
            f"{record.non_finite}",
            f"{record.large}",
            _duration(record.duration_s),
        )
        for record in epochs
    ]
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    head = "".join(f"<th>{title}</th>" for title in titles)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f"<h2>Epochs</h2><div class='wide'>{table}</div>"


def _settings(run: Path) -> str:
    try:
        settings = flat_settings(run)
    except RunFolderError as error:
        return f"<h2>Settings</h2><p>{html.escape(str(error))}</p>"
    rows = [(key, f"{value}") for key, value in settings.items()]
    return f"<h2>Settings</h2>{_pairs(rows)}"


def _pairs(rows: Iterable[tuple[str, str]]) -> str:
    cells = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>"
        for name, value in rows
    )
    return f"<table class='pairs'>{cells}</table>"


def _edits(evaluation: Evaluation) -> tuple[str, str, str, str]:
    errors = evaluation.errors
    return (
        _percent(errors.wer),
        f"{errors.substitutions}",
        f"{errors.deletions}",
        f"{errors.insertions}",
    )


def _errors(evaluation: Evaluation) -> str:
    wer, substitutions, deletions, insertions = _edits(evaluation)
    return f"{wer} (S {substitutions} D {deletions} I {insertions})"


def _percent(share: float | None) -> str:
    return "" if share is None or math.isnan(share) else f"{100 * share:.1f} %"


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{title} - SignScope</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""

# Blue and orange stay apart for every common kind of colour blindness.
_STYLE = """
:root { color-scheme: light dark; --back: #ffffff; --text: #1b1f24; --soft: #6a737d; --rule: #d9dde2;
  --a: #0060b0; --b: #d95f02; --faint: #9dbfdc; --warn: #b3005c; }
@media (prefers-color-scheme: dark) { :root { --back: #16191d; --text: #e6e9ec; --soft: #9aa3ad;
  --rule: #363c44; --a: #6cb8ff; --b: #ff9d4d; --faint: #41617d; --warn: #ff6fae; } }
body { background: var(--back); color: var(--text); font: 15px/1.5 system-ui, sans-serif;
  max-width: 940px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.6em; } h2 { font-size: 1.15em; margin-top: 2em; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 2px 10px; border-bottom: 1px solid var(--rule); }
.pairs th { text-align: left; font-weight: 500; color: var(--soft); }
.pairs td { text-align: left; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
figure { margin: 1.5em 0; } figcaption { font-weight: 600; } img, svg { width: 100%; height: auto; }
svg text { fill: var(--soft); font: 12px system-ui, sans-serif; text-anchor: middle; }
svg text.y { text-anchor: end; } svg text.left { text-anchor: start; }
svg path { fill: none; } .grid { stroke: var(--rule); } .axis { stroke: var(--soft); }
.level { stroke: var(--soft); stroke-dasharray: 5 4; }
polyline { fill: none; stroke-width: 1.3; stroke-linejoin: round; }
polyline.a { stroke: var(--a); } polyline.b { stroke: var(--b); } polyline.faint { stroke: var(--faint); }
circle.a { fill: var(--a); } svg path.mark { fill: var(--warn); }
.legend span { margin-right: 1.5em; color: var(--soft); }
.legend i { display: inline-block; width: 1.2em; height: .25em; margin-right: .4em; vertical-align: middle; }
i.a { background: var(--a); } i.b { background: var(--b); } i.faint { background: var(--faint); }
i.mark { background: var(--warn); }
.findings dt { font-weight: 600; } .critical, .broken { color: var(--warn); }
"""
