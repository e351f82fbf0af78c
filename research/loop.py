"""The training loop: restore -> [ evaluate -> observe -> save -> step ].

The loop evaluates exactly the state that the checkpoint of the same step holds. It does not wait for the device at a
step: metrics are fetched one interval late. All other output and all live checks of a run are subscribers to its
events (`research.events`).
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
from research.experiment import Built
from research.metric_sums import MetricSums, Total
from research.runs.checkpoint import Checkpoints
from research.runs.record import Record

MAX_ROLLBACKS = 3  # from one checkpoint; a further one would probably fail in the same way


class Progress(TypedDict, total=False):
    """The progress of a run, which a checkpoint stores with the State."""

    step: int
    bytes: int  # the length of metrics.jsonl at this step
    crc32: int  # and the checksum of its content
    results: dict[str, dict[str, float]]  # {evaluation: {metric: value}}, the last of each evaluation
    evaluated: list[str]  # the completed evaluations of this step
    stopped: str  # the reason that an Observe gave to end the run, or ""
    open: list  # the metric sums of the current interval


class LoopResult(NamedTuple):
    """The outcome of the loop: `status` is "finished" or "preempted", `results` {evaluation: {metric: value}}."""

    status: str
    step: int
    results: dict
    state: State


class NonFinite(UserError):
    """The loss or a weight became NaN or infinite at `step`."""

    def __init__(self, step, message):
        super().__init__(message)
        self.step = step


def run(built: Built, *, checkpoints: Checkpoints, record: Record, tell, interrupted=lambda: False) -> LoopResult:
    """Train `built` from its newest valid checkpoint to its end, or until `interrupted()`, and save the final state.

    `tell(event)` receives the events of `research.events`. Raises NonFinite if the loss or a weight is not finite and
    the run can neither skip the step nor roll back.
    """
    last, rollbacks = None, 0
    while True:
        try:
            return _run_once(built, checkpoints, record, tell, interrupted, rollbacks)
        except NonFinite as error:
            checkpoints.wait()
            base = checkpoints.rollback_step()
            last, rollbacks = base, rollbacks + 1 if base == last else 1
            if built.experiment.on_nonfinite != "rollback" or rollbacks > MAX_ROLLBACKS:
                newest = max(checkpoints.steps(), default=0)
                saved = f"The last good checkpoint is of step {newest}." if newest else "No checkpoint was saved yet."
                raise NonFinite(error.step, f"{error}\n{saved} {nonfinite.ADVICE}") from None
            checkpoints.delete_after(base)
            tell(events.Message(error.step, f"{error}\nRolling back to step {base}, with different random numbers."))


def _run_once(built, checkpoints, record, tell, interrupted, rollbacks):
    """Run from the newest checkpoint to the end, an interruption or a non-finite value."""
    ex = built.experiment
    state, sums, progress = _restore(built, checkpoints, record, tell, rollbacks)
    step = saved = progress["step"]
    batch_at = built.source(nonfinite.data_seed(built.seed, int(state.salt)))
    interval = _Interval(built, record, tell, batch_at=batch_at, start=step)
    axis = 0 if ex.stride == 1 else 1
    read, place = read_own_rows(batch_at, built.mesh, size=ex.source.size, axis=axis)
    prefetched = prefetch(read, step, built.total, stride=ex.stride, place=place)
    tell(events.Started(step, built.total, lambda: step))
    with contextlib.closing(prefetched) as batches, interval.watch:
        while True:
            final = step >= built.total or bool(progress["stopped"])
            due = [name for name, every in built.eval_every.items() if final or every.ends_at(step)]
            due = [name for name in due if name not in progress["evaluated"]]
            if due and not interrupted():
                interval.settle()
                interval.pause()
                state = _evaluate(
                    due, built.evaluators, built.wired.observe, state, step, progress, final, record, tell, interrupted
                )
                if progress["stopped"] and not final:
                    continue  # this step is now the final one: run the remaining evaluations
            stop = interrupted()
            if step != saved and (final or stop or built.save_every.ends_at(step)):
                interval.settle()
                interval.pause()
                interval.check(state, step)
                progress.update(step=step, **record.sync(), open=_to_json(sums))
                checkpoints.save(state, progress, score=_score(ex.best, progress))
                tell(events.Saved(step))
                saved = step
            finished = final and set(ex.evals) <= set(progress["evaluated"])
            if finished or stop:
                interval.settle()
                checkpoints.wait()
                return LoopResult("finished" if finished else "preempted", step, progress["results"], state)
            interval.resume()
            boundary, leaves = built.boundary(step), jax.tree.leaves((state, sums))
            del state, sums  # the step donates their arrays
            while True:  # the steps between boundaries: each microsecond here counts
                batch, waited = next(batches)
                leaves = built.step.on_leaves(leaves, batch)
                step += ex.stride
                interval.waited += waited
                if step >= boundary or interrupted():
                    break
            state, sums = built.step.form.unflatten(leaves)
            progress["evaluated"] = []
            if built.log_every.ends_at(step) or step >= built.total:
                interval.close(step, sums)
                sums = built.fresh_sums()


def _restore(built, checkpoints, record, tell, rollbacks):
    """Return (state, metric sums, progress) of the newest valid checkpoint, or of a new run; truncate the record."""
    state, progress, damaged = checkpoints.restore(built.abstract)
    for step, reason in damaged.items():
        tell(events.Message(step, f"The checkpoint of step {step} is damaged and was moved to damaged/: {reason}"))
    sums = built.fresh_sums()
    if state is None:
        state = built.fresh()
        progress = {"step": 0, "bytes": 0, "crc32": 0, "results": {}, "evaluated": [], "stopped": ""}
    else:
        complete = " Training is complete." if progress["step"] >= built.total else ""
        tell(events.Message(progress["step"], f"Resuming from the checkpoint of step {progress['step']}.{complete}"))
    if progress.get("open"):
        leaves, tree = jax.tree.flatten(sums.parts)
        saved = [np.asarray(x, leaf.dtype) for x, leaf in zip(progress["open"], leaves, strict=False)]
        # Earlier versions saved no rests of the sums: they stay 0.
        metrics, bad, rest = tree.unflatten(saved + leaves[len(saved) :])
        sums = put(MetricSums.of(Total(metrics, rest), bad), built.abstract_sums.bits.sharding)
    if problem := record.cut(progress):
        tell(events.Message(progress["step"], problem))
    if rollbacks:
        salt = np.uint32(int(state.salt) + rollbacks)
        state = state._replace(salt=put(salt, built.abstract.salt.sharding))
    return state, sums, progress


def _evaluate(due, evaluators, observers, state, step, progress: Progress, final, record, tell, interrupted):
    """Run and record the evaluations that are due, call the observers, and return the state that they return."""
    for name in due:
        results = evaluators[name](state, interrupted)
        if results is None:  # interrupted; the restarted run evaluates again
            return state
        record.write(step, {f"{name}/{k}": v for k, v in results.numbers.items()})
        tell(events.Evaluated(step, name, results))
        progress["results"][name] = dict(results.numbers)
        progress["evaluated"].append(name)
    # Include the evaluations of this step from before a restart: an observer must see the same results either way.
    results = {f"{name}/{k}": v for name in progress["evaluated"] for k, v in progress["results"][name].items()}
    for observe in observers if not final else ():
        state = observe(state, results)
        if isinstance(state, Stop):
            state, progress["stopped"] = state
            tell(events.Message(step, f"Stopping early at step {step}: {progress['stopped']}"))
    return state


def _score(best, progress: Progress):
    """Return the score of a checkpoint (higher is better), or None if its step was not evaluated."""
    if best is None:
        return None
    name, _, metric = best.metric.partition("/")
    if name not in progress["evaluated"]:
        return None
    if metric not in progress["results"][name]:
        raise unknown("metric for the best checkpoint", metric, progress["results"][name])
    return progress["results"][name][metric] * (1 if best.mode == "max" else -1)


def _to_json(sums: MetricSums) -> list:
    """Convert metric sums to a JSON list, in which floats are exact."""
    return [np.asarray(x).tolist() for x in jax.tree.leaves(sums.fetched().parts)]


def _completion_time(sums) -> float:
    """Wait until the device has computed `sums`, and return the time."""
    jax.block_until_ready(sums)
    return time.perf_counter()


class _Interval:
    """The clock of the current interval, and the metrics of the previous one until they are fetched."""

    def __init__(self, built, record, tell, *, batch_at, start):
        self.built, self.record, self.tell, self.batch_at = built, record, tell, batch_at
        self.pending, self.start, self.waited = None, start, 0.0
        self.since, self.previous_metrics = None, "none yet"
        self.watch = ThreadPoolExecutor(1, "interval")  # waits for the device in place of the loop

    def resume(self):
        """Start the clock."""
        if self.since is None:
            self.since = time.perf_counter()

    def pause(self):
        """Stop the clock, so that evaluations and checkpoints do not count as training time."""
        self.since = None

    def close(self, step, sums):
        """End the interval at `step`, and fetch and report the previous one."""
        self.settle()
        now = time.perf_counter()
        # If the device is not behind, no thread has to wait for it: the change of threads costs several small steps.
        done = (lambda: now) if sums.bits.is_ready() else self.watch.submit(_completion_time, sums).result
        self.pending = (step, step - self.start, sums, self.waited, done)
        self.start, self.waited = step, 0.0

    def settle(self):
        """Record and report the pending interval; raise NonFinite if its loss was not finite."""
        if self.pending is None:
            return
        (step, steps, sums, waited, done), self.pending = self.pending, None
        start, self.since = self.since, done()
        seconds = max(self.since - start, 1e-9)
        timing = {"seconds": seconds, "steps_per_second": steps / seconds, "data_wait": min(1.0, waited / seconds)}
        sums, bad, rest = sums.fetched().parts
        if bad >= 0:
            raise self.nonfinite_error(int(bad), "the loss is not finite")
        metrics = {name: float(state.value()) for name, state in Total(sums, rest).exact().items()}
        with jax.default_device(jax.local_devices(backend="cpu")[0]):  # elsewhere it would wait for the queued steps
            metrics |= {name: float(value(step - 1)) for name, value in self.built.wired.schedules.items()}
        self.record.write(step, {f"train/{name}": value for name, value in metrics.items()})
        self.tell(events.Interval(step, metrics, timing))
        values = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        self.previous_metrics = f"{values} (to step {step})"

    def check(self, state, step):
        """Raise NonFinite if the State must not be saved; see `nonfinite.all_finite`."""
        if not bool(jax.jit(nonfinite.all_finite)(state)):
            raise self.nonfinite_error(step - 1, "the update produced weights that are not finite")

    def nonfinite_error(self, step, problem):
        """Return the error, with the metrics of the previous interval and the ranges of the batch of the step."""
        batch = nonfinite.ranges(self.batch_at(step - step % self.built.experiment.stride))
        return NonFinite(step, f"At step {step} {problem}. Metrics before: {self.previous_metrics}. Batch: {batch}.")
