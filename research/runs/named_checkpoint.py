"""Beginning at another run's checkpoint: `RUN@step`."""

import shutil
from pathlib import Path
from typing import NamedTuple

from research.errors import UserError
from research.files import replacing
from research.runs.checkpoint import committed, read_meta, write_meta
from research.runs.folder import find_run


class NamedCheckpoint(NamedTuple):
    """A checkpoint of a run; `label` names it in the identity of a run that began there."""

    folder: Path
    step: int
    label: str


def find_checkpoint(text: str) -> NamedCheckpoint:
    """The checkpoint that `RUN`, `RUN@newest`, `RUN@best` or `RUN@<step>` names. Raises UserError if there is none."""
    name, _, which = str(text).partition("@")
    folder = find_run(name)
    scores = committed(folder / "checkpoints")
    if not scores:
        raise UserError(f"{folder} has no checkpoint yet.")
    if which in ("", "newest"):
        step = max(scores)
    elif which == "best":
        step = max(scores, key=lambda step: (scores[step], step))
    elif which.isdigit() and int(which) in scores:
        step = int(which)
    else:
        raise UserError(f"{folder} has no checkpoint {which!r}. There are: newest, best, {sorted(scores)}.")
    return NamedCheckpoint(folder, step, f"{folder.name}@{step}")


def copy_checkpoint(named: NamedCheckpoint, folder):
    """Copies a checkpoint, and the record up to it, into a new run folder. Done again after a kill, it is whole."""
    folder = Path(folder)
    target = folder / "checkpoints" / str(named.step)
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    source = named.folder / "checkpoints" / str(named.step)
    try:
        meta = read_meta(source / "meta")
    except (OSError, ValueError) as error:
        raise UserError(f"the checkpoint {source} is damaged: {error}") from error
    with open(named.folder / "metrics.jsonl", "rb") as record:
        (folder / "metrics.jsonl").write_bytes(record.read(meta["bytes"]))
    with replacing(target) as part:
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(source, part)
        # An open interval need not fit other knobs, and an early stop is not passed on.
        write_meta(part / "meta", {**meta, "open": [], "stopped": ""})
