"""Reading a run folder without its experiment. Missing and damaged files are tolerated, as a report needs."""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from research.errors import UserError
from research.files import number

LAYERS = "layers"  # the evaluation of `train --watch`, which holds statistics of layers instead of metrics


class Series(NamedTuple):
    """A metric over the steps of a run. `values` are NaN where the record contains null."""

    steps: list[float]
    values: list[float]


class Evaluation(NamedTuple):
    """The last evaluation of one set: numbers, texts and arrays by name, and rows {name: [N, ...]} in data order."""

    step: int | None
    numbers: Mapping[str, float | None]
    texts: Mapping[str, str]
    arrays: Mapping[str, np.ndarray]
    rows: Mapping[str, np.ndarray]


class Run(NamedTuple):
    """The content of a run folder. `problems` are messages about files that could not be read."""

    folder: Path
    about: Mapping[str, Any]
    status: Mapping[str, Any]
    metrics: list[dict]
    timing: list[dict]
    evaluations: Mapping[str, Evaluation]
    problems: list[str]


def read_run(folder) -> Run:
    """Read a run folder. Only run.json is required; other missing files are skipped, and damaged files are reported.

    Raises UserError if `folder` is not a run folder or its run.json is damaged.
    """
    folder, problems = Path(folder), []
    if not (folder / "run.json").is_file():
        raise UserError(f"{folder} is not a run folder: it has no run.json.")
    about = _read_object(folder / "run.json", problems)
    if problems:
        raise UserError(problems[0])
    status = _read_object(folder / "status.json", problems) if (folder / "status.json").exists() else {}
    metrics, timing = (_read_lines(folder / name, problems) for name in ("metrics.jsonl", "timing.jsonl"))
    evaluations = {}
    for path in sorted((folder / "evaluations").glob("*.json")):
        values = _read_object(path, problems)
        arrays = _read_arrays(path.with_suffix(".npz"), problems)
        evaluations[path.stem] = Evaluation(
            values.get("step"), values.get("numbers") or {}, values.get("texts") or {},
            _select("array/", arrays), _select("row/", arrays),
        )  # fmt: skip
    return Run(folder, about, status, metrics, timing, evaluations, problems)


def results(run: Run) -> dict[str, dict[str, float | None]]:
    """Return {evaluation: {metric: number}} from the status of a run, completed from its last evaluations."""
    final = {name: dict(numbers) for name, numbers in (run.status.get("results") or {}).items()}
    return final | {name: dict(ev.numbers) for name, ev in run.evaluations.items() if name not in final}


def _read_object(path, problems) -> dict:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(value, dict):
            return value
        reason = f"expected a JSON object, not {type(value).__name__}"
    except (OSError, ValueError) as error:
        reason = str(error)
    problems.append(f"{path} cannot be read: {reason}.")
    return {}


def _read_lines(path, problems) -> list[dict]:
    """Read the valid lines. A full disk or a killed process can leave an incomplete line, even in mid-file."""
    if not path.exists():
        return []
    lines, damaged = [], 0
    text = path.read_text(encoding="utf-8", errors="replace").split("\n")
    for line in filter(None, text[:-1]):
        try:
            value = json.loads(line)
            valid = isinstance(value, dict) and number(value.get("step")) is not None
        except ValueError:
            valid = False
        if valid:
            lines.append(value)
        damaged += not valid
    if damaged:
        problems.append(f"{path.name}: skipped {damaged} damaged line{'s' * (damaged > 1)}.")
    return lines


def _read_arrays(path, problems) -> dict[str, np.ndarray]:
    if not path.exists():
        return {}
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        problems.append(f"{path.name} cannot be read: {error}.")
        return {}


def _select(prefix, arrays):
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
