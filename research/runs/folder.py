"""The run folder: its name and lock, `run.json` (experiment, knobs, seed, versions), status and evaluations."""

import contextlib
import difflib
import fcntl
import hashlib
import json
import os
import shutil
import socket
import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from research import events
from research.data.fingerprint import FIRST_BATCH, combine, data_changes
from research.errors import MASK, UserError, check_path, nearest
from research.files import atomic_write, check_regular, read_json, sync_folder, sync_tree, write_json
from research.runs import reader
from research.runs.experiment_file import Loaded, read_sources, source_digests, write_sources
from research.runs.knobs import plain
from research.runs.trust import sign
from research.system.provenance import git_state, hardware, versions

PATTERNS = "*?[\\"
IDENTITY = ("id", "experiment", "source", "knobs", "seed", "start_from")


def folder_name(loaded: Loaded, knobs: Mapping[str, Any], *, seed: int, start_from: str = "") -> str:
    """Return `<experiment>-<hash of its knobs>-s<seed>`. The same command always selects the same folder."""
    text = json.dumps([plain(knobs), start_from] if start_from else plain(knobs), sort_keys=True)
    return f"{loaded.name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}-s{seed}"


def digest(loaded: Loaded, knobs: Mapping[str, Any], *inputs) -> str:
    """Return a short hash of everything that the results depend on, to compare the processes of a job."""
    parts = [loaded.sources, plain(knobs), inputs, versions()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def folder_of_launch(folder) -> Path | None:
    """Return the folder that the same launch created for `--again` before a restart, from $RESEARCH_STATUS_FILE."""
    path = os.environ.get("RESEARCH_STATUS_FILE")
    if not path or not Path(path).exists():
        return None
    previous = Path(read_json(path)["folder"])
    return previous if previous.name.startswith(Path(folder).name) else None


def open_folder(folder, loaded: Loaded, *, knobs, seed: int, command: str = "", start_from: str = "") -> dict:
    """Create the run folder, or check that it belongs to this experiment; return the content of `run.json`.

    A run that failed before its first checkpoint is started again with the current source, knobs and seed, so that a
    corrected experiment can use the same folder. Raises UserError with the difference if the folder belongs to another
    experiment or started from another checkpoint, if it has checkpoints of another source, other knobs or another seed,
    or if its path has a character that TensorStore and Orbax read as a pattern.
    """
    folder = Path(folder)
    if unusable := sorted(set(str(folder.absolute())) & set(PATTERNS)):
        raise UserError(
            f"{folder.absolute()} has {' and '.join(unusable)} in its path, which the storage of arrays reads as a "
            "pattern: its checkpoints could not be read again. Give another --run-dir, or set RESEARCH_RUNS."
        )
    run_file = folder / "run.json"
    if run_file.exists():
        about = read_json(run_file)
        if "start_from" not in about:
            raise UserError(f"{run_file} has no field 'start_from': another version wrote it. Train with --again.")
        current = {"knobs": plain(knobs), "seed": seed, "start_from": start_from}
        differs = (about["experiment"], about["start_from"]) != (loaded.name, start_from)
        if differs or _has_checkpoints(folder, start_from):
            _check_same(folder, about, loaded, current)
            return about
        shutil.rmtree(folder / "source", ignore_errors=True)
    write_sources(folder / "source", loaded)
    commit, diff = git_state(Path(loaded.file).parent, loaded.files)
    (folder / "git.diff").write_bytes(diff)
    about = {
        "id": uuid.uuid4().hex[:12],
        "experiment": loaded.name,
        "source": combine(source_digests(folder).items()),
        "file": loaded.path,
        "summary": loaded.doc.split("\n")[0],
        "doc": loaded.doc,
        "knobs": plain(knobs),
        "seed": seed,
        "start_from": start_from,
        "versions": versions(),
        "hardware": hardware(),
        "commit": commit,
        "command": command,
        "created": time.time(),
    }
    sync_tree(folder)  # what a checkpoint needs is on disk before it
    write_json(run_file, about)
    sign(folder)
    sync_folder(folder)
    sync_folder(folder.parent)
    return about


def check_data(folder, about: dict, data: Mapping[str, dict]) -> bool:
    """Set `about["data"]`, the fingerprints of the data, and return whether the first batch is as it was.

    Raises UserError with the changes if the run has checkpoints that were trained on other data. A first batch that
    differs while the data are the same is an error too, unless a library has another version than before.
    """
    was, about["data"] = about.get("data"), data
    changes = data_changes(was, data) if was and _has_checkpoints(folder, about["start_from"]) else {}
    updated = set(changes) == {FIRST_BATCH} and about["versions"] != versions()
    if changes and not updated:
        raise UserError(
            f"the data have changed since the run in {folder} started:\n"
            + "".join(f"  {name} {change}\n" for name, change in changes.items())
            + "A run must read the same data from start to end. Restore the data, train from scratch with --again, or "
            f"continue in a new folder with --from {folder}."
        )
    return not changes


def identity(about: Mapping[str, Any]) -> dict:
    """Return what identifies a run, for its checkpoints: its id, experiment, source, knobs, seed, data and start.

    It is empty for a run that an earlier version began.
    """
    if "id" not in about:
        return {}
    data = combine(sorted(item for item in about.get("data", {}).items() if item[0] != FIRST_BATCH))
    return {**{name: about[name] for name in IDENTITY}, "data": data}


def _has_checkpoints(folder, start_from):
    """Return whether the run has saved a checkpoint, valid or damaged; the one that it started from does not count."""
    initial = start_from.rpartition("@")[2]
    saved = any(path.name.isdigit() and path.name != initial for path in (folder / "checkpoints").glob("*"))
    return saved or (folder / "damaged").exists()


def _check_same(folder, about, loaded, current):
    if about["experiment"] != loaded.name:
        raise UserError(f"{folder} contains a run of {about['experiment']}, not of {loaded.name}.")
    saved = read_sources(folder / "source")
    if saved != loaded.sources:
        diff = "".join(
            "".join(difflib.unified_diff(
                saved.get(path, "").splitlines(True), loaded.sources.get(path, "").splitlines(True),
                f"run: {path}", f"current: {path}"))
            for path in sorted({**saved, **loaded.sources})
        )  # fmt: skip
        raise UserError(
            f"the source of the experiment has changed since the run in {folder} started:\n{diff}"
            "A run must use the same source from start to end. Undo the change, train from scratch with --again, or "
            f"continue in a new folder with --from {folder}."
        )
    differences = [
        f"  {name}: {was.get(name)!r} in the run, {now.get(name)!r} given"
        + (" (secret: give its value again)" if was.get(name) == MASK else "")
        for was, now in ((about["knobs"], current["knobs"]), (about, {k: current[k] for k in ("seed", "start_from")}))
        for name in (now if was is about else {**was, **now})
        if was.get(name) != now.get(name)
    ]
    if differences:
        raise UserError(f"{folder} has a run with other knobs:\n" + "\n".join(differences) + "\nSet another --run-dir.")


def last_status(folder, stream=None) -> dict:
    """Return the content of `status.json`, or {} if it is missing or damaged: a run can do without it.

    Damage is printed to `stream`.
    """
    problems = []
    status = reader.read_status(Path(folder), problems)
    if not problems and (not status or "step" in status):
        return status
    if stream:
        print("status.json is damaged; the checkpoints determine the state of the run.", file=stream)
    return {}


@contextlib.contextmanager
def failed_start(folder):
    """Record an error of the block in `status.json` as a failed run, with the step and results from before."""
    try:
        yield
    except BaseException as error:
        status = last_status(folder) or {"step": 0, "results": {}}
        with contextlib.suppress(OSError):  # the error may be a full disk
            write_json(Path(folder, "status.json"), {**status, "status": "failed", "text": str(error) or repr(error)})
        raise


@contextlib.contextmanager
def lock(folder):
    """Lock the folder for this process.

    Raises UserError if another process is training in it, or if it contains other files and no run.
    """
    path = Path(folder) / ".lock"
    is_run = path.exists() or (path.parent / "run.json").exists()
    if not is_run and path.parent.is_dir() and any(path.parent.iterdir()):
        raise UserError(f"{folder} contains other files and no run; choose an empty folder or a new name.")
    path.parent.mkdir(parents=True, exist_ok=True)
    check_regular(folder)
    with open(path, "a+", encoding="utf-8") as file:
        if not (_locked(file) or (time.sleep(0.1) or _locked(file))):  # a reader may hold it for a moment
            file.seek(0)
            raise UserError(f"process {file.read().strip()} is already training in {folder}.")
        file.truncate(0)
        print(f"{os.getpid()} on {socket.gethostname()}", file=file, flush=True)
        yield


def _locked(file) -> bool:
    """Lock a file for this process, and return whether no other process holds it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def find_run(path) -> Path:
    """Return the folder of an existing run.

    Raises UserError with the nearest name if it is not a run folder, and if it contains a link.
    """
    check_path(path, "the path of a run folder")
    path = Path(path)
    if not (path / "run.json").exists():
        siblings = [p.parent.name for p in path.parent.glob("*/run.json")]
        hint = nearest(path.name, siblings)
        if path.suffix == ".py" and path.is_file():
            hint = f" Give the folder of a run; `python -m research train {path}` makes one."
        elif not hint:
            hint = " `python -m research runs` lists the runs of a folder."
        raise UserError(f"{path} is not a run folder.{hint}")
    check_regular(path)
    return path


def status_writer(folder, *, total):
    """Return a subscriber that writes `status.json`, and `evaluations/<name>.json` and `.npz` for each evaluation.

    The step of a run that is running or failed is that of its last checkpoint.
    """
    folder, saved = Path(folder), 0
    results: dict[str, dict] = {}

    def write(event):
        nonlocal saved
        match event:
            case events.Evaluated():
                results[event.name] = dict(event.results.numbers)
                save_evaluation(folder / "evaluations", event.name, event.step, event.results)
            case events.Started() | events.Saved():
                saved = event.step
                write_json(folder / "status.json", {"status": "running", "step": saved, "total": total})
            case events.Ended():
                last, step = {**results, **event.results}, saved if event.status == "failed" else event.step
                status = {"status": event.status, "step": step, "total": total, "results": last}
                write_json(folder / "status.json", {**status, "text": event.text})

    return write


def status_file(folder):
    """Return a subscriber that reports the progress of the run to its launcher; see `write_status`."""
    step = 0

    def write(event):
        nonlocal step
        match event:
            case events.Started() | events.Saved():
                step = event.step
                write_status("running", step, folder)
            case events.Ended():
                step = event.step if event.status != "failed" else step
                write_status(event.status, step, folder)

    return write


def write_status(status: str, step: int, folder):
    """Write {"status", "step", "folder"} to the file $RESEARCH_STATUS_FILE, if the variable is set.

    If it cannot be written, a message is printed: the file is outside the run folder, and the run does not need it.
    """
    if path := os.environ.get("RESEARCH_STATUS_FILE"):
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            write_json(path, {"status": status, "step": step, "folder": str(Path(folder).absolute())})
        except OSError as error:
            print(f"RESEARCH_STATUS_FILE {path} cannot be written: {error.strerror}.", file=sys.stderr)


def save_evaluation(folder, name, step, results):
    """Write the results of an evaluation: numbers and texts to a JSON file, arrays and rows to a .npz file."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {f"array/{k}": v for k, v in results.arrays.items()} | {f"row/{k}": v for k, v in results.rows.items()}
    with atomic_write(folder / f"{name}.npz") as path, open(path, "wb") as file:
        np.savez_compressed(file, **arrays)
    write_json(folder / f"{name}.json", {"step": step, "numbers": results.numbers, "texts": results.texts})
