"""Checkpoints: the State and what a run must remember beside it, written by Orbax in the background.

A checkpoint is `checkpoints/<step>/`: `state` (plain nested arrays by name, readable without any class) and
`meta/meta.json` (format, step, a checksum of every array, the loop's `Progress`). Disks and networks flip bits
without a word, so every restore is verified; what does not verify is set aside, never deleted.
"""

import contextlib
import copy
import functools
import json
import logging
import math
import os
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax import lax
from orbax.checkpoint import checkpoint_managers

from research.core import State
from research.distributed.job import job
from research.distributed.sharding import on_device
from research.errors import UserError
from research.tree import path_name, shapes

FORMAT = 1
# Orbax logs the traceback of every failed write, several times over; what matters of it is raised here.
logging.getLogger("absl").addFilter(lambda record: "orbax" not in record.pathname)
logging.getLogger("asyncio").addFilter(lambda record: "OCDBT" not in record.getMessage())


def _silent_about_lost_reads(hook):
    """The hook for errors that nobody can catch, without those that follow a read or write that failed.

    Then Orbax drops its other reads half done, and TensorStore calls back into an event loop that has ended;
    Python would print a page for each, at some later moment. The failure itself is raised and told.
    """

    def filtered(unraisable):
        code = getattr(unraisable.object, "cr_code", None)
        dropped = code is not None and os.path.join("orbax", "checkpoint") in code.co_filename
        if not dropped and str(unraisable.exc_value) != "Event loop is closed":
            hook(unraisable)

    return filtered


sys.unraisablehook = _silent_about_lost_reads(sys.unraisablehook)


class Restored(NamedTuple):
    """A verified checkpoint, and the damaged newer ones that were set aside: {step: reason}."""

    state: State | None
    meta: dict
    damaged: dict[int, str]


class Checkpoints:
    """The checkpoints of one run, to be used in a `with`. Keeps the newest `keep` and the best by score.

    `about` is written into the metadata of each: the experiment, its knobs, the versions. Where one is
    `required` (the run began at another's), `restore` raises a UserError rather than find none.
    """

    def __init__(self, folder, *, keep: int = 2, about: dict | None = None, required: bool = False):
        self.folder = Path(folder).absolute()
        self._required = required
        self._about = about or {}
        policies = [checkpoint_managers.LatestN(n=keep), checkpoint_managers.BestN(get_metric_fn=_score, n=1)]
        options = ocp.CheckpointManagerOptions(
            preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
            best_fn=_score,  # without it Orbax writes no scores and calls the latest the best
            best_mode="max",
            cleanup_tmp_directories=True,  # what a kill during a save leaves behind
        )
        self._manager = ocp.CheckpointManager(self.folder, options=options)
        self._thread, self._begun = ThreadPoolExecutor(1, "checkpoint"), None

    def save(self, state: State, meta: dict, *, score: float | None = None):
        """Starts to write a checkpoint of `state` at `meta["step"]`; higher scores are better.

        Returns when the arrays are copied, or will be before a step changes them. Errors of the background write are
        raised by the next call.
        """
        self.wait()
        # A copy, since the loop goes on to change it.
        meta = copy.deepcopy({**meta, "format": FORMAT, "about": self._about, "shapes": shapes(state)})
        score = -math.inf if score is None or math.isnan(score) else float(score)
        alone, begin = jax.process_count() == 1, functools.partial(self._begin, meta, score)
        # Orbax computes most of a millisecond for every array; the loop need not wait for it once they are copied. On
        # CPU by the device, in turn with the steps; elsewhere to the host, since another state might not fit the
        # device. Several processes must do all that they compute together in one order, so from one thread.
        if alone and jax.default_backend() == "cpu":
            self._begun = self._thread.submit(begin, _copies(state))
        elif alone and all(x.is_fully_replicated for x in jax.tree.leaves(state)):
            self._begun = self._thread.submit(begin, jax.device_get(state), _fingerprints(state))
        else:
            begin(state)

    def _begin(self, meta, score, state, prints=None):
        """Has Orbax copy what is still to be copied, and write the rest in threads of its own."""
        prints = prints or _fingerprints(state)
        args = ocp.args.Composite(state=ocp.args.StandardSave(state._asdict()), meta=_MetaSave(meta, prints))
        try:
            self._manager.save(meta["step"], args=args, metrics={"score": score}, force=True)
        except Exception as error:
            raise self._unwritten(error) from error

    def wait(self):
        """Returns when all that was saved is on disk."""
        begun, self._begun = self._begun, None
        if begun:
            begun.result()
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._unwritten(error) from error

    def close(self):
        """Waits, and gives the background threads back."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()
            with contextlib.suppress(Exception):  # what it raises again was raised by `wait`
                self._manager.close()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        # Where the run failed already, that is the error to show. (With several processes none comes here then.)
        with contextlib.suppress(*(() if error is None else (UserError,))):
            self.close()

    def steps(self) -> list[int]:
        """The steps that have a committed checkpoint, oldest first."""
        return sorted(self._manager.all_steps())

    def best(self) -> int | None:
        """The step of the best checkpoint; the newest one where none was scored."""
        return self._manager.best_step()

    def restore(self, abstract: State, *, step: int | None = None) -> Restored:
        """The newest checkpoint that verifies, with the shardings of `abstract`; `state` is None where none does.

        With a `step`, that one or a UserError.
        """
        damaged = {}
        if step is not None and step not in self.steps():
            raise UserError(f"no checkpoint at step {step} in {self.folder}. There are: {self.steps() or 'none'}.")
        for candidate in reversed(self.steps()) if step is None else [step]:
            try:
                return Restored(*self._verified(candidate, abstract), damaged)
            except ValueError as error:
                reason = str(error)
                if step is not None:
                    raise UserError(f"the checkpoint at step {step} in {self.folder} is damaged: {reason}") from error
                self._check_form(candidate, abstract)
                damaged[candidate] = reason
                self._set_aside(candidate)
        if self._required:
            raise UserError(f"no checkpoint in {self.folder} is sound, and this run cannot begin without: {damaged}")
        return Restored(None, {}, damaged)

    def _verified(self, step, abstract):
        """(State, meta); raises ValueError, on all processes alike, where it is damaged for one of them."""
        meta, state, reason = {}, None, ""
        try:
            meta = read_meta(self.folder / str(step) / "meta")
            args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract._asdict()))
            state = State(**self._manager.restore(step, args=args)["state"])
        except Exception as error:  # Orbax raises anything from KeyError to FileNotFoundError for damage
            reason = str(error).strip().split("\n")[0][:200] or type(error).__name__
        # Asked before the checksums, which all compute together.
        if reasons := [reason for reason in job().everyone(reason) if reason]:
            raise ValueError(reasons[0])
        found = checksums(_fingerprints(state))
        wrong = [name for name, checksum in meta["checksums"].items() if found.get(name) != checksum]
        if wrong:
            raise ValueError(f"the checksum of {wrong[0]} does not match ({len(wrong)} of {len(found)} arrays)")
        return state, meta

    def _check_form(self, step, abstract):
        """A checkpoint of another model is a mistake of the user, not damage, and stays where it is."""
        try:
            saved = read_meta(self.folder / str(step) / "meta")["shapes"]
        except Exception:
            return
        for name, shape in shapes(abstract).items():
            if saved.get(name) != shape:
                raise UserError(
                    f"the checkpoint at step {step} in {self.folder} holds {name} as {saved.get(name, 'nothing')}; "
                    f"this experiment has {shape}. Was a library or the model changed? Start anew with --again."
                )

    def _set_aside(self, step):
        aside = self.folder.parent / "damaged"
        if jax.process_index() == 0:
            aside.mkdir(exist_ok=True)
            number = sum(path.name.startswith(f"{step}-") for path in aside.iterdir())
            (self.folder / str(step)).rename(aside / f"{step}-{number}")
        job().everyone(None)
        self._manager.reload()

    def _unwritten(self, error):
        kept = self.steps()
        last = f"The last good one is of step {kept[-1]}" if kept else "There is no older one"
        return UserError(
            f"a checkpoint could not be written to {self.folder}: {reason_of(error)}. {last}. "
            "Make room there and give the same command again."
        )


def reason_of(error: BaseException) -> str:
    """The one line of an error of the file system that says what is wrong."""
    text = str(error)
    for known in ("No space left on device", "Permission denied", "Read-only file system", "File too large"):
        if known in text:
            return known
    return (text.strip().split("\n")[0] or type(error).__name__)[:300]


def fingerprint(tree) -> dict[str, jax.Array]:
    """{path: u32[2]}: for each array the sum of its words, and the sum weighted by position, modulo 2^32.

    Integer sums do not depend on the order, so a sharded array has the same fingerprint on any number of
    devices, and nothing is gathered. Any single flipped bit changes the first number.
    """
    return {path_name(path): _words(x) for path, x in jax.tree.leaves_with_path(tree)}


_fingerprints = jax.jit(lambda tree: fingerprint(on_device(tree)))
_copies = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))


def _words(x):
    if x.dtype == jnp.bool_:
        x = x.astype(jnp.uint8)
    bits = lax.bitcast_convert_type(x, jnp.dtype(f"uint{min(32, 8 * x.dtype.itemsize)}")).astype(jnp.uint32)
    place, stride = jnp.zeros((), jnp.uint32), 1
    for axis in reversed(range(bits.ndim)):  # by broadcasting, since a reshape would gather a sharded array
        place = place + lax.broadcasted_iota(jnp.uint32, bits.shape, axis) * jnp.uint32(stride % 2**32)
        stride *= bits.shape[axis]
    weight = place * jnp.uint32(2654435761) ^ (place >> 15) | 1
    return jnp.stack([jnp.sum(bits, dtype=jnp.uint32), jnp.sum(bits * weight, dtype=jnp.uint32)])


def checksums(prints) -> dict[str, str]:
    """Fingerprints as text, fetched from the devices."""
    return {name: "".join(f"{int(word):08x}" for word in np.asarray(x)) for name, x in prints.items()}


def read_meta(folder) -> dict:
    """The metadata of a checkpoint, from its folder `<step>/meta`. Raises ValueError or OSError for damage."""
    sealed = json.loads((Path(folder) / "meta.json").read_text(encoding="utf-8"))
    if zlib.crc32(sealed["payload"].encode()) != sealed["crc32"]:
        raise ValueError("the checksum of its metadata does not match")
    meta = json.loads(sealed["payload"])
    if meta["format"] != FORMAT:
        raise ValueError(f"its format is {meta['format']}; this version reads {FORMAT}")
    return meta


def read_raw(step_folder) -> dict:
    """The State of a checkpoint as nested dicts of numpy arrays, verified; needs no experiment and no class.

    Raises UserError for damage.
    """
    step_folder = Path(step_folder).absolute()
    try:
        meta = read_meta(step_folder / "meta")
        reader, folder = ocp.PyTreeCheckpointHandler(), epath.Path(step_folder / "state")
        kinds = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), reader.metadata(folder).tree)
        tree = reader.restore(folder, args=ocp.args.PyTreeRestore(restore_args=kinds))
    except Exception as error:  # Orbax raises anything from KeyError to FileNotFoundError for damage
        raise UserError(f"the checkpoint {step_folder} is damaged: {reason_of(error)}") from error
    found = checksums(_fingerprints({k: tree[k] for k in ("params", "stats") if tree.get(k)}))
    if wrong := [name for name, checksum in found.items() if meta["checksums"].get(name) != checksum]:
        raise UserError(f"the checkpoint {step_folder} is damaged: the checksum of {wrong[0]} does not match.")
    return tree


def write_meta(folder, meta: dict):
    """Writes the metadata of a checkpoint, its folder `<step>/meta`, with a checksum of its own."""
    payload = json.dumps(meta)
    sealed = json.dumps({"crc32": zlib.crc32(payload.encode()), "payload": payload})
    (Path(folder) / "meta.json").write_text(sealed, encoding="utf-8")


def committed(folder) -> dict[int, float]:
    """{step: score} of the checkpoints that are whole, without opening them; -inf where none was given."""
    found = {}
    for path in Path(folder).glob("*"):
        if path.name.isdigit() and (path / "meta" / "meta.json").exists():
            with contextlib.suppress(OSError, ValueError, KeyError):
                found[int(path.name)] = json.loads((path / "metrics" / "metrics").read_text())["score"]
    return found


class _MetaHandler(ocp.AsyncCheckpointHandler):
    """Writes meta.json off the training thread: it waits there for the checksums, and Orbax for it to commit."""

    async def async_save(self, directory, args):
        return [ocp.future.CommitFutureAwaitingContractedSignals(self._write(directory, args), name="meta")]

    async def _write(self, directory, args):
        self.save(directory, args)

    def save(self, directory, args):
        if jax.process_index() == 0:
            write_meta(directory, {**args.meta, "checksums": checksums(args.prints)})

    def restore(self, directory, args=None):
        return read_meta(directory)


@ocp.args.register_with_handler(_MetaHandler, for_save=True)
@dataclass
class _MetaSave(ocp.args.CheckpointArgs):
    meta: dict
    prints: Any


@ocp.args.register_with_handler(_MetaHandler, for_restore=True)
@dataclass
class _MetaRestore(ocp.args.CheckpointArgs):
    pass


def _score(metrics):
    return metrics["score"]
