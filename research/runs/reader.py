"""Reading a run folder without its experiment. Missing and damaged files are tolerated, as a report needs.

The folder may come from anyone: nothing in it is executed, no link is followed, and values of another type than the
recorded one are left out and reported.
"""

import contextlib
import fcntl
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from research.data.fingerprint import combine
from research.errors import UserError
from research.files import MOST_JSON, MOST_TEXT, check_regular, open_regular, parse_json, read_text
from research.runs.checkpoint_meta import read_meta
from research.runs.experiment_file import source_digests
from research.runs.record import damage, parse_line
from research.system.archive import read_npz

MOST_LOCK = 1_000  # bytes of a lock file that are read
LAYERS = "layers"  # the evaluation of `train --watch`, which holds statistics of layers instead of metrics


ABOUT = {
    "id": str, "experiment": str, "file": str, "source": str, "summary": str, "doc": str, "start_from": str,
    "commit": str, "command": str, "data": dict, "knobs": dict, "versions": dict, "hardware": dict, "seed": int,
    "created": int | float, "claims": list,
}  # fmt: skip
CLAIM = {"metric": str, "reference": str, "at_least": int | float, "at_most": int | float}
STATUS = {"status": str, "text": str, "step": int, "total": int, "results": dict}
EVALUATION = {"step": int, "numbers": dict, "texts": dict}
LINE = {"event": str, "text": str, "total": int}


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

    Raises UserError if `folder` is not a run folder, if its run.json is damaged, and if it contains a link.
    """
    folder, problems = Path(folder), []
    if not (folder / "run.json").is_file():
        raise UserError(f"{folder} is not a run folder: it has no run.json.")
    check_regular(folder)
    about = read_about(folder, problems)
    if not about and problems:
        raise UserError(problems[0])
    status = read_status(folder, problems)
    metrics, timing = (_read_lines(folder / name, problems) for name in ("metrics.jsonl", "timing.jsonl"))
    _check_record(folder, problems)
    evaluations = {}
    for path in sorted((folder / "evaluations").glob("*.json")):
        values = _typed(_read_object(path, problems), EVALUATION, path.name, problems)
        arrays = _read_arrays(path.with_suffix(".npz"), problems)
        evaluations[path.stem] = Evaluation(
            values.get("step"), _numbers(values.get("numbers", {})),
            {name: text for name, text in values.get("texts", {}).items() if isinstance(text, str)},
            _select("array/", arrays), _rows(_select("row/", arrays), path.name, problems),
        )  # fmt: skip
    return Run(folder, about, status, metrics, timing, evaluations, problems)


def results(run: Run) -> dict[str, dict[str, float | None]]:
    """Return {evaluation: {metric: number}} from the status of a run, completed from its last evaluations."""
    final = {name: dict(numbers) for name, numbers in (run.status.get("results") or {}).items()}
    return final | {name: dict(ev.numbers) for name, ev in run.evaluations.items() if name not in final}


def read_about(folder, problems) -> dict:
    """Read run.json; what cannot be read, and every entry of a wrong type, is left out and reported in `problems`."""
    about = _typed(_read_object(folder / "run.json", problems), ABOUT, "run.json", problems)
    if "claims" in about:
        claims = [_typed(claim, CLAIM, "run.json, claims", problems) for claim in about["claims"]]
        about["claims"] = [claim for claim in claims if "metric" in claim]
    if "source" in about:
        try:
            if combine(source_digests(folder).items()) != about["source"]:
                problems.append("The files in source/ have changed since the run began.")
        except OSError as error:
            problems.append(f"source/ cannot be read: {error.strerror}.")
    return about


def read_status(folder, problems) -> dict:
    """Read status.json like `read_about`; {} if there is none. A run whose process on this host is gone is "killed"."""
    if not os.path.lexists(folder / "status.json"):
        return {}
    status = _typed(_read_object(folder / "status.json", problems), STATUS, "status.json", problems)
    if "results" in status:
        results = _typed(status["results"], dict.fromkeys(status["results"], dict), "status.json, results", problems)
        status["results"] = {name: _numbers(numbers) for name, numbers in results.items()}
    if status.get("status") == "running" and _is_killed(folder):
        status["status"] = "killed"
    return status


def _is_killed(folder) -> bool:
    """Whether the process that trained in a folder was on this host and has released its lock, as at its death."""
    with contextlib.suppress(OSError), open_regular(folder / ".lock") as file:
        if file.read(MOST_LOCK).decode(errors="replace").rstrip().endswith(f" on {socket.gethostname()}"):
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # raises BlockingIOError while the process lives
            return True
    return False


def read_evaluation_numbers(folder, problems) -> dict[str, dict[str, float | None]]:
    """Read {evaluation: {metric: number}} from evaluations/, without the arrays."""
    paths = sorted((folder / "evaluations").glob("*.json"))
    values = {path: _typed(_read_object(path, problems), EVALUATION, path.name, problems) for path in paths}
    return {path.stem: _numbers(found.get("numbers", {})) for path, found in values.items()}


def source_file(folder, file) -> Path:
    """Return the path of the experiment's file in the stored source; `file` is the entry in run.json or sweep.json.

    Raises UserError if it would leave the folder `source`.
    """
    if not isinstance(file, str) or not file or ".." in Path(file).parts or Path(file).is_absolute():
        raise UserError(f"{folder} names the experiment file {file!r}; expected a path relative to its folder source.")
    return Path(folder) / "source" / file


def _typed(values, kinds, name, problems) -> dict:
    """Return the entries of a JSON object without those of a wrong type; null counts as absent."""
    if not isinstance(values, dict):
        problems.append(f"{name} has {type(values).__name__}, expected an object.")
        return {}
    wrong = [
        key for key, kind in kinds.items()
        if values.get(key) is not None and (not isinstance(values[key], kind) or isinstance(values[key], bool))
    ]  # fmt: skip
    problems += [f"{name}: {key!r} has the wrong type {type(values[key]).__name__}." for key in wrong]
    return {key: value for key, value in values.items() if key not in wrong and value is not None}


def _numbers(values) -> dict[str, float | None]:
    return {name: value for name, value in values.items() if value is None or isinstance(value, int | float)}


def _rows(rows, name, problems) -> dict[str, np.ndarray]:
    """Return the rows if all have as many entries, otherwise {}."""
    if len({np.shape(values)[:1] for values in rows.values()}) > 1 or any(not np.ndim(x) for x in rows.values()):
        problems.append(f"{name}: its rows differ in length.")
        return {}
    return rows


def _read_object(path, problems) -> dict:
    try:
        value = parse_json(read_text(path, most=MOST_JSON))
        if isinstance(value, dict):
            return value
        reason = f"expected a JSON object, not {type(value).__name__}"
    except OSError as error:
        reason = error.strerror
    except (ValueError, RecursionError) as error:
        reason = str(error)
    problems.append(f"{path.name} cannot be read: {reason}.")
    return {}


def _read_lines(path, problems) -> list[dict]:
    """Read the valid lines. A full disk or a killed process can leave an incomplete line, even in mid-file."""
    if not path.exists():
        return []
    try:
        data = read_text(path, errors="surrogateescape").encode("utf-8", "surrogateescape")
    except (OSError, ValueError) as error:
        problems.append(f"{path.name} cannot be read: {error}.")
        return []
    read = [parse_line(line) for line in filter(None, data.split(b"\n")[:-1])]
    lines = [
        {name: part for name, part in line.items() if isinstance(part, LINE.get(name, int | float | None))}
        for line in read
        if line is not None
    ]
    if damaged := len(read) - len(lines):
        problems.append(f"{path.name}: skipped {damaged} damaged line{'s' * (damaged > 1)}.")
    return lines


def _check_record(folder, problems):
    """Compare `metrics.jsonl` with its checksum in the newest checkpoint that can be read."""
    steps = [int(path.name) for path in (folder / "checkpoints").glob("*") if path.name.isdigit()]
    for step in sorted(steps, reverse=True):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            meta = read_meta(folder / "checkpoints" / str(step) / "meta")
            with open_regular(folder / "metrics.jsonl") as file:
                problem = damage(file.read(min(meta["bytes"], MOST_TEXT)), meta)
            problems.extend([problem] if problem else [])
            return


def _read_arrays(path, problems) -> dict[str, np.ndarray]:
    if not path.exists():
        return {}
    try:
        with open_regular(path) as file:
            found = read_npz(file)
        if structured := [name for name, values in found.items() if values.dtype.kind == "V"]:
            problems.append(f"{path.name}: {structured[0]} is not an array of numbers or texts.")
        return {name: values for name, values in found.items() if name not in structured}
    except (OSError, ValueError) as error:
        problems.append(f"{path.name} cannot be read: {error}.")
        return {}


def _select(prefix, arrays):
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
