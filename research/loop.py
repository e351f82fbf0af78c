"""The loop: restore -> [ evaluate -> observe -> save -> step ], in that order, and nothing else.

An evaluation sees exactly the state that the checkpoint of its step holds. Nothing waits for the device at a
step: metrics are fetched one interval late. What a run writes, shows or checks besides listens to its events.
"""

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypedDict

import jax
import numpy as np

from research import events, nonfinite
from research.core import State, Stop
from research.data.sampling.prefetch import prefetch
from research.data.sampling.process_rows import read_own_rows
from research.distributed.sharding import put
from research.errors import UserError, unknown
from research.evaluate import on_host
from research.experiment import Built
from research.metric_sums import MetricSums
from research.runs.checkpoint import Checkpoints
from research.runs.record import Record

MAX_ROLLBACKS = 3  # from one checkpoint; another would meet the same trouble


class Progress(TypedDict, total=False):
    """What a checkpoint holds beside the State: how far the run has come."""

    step: int
    bytes: int  # of metrics.jsonl up to this step
    results: dict[str, dict[str, float]]  # the last evaluation of each name
    evaluated: list[str]  # the evaluations of this step that are done
    stopped: str  # why an Observe ended the run, or ""
    open: list  # the metric sums of the interval that is not over


class LoopResult(NamedTuple):
    """How the loop ended: `status` is finished or preempted, `results` {evaluation: {metric: value}}."""

    status: str
    step: int
    results: dict
    state: State


class NonFinite(UserError):
    """A loss or a weight that is not a finite number, met at `step`."""

    def __init__(self, step, message):
        super().__init__(message)
        self.step = step


def run(built: Built, *, checkpoints: Checkpoints, record: Record, tell, interrupted=lambda: False) -> LoopResult:
    """Trains `built` from its newest sound checkpoint to its end, or until `interrupted()`, and saves there.

    `tell(event)` gets the events of `research.events`. Raises NonFinite where the run may not go on.
    """
    last, rollbacks = None, 0
    while True:
        try:
            return _attempt(built, checkpoints, record, tell, interrupted, rollbacks)
        except NonFinite as trouble:
            checkpoints.wait()
            newest = max(checkpoints.steps(), default=0)
            last, rollbacks = newest, rollbacks + 1 if newest == last else 1
            if built.experiment.on_nonfinite != "rollback" or rollbacks > MAX_ROLLBACKS:
                kept = f"The last good checkpoint is of step {newest}." if newest else "No checkpoint was due yet."
                raise NonFinite(trouble.step, f"{trouble}\n{kept} {nonfinite.ADVICE}") from None
            tell(events.Noted(trouble.step, f"{trouble}\nRolling back to step {newest}, with other random numbers."))


def _attempt(built, checkpoints, record, tell, interrupted, rollbacks):
    """One life of a run, from the newest checkpoint on."""
    ex = built.experiment
    state, sums, progress = _begin(built, checkpoints, record, tell, rollbacks)
    step = saved = progress["step"]
    batch_at = built.source(nonfinite.salted(built.seed, int(state.salt)))
    interval = _Interval(built, record, tell, batch_at=batch_at, start=step)
    axis = 0 if ex.stride == 1 else 1
    read, onto = read_own_rows(batch_at, built.mesh, size=ex.source.size, axis=axis)
    ahead = prefetch(read, step, built.total, stride=ex.stride, place=onto)
    tell(events.Started(step, built.total, lambda: step))
    with contextlib.closing(ahead) as batches, interval.watch:
        while True:
            final = step >= built.total or bool(progress["stopped"])
            due = [name for name, every in built.eval_every.items() if final or (step and step % every == 0)]
            due = [name for name in due if name not in progress["evaluated"]]
            if due and not interrupted():
                interval.settle()
                interval.pause()
                state = _judge(
                    due, built.evaluators, built.wired.observe, state, step, progress, final, record, tell, interrupted
                )
                if progress["stopped"] and not final:
                    continue  # with the evaluations that are due at the end
            if step != saved and (final or interrupted() or step % built.save_every == 0):
                interval.settle()
                interval.pause()
                interval.check(state, step)
                progress.update(step=step, bytes=record.sync(), open=_closed(sums))
                checkpoints.save(state, progress, score=_score(ex.best, progress))
                tell(events.Saved(step))
                saved = step
            finished = final and set(ex.evals) <= set(progress["evaluated"])
            if finished or interrupted():
                interval.settle()
                checkpoints.wait()
                return LoopResult("finished" if finished else "preempted", step, progress["results"], state)
            interval.resume()
            batch, waited = next(batches)
            state, sums = built.step(state, sums, batch)
            step += ex.stride
            progress["evaluated"] = []
            interval.waited += waited
            if step % built.log_every == 0 or step >= built.total:
                interval.close(step, sums)
                sums = built.fresh_sums()


def _begin(built, checkpoints, record, tell, rollbacks):
    """(state, open sums, progress) of the newest sound checkpoint, or of a fresh run; the record is cut to it."""
    state, progress, damaged = checkpoints.restore(built.abstract)
    for step, reason in damaged.items():
        tell(events.Noted(step, f"The checkpoint of step {step} is damaged and was set aside in damaged/: {reason}"))
    sums = built.fresh_sums()
    if state is None:
        state = built.fresh()
        progress = {"step": 0, "bytes": 0, "results": {}, "evaluated": [], "stopped": ""}
    else:
        none = " No step is left to train." if progress["step"] >= built.total else ""
        tell(events.Noted(progress["step"], f"Going on from the checkpoint of step {progress['step']}.{none}"))
    if progress.get("open"):
        leaves, form = jax.tree.flatten((sums.metrics, sums.bad))
        kept = [np.asarray(x, leaf.dtype) for x, leaf in zip(progress["open"], leaves, strict=True)]
        sums = put(MetricSums.of(*form.unflatten(kept)), built.abstract_sums.bits.sharding)
    record.cut(progress["bytes"])
    if rollbacks:
        salt = np.uint32(int(state.salt) + rollbacks)
        state = state._replace(salt=put(salt, built.abstract.salt.sharding))
    return state, sums, progress


def _judge(due, evaluators, observers, state, step, progress: Progress, final, record, tell, interrupted):
    """Evaluates what is due, records it, and lets the observers decide; gives the state they leave."""
    for name in due:
        results = evaluators[name](state, interrupted)
        if results is None:  # interrupted: left for the next life
            return state
        record.write(step, {f"{name}/{k}": v for k, v in results.numbers.items()})
        tell(events.Evaluated(step, name, results))
        progress["results"][name] = dict(results.numbers)
        progress["evaluated"].append(name)
    # All of this step, those that an earlier life made too: an observer is to see what it would have seen unbroken.
    found = {f"{name}/{k}": v for name in progress["evaluated"] for k, v in progress["results"][name].items()}
    for observe in observers if not final else ():
        state = observe(state, found)
        if isinstance(state, Stop):
            state, progress["stopped"] = state
            tell(events.Noted(step, f"Stopping early at step {step}: {progress['stopped']}"))
    return state


def _score(best, progress: Progress):
    """The score of a checkpoint: higher is better; None where its step was not evaluated."""
    if best is None:
        return None
    name, _, metric = best.metric.partition("/")
    if name not in progress["evaluated"]:
        return None
    if metric not in progress["results"][name]:
        raise unknown("metric for the best checkpoint", metric, progress["results"][name])
    return progress["results"][name][metric] * (1 if best.mode == "max" else -1)


def _closed(sums: MetricSums) -> list:
    """The open sums as JSON: floats are exact there."""
    sums = jax.device_get(sums)
    return [np.asarray(x).tolist() for x in jax.tree.leaves((sums.metrics, sums.bad))]


def _done(sums) -> float:
    """The time at which the device has computed them."""
    jax.block_until_ready(sums)
    return time.perf_counter()


class _Interval:
    """Book-keeping between two boundaries: the clock, and metrics that wait on the device for their turn."""

    def __init__(self, built, record, tell, *, batch_at, start):
        self.built, self.record, self.tell, self.batch_at = built, record, tell, batch_at
        self.pending, self.begun, self.waited = None, start, 0.0
        self.since, self.before = None, "none yet"
        self.watch = ThreadPoolExecutor(1, "interval")  # notes when the device is done, without the loop waiting

    def resume(self):
        """The clock runs."""
        if self.since is None:
            self.since = time.perf_counter()

    def pause(self):
        """The clock stands: evaluations and checkpoints are not counted as steps."""
        self.since = None

    def close(self, step, sums):
        """Ends the interval at `step`, and fetches the one before it."""
        self.settle()
        self.pending = (step, step - self.begun, sums, self.waited, self.watch.submit(_done, sums))
        self.begun, self.waited = step, 0.0

    def settle(self):
        """Writes and tells the interval that waits; raises NonFinite where its loss was not finite."""
        if self.pending is None:
            return
        (step, steps, sums, waited, done), self.pending = self.pending, None
        began, self.since = self.since, done.result()
        seconds = max(self.since - began, 1e-9)
        timing = {"seconds": seconds, "steps_per_second": steps / seconds, "data_wait": min(1.0, waited / seconds)}
        sums = jax.device_get(sums)
        if sums.bad >= 0:
            raise self.trouble(int(sums.bad), "the loss is not finite")
        metrics = {name: float(state.value()) for name, state in on_host(sums.metrics).items()}
        with jax.default_device(jax.local_devices(backend="cpu")[0]):  # not behind the steps that are queued
            metrics |= {name: float(value(step - 1)) for name, value in self.built.wired.schedules.items()}
        self.record.write(step, {f"train/{name}": value for name, value in metrics.items()})
        self.tell(events.Interval(step, metrics, timing))
        self.before = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items()) + f" (to step {step})"

    def check(self, state, step):
        """Raises NonFinite rather than let a State be saved that holds what is not a number."""
        if not bool(jax.jit(nonfinite.sound)(state)):
            raise self.trouble(step - 1, "the update left weights that are not finite")

    def trouble(self, step, what):
        """The error, with the metrics before it and the ranges of the batch that was being trained on."""
        batch = self.batch_at(step - step % self.built.experiment.stride)
        return NonFinite(
            step, f"At step {step} {what}. Metrics before: {self.before}. The batch: {nonfinite.ranges(batch)}."
        )
