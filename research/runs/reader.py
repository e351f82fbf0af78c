"""What a run folder holds, read leniently: a report of a run that was cut off must still come out."""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from research.errors import UserError
from research.files import number

LAYERS = "layers"  # the evaluation that `train --watch` records: statistics of the layers, not of the data


class Series(NamedTuple):
    """A number over the steps of a run: `values` are NaN where the record has null."""

    steps: list[float]
    values: list[float]


class Evaluation(NamedTuple):
    """The last evaluation of one set: numbers, texts, arrays by name and rows {name: [N, ...]} in data order."""

    step: int | None
    numbers: Mapping[str, float | None]
    texts: Mapping[str, str]
    arrays: Mapping[str, np.ndarray]
    rows: Mapping[str, np.ndarray]


class Run(NamedTuple):
    """The content of a run folder; `problems` are sentences about what could not be read."""

    folder: Path
    about: Mapping[str, Any]
    status: Mapping[str, Any]
    metrics: list[dict]
    timing: list[dict]
    evaluations: Mapping[str, Evaluation]
    problems: list[str]


def read_run(folder) -> Run:
    """The run in `folder`. Only run.json must be there; what else is missing or broken is left out and named.

    Raises UserError where `folder` is not a run folder.
    """
    folder, problems = Path(folder), []
    if not (folder / "run.json").is_file():
        raise UserError(f"{folder} is not a run folder: it has no run.json.")
    about = _object(folder / "run.json", problems)
    if problems:
        raise UserError(problems[0])
    status = _object(folder / "status.json", problems) if (folder / "status.json").exists() else {}
    metrics, timing = (_lines(folder / name, problems) for name in ("metrics.jsonl", "timing.jsonl"))
    evaluations = {}
    for path in sorted((folder / "evaluations").glob("*.json")):
        found = _object(path, problems)
        arrays = _arrays(path.with_suffix(".npz"), problems)
        evaluations[path.stem] = Evaluation(
            found.get("step"), found.get("numbers") or {}, found.get("texts") or {},
            _under("array/", arrays), _under("row/", arrays),
        )  # fmt: skip
    return Run(folder, about, status, metrics, timing, evaluations, problems)


def results(run: Run) -> dict[str, dict[str, float | None]]:
    """{evaluation: {metric: number}} as the run ended, or so far; sets that the status lacks as last evaluated."""
    told = {name: dict(numbers) for name, numbers in (run.status.get("results") or {}).items()}
    return told | {name: dict(found.numbers) for name, found in run.evaluations.items() if name not in told}


def _object(path, problems) -> dict:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
        reason = f"a JSON object was expected, not {type(found).__name__}"
    except (OSError, ValueError) as error:
        reason = str(error)
    problems.append(f"{path} cannot be read: {reason}.")
    return {}


def _lines(path, problems) -> list[dict]:
    """The sound lines: a full disk or a kill may leave half a line, also in the middle of what was appended to."""
    if not path.exists():
        return []
    lines, broken = [], 0
    text = path.read_text(encoding="utf-8", errors="replace").split("\n")
    for line in filter(None, text[:-1]):
        try:
            found = json.loads(line)
            sound = isinstance(found, dict) and number(found.get("step")) is not None
        except ValueError:
            sound = False
        if sound:
            lines.append(found)
        broken += not sound
    if broken:
        problems.append(f"{path.name} has {broken} broken line{'s' * (broken > 1)}, left out here.")
    return lines


def _arrays(path, problems) -> dict[str, np.ndarray]:
    if not path.exists():
        return {}
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        problems.append(f"{path.name} cannot be read: {error}.")
        return {}


def _under(prefix, arrays):
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
