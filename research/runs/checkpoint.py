"""Checkpoints of the State and the progress of a run, written by Orbax in the background.

A checkpoint is the folder `checkpoints/<step>/`. Its `state` holds nested arrays by name, which can be read without any
class. Its `meta/meta.json` holds the format, the step, a checksum of every array, and the `Progress` of the loop. Disks
and networks can corrupt data silently. Every restore therefore verifies the checksums; a damaged checkpoint is moved to
`damaged/`, never deleted.
"""

import contextlib
import copy
import functools
import logging
import math
import os
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from research.core import State
from research.distributed.job import job
from research.errors import UserError
from research.files import sync_folder, sync_tree
from research.runs.checkpoint_arrays import read_arrays
from research.runs.checkpoint_meta import FORMAT, read_meta, scores_by_step, write_meta
from research.runs.fingerprint import checksums, fingerprints_of
from research.tree import path_name, shapes

# Orbax logs the traceback of a failed write several times; the error itself is raised here.
logging.getLogger("absl").addFilter(lambda record: "orbax" not in record.pathname)
logging.getLogger("asyncio").addFilter(lambda record: "OCDBT" not in record.getMessage())


def _without_abandoned_io(hook):
    """Wrap `sys.unraisablehook` to ignore the errors that follow a failed read or write of a checkpoint.

    After a failure, Orbax abandons its other coroutines, and TensorStore calls back into an event loop that is closed.
    Python would print a long message for each, some time later. The failure itself is raised as usual.
    """

    def filtered(unraisable):
        code = getattr(unraisable.object, "cr_code", None)
        abandoned = code is not None and os.path.join("orbax", "checkpoint") in code.co_filename
        if not abandoned and str(unraisable.exc_value) != "Event loop is closed":
            hook(unraisable)

    return filtered


sys.unraisablehook = _without_abandoned_io(sys.unraisablehook)


class Restored(NamedTuple):
    """A verified checkpoint, and the newer damaged checkpoints that were moved away: {step: reason}."""

    state: State | None
    meta: dict
    damaged: dict[int, str]


class Checkpoints:
    """The checkpoints of one run: a context manager that keeps the newest `keep` and the one with the best score.

    `regular(step)` is true for the steps at which an uninterrupted run saves. A rollback starts from the newest such
    checkpoint, which is therefore kept too: see `rollback_step`.

    `about` identifies the run (see `research.runs.folder.identity`). It is stored in the metadata of each checkpoint,
    and `restore` refuses a checkpoint of another run. With `required`, as for a run that started from a checkpoint of
    another run, `restore` raises UserError if no checkpoint is valid. With `read_only`, nothing in the folder is
    created, changed or deleted: another process may be writing to it.
    """

    def __init__(
        self, folder, *, keep: int = 2, about: dict | None = None, required: bool = False, read_only: bool = False,
        regular: Callable[[int], bool] = lambda step: True,
    ):  # fmt: skip
        self.folder, self._regular = Path(folder).absolute(), regular
        self._required = required
        self._about = about or {}
        self._keep, self._unsynced = keep, None
        options = ocp.CheckpointManagerOptions(  # which deletes nothing: see `_sync_and_prune`
            cleanup_tmp_directories=not read_only,  # left by a process that was killed during a save
            create=not read_only,
            read_only=read_only,
        )
        self._manager = ocp.CheckpointManager(self.folder, options=options, handler_registry=_handlers())
        self._thread, self._pending = ThreadPoolExecutor(1, "checkpoint"), None

    def save(self, state: State, meta: dict, *, score: float | None = None):
        """Start writing a checkpoint of `state` at `meta["step"]`. A higher score is better.

        Returns when the arrays are copied, or when the copy is scheduled before any later step. An error of the
        background write is raised by the next call of `save` or `wait`.
        """
        self.wait()
        # Copy, because the loop modifies the metadata later.
        score = None if score is None or math.isnan(score) else float(score)
        meta = {**meta, "format": FORMAT, "about": self._about, "shapes": shapes(state), "score": score}
        single_process, write = jax.process_count() == 1, functools.partial(self._write, copy.deepcopy(meta))
        self._unsynced = meta["step"]
        # Orbax needs almost a millisecond per array; the loop continues as soon as the arrays are copied.
        # On CPU, the device copies them, in order with the steps. Elsewhere, copy them to the host, because the device
        # memory may not hold a second state. Several processes must run their collective operations in one order, and
        # therefore in one thread.
        if single_process and jax.default_backend() == "cpu":
            self._pending = self._thread.submit(write, _copy(state))
        elif single_process and all(x.is_fully_replicated for x in jax.tree.leaves(state)):
            self._pending = self._thread.submit(write, jax.device_get(state), fingerprints_of(state))
        else:
            write(state)

    def _write(self, meta, state, fingerprints=None):
        """Pass the state to Orbax, which copies it if necessary and writes it in its own threads."""
        fingerprints = fingerprints or fingerprints_of(state)
        args = ocp.args.Composite(state=ocp.args.PyTreeSave(state._asdict()), meta=_MetaSave(meta, fingerprints))
        try:
            self._manager.save(meta["step"], args=args, force=True)
        except Exception as error:
            raise self._write_error(error) from error

    def wait(self):
        """Wait until every saved checkpoint is on disk, also after a power cut. Raises UserError if a write failed."""
        pending, self._pending = self._pending, None
        step, self._unsynced = self._unsynced, None
        if pending:
            pending.result()
        try:
            self._manager.wait_until_finished()
            if step is not None:
                self._sync_and_prune(step)
        except Exception as error:
            raise self._write_error(error) from error

    def _sync_and_prune(self, step):
        """Sync the checkpoint of `step` to disk, and only then delete all but those to keep; see the class."""
        if jax.process_index() == 0:
            sync_tree(self.folder / str(step))
            sync_folder(self.folder)
            sync_folder(self.folder.parent)  # it has the names of this folder and of the record
        scores = scores_by_step(self.folder)
        newest, best = sorted(scores)[-self._keep :], sorted(scores, key=lambda s: (scores[s], s))[-1:]
        self._delete(set(scores) - {step, *newest, *best, self._rollback_step(sorted(scores))})

    def _delete(self, steps):
        """Delete checkpoints.

        Each first gets the name of an unfinished one, so that a killed process leaves no half of it under its own name.
        """
        # The first process decides, because the others may see the folder later.
        expendable = job().everyone(sorted(steps))[0]
        if jax.process_index() == 0:
            for old in expendable:
                unfinished = self.folder / f"{old}.orbax-checkpoint-tmp"
                (self.folder / str(old)).rename(unfinished)
                shutil.rmtree(unfinished)
        if expendable:
            job().everyone(None)
            self._manager.reload()

    def close(self):
        """Wait for pending writes and end the background threads."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()
            with contextlib.suppress(Exception):  # `wait` has already raised this error
                self._manager.close()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        # If the run failed, its error is the one to show. (A failed job of several processes ends before this line.)
        with contextlib.suppress(*(() if error is None else (UserError,))):
            self.close()

    def steps(self) -> list[int]:
        """Return the steps with a committed checkpoint, oldest first."""
        return sorted(self._manager.all_steps())

    def rollback_step(self) -> int:
        """Return the step from which a rollback starts, or 0 for a new start.

        A preempted run has more checkpoints than an uninterrupted one. To draw the same numbers, it must start from a
        checkpoint that both have. A run that began with a checkpoint of another run starts no earlier than there.
        """
        return self._rollback_step(self.steps())

    def _rollback_step(self, steps):
        return max(filter(self._regular, steps), default=min(steps, default=0) if self._required else 0)

    def delete_after(self, step: int):
        """Delete the checkpoints that are newer than `step`, as a rollback to it does."""
        self._delete({s for s in self.steps() if s > step})

    def best(self) -> int | None:
        """Return the step of the best checkpoint, or of the newest one if none has a score."""
        scores = scores_by_step(self.folder)
        return max(scores, key=lambda step: (scores[step], step), default=None)

    def restore(self, abstract: State, *, step: int | None = None) -> Restored:
        """Restore the newest valid checkpoint, with the shardings of `abstract`; `state` is None if there is none.

        Damaged checkpoints that are newer are moved to `damaged/`. With `step`, only the checkpoint of this step is
        restored. Raises UserError if this checkpoint is missing or damaged, if a checkpoint is of another run, if a
        damaged checkpoint has other shapes than `abstract`, which means that the model has changed, or if `abstract`
        has an array without entries.
        """
        damaged = {}
        if empty := [name for name, x in jax.tree.leaves_with_path(abstract) if 0 in x.shape]:
            raise UserError(
                f"the array {path_name(empty[0])} of the State has no entries, and the storage of arrays cannot hold "
                "it. Remove it, or the layer of size 0 that owns it."
            )
        if step is not None and step not in self.steps():
            raise UserError(f"no checkpoint at step {step} in {self.folder}. Available: {self.steps() or 'none'}.")
        for candidate in reversed(self.steps()) if step is None else [step]:
            try:
                return Restored(*self._verified(candidate, abstract), damaged)
            except ValueError as error:
                reason = str(error)
                self._check_shapes(candidate, abstract)
                if step is not None:
                    raise UserError(f"the checkpoint at step {step} in {self.folder} is damaged: {reason}") from error
                damaged[candidate] = reason
                self._move_to_damaged(candidate)
        if self._required:
            raise UserError(f"no valid checkpoint in {self.folder}, and this run cannot start without one: {damaged}")
        return Restored(None, {}, damaged)

    def _verified(self, step, abstract):
        """Return (State, meta). Raises ValueError on all processes if the checkpoint is damaged for one of them."""
        meta, state, reason = {}, None, ""
        try:
            meta = read_meta(self.folder / str(step) / "meta")
            state = read_arrays(self.folder / str(step) / "state", abstract)
        except Exception as error:  # damage can raise anything from KeyError to FileNotFoundError
            reason = str(error).strip().split("\n")[0][:200] or type(error).__name__
        # Agree on the outcome before the checksums, a collective computation that needs every process.
        if reasons := [reason for reason in job().everyone(reason) if reason]:
            raise ValueError(reasons[0])
        actual = checksums(fingerprints_of(state))
        names = sorted(actual.keys() | meta["checksums"].keys())
        wrong = [name for name in names if meta["checksums"].get(name) != actual.get(name)]
        if meta["step"] != step:
            raise ValueError(f"its metadata are those of step {meta['step']}")
        self._check_run(step, meta["about"])
        if wrong:
            raise ValueError(f"the checksum of {wrong[0]} does not match ({len(wrong)} of {len(names)} arrays)")
        return state, meta

    def _check_run(self, step, about):
        """Raise UserError for a checkpoint of another run: it is not damaged, and stays where it is."""
        run = self._about
        if not run or about == {"start_from": run["start_from"]}:  # see `named_checkpoint.copy_checkpoint`
            return
        if differs := [name for name in run if about.get(name) != run[name]]:
            name = differs[0]
            raise UserError(
                f"the checkpoint at step {step} in {self.folder} belongs to another run: its {name} is "
                f"{about.get(name)!r}, expected {run[name]!r}. Move it to its own run."
            )

    def _check_shapes(self, step, abstract):
        """Raise UserError for a checkpoint of another model: it is a mistake of the user, not damage, and stays."""
        try:
            saved = read_meta(self.folder / str(step) / "meta")["shapes"]
        except Exception:
            return
        expected = shapes(abstract)
        for name in [*expected, *saved]:
            if saved.get(name) != expected.get(name):
                raise UserError(
                    f"{name} is {saved.get(name, 'absent')} in the checkpoint at step {step} in {self.folder}, but "
                    f"{expected.get(name, 'absent')} in this experiment. Has a library or the model changed? Train "
                    "from scratch with --again."
                )

    def _move_to_damaged(self, step):
        damaged = self.folder.parent / "damaged"
        if jax.process_index() == 0:
            damaged.mkdir(exist_ok=True)
            number = sum(path.name.startswith(f"{step}-") for path in damaged.iterdir())
            (self.folder / str(step)).rename(damaged / f"{step}-{number}")
        job().everyone(None)
        self._manager.reload()

    def _write_error(self, error):
        saved = self.steps()
        last = f"The last good checkpoint is of step {saved[-1]}" if saved else "There is no earlier checkpoint"
        return UserError(
            f"cannot write a checkpoint to {self.folder}: {error_cause(error)}. {last}. "
            "Fix the problem and run the same command again."
        )


def error_cause(error: BaseException) -> str:
    """Return the cause of a file-system error in one line."""
    text = str(error)
    for cause in ("No space left on device", "Permission denied", "Read-only file system", "File too large"):
        if cause in text:
            return cause
    return (text.strip().split("\n")[0] or type(error).__name__)[:300]


def _handlers():
    """Return how Orbax stores the items of a checkpoint: `state` without compression.

    Compression makes normally distributed weights 8 % smaller, and takes 1.6 times the CPU time in both directions.
    """
    handler = ocp.PyTreeCheckpointHandler(use_compression=False)
    registry = ocp.handlers.DefaultCheckpointHandlerRegistry()
    registry.add("state", ocp.args.PyTreeSave, handler)
    return registry


_copy = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))


def read_raw(step_folder) -> dict:
    """Read the State of a checkpoint as nested dicts of numpy arrays, without the experiment or any class.

    The checksums of params and stats are verified. Raises UserError if the checkpoint is damaged.
    """
    step_folder = Path(step_folder).absolute()
    try:
        meta = read_meta(step_folder / "meta")
        reader, folder = ocp.PyTreeCheckpointHandler(), epath.Path(step_folder / "state")
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), reader.metadata(folder).tree)
        tree = reader.restore(folder, args=ocp.args.PyTreeRestore(restore_args=as_numpy))
    except Exception as error:  # Orbax raises anything from KeyError to FileNotFoundError for damage
        raise UserError(f"the checkpoint {step_folder} is damaged: {error_cause(error)}") from error
    actual = checksums(fingerprints_of({k: tree[k] for k in ("params", "stats") if tree.get(k)}))
    if wrong := [name for name, checksum in actual.items() if meta["checksums"].get(name) != checksum]:
        raise UserError(f"the checkpoint {step_folder} is damaged: the checksum of {wrong[0]} does not match.")
    return tree


class _MetaHandler(ocp.AsyncCheckpointHandler):
    """Write meta.json outside the training thread.

    The writing thread waits for the checksums, and Orbax waits for it before it commits the checkpoint.
    """

    async def async_save(self, directory, args):
        return [ocp.future.CommitFutureAwaitingContractedSignals(self._write(directory, args), name="meta")]

    async def _write(self, directory, args):
        self.save(directory, args)

    def save(self, directory, args):
        if jax.process_index() == 0:
            write_meta(directory, {**args.meta, "checksums": checksums(args.fingerprints)})

    def restore(self, directory, args=None):
        return read_meta(directory)


@ocp.args.register_with_handler(_MetaHandler, for_save=True)
@dataclass
class _MetaSave(ocp.args.CheckpointArgs):
    meta: dict
    fingerprints: Any


@ocp.args.register_with_handler(_MetaHandler, for_restore=True)
@dataclass
class _MetaRestore(ocp.args.CheckpointArgs):
    pass
