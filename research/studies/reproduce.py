"""Test the claims of experiments over several seeds; record results, confidence intervals, cost and hardware.

Every finished run of an experiment below `experiments/` adds a record to `experiments/reproductions/<experiment>.json`.
REPRODUCTIONS.md is generated from these records, plus the claims of experiments that have none. For other experiments,
the summary is printed and nothing is stored: the run folders hold the results.
"""

import ast
import hashlib
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from research.errors import UserError
from research.files import number, read_json, write_json
from research.html.markup import duration
from research.report.direction import main_metric
from research.report.pace import pace
from research.runs.claims import judge
from research.runs.experiment_file import Loaded, experiments, load, read_sources
from research.runs.knobs import as_option, knobs_of, plain
from research.runs.opened import knob_values
from research.runs.reader import read_run, source_file
from research.runs.trust import check_trusted
from research.tracking.energy import metered
from research.verbs import train

STORE, PAGE = "experiments/reproductions", "REPRODUCTIONS.md"


class Estimate(NamedTuple):
    """The mean of `count` seeds, its standard error, and the ends of its 95 % confidence interval."""

    mean: float
    error: float
    low: float
    high: float
    count: int


def estimate(values: Sequence[float]) -> Estimate:
    """Estimate the mean of normally distributed values, with its standard error and 95 % confidence interval.

    The interval is mean +- t * s / sqrt(n), with Student's t of n - 1 degrees of freedom. For a single value, the error
    and the interval are infinite.
    """
    from scipy import stats

    values = np.asarray(values, np.float64)
    count, mean = len(values), float(values.mean())
    error = float(values.std(ddof=1)) / math.sqrt(count) if count > 1 else math.inf
    half = float(stats.t.ppf(0.975, count - 1)) * error if 0 < error < math.inf else error
    return Estimate(mean, error, mean - half, mean + half, count)


def verdict(claim: Mapping, found: Estimate) -> str:
    """Compare the confidence interval with the bounds of the claim: "met", "missed" or "undecided".

    "met": the interval lies entirely within the bounds. "missed": it lies entirely beyond one of them. "undecided": it
    contains a bound.
    """
    low, high = (limit if limit is not None else end * math.inf
                 for limit, end in ((claim.get("at_least"), -1), (claim.get("at_most"), 1)))  # fmt: skip
    if found.low >= low and found.high <= high:
        return "met"
    return "missed" if found.high < low or found.low > high else "undecided"


def reproduce(
    files, *, seeds: int = 3, runs=None, store=STORE, page=PAGE, trust: bool = False, stream=None, **knobs
) -> list[dict]:
    """Train each experiment file with seeds 0 to `seeds` - 1, store the results, and rewrite the page.

    A finished run folder in `files` is recorded without training; its stored source is executed, which needs `trust` if
    this user did not make the folder. Finished or recorded runs are not trained again, and
    an interrupted run resumes. `knobs` are allowed with a single file only. Returns all records of these experiments.
    Experiments outside the store's parent, `experiments/`, are not stored: only their new records are returned.
    Raises UserError as `train` does, for a run that is not finished, and for knobs with several files.
    """
    stream, files = stream or sys.stdout, [files] if isinstance(files, str | Path | Loaded) else list(files)
    if knobs and len(files) > 1:
        raise UserError(f"knobs are for one experiment; {len(files)} files were given with {sorted(knobs)}.")
    names, outside = {}, {}  # the experiments whose records are stored, and {run folder: record} of the others

    def store_record(folder, *, trust, original=None):
        entry = record(folder, trust=trust)
        if _belongs(entry["file"], store, original):
            names[add(entry, store)] = None
        else:
            outside[folder] = entry

    # Load and check every file before the first run is trained.
    folders = [file for file in files if not isinstance(file, Loaded) and (Path(file) / "run.json").exists()]
    all_loaded = [load(file) for file in files if file not in folders]
    values = [plain(knob_values(loaded, knobs)) for loaded in all_loaded]
    for folder in folders:
        store_record(folder, trust=trust)
    for loaded, plain_values in zip(all_loaded, values, strict=True):
        ours = _belongs(loaded.path, store, loaded.file)
        names |= {loaded.name: None} if ours else {}
        for seed in range(seeds):
            key = (form(loaded.sources), plain_values, seed)
            if ours and any((r["form"], r["knobs"], r["seed"]) == key for r in stored(loaded.name, store)):
                continue
            trained = train(loaded, seed=seed, runs=runs, listen=(metered,), stream=stream, **knobs)
            if trained.status != "finished":
                raise UserError(f"seed {seed} of {loaded.file} was interrupted; run the same command again to resume.")
            store_record(trained.folder, trust=True, original=loaded.file)
    entries = [*outside.values(), *(entry for name in names for entry in stored(name, store))]
    for row in rows(entries, every_metric=True):
        print(": ".join(filter(None, (row.what, row.claim, row.measured, row.outcome))), file=stream)
    if names:
        write_page(page, store=store)
        print(f"Updated {page}.", file=stream)
    if outside:
        folders = "\n".join(f"  {folder}" for folder in outside)
        print(f"Not recorded, because the file is not below {Path(store).parent}:\n{folders}", file=stream)
    return entries


def _belongs(file, store, original=None) -> bool:
    """Whether a file of a run is below the folder of experiments, and if it is known, the `original` itself."""
    path, folder = (Path(store).parent.parent / file).resolve(), Path(store).parent.resolve()
    return path.is_file() and path.is_relative_to(folder) and (original is None or path == Path(original).resolve())


def record(folder, *, trust: bool = False) -> dict:
    """Return the record of a finished run: its claims, results, cost, hardware and versions.

    Its stored source is executed. Raises UserError for a run that is not finished, and for a folder that this user did
    not make, unless `trust`.
    """
    run = read_run(folder)
    about, status = run.about, run.status
    if status.get("status") != "finished":
        raise UserError(f"the run in {folder} is {status.get('status', 'not started')}; expected a finished run.")
    source = run.folder / "source"
    check_trusted(folder, trust=trust)
    sources, file = read_sources(source), source_file(folder, about["file"])
    defaults = plain({name: knob.default for name, knob in knobs_of(load(file).function).items()})
    spent, costs = pace(run.timing), _costs(run.folder)
    return {
        "experiment": about["experiment"],
        "file": about["file"],
        "form": form(sources),
        "knobs": dict(about["knobs"]),
        "changed": {name: value for name, value in about["knobs"].items() if defaults.get(name) != value},
        "seed": about["seed"],
        "claims": about.get("claims") or [],
        "results": {f"{name}/{k}": v for name, numbers in status["results"].items() for k, v in numbers.items()},
        "seconds": round(spent.training + spent.evaluating, 1),
        "joules": round(sum(line["joules"] for line in costs)) if costs else None,
        "metered": ", ".join(sorted({line["method"] for line in costs})),
        "hardware": about["hardware"],
        "versions": about["versions"],
        "commit": about["commit"],
    }


def form(sources: Mapping[str, str]) -> str:
    """Hash the code of an experiment; comments, docstrings and layout do not change the hash."""
    parts = []
    for path, text in sorted(sources.items()):
        tree = ast.parse(text)
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
                node.body = node.body[1:]
        parts.append([path, ast.dump(tree)])
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def stored(name: str, store=STORE) -> list[dict]:
    """Return the records of an experiment such as "vision.mixing", sorted by knobs and seed; empty if it has none."""
    path = Path(store) / f"{name}.json"
    return read_json(path) if path.exists() else []


def add(entry: dict, store=STORE) -> str:
    """Store a record and return the name of its experiment. An older record of the same options and seed is replaced.

    Options are the knobs that differ from their defaults: a record of other defaults gives way to the new one.
    """
    same = lambda other: (other["changed"], other["seed"]) == (entry["changed"], entry["seed"])
    entries = [other for other in stored(entry["experiment"], store) if not same(other)]
    entries = sorted([*entries, entry], key=lambda e: (json.dumps(e["changed"]), e["seed"]))
    Path(store).mkdir(parents=True, exist_ok=True)
    write_json(Path(store) / f"{entry['experiment']}.json", entries)
    return entry["experiment"]


class Row(NamedTuple):
    """A row of REPRODUCTIONS.md: one claim of an experiment and its measured value, as text."""

    what: str
    claim: str
    source: str
    measured: str
    outcome: str
    cost: str = ""
    circumstances: str = ""


def rows(
    records: Sequence[Mapping[str, Any]], forms: Mapping[str, str] | None = None, *, every_metric: bool = False
) -> list[Row]:
    """Return a Row for each claim and each combination of knobs among the records.

    A combination without claims has a Row for each metric that another combination claims, otherwise for its main
    metric. `every_metric` adds a Row for each other metric. `forms` {experiment: form} are the hashes of the current
    files. A row is marked if any of its runs has another hash.
    """
    groups: dict[tuple, list] = {}
    claimed: dict[str, list] = {}
    for entry in records:
        groups.setdefault((entry["experiment"], json.dumps(entry["changed"])), []).append(entry)
        claimed.setdefault(entry["experiment"], []).extend(claim["metric"] for claim in entry["claims"])
    lines = []
    for (name, _), group in groups.items():
        results = [metric for metric, value in group[-1]["results"].items() if number(value) is not None]
        metrics = [(claim["metric"], claim) for claim in group[-1]["claims"]]
        metrics = metrics or [(metric, None) for metric in dict.fromkeys(claimed[name]) if metric in results]
        metrics = metrics or [(metric, None) for metric in [main_metric((), results)] if metric]
        if every_metric:
            metrics += [(metric, None) for metric in results if metric not in dict(metrics)]
        lines += [_row(group, metric, claim, forms) for metric, claim in metrics]
    return lines


def _row(group, metric, claim, forms):
    last = group[-1]
    values = [value for entry in group if (value := number(entry["results"].get(metric))) is not None]
    options = (f"--{name.replace('_', '-')} {as_option(value)}" for name, value in last["changed"].items())
    knobs = " ".join(options)
    bound = judge(claim, {}).bound if claim else ""
    if not values:
        measured, outcome = "not among the results", "not measured"
    else:
        result = estimate(values)
        error = f" ± {result.error:.2g}" if result.count > 1 else ""
        measured = f"{result.mean:.4g}{error} (n = {result.count})"
        outcome = verdict(claim, result) if claim else ""
    if forms is not None and any(e["form"] != forms.get(e["experiment"]) for e in group):
        outcome = ", ".join(filter(None, (outcome, "with an earlier version of the file")))
    seconds, joules = (_mean(e[key] for e in group) for key in ("seconds", "joules"))
    cost = duration(seconds) + (f", {joules / 3600:.2g} Wh ({last['metered']})" if joules is not None else "")
    hardware, versions = last["hardware"], last["versions"]
    setup = f"{hardware['devices']} x {hardware['device']}, {hardware['cores']} cores of {hardware['processor']}"
    setup += f"; jax {versions['jax']}, python {versions['python']}; {last['commit'][:9]}"
    reference = claim["reference"] if claim else ""
    return Row(
        f"{last['file']} {knobs}".strip(), f"{metric} {bound}".strip(), reference, measured, outcome, cost, setup
    )


def write_page(page=PAGE, *, store=STORE, folder="experiments"):
    """Write the page of all claims: measured claims from the store, the rest from the files, marked "not run here"."""
    entries = [entry for path in sorted(Path(store).glob("*.json")) for entry in read_json(path)]
    files = experiments(folder) if Path(folder).is_dir() else {}
    loaded = {loaded.name: loaded for loaded in map(load, files)}
    lines = rows(entries, {name: form(file.sources) for name, file in loaded.items()})
    measured = {entry["experiment"] for entry in entries}
    for name, file in loaded.items():
        lines += [
            Row(file.path, claim, "", "", "not run here")
            for claim in claims_in(file.sources[file.path])
            if name not in measured
        ]
    table = [
        [row.what, row.claim, row.measured, row.outcome or "no claim", row.source, row.cost, row.circumstances]
        for row in lines
    ]
    head = ["experiment", "claim", "measured", "verdict", "source of the claim", "cost per run", "setup"]
    text = [
        " | ".join(cell.replace("|", "/") for cell in cells) for cells in (head, ["---"] * len(head), *sorted(table))
    ]
    Path(page).write_text(ABOUT + "\n".join(f"| {line} |" for line in text) + "\n", encoding="utf-8")


ABOUT = """# Reproductions

Generated by `python -m research reproduce FILE ... --seeds N` from `experiments/reproductions/`. Do not edit this file.
"measured" is the mean over n seeds ± its standard error. A claim is "met" if the entire 95 % confidence interval lies
within its bounds, "missed" if it lies entirely outside, and "undecided" otherwise. One seed alone is always undecided.

"""


def claims_in(source: str) -> list[str]:
    """Parse the claims in an experiment's source without running it, as in "test/accuracy at least 0.97"."""
    text_of = lambda node: str(node.value) if isinstance(node, ast.Constant) else ast.unparse(node)

    def bound(keyword):
        return f"{keyword.arg.replace('_', ' ')} {text_of(keyword.value)}" if keyword.arg else text_of(keyword.value)

    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    claims = [call for call in calls if getattr(call.func, "id", "") == "Claim" and call.args]
    bounds = [" and ".join(bound(k) for k in call.keywords if k.arg != "reference") for call in claims]
    return [f"{text_of(call.args[0])} {text}".strip() for call, text in zip(claims, bounds, strict=True)]


def _costs(folder):
    path = Path(folder) / "cost.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _mean(values):
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None
