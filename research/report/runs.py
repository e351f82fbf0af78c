"""List, filter and sort the runs in a folder, mostly from run.json and status.json, so that many runs list fast."""

import ast
import contextlib
import math
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from research.errors import UserError, nearest, printable, unknown
from research.files import DEEPEST, MOST_JSON, check_regular, number, read_text
from research.html.markup import format_number, shortened
from research.report.direction import better, main_metric
from research.runs.knobs import as_option, plain
from research.runs.reader import LAYERS, read_about, read_evaluation_numbers, read_status, source_file

STATUSES = ("finished", "running", "preempted", "failed", "killed", "not started", "damaged")
UNREAD = ("checkpoints", "damaged", "evaluated", "predictions", "profile", "report")  # for a list
COMPARE = {
    "<=": lambda a, b: a <= b, ">=": lambda a, b: a >= b, "!=": lambda a, b: a != b, "=": lambda a, b: a == b,
    "<": lambda a, b: a < b, ">": lambda a, b: a > b,
}  # fmt: skip


class Listed(NamedTuple):
    """One run folder.

    `changed` holds the knobs that differ from the defaults in the run's own source. `results` is
    {"test/accuracy": number}, and `metric` is the main metric. `problem` describes why a run is damaged.
    """

    folder: Path
    experiment: str
    knobs: Mapping[str, Any]
    changed: Mapping[str, Any]
    seed: Any
    status: str
    step: int | None
    total: int | None
    metric: str | None
    results: Mapping[str, float]
    claims: Sequence[Mapping]
    created: float | None
    problem: str = ""

    @property
    def value(self) -> float | None:
        """The value of the main metric."""
        return self.results.get(self.metric)


def runs(
    folder="runs", *, where: Sequence[str] = (), sort: str | None = None, status: str | None = None
) -> list[Listed]:
    """List the runs in `folder` and its subfolders, sorted by path, that satisfy every condition of `where`.

    A condition is NAME OP VALUE, with OP one of = != < <= > >=, such as "learning_rate>=1e-3", "network=cnn", "seed=0"
    or "test/accuracy>0.9". NAME is a knob, a metric with or without its set, or experiment, seed, status, step, total
    or name. Runs without that name are excluded. `sort` is such a name: the best runs come first if the better
    direction is known, otherwise the largest values. "-NAME" reverses the order. Runs without the name come last.
    `status` is finished, running, preempted, failed, killed, "not started" or damaged. A run that was killed on another
    host still has status running.

    Runs that cannot be read are listed as damaged. Raises UserError if `folder` does not exist, if a condition is
    malformed, and for a NAME that no run has.
    """
    folder = Path(folder)
    if not folder.is_dir():
        suggestion = nearest(folder.name, [p.name for p in folder.parent.iterdir()]) if folder.parent.is_dir() else ""
        hint = " Pass conditions after --where." if set("<>=!") & set(str(folder)) else suggestion
        raise UserError(f"no folder {folder}.{hint} Give the folder that holds the run folders.")
    if status is not None and status not in STATUSES:
        raise unknown("status", status, STATUSES)
    all_runs = [listed(path) for path in _folders(folder)]
    fields = [_fields(run) for run in all_runs]
    conditions = [_condition(text, fields) for text in where]
    selected = [
        run for run, has in zip(all_runs, fields, strict=True)
        if status in (None, run.status) and all(condition(has) for condition in conditions)
    ]  # fmt: skip
    return _sorted(selected, sort, fields) if sort else selected


def listed(folder) -> Listed:
    """Read one run folder. Never raises for a damaged one: its status is "damaged"."""
    try:
        return _listed(Path(folder))
    except Exception as error:  # whatever one folder holds, the others are listed
        reason = f"{type(error).__name__}: {error}"
        return Listed(Path(folder), "?", {}, {}, None, "damaged", None, None, None, {}, [], None, reason)


def _listed(folder) -> Listed:
    problems: list[str] = []
    check_regular(folder, shallow=UNREAD)
    about, status = read_about(folder, problems), read_status(folder, problems)
    results = status.get("results") or read_evaluation_numbers(folder, problems)
    flat = {
        f"{set_name}/{name}": number(value)
        for set_name, numbers in results.items()
        if set_name != LAYERS
        for name, value in numbers.items()
    }
    flat = {name: value for name, value in flat.items() if value is not None}
    claims, changed = about.get("claims", []), changed_knobs(folder, about)
    return Listed(
        folder, about.get("experiment", "?"), about.get("knobs", {}), changed, about.get("seed"),
        "damaged" if problems else status.get("status", "not started"), status.get("step"), status.get("total"),
        main_metric(claims, flat), flat, claims, number(about.get("created")), " ".join(problems),
    )  # fmt: skip


def changed_knobs(folder: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """The knobs of a run, from its run.json `about`, that differ from the defaults in its source."""
    usual = defaults(source_file(folder, about["file"])) if "file" in about else {}
    return {name: value for name, value in about.get("knobs", {}).items() if name not in usual or usual[name] != value}


def defaults(file) -> dict[str, Any]:
    """Parse the default knobs of an experiment from its source, without running it.

    Values are converted as in JSON. Defaults that are not literals are omitted. Returns {} if the file cannot be read.
    """
    try:
        tree = ast.parse(read_text(file, most=MOST_JSON))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    result = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == "experiment":
            for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
                try:
                    value = ast.literal_eval(default)
                except (ValueError, TypeError, RecursionError):
                    continue
                with contextlib.suppress(UserError):  # a literal that is no knob, such as a dict
                    result |= plain({argument.arg: value})
    return result


def format_runs(found: Sequence[Listed], *, now: float | None = None) -> str:
    """Format runs as a text table: name, status, step, seed, age, main metric, and knobs changed from defaults."""
    if not found:
        return "no runs."
    now = time.time() if now is None else now
    rows = [["run", "status", "step", "seed", "age", "metric", "", "knobs"]]
    for run in found:
        progress = "" if run.step is None else f"{run.step}/{run.total}" if run.total is not None else str(run.step)
        knobs = " ".join(f"{name}={as_option(value)}" for name, value in run.changed.items()) or "defaults"
        rows.append([
            _name(run.folder), run.status, progress, "" if run.seed is None else str(run.seed),
            "" if run.created is None else age(now - run.created), run.metric or "",
            "" if run.value is None else format_number(run.value), shortened(run.problem or knobs, 100),
        ])  # fmt: skip
    rows = [[printable(cell).replace("\n", "\ufffd") for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _name(folder):
    """A run by its folder; a trial of a sweep by the sweep and its number."""
    trial = folder.parent.name == "trials" and (folder.parent.parent / "sweep.json").exists()
    return f"{folder.parent.parent.name}/{folder.name}" if trial else folder.name


def age(seconds: float) -> str:
    """Format seconds in the largest unit that fits: 40 s, 12 min, 5 h, 3 d."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _folders(folder):
    """Return folders with a run.json, sorted by path. Does not descend into runs: checkpoints hold many files."""
    folders = []
    for path, subfolders, files in os.walk(folder):
        if "run.json" in files:
            folders.append(Path(path))
            subfolders.clear()
        if len(Path(path).parts) - len(Path(folder).parts) >= DEEPEST:
            subfolders.clear()
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
    return folders


def _fields(run: Listed) -> dict[str, Any]:
    """Return all fields that a condition may name. A metric without a set refers to the set of the main metric."""
    main_set = run.metric.partition("/")[0] if run.metric else ""
    short = {name.partition("/")[2]: value for name, value in run.results.items() if name.partition("/")[0] == main_set}
    own = {
        "name": run.folder.name, "experiment": run.experiment, "seed": run.seed, "status": run.status,
        "step": run.step, "total": run.total,
    }  # fmt: skip
    return {**short, **run.results, **run.knobs, **own}


def _condition(text: str, fields):
    match = re.fullmatch(r"\s*([^=<>!]+?)\s*(<=|>=|!=|==?|<|>)\s*(.*?)\s*", text)
    if not match or not match[3]:
        raise UserError(
            f"the condition {text!r} cannot be read; expected for example 'network=cnn' or 'test/accuracy>0.9'."
        )
    name, operator, expected = _field_name(match[1], fields), match[2].replace("==", "="), match[3]
    threshold = _number(expected)

    def matches(fields_of_run):
        value = fields_of_run.get(name)
        if name not in fields_of_run or (value is None and expected.lower() != "none"):
            return False
        number = _number(value)
        if number is not None and threshold is not None:
            return COMPARE[operator](number, threshold)
        if operator in ("=", "!="):
            if isinstance(value, list):  # 8,8 and (8, 8) are the same
                return COMPARE[operator](as_option(value), expected.strip("()[]").replace(" ", ""))
            return COMPARE[operator](str(value).lower(), expected.lower())
        if any(_number(has.get(name)) is not None for has in fields):
            return False  # one run with another type does not hide the others
        raise UserError(f"{name} is {value!r} in {fields_of_run['name']}; {text!r} needs a number.")

    return matches


def _number(value) -> float | None:
    """Convert a number or numeric string to float; None for anything else, including booleans and NaN."""
    try:
        converted = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return None if math.isnan(converted) else converted


def _sorted(runs, sort, fields):
    name = _field_name(sort.removeprefix("-"), fields)
    claims = [claim for run in runs for claim in run.claims]
    down = better(next((r.metric for r in runs if r.metric and r.metric.endswith(f"/{name}")), name), claims) != "lower"
    if sort.startswith("-"):
        down = not down
    values = {id(run): _fields(run).get(name) for run in runs}
    key = lambda run: (_number(values[id(run)]) is not None, _number(values[id(run)]) or 0.0, str(values[id(run)]))
    present = [run for run in runs if values[id(run)] is not None]
    return [*sorted(present, key=key, reverse=down), *[run for run in runs if values[id(run)] is None]]


def _field_name(name, fields) -> str:
    """Return `name`, with hyphens replaced if it was written as a flag. Raises UserError if no run has it."""
    valid = {key for run_fields in fields for key in run_fields}
    name = name if name in valid else name.replace("-", "_")
    if fields and name not in valid:
        raise unknown("name", name, valid)
    return name
