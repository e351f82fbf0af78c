"""Claims held against several seeds: what was measured, how sure that is, what it cost, and on what.

Every finished run adds a record to `experiments/reproductions/<experiment>.json`; REPRODUCTIONS.md is written from
these files alone.
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
from research.files import read_json, write_json
from research.html.markup import duration
from research.report.claims import judge
from research.report.pace import pace
from research.runs import folder as run_folder
from research.runs.experiment_file import Loaded, experiments, load, read_sources
from research.runs.knobs import knobs_of
from research.runs.opened import knob_values
from research.runs.reader import read_run
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
    """The Estimate of values that are taken to be normal: mean +- t * s / sqrt(n), with Student's t of n - 1 degrees.

    One value alone says nothing of its spread: error and interval are infinite.
    """
    from scipy import stats

    values = np.asarray(values, np.float64)
    count, mean = len(values), float(values.mean())
    error = float(values.std(ddof=1)) / math.sqrt(count) if count > 1 else math.inf
    half = float(stats.t.ppf(0.975, count - 1)) * error if 0 < error < math.inf else error
    return Estimate(mean, error, mean - half, mean + half, count)


def verdict(claim: Mapping, found: Estimate) -> str:
    """One of three words: met where the whole confidence interval lies within the claim's bounds, missed where it lies
    outside one of them, undecided where it holds a bound.
    """
    low, high = (limit if limit is not None else end * math.inf
                 for limit, end in ((claim.get("at_least"), -1), (claim.get("at_most"), 1)))  # fmt: skip
    if found.low >= low and found.high <= high:
        return "met"
    return "missed" if found.high < low or found.low > high else "undecided"


def reproduce(files, *, seeds: int = 3, runs=None, store=STORE, page=PAGE, stream=None, **knobs) -> list[dict]:
    """Trains each experiment file with seeds 0 to `seeds` - 1, stores what came of it, and writes the page anew.

    A finished RUN folder in place of a file is stored as it is. Runs that are finished or recorded are not trained
    again, and one that was interrupted goes on; `knobs` are for a single file. Gives the records of these experiments.
    Raises UserError for what `train` raises it, for an experiment without claims, and for a run that is not finished.
    """
    stream, files = stream or sys.stdout, [files] if isinstance(files, str | Path | Loaded) else list(files)
    if knobs and len(files) > 1:
        raise UserError(f"knobs are for one experiment at a time; given are {len(files)} and {sorted(knobs)}.")
    named = []
    for file in files:
        if (Path(file) / "run.json").exists():
            named.append(add(record(file), store))
            continue
        loaded = load(file)
        values = knob_values(loaded, knobs)
        for seed in range(seeds):
            known = (form(loaded.sources), run_folder.plain(values), seed)
            if not any((r["form"], r["knobs"], r["seed"]) == known for r in stored(loaded.name, store)):
                trained = train(loaded, seed=seed, runs=runs, listen=(metered,), stream=stream, **knobs)
                if trained.status != "finished":
                    raise UserError(f"seed {seed} of {file} was interrupted; the same command goes on.")
                add(record(trained.folder), store)
        named.append(loaded.name)
    write_page(page, store=store)
    found = [entry for name in dict.fromkeys(named) for entry in stored(name, store)]
    for row in rows(found):
        print(f"{row.what}: {row.claim}: {row.measured}: {row.outcome}", file=stream)
    print(f"{page} is written anew.", file=stream)
    return found


def record(folder) -> dict:
    """What a finished run measured, cost and ran on, as it is stored. Raises UserError where it has not finished, or
    where its experiment claims nothing.
    """
    found = read_run(folder)
    about, status = found.about, found.status
    if status.get("status") != "finished":
        raise UserError(f"the run in {folder} is {status.get('status', 'not begun')}; only a finished one is recorded.")
    if not about.get("claims"):
        raise UserError(f"{about['experiment']} claims nothing with these knobs; see Claim in research/experiment.py.")
    source = found.folder / "source"
    sources = read_sources(source)
    defaults = run_folder.plain(
        {name: knob.default for name, knob in knobs_of(load(source / about["file"]).function).items()}
    )
    spent, costs = pace(found.timing), _costs(found.folder)
    return {
        "experiment": about["experiment"],
        "file": about["file"],
        "form": form(sources),
        "knobs": dict(about["knobs"]),
        "changed": {name: value for name, value in about["knobs"].items() if defaults.get(name) != value},
        "seed": about["seed"],
        "claims": about["claims"],
        "results": {f"{name}/{k}": v for name, numbers in status["results"].items() for k, v in numbers.items()},
        "seconds": round(spent.training + spent.evaluating, 1),
        "joules": round(sum(line["joules"] for line in costs)) if costs else None,
        "metered": ", ".join(sorted({line["method"] for line in costs})),
        "hardware": about["hardware"],
        "versions": about["versions"],
        "commit": about["commit"],
    }


def form(sources: Mapping[str, str]) -> str:
    """What an experiment's source computes, in a few letters: comments, docstrings and layout do not matter."""
    parts = []
    for path, text in sorted(sources.items()):
        tree = ast.parse(text)
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
                node.body = node.body[1:]
        parts.append([path, ast.dump(tree)])
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def stored(name: str, store=STORE) -> list[dict]:
    """The records of an experiment, such as "vision.mixing", by knobs and seed; none where it was never run."""
    path = Path(store) / f"{name}.json"
    return read_json(path) if path.exists() else []


def add(entry: dict, store=STORE) -> str:
    """Stores a record in place of an older one of the same knobs and seed; gives the experiment's name."""
    same = lambda other: (other["knobs"], other["seed"]) == (entry["knobs"], entry["seed"])
    kept = [other for other in stored(entry["experiment"], store) if not same(other)]
    kept = sorted([*kept, entry], key=lambda e: (json.dumps(e["changed"]), e["seed"]))
    Path(store).mkdir(parents=True, exist_ok=True)
    write_json(Path(store) / f"{entry['experiment']}.json", kept)
    return entry["experiment"]


class Row(NamedTuple):
    """A line of REPRODUCTIONS.md: a claim of an experiment, in words, beside what was measured."""

    what: str
    claim: str
    source: str
    measured: str
    outcome: str
    cost: str = ""
    circumstances: str = ""


def rows(records: Sequence[Mapping[str, Any]], forms: Mapping[str, str] | None = None) -> list[Row]:
    """A Row for each claim of each choice of knobs among the records. `forms` {experiment: form} are those of the
    files as they are now; what was measured with another one is marked.
    """
    groups: dict[tuple, list] = {}
    for entry in records:
        groups.setdefault((entry["experiment"], json.dumps(entry["changed"])), []).append(entry)
    return [row for group in groups.values() for claim in group[-1]["claims"] for row in [_row(group, claim, forms)]]


def _row(group, claim, forms):
    last, metric = group[-1], claim["metric"]
    values = [e["results"][metric] for e in group if isinstance(e["results"].get(metric), int | float)]
    knobs = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in last["changed"].items())
    bound = judge(claim, {}).bound
    if not values:
        measured, outcome = "not among the results", "not measured"
    else:
        found = estimate(values)
        spread = f" ± {found.error:.2g}" if found.count > 1 else ""
        measured, outcome = f"{found.mean:.4g}{spread} (n = {found.count})", verdict(claim, found)
    if forms is not None and any(e["form"] != forms.get(e["experiment"]) for e in group):
        outcome += ", by an earlier form of the file"
    seconds, joules = (_mean(e[key] for e in group) for key in ("seconds", "joules"))
    cost = duration(seconds) + (f", {joules / 3600:.2g} Wh ({last['metered']})" if joules is not None else "")
    hardware, versions = last["hardware"], last["versions"]
    where = f"{hardware['devices']} x {hardware['device']}, {hardware['cores']} cores of {hardware['processor']}"
    where += f"; jax {versions['jax']}, python {versions['python']}; {last['commit'][:9]}"
    return Row(
        f"{last['file']} {knobs}".strip(), f"{metric} {bound}", claim["reference"], measured, outcome, cost, where
    )


def write_page(page=PAGE, *, store=STORE, folder="experiments"):
    """Writes the page of all claims: the measured ones from the store, the others from the files, as not run here."""
    found = [entry for path in sorted(Path(store).glob("*.json")) for entry in read_json(path)]
    files = experiments(folder) if Path(folder).is_dir() else {}
    loaded = {loaded.name: loaded for loaded in map(load, files)}
    lines = rows(found, {name: form(one.sources) for name, one in loaded.items()})
    measured = {entry["experiment"] for entry in found}
    for name, one in loaded.items():
        path = next(path for path in one.sources if Path(one.file).as_posix().endswith(path))
        lines += [
            Row(path, claim, "", "", "not run here") for claim in claims_in(one.sources[path]) if name not in measured
        ]
    table = [[row.what, row.claim, row.measured, row.outcome, row.source, row.cost, row.circumstances] for row in lines]
    head = ["experiment", "claim", "measured", "verdict", "source of the claim", "a run takes", "on"]
    text = [
        " | ".join(cell.replace("|", "/") for cell in cells) for cells in (head, ["---"] * len(head), *sorted(table))
    ]
    Path(page).write_text(ABOUT + "\n".join(f"| {line} |" for line in text) + "\n", encoding="utf-8")


ABOUT = """# Reproductions

Written by `python -m research reproduce FILE ... --seeds N` from `experiments/reproductions/`; not to be edited.
Measured is the mean over n seeds ± its standard error. A claim is met, or missed, where the whole 95 % confidence
interval is within its bounds, or outside; else it is undecided, as it is after a single seed.

"""


def claims_in(source: str) -> list[str]:
    """The claims that stand in an experiment's source, read without running it: "test/accuracy at least 0.97"."""
    told = lambda node: str(node.value) if isinstance(node, ast.Constant) else ast.unparse(node)

    def bound(keyword):
        return f"{keyword.arg.replace('_', ' ')} {told(keyword.value)}" if keyword.arg else told(keyword.value)

    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    claims = [call for call in calls if getattr(call.func, "id", "") == "Claim" and call.args]
    bounds = [" and ".join(bound(k) for k in call.keywords if k.arg != "reference") for call in claims]
    return [f"{told(call.args[0])} {text}".strip() for call, text in zip(claims, bounds, strict=True)]


def _costs(folder):
    path = Path(folder) / "cost.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _mean(values):
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
