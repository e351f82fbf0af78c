"""The folder of a run: which experiment, with which knobs and seed, by which software; and what came of it."""

import contextlib
import difflib
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from research import events
from research.errors import UserError, nearest
from research.files import read_json, replacing, write_json
from research.runs.experiment_file import Loaded, read_sources, write_sources
from research.system.provenance import git_state, hardware, versions


def folder_name(loaded: Loaded, knobs: Mapping[str, Any], *, seed: int, start_from: str = "") -> str:
    """`<experiment>-<hash of its knobs>-s<seed>`: the same command finds the same folder again."""
    text = json.dumps([plain(knobs), start_from] if start_from else plain(knobs), sort_keys=True)
    return f"{loaded.name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}-s{seed}"


def digest(loaded: Loaded, knobs: Mapping[str, Any], *others) -> str:
    """What the numbers of a run depend on, in a few letters: the same for all processes of a job."""
    parts = [loaded.sources, plain(knobs), others, versions()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def begun_by_launch(folder) -> Path | None:
    """The folder that an earlier life of the same launch made for `--again`, by $RESEARCH_STATUS_FILE."""
    path = os.environ.get("RESEARCH_STATUS_FILE")
    if not path or not Path(path).exists():
        return None
    found = Path(read_json(path)["folder"])
    return found if found.name.startswith(Path(folder).name) else None


def plain(knobs: Mapping[str, Any]) -> dict[str, Any]:
    """Knobs as JSON holds them."""
    return {name: v if isinstance(v, bool | int | float | str | None) else str(v) for name, v in knobs.items()}


def open_folder(folder, loaded: Loaded, *, knobs, seed: int, command: str = "", start_from: str = "") -> dict:
    """Makes the run folder, or checks that it is of this very experiment; returns the content of `run.json`.

    A run that failed before its first checkpoint is begun again with the present source, knobs and seed: a failed start
    does not block its own fix. Raises UserError with the difference if the folder is of another experiment or began at
    another checkpoint, or if it holds checkpoints of another source, other knobs or another seed.
    """
    folder = Path(folder)
    about = folder / "run.json"
    if about.exists():
        known = read_json(about)
        given = {"knobs": plain(knobs), "seed": seed, "start_from": start_from}
        other = (known["experiment"], known["start_from"]) != (loaded.name, start_from)
        if other or _has_checkpoints(folder, start_from):
            _check_same(folder, known, loaded, given)
            return known
        shutil.rmtree(folder / "source", ignore_errors=True)
    write_sources(folder / "source", loaded.sources)
    commit, diff = git_state(Path(loaded.file).parent)
    (folder / "git.diff").write_bytes(diff)
    known = {
        "experiment": loaded.name,
        "file": next(path for path in loaded.sources if Path(loaded.file).as_posix().endswith(path)),
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
    write_json(about, known)
    return known


def _has_checkpoints(folder, start_from):
    """Whether the run has saved anything, be it damaged now; the checkpoint that it began with does not count."""
    brought = start_from.rpartition("@")[2]
    saved = any(path.name.isdigit() and path.name != brought for path in (folder / "checkpoints").glob("*"))
    return saved or (folder / "damaged").exists()


def _check_same(folder, known, loaded, given):
    if known["experiment"] != loaded.name:
        raise UserError(f"{folder} holds a run of {known['experiment']}, not of {loaded.name}.")
    saved = read_sources(folder / "source")
    if saved != loaded.sources:
        diff = "".join(
            "".join(difflib.unified_diff(
                saved.get(path, "").splitlines(True), loaded.sources.get(path, "").splitlines(True),
                f"of the run: {path}", f"now: {path}"))
            for path in sorted({**saved, **loaded.sources})
        )  # fmt: skip
        raise UserError(
            f"the source of the experiment was edited since {folder} began:\n{diff}"
            "A run is one source from end to end. Undo the edit, or train --again, or go on in a new folder with "
            f"--from {folder}."
        )
    differ = [
        f"  {name}: {was.get(name)!r} in the run, {now.get(name)!r} given"
        for was, now in ((known["knobs"], given["knobs"]), (known, {k: given[k] for k in ("seed", "start_from")}))
        for name in (now if was is known else {**was, **now})
        if was.get(name) != now.get(name)
    ]
    if differ:
        raise UserError(f"{folder} holds a run with other knobs:\n" + "\n".join(differ) + "\nGive another --run-dir.")


@contextlib.contextmanager
def failed_start(folder):
    """Records an error raised inside in `status.json`: the run is shown as failed, and as far as it was before."""
    try:
        yield
    except BaseException as error:
        path = Path(folder) / "status.json"
        status = read_json(path) if path.exists() else {"step": 0, "results": {}}
        with contextlib.suppress(OSError):  # such as the full disk that is the error
            write_json(path, {**status, "status": "failed", "text": str(error) or repr(error)})
        raise


@contextlib.contextmanager
def lock(folder):
    """Holds the folder for this process; raises UserError where another one is training in it, or where it holds
    other files and no run.
    """
    path = Path(folder) / ".lock"
    known = path.exists() or (path.parent / "run.json").exists()
    if not known and path.parent.is_dir() and any(path.parent.iterdir()):
        raise UserError(f"{folder} holds other files and no run; give an empty folder or a new name.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UserError(f"process {file.read().strip()} is training in {folder} already.") from None
        file.truncate(0)
        print(os.getpid(), file=file, flush=True)
        yield


def find_run(path) -> Path:
    """The folder of an existing run. Raises UserError with the nearest name where there is none."""
    path = Path(path)
    if not (path / "run.json").exists():
        siblings = [p.parent.name for p in path.parent.glob("*/run.json")]
        raise UserError(f"{path} is not the folder of a run.{nearest(path.name, siblings)}")
    return path


def status_writer(folder, *, total):
    """A subscriber that keeps `status.json` and, of each evaluation, `evaluations/<name>.json` and `.npz`."""
    folder = Path(folder)
    results: dict[str, dict] = {}

    def write(event):
        match event:
            case events.Evaluated():
                results[event.name] = dict(event.results.numbers)
                save_evaluation(folder / "evaluations", event.name, event.step, event.results)
            case events.Started():
                write_json(folder / "status.json", {"status": "running", "step": event.step, "total": total})
            case events.Ended():
                found = {**results, **event.results}
                status = {"status": event.status, "step": event.step, "total": total, "results": found}
                write_json(folder / "status.json", {**status, "text": event.text})

    return write


def status_file(folder):
    """A subscriber that tells the launcher of the run, in $RESEARCH_STATUS_FILE, how far it is: see `tell_status`."""
    step = 0

    def write(event):
        nonlocal step
        match event:
            case events.Started() | events.Saved():
                step = event.step
                tell_status("running", step, folder)
            case events.Ended():
                step = event.step if event.status != "failed" else step
                tell_status(event.status, step, folder)

    return write


def tell_status(status: str, step: int, folder):
    """Writes {"status", "step", "folder"} to $RESEARCH_STATUS_FILE, where there is such a variable."""
    if path := os.environ.get("RESEARCH_STATUS_FILE"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"status": status, "step": step, "folder": str(Path(folder).absolute())})


def save_evaluation(folder, name, step, results):
    """Writes what an evaluation found: numbers and texts as JSON; arrays and rows as one .npz."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {f"array/{k}": v for k, v in results.arrays.items()} | {f"row/{k}": v for k, v in results.rows.items()}
    with replacing(folder / f"{name}.npz") as path, open(path, "wb") as file:
        np.savez_compressed(file, **arrays)
    write_json(folder / f"{name}.json", {"step": step, "numbers": results.numbers, "texts": results.texts})
