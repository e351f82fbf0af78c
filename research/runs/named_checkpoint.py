"""Checkpoints by name, such as `RUN@step`, and starting a run from one."""

import shutil
from pathlib import Path
from typing import NamedTuple

from research.errors import UserError, format_names
from research.files import atomic_write
from research.runs.checkpoint_meta import read_meta, scores_by_step, write_meta
from research.runs.folder import find_run


class NamedCheckpoint(NamedTuple):
    """A checkpoint of a run. `label` is `<name of the run folder>@<step>`, which a run that starts from it records."""

    folder: Path
    step: int
    label: str


def find_checkpoint(text: str) -> NamedCheckpoint:
    """Find the checkpoint `RUN`, `RUN@newest`, `RUN@best` or `RUN@<step>`. Raises UserError if there is none.

    The last @ separates the two, unless the entire text is the path of a folder.
    """
    name, _, selector = (str(text), "", "") if Path(text).is_dir() else _split(str(text))
    folder = find_run(name)
    # Listed before the metadata are read: a run in progress may save the next one meanwhile.
    steps = [path for path in (folder / "checkpoints").glob("*") if path.name.isdigit()]
    scores = scores_by_step(folder / "checkpoints")
    newest = max(scores, default=-1)
    damaged = [path for path in steps if int(path.name) > newest and path.exists()]
    if damaged and selector in ("", "newest", "best"):
        use = f"use {folder}@{newest}, or " if scores else ""
        raise UserError(
            f"the checkpoint {max(damaged, key=lambda path: int(path.name))} is damaged: its metadata cannot be read. "
            f"To evaluate the run, {use}train it further: this sets the damaged checkpoint aside."
        )
    if not scores:
        raise UserError(f"{folder} has no checkpoint yet.")
    if selector in ("", "newest"):
        step = max(scores)
    elif selector == "best":
        step = max(scores, key=lambda step: (scores[step], step))
    elif selector.isdigit() and int(selector) in scores:
        step = int(selector)
    else:
        raise UserError(
            f"{folder} has no checkpoint {selector!r}. Available: newest, best, {format_names(sorted(scores))}."
        )
    return NamedCheckpoint(folder, step, f"{folder.name}@{step}")


def _split(text):
    return text.rpartition("@") if "@" in text else (text, "", "")


def copy_checkpoint(named: NamedCheckpoint, folder):
    """Copy a checkpoint, and the record up to its step, into a new run folder.

    It is safe to call again after the process was killed. Raises UserError if the checkpoint is damaged.
    """
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
    with atomic_write(target) as part:
        shutil.rmtree(part, ignore_errors=True)
        try:
            shutil.copytree(source, part)
        except OSError as error:
            if source.exists():
                raise
            raise UserError(
                f"the run in {named.folder} deleted its checkpoint at step {named.step} while it was copied. Run the "
                "same command again."
            ) from error
        # Drop the metric sums, which may not fit the new knobs, an early stop, and the identity of the old run.
        write_meta(part / "meta", {**meta, "open": [], "stopped": "", "about": {"start_from": named.label}})
