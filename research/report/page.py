"""One page that shows what a run came to: report.html, and the pictures beside it."""

import time
from pathlib import Path

from research.diagnose.findings_page import diagnosis
from research.errors import UserError
from research.files import number
from research.html.document import document
from research.html.markup import Html, details, element, format_number, join, percent, section, shortened, table
from research.report import confusion, pace
from research.report.claims import judge
from research.report.curves import MAX_PLOTS, curves, learning_curves
from research.report.gallery import gallery
from research.report.layers import layers
from research.report.ranked import ranked
from research.report.record import recorded
from research.report.runs import changed_knobs
from research.report.slices import slice_tables
from research.report.timeline import happened, timeline
from research.runs.reader import Evaluation, Run, read_run, results
from research.tracking import profile

PICTURES = ("learning_curves.png", "confusion_*.png", "worst_*.png")
LONGEST = 20_000  # characters of a sample
WIDEST = 6  # metrics in columns


def report(folder, experiment=None) -> Path:
    """Writes `folder`/report/report.html and the pictures beside it, and gives the path of the page.

    The page needs no network, and the same folder gives the same bytes. With the `experiment` (an Experiment)
    it shows the worst errors and names the classes. Works for a run that goes on, was cut off or failed.
    Raises UserError where `folder` is not a run folder, or cannot be written to.
    """
    run = read_run(folder)
    out = run.folder / "report"
    try:
        out.mkdir(exist_ok=True)
        for pattern in PICTURES:
            for old in out.glob(pattern):
                old.unlink()  # a gallery of errors that are none any more must not stay
        page, path = _page(run, experiment, out), out / "report.html"
        part = path.with_suffix(".part")
        part.write_bytes(page.encode("utf-8", "replace"))
        part.replace(path)
    except OSError as error:
        raise UserError(f"the report cannot be written to {out}: {error.strerror or error}.") from error
    return path


def _page(run: Run, experiment, out: Path) -> str:
    name = run.about.get("experiment", run.folder.name)
    parts = [
        _headline(run, name),
        diagnosis(run),
        _curves(run, out / "learning_curves.png"),
        layers(run),
        *[_evaluation(key, run.evaluations[key], experiment, out) for key in results(run) if key in run.evaluations],
        _pace(run),
        recorded(run),
    ]
    return document(f"{name}, seed {run.about.get('seed', '?')}", join(parts))


def _headline(run: Run, name) -> Html:
    status = run.status
    word = status.get("status", "not started")
    step = f"step {status['step']} of {status.get('total', '?')}" if "step" in status else ""
    found = results(run)
    metrics = list(dict.fromkeys(metric for numbers in found.values() for metric in numbers))
    rows = [
        [element("b", of), *[format_number(numbers[metric]) if metric in numbers else "" for metric in metrics]]
        for of, numbers in found.items()
    ]
    numbers = table(["evaluation", *metrics], rows, numeric=metrics) if rows else element("p", "No evaluation yet.")
    if len(metrics) > WIDEST:  # columns would run off the paper and off a telephone
        columns = [[metric, *[row[1 + i] for row in rows]] for i, metric in enumerate(metrics)]
        numbers = table(["metric", *found], columns, numeric=list(found))
    return join([
        element("header", element("h1", name), element("p", run.about.get("summary", "")), element("p", _variant(run))),
        element("p", element("span", word, class_=f"badge {word}"), " ", step, class_="status"),
        element("pre", status["text"], class_=f"said {word}") if status.get("text") else "",
        *[element("p", problem, class_="remark") for problem in run.problems],
        section("Result" if word == "finished" else "Result so far", numbers, _claims(run, found, word)),
    ])  # fmt: skip


def _variant(run: Run) -> str:
    """The knobs that differ from their defaults, the seed and the date: they distinguish runs of one experiment."""
    changed = [f"{name}={value}" for name, value in changed_knobs(run.folder, run.about).items()]
    created = number(run.about.get("created"))
    date = [] if created is None else [time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(created))]
    return " · ".join([*changed, f"seed {run.about.get('seed', '?')}", *date])


def _claims(run: Run, found, word) -> Html:
    claims = run.about.get("claims") or []
    if not claims:
        return Html()
    rows = []
    for claim in claims:
        verdict = judge(claim, found)
        said = verdict.outcome + " so far" * (verdict.measured is not None and word != "finished")
        badge = element("span", said, class_=f"badge {verdict.outcome.replace(' ', '-')}")
        under = [element("div", words, class_="faint") for words in (claim.get("reference"), verdict.remark) if words]
        bound = element("span", verdict.bound, class_="whole")
        rows.append([join([claim["metric"], *under]), bound, format_number(verdict.measured), badge])
    head = ["claim", "bound", "measured", "verdict"]
    return element("h3", "Claims") + table(head, rows, numeric=("measured",))


def _curves(run: Run, path) -> Html:
    plots = learning_curves(run.metrics, path)
    if not plots:
        return section("Learning curves", element("p", "No metrics yet.", class_="remark"))
    left_out = ", ".join(list(curves(run.metrics))[MAX_PLOTS:])
    remark = element("p", f"In metrics.jsonl, but not drawn: {left_out}.", class_="remark") if left_out else ""
    return section("Learning curves", _grid(plots), remark)


def _grid(plots, kind="plots") -> Html:
    return element("div", *[element("div", Html(plot), class_="plot") for plot in plots], class_=kind)


def _evaluation(name, found: Evaluation, experiment, out: Path) -> Html:
    """What an evaluation set has besides numbers: confusions, worst errors, texts."""
    ev = experiment.evals.get(name) if experiment else None
    data = ev.source.data if ev else None
    given = getattr(data, "classes", None)
    matrix = found.arrays.get("confusion")
    at = f", step {found.step}" if found.step is not None else ""
    parts: list = []
    if confusion.is_confusion(matrix):
        names = confusion.class_names(len(matrix), given)
        parts += _confusion(matrix, names, name, out / f"confusion_{name}.png")
    plots, remark = ranked(found, given or ())
    parts += [element("h3", "Ranking and calibration"), _grid(plots, "plots small")] if plots else []
    parts += [element("p", remark, class_="remark")] if remark else []
    tables = slice_tables(found)
    parts += [element("h3", "Slices"), *tables] if tables else []
    if {"label", "prediction"} & set(found.rows):
        parts += [element("h3", "Worst errors"), gallery(found.rows, data, names=given, path=out / f"worst_{name}.png")]
    for title, text in found.texts.items():
        if title == "slices" and tables:
            continue  # the same as a text
        parts += [
            element("h3", title.replace("_", " ").capitalize()),
            element("pre", shortened(text, LONGEST), class_="sample"),
        ]
    return section(f"Evaluation: {name}{at}", *parts)


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
        element("p", "Counts. The shade is the share of the row, on a square-root scale.", class_="remark"),
        element("div", svg, class_="plot"),
    ]
    if not small:
        pairs = [[p.true, p.predicted, p.count, percent(p.share)] for p in confusion.most_confused(matrix, names)]
        head = ["true", "predicted", "errors", "of the class"]
        parts += [element("h3", "Most confused"), table(head, pairs, numeric=head[2:])]
    return [*parts, join([element("h3", "By class"), by_class]) if small else details("By class", by_class)]


def _pace(run: Run) -> Html:
    plots = pace.pace_curves(run.timing)
    words = pace.described(pace.pace(run.timing))
    drawn = timeline(run.timing)
    return section(
        "Time",
        element("p", words) if words else "",
        *_traced(run),
        _grid(plots) if plots else "",
        element("div", Html(drawn), class_="plot") if drawn else "",
        happened(run.timing),
    )


def _traced(run: Run) -> list[Html]:
    """What the time of the traced steps went to, where the run was profiled."""
    spent = profile.read_summary(run.folder)
    if spent is None:
        return []
    rows = [[name, percent(seconds / spent.seconds)] for name, seconds in spent.operations]
    longest = table(["operation", "of the time"], rows, numeric=("of the time",))
    return [element("p", profile.described(spent)), details("The longest operations, over all devices", longest)]
