"""The report of one run: report.html and the images next to it."""

import time
from pathlib import Path
from urllib.parse import quote

import numpy as np

from research.data.readers.arrays import class_names
from research.diagnose.findings_page import diagnosis
from research.errors import UserError
from research.files import number
from research.html.document import document
from research.html.markup import (
    Html,
    details,
    element,
    format_number,
    join,
    percent,
    section,
    shortened,
    table,
    with_errors,
)
from research.report import confusion, pace
from research.report.curves import MAX_PLOTS, as_csv, curves, learning_curves
from research.report.gallery import gallery
from research.report.layers import layers
from research.report.multi_label import is_multi_label, multi_label
from research.report.ranked import ranked
from research.report.record import recorded
from research.report.rows import scores
from research.report.runs import changed_knobs
from research.report.slices import slice_tables
from research.report.texts import is_answers, is_tagged, is_texts, worst_answers, worst_tagged, worst_texts
from research.report.timeline import happened, timeline
from research.runs.claims import judge
from research.runs.knobs import as_option
from research.runs.reader import Evaluation, Run, read_run, results
from research.tracking import profile

# With those of earlier versions, which were PNG.
PICTURES = [f"{name}.{kind}" for name in ("learning_curves", "confusion_*", "worst_*") for kind in ("svg", "png")]
HOVER = element("span", "Values appear under the pointer. ", class_="screen")
MEANINGS = {
    "auc": "the area under the ROC curve",
    "brier": "the Brier score, the mean squared error of the probabilities",
    "ece": "the expected calibration error",
    "mae": "the mean absolute error",
    "mse": "the mean squared error",
    "r2": "the coefficient of determination",
}
MAX_SAMPLE = 20_000  # characters shown of a text sample
MAX_CSV = 1_000_000  # characters of the table that is embedded in a page
MAX_COLUMNS = 6  # most metrics shown as columns


def report(folder, experiment=None) -> Path:
    """Write the report of a run to `folder`/report/report.html and return the path of the page.

    The images are stored next to the page. The page needs no network, and the same folder produces the same bytes. With
    the `experiment` (an Experiment) the page also shows the worst errors and the names of the classes. Works for runs
    that are still running, were cut off or failed. Raises UserError if `folder` is not a run folder or is not writable.
    """
    run = read_run(folder)
    out = run.folder / "report"
    try:
        out.mkdir(exist_ok=True)
        for pattern in PICTURES:
            for old in out.glob(pattern):
                old.unlink()  # otherwise a gallery of errors since corrected would remain
        page, path = _page(run, experiment, out), out / "report.html"
        temporary = path.with_suffix(".part")
        temporary.write_bytes(page.encode("utf-8", "replace"))
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"the report cannot be written to {out}: {error.strerror or error}.") from error
    return path


def _page(run: Run, experiment, out: Path) -> str:
    name = run.about.get("experiment", run.folder.name)
    evaluations = {key: run.evaluations[key] for key in results(run) if key in run.evaluations}
    parts = [
        _headline(run, name),
        _drawn("Diagnosis", diagnosis, run),
        _drawn("Learning curves", _curves, run, out / "learning_curves.svg"),
        _drawn("Layers", layers, run),
        *[_drawn(f"Evaluation: {key}", _evaluation, key, found, experiment, out) for key, found in evaluations.items()],
        _drawn("Timing", _pace, run),
        _drawn("Reproducibility record", recorded, run),
    ]
    return document(f"{name}, seed {run.about.get('seed', '?')}", join(parts))


def _drawn(title, draw, *arguments) -> Html:
    """Draw a section; if the recorded values do not fit together, the section gives the reason instead."""
    try:
        return draw(*arguments)
    except Exception as error:  # a file from elsewhere may hold arrays of any shape
        reason = f"This section cannot be drawn from the files of the run: {type(error).__name__}: {error}"
        return section(title, element("p", shortened(reason, MAX_SAMPLE), class_="remark"))


def _headline(run: Run, name) -> Html:
    status = run.status
    state = status.get("status", "not started")
    step = f"step {status['step']} of {status.get('total', '?')}" if "step" in status else ""
    evaluations = results(run)
    metrics = list(dict.fromkeys(metric for numbers in evaluations.values() for metric in numbers))
    errors = {set_name: _standard_errors(run.evaluations.get(set_name)) for set_name in evaluations}
    columns = {metric: _column(metric, evaluations, errors) for metric in metrics}
    rows = [[element("b", name), *[columns[metric][i] for metric in metrics]] for i, name in enumerate(evaluations)]
    numbers = table(["evaluation", *metrics], rows, numeric=metrics) if rows else element("p", "No evaluation yet.")
    if len(metrics) > MAX_COLUMNS:  # too many columns for paper or a phone: one row per metric instead
        rows = [[metric, *column] for metric, column in columns.items()]
        numbers = table(["metric", *evaluations], rows, numeric=list(evaluations))
    remarks = "± is the standard error of the mean over the examples. It does not include the variation between seeds."
    remarks = [remarks] if any(errors.values()) else []
    remarks += [f"{name}: {meaning}." for name, meaning in MEANINGS.items() if name in metrics]
    numbers += element("p", " ".join(remarks), class_="remark") if remarks else ""
    return join([
        element("header", element("h1", name), element("p", run.about.get("summary", "")), element("p", _variant(run))),
        element("p", element("span", state, class_=f"badge {state}"), " ", step, class_="status"),
        element("pre", status["text"], class_=f"said {state}") if status.get("text") else "",
        *[element("p", problem, class_="remark") for problem in run.problems],
        section("Results" if state == "finished" else "Results so far", numbers, _claims(run, evaluations, state)),
    ])  # fmt: skip


def _standard_errors(evaluation: Evaluation | None) -> dict[str, float]:
    """The standard error of each metric that is a mean over stored rows."""
    means = {} if evaluation is None else scores(evaluation)
    errors = {m: float(np.std(rows, ddof=1)) / len(rows) ** 0.5 for m, rows in means.items() if len(rows) > 1}
    return {metric: error for metric, error in errors.items() if metric != "auc"}  # a mean over pairs


def _column(metric, evaluations, errors) -> list[str]:
    """A metric of each evaluation with its error; "" if an evaluation lacks it."""
    present = [name for name in evaluations if metric in evaluations[name]]
    cells = with_errors([evaluations[name][metric] for name in present], [errors[name].get(metric) for name in present])
    cells = dict(zip(present, cells, strict=True))
    return [cells.get(name, "") for name in evaluations]


def _variant(run: Run) -> str:
    """The knobs that differ from their defaults, the seed and the date: they distinguish runs of one experiment."""
    changed = [f"{name}={as_option(value)}" for name, value in changed_knobs(run.folder, run.about).items()]
    created = number(run.about.get("created"))
    date = [] if created is None else [time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(created))]
    return " · ".join([*changed, f"seed {run.about.get('seed', '?')}", *date])


def _claims(run: Run, evaluations, state) -> Html:
    claims = run.about.get("claims") or []
    if not claims:
        return Html()
    rows = []
    for claim in claims:
        verdict = judge(claim, evaluations)
        outcome = verdict.outcome + " so far" * (verdict.measured is not None and state != "finished")
        badge = element("span", outcome, class_=f"badge {verdict.outcome.replace(' ', '-')}")
        notes = [f"reference: {claim['reference']}"] if claim.get("reference") else []
        notes = [element("div", words, class_="faint") for words in (*notes, verdict.remark) if words]
        bound = element("span", verdict.bound, class_="whole")
        rows.append([join([claim["metric"], *notes]), bound, format_number(verdict.measured), badge])
    head = ["metric", "bound", "measured", "verdict"]
    return element("h3", "Claims") + table(head, rows, numeric=("measured",))


def _curves(run: Run, path) -> Html:
    plots = learning_curves(run.metrics, path)
    if not plots:
        return section("Learning curves", element("p", "No metrics yet.", class_="remark"))
    series = curves(run.metrics)
    left_out = ", ".join(list(series)[MAX_PLOTS:])
    remarks = ["Values of the first tenth of the run may be off the axis."]
    losses = series.get("loss", {})
    if "train" in losses and len(losses) > 1:
        remarks += ["The training loss includes augmentation, dropout and label smoothing, if the run uses them."]
    remarks += [f"Not plotted (see metrics.jsonl): {left_out}."] if left_out else []
    table = as_csv(run.metrics)
    uri = "data:text/csv;charset=utf-8," + quote(table)
    link = element("a", "Download the values as CSV", href=uri, download="metrics.csv")
    link = link if len(table) < MAX_CSV else "All values are in metrics.jsonl."
    return section("Learning curves", _grid(plots), element("p", HOVER, " ".join(remarks), " ", link, class_="remark"))


def _grid(plots, kind="plots") -> Html:
    return element("div", *[element("div", Html(plot), class_="plot") for plot in plots], class_=kind)


def _evaluation(name, evaluation: Evaluation, experiment, out: Path) -> Html:
    """Everything about an evaluation except its metrics: confusion matrix, curves, slices, worst errors, texts."""
    eval_spec = experiment.evals.get(name) if experiment else None
    data = eval_spec.source.data if eval_spec else None
    names = class_names(data)
    matrix = evaluation.arrays.get("confusion")
    step_note = f", step {evaluation.step}" if evaluation.step is not None else ""
    parts: list = []
    if confusion.is_confusion(matrix):
        parts += _confusion(matrix, confusion.row_names(len(matrix), names), name, out / f"confusion_{name}.svg")
    if is_multi_label(evaluation):
        parts += multi_label(evaluation, names, label=name)
    plots, remark = ranked(evaluation, names or ())
    parts += [element("h3", "Ranking and calibration"), _grid(plots, "plots small")] if plots else []
    parts += [element("p", remark, class_="remark")] if remark else []
    tables = slice_tables(evaluation)
    parts += [element("h3", "Slices"), *tables] if tables else []
    if {"label", "prediction"} & set(evaluation.rows):
        errors = gallery(evaluation.rows, data, names=names, path=out / f"worst_{name}.svg")
        parts += [element("h3", "Worst errors"), errors]
    if is_texts(evaluation.arrays):
        parts += [element("h3", "Worst texts"), *worst_texts(evaluation.arrays["texts"])]
    if is_tagged(evaluation.arrays):
        parts += [element("h3", "Tagged sentences"), *worst_tagged(evaluation.arrays["tagged"])]
    if is_answers(evaluation.arrays):
        parts += [element("h3", "Questions and answers"), *worst_answers(evaluation.arrays["answers"])]
    for title, text in evaluation.texts.items():
        if title == "slices" and tables:
            continue  # this text repeats the tables
        parts += [
            element("h3", title.replace("_", " ").capitalize()),
            element("pre", shortened(text, MAX_SAMPLE), class_="sample"),
        ]
    return section(f"Evaluation: {name}{step_note}", *parts)


def _confusion(matrix, names, name, path) -> list[Html]:
    svg = Html(confusion.picture(matrix, names, path=path, label=f"confusion matrix of {name}"))
    classes = [
        [row.name, row.count, percent(row.precision), percent(row.recall), percent(row.f1)]
        for row in confusion.per_class(matrix, names)
    ]
    numeric = ("examples", "precision", "recall", "F1")
    by_class = table(["class", *numeric], classes, numeric=numeric)
    small = len(names) <= confusion.READABLE
    parts = [
        element("h3", "Confusion matrix"),
        element("p", "Cells are counts. Shading is the fraction of the row, on a square-root scale.", class_="remark"),
        element("div", svg, class_="plot"),
    ]
    if not small:
        pairs = [[p.true, p.predicted, p.count, percent(p.share)] for p in confusion.most_confused(matrix, names)]
        head = ["true", "predicted", "errors", "% of class"]
        parts += [element("h3", "Most confused pairs"), table(head, pairs, numeric=head[2:])]
    title = "Per-class metrics"
    return [*parts, join([element("h3", title), by_class]) if small else details(title, by_class)]


def _pace(run: Run) -> Html:
    plots = pace.pace_curves(run.timing)
    summary = pace.described(pace.pace(run.timing))
    timeline_svg = timeline(run.timing)
    return section(
        "Timing",
        element("p", summary) if summary else "",
        *_traced(run),
        _grid(plots) if plots else "",
        element("div", Html(timeline_svg), class_="plot") if timeline_svg else "",
        happened(run.timing),
    )


def _traced(run: Run) -> list[Html]:
    """How the traced steps spent their time; empty if the run was not profiled."""
    summary = profile.read_summary(run.folder)
    if summary is None:
        return []
    rows = [[name, percent(seconds / summary.seconds)] for name, seconds in summary.operations]
    operations = table(["operation", "% of time"], rows, numeric=("% of time",))
    return [element("p", profile.described(summary)), details("Slowest operations (all devices)", operations)]
