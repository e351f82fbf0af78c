"""The runs below a folder, listed, filtered and sorted: from run.json and status.json alone, so that many are quick."""

import ast
import json
import math
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from research.errors import UserError, nearest, unknown
from research.files import number
from research.html.markup import format_number, shortened
from research.report.direction import better, main_metric
from research.runs.reader import LAYERS

STATUSES = ("finished", "running", "preempted", "failed", "not started", "damaged")
COMPARE = {
    "<=": lambda a, b: a <= b, ">=": lambda a, b: a >= b, "!=": lambda a, b: a != b, "=": lambda a, b: a == b,
    "<": lambda a, b: a < b, ">": lambda a, b: a > b,
}  # fmt: skip


class Listed(NamedTuple):
    """A run folder. `changed` are the knobs that differ from the defaults of the run's own source; `results` are
    {"test/accuracy": number}, and `metric` the main one of them. A damaged one has a `problem` in words.
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
        """The main metric's number."""
        return self.results.get(self.metric)


def runs(
    folder="runs", *, where: Sequence[str] = (), sort: str | None = None, status: str | None = None
) -> list[Listed]:
    """The runs in `folder` and below, by name, or only those for which every condition of `where` holds.

    A condition is NAME OP VALUE with one of = != < <= > >=, such as "learning_rate>=1e-3", "network=cnn", "seed=0" or
    "test/accuracy>0.9"; a NAME is a knob, a metric with or without its set, or experiment, seed, status, step, total
    or name. A run without it does not fit. `sort` is such a name: the best first where it is known which is better,
    else the largest, and runs without it last; "-NAME" turns that round. `status` is one of finished,
    running, preempted, failed, "not started" and damaged; a run that was killed still says running.

    What cannot be read is listed as damaged. Raises UserError where `folder` is none, for a condition that cannot be
    read, and for a name that no run has.
    """
    folder = Path(folder)
    if not folder.is_dir():
        near = nearest(folder.name, [p.name for p in folder.parent.iterdir()]) if folder.parent.is_dir() else ""
        words = " A condition goes behind --where." if set("<>=!") & set(str(folder)) else near
        raise UserError(f"no folder {folder}.{words} Give the one that holds the run folders.")
    if status is not None and status not in STATUSES:
        raise unknown("status", status, STATUSES)
    found = [listed(path) for path in _folders(folder)]
    fields = [_fields(run) for run in found]
    conditions = [_condition(text, fields) for text in where]
    kept = [
        run for run, has in zip(found, fields, strict=True)
        if status in (None, run.status) and all(fits(has) for fits in conditions)
    ]  # fmt: skip
    return _sorted(kept, sort, fields) if sort else kept


def listed(folder) -> Listed:
    """The Listed of one run folder; damaged ones are told, never raised."""
    folder, problems = Path(folder), []
    about = _read(folder / "run.json", problems)
    status = _read(folder / "status.json", problems) if (folder / "status.json").exists() else {}
    results = status.get("results") if isinstance(status.get("results"), dict) else {}
    if not results:
        paths = sorted((folder / "evaluations").glob("*.json"))
        results = {path.stem: _read(path, problems).get("numbers") for path in paths}
    flat = {
        f"{of}/{name}": number(value)
        for of, numbers in results.items()
        if isinstance(numbers, dict) and of != LAYERS
        for name, value in numbers.items()
    }
    flat = {name: value for name, value in flat.items() if value is not None}
    knobs = about.get("knobs") if isinstance(about.get("knobs"), dict) else {}
    claims = [claim for claim in about.get("claims") or () if isinstance(claim, dict)]
    step, total = (status.get(k) if isinstance(status.get(k), int) else None for k in ("step", "total"))
    changed = changed_knobs(folder, about)
    word = "damaged" if problems else status.get("status", "not started")
    return Listed(
        folder, str(about.get("experiment", "?")), knobs, changed, about.get("seed"), str(word), step, total,
        main_metric(claims, flat), flat, claims, number(about.get("created")), " ".join(problems),
    )  # fmt: skip


def changed_knobs(folder: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """The knobs of a run, from its run.json `about`, that differ from the defaults in its source."""
    knobs = about.get("knobs") if isinstance(about.get("knobs"), dict) else {}
    usual = defaults(folder / "source" / str(about.get("file", "")))
    return {name: value for name, value in knobs.items() if name not in usual or usual[name] != value}


def defaults(file) -> dict[str, Any]:
    """The defaults of an experiment's knobs as JSON holds them, read from its source without running it.

    Without those that are no literals; {} where the file cannot be read.
    """
    try:
        tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return {}
    found = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == "experiment":
            for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
                try:
                    value = ast.literal_eval(default)
                except (ValueError, TypeError):
                    continue
                found[argument.arg] = value if isinstance(value, bool | int | float | str | None) else str(value)
    return found


def format_runs(found: Sequence[Listed], *, now: float | None = None) -> str:
    """The runs as the lines of a text: name, status, step, seed, age, the main metric, and the knobs that differ."""
    if not found:
        return "no run."
    now = time.time() if now is None else now
    rows = [["run", "status", "step", "seed", "age", "metric", "", "knobs"]]
    for run in found:
        at = "" if run.step is None else f"{run.step}/{run.total}" if run.total is not None else str(run.step)
        knobs = " ".join(f"{name}={value}" for name, value in run.changed.items()) or "the defaults"
        rows.append([
            run.folder.name, run.status, at, "" if run.seed is None else str(run.seed),
            "" if run.created is None else age(now - run.created), run.metric or "",
            "" if run.value is None else format_number(run.value), shortened(run.problem or knobs, 100),
        ])  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def age(seconds: float) -> str:
    """Seconds in the largest unit that fits: 40 s, 12 min, 5 h, 3 d."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _folders(folder):
    """Folders with a run.json, by path. What lies inside a run is not looked at: checkpoints are many files."""
    found = []
    for path, inside, files in os.walk(folder):
        if "run.json" in files:
            found.append(Path(path))
            inside.clear()
        inside[:] = sorted(name for name in inside if not name.startswith("."))
    return found


def _read(path, problems) -> dict:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        problems.append(f"{path.name} cannot be read: {error}.")
        return {}
    if not isinstance(found, dict):
        problems.append(f"{path.name} holds no JSON object.")
        return {}
    return found


def _fields(run: Listed) -> dict[str, Any]:
    """All that a condition may name; a metric without its set is that of the main metric's set, if it has it."""
    of = run.metric.partition("/")[0] if run.metric else ""
    short = {name.partition("/")[2]: value for name, value in run.results.items() if name.partition("/")[0] == of}
    own = {
        "name": run.folder.name, "experiment": run.experiment, "seed": run.seed, "status": run.status,
        "step": run.step, "total": run.total,
    }  # fmt: skip
    return {**short, **run.results, **run.knobs, **own}


def _condition(text: str, fields):
    found = re.fullmatch(r"\s*([^=<>!]+?)\s*(<=|>=|!=|==?|<|>)\s*(.*?)\s*", text)
    if not found or not found[3]:
        raise UserError(
            f"the condition {text!r} cannot be read; expected such as 'network=cnn' or 'test/accuracy>0.9'."
        )
    name, sign, given = _known(found[1], fields), found[2].replace("==", "="), found[3]
    wanted = _number(given)

    def fits(has):
        value = has.get(name)
        if name not in has or (value is None and given.lower() != "none"):
            return False
        own = _number(value)
        if own is not None and wanted is not None:
            return COMPARE[sign](own, wanted)
        if sign in ("=", "!="):
            return COMPARE[sign](str(value).lower(), given.lower())
        raise UserError(f"{name} is {value!r} in {has['name']}; {text!r} is for numbers.")

    return fits


def _number(value) -> float | None:
    """A number, also of a text; None for what is none, and for true and false."""
    try:
        made = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None
    return None if math.isnan(made) else made


def _sorted(kept, sort, fields):
    name = _known(sort.removeprefix("-"), fields)
    claims = [claim for run in kept for claim in run.claims]
    down = better(next((r.metric for r in kept if r.metric and r.metric.endswith(f"/{name}")), name), claims) != "lower"
    if sort.startswith("-"):
        down = not down
    have = {id(run): _fields(run).get(name) for run in kept}
    key = lambda run: (_number(have[id(run)]) is not None, _number(have[id(run)]) or 0.0, str(have[id(run)]))
    known = [run for run in kept if have[id(run)] is not None]
    return [*sorted(known, key=key, reverse=down), *[run for run in kept if have[id(run)] is None]]


def _known(name, fields) -> str:
    """`name`, or with the underscores of a knob that was written as a flag. Raises UserError where no run has it."""
    valid = {key for has in fields for key in has}
    name = name if name in valid else name.replace("-", "_")
    if fields and name not in valid:
        raise unknown("name", name, valid)
    return name
