"""An experiment is a value: what to train, on what, how it is judged. The step is derived from it."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from research import duration, nonfinite
from research.core import (
    After,
    Eval,
    GradFn,
    Loss,
    Observe,
    Source,
    State,
    Step,
    draw,
    gradient,
    many,
    merge,
    train_step,
)
from research.distributed import sharding
from research.distributed.pmap import AXIS, check_replicated, mapped
from research.errors import UserError, unknown
from research.gradients.averaged import averaged
from research.metric_sums import Open
from research.tree import described, shapes


class Claim(NamedTuple):
    """What an experiment promises: a bound on a metric of its last evaluation, and who says so."""

    metric: str
    at_least: float | None = None
    at_most: float | None = None
    source: str = ""


class Best(NamedTuple):
    """Which checkpoint is the best: the one with the highest (`mode="max"`) or lowest value of `metric`."""

    metric: str
    mode: str = "max"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """Everything that a run is a function of, besides its seed and the versions of the software.

    `source(seed)` makes the training Source; `after` follows each update; each of `memories`
    `(key, params) -> {name: entry}` adds entries to stats for a technique that remembers; `start(params, stats)`
    replaces fresh weights by others and is not called on resume; `predict(apply, params, stats, batch)` gives
    {name: [B, ...]} for records without labels. A `transform` is a declared Step -> Step that takes `stride`
    optimizer steps a call, over batches stacked on a leading axis; without one it is `many(step, stride)`.

    `mesh` {axis: devices} and `rules` ((pattern, PartitionSpec or tactic), ...) say where arrays live: see
    `research.distributed.sharding`. They change neither the step nor, to rounding, its numbers.
    """

    init: Callable[[jax.Array], tuple[Any, Any]]
    apply: Callable[..., tuple[Any, Any]]
    loss: Loss
    optimizer: optax.GradientTransformation
    source: Callable[[int], Source]
    steps: Any
    grad_fn: GradFn | None = None
    after: tuple[After, ...] = ()
    memories: tuple[Callable[..., Mapping[str, Any]], ...] = ()
    transform: Callable[[Step], Step] | None = None
    stride: int = 1
    evals: Mapping[str, Eval] = dataclasses.field(default_factory=dict)
    observe: tuple[Observe, ...] = ()
    predict: Callable[..., Mapping[str, Any]] | None = None
    schedules: Mapping[str, Callable] = dataclasses.field(default_factory=dict)
    start: Callable[[Any, Any], tuple[Any, Any]] | None = None
    mesh: Mapping[str, int] = dataclasses.field(default_factory=lambda: {"data": -1})
    rules: tuple = ()
    claims: tuple[Claim, ...] = ()
    log_every: Any = duration.percent(1)
    save_every: Any = duration.percent(10)
    keep: int = 2
    best: Best | None = None
    on_nonfinite: str = "stop"


class Built(NamedTuple):
    """An experiment made ready for a seed: checked, placed on a mesh, with every interval in steps.

    `fresh()` gives the State at step 0, `step(state, open, batch)` the compiled step that also adds up metrics;
    `abstract` and `abstract_open` are the shapes and shardings of its first two arguments.
    `table` tells what lives where on the mesh; it is empty on one device.
    """

    experiment: Experiment
    seed: int
    mesh: Any
    total: int
    log_every: int
    save_every: int
    eval_every: Mapping[str, int]
    abstract: State
    abstract_open: Open
    fresh: Callable[[], State]
    fresh_open: Callable[[], Open]
    step: Callable[[State, Open, Any], tuple[State, Open]]
    source: Callable[[int], Source]
    table: str


STRATEGIES = ("jit", "pmap")


def build(experiment: Experiment, *, seed: int = 0, devices=None, strategy: str = "jit") -> Built:
    """Checks an Experiment and derives its step. Nothing is trained and no parameter is made yet.

    Raises UserError for what would go wrong later: shapes that do not fit, stats that change their tree,
    durations that cannot be resolved, a batch that cannot be split over the mesh.

    The `strategy` is how the step is compiled: "jit" for the whole mesh, or "pmap" for one device, run on all of them
    (see `research.distributed.pmap`).
    """
    ex = experiment
    if strategy not in STRATEGIES:
        raise unknown("strategy", strategy, STRATEGIES)
    if ex.on_nonfinite not in nonfinite.POLICIES:
        raise unknown("on_nonfinite", ex.on_nonfinite, nonfinite.POLICIES)
    mesh = sharding.make_mesh(ex.mesh, devices=devices)
    size, count = getattr(ex.source, "size", None), getattr(ex.source, "examples", None)
    if size:
        sharding.check_batch(size, mesh)

    def steps_of(length, total=None, stride=ex.stride):
        return duration.in_steps(length, batch_size=size, epoch_examples=count, total=total, stride=stride)

    total = steps_of(ex.steps)
    optimizer = optax.with_extra_args_support(ex.optimizer)

    def begin(seed):
        return ex.init(draw(seed, "init"))

    def complete(seed, params, stats):
        for number, memory in enumerate(ex.memories):
            entries = memory(draw(seed, "memory", number), params)
            if taken := set(entries) & set(stats):
                raise UserError(f"two techniques keep the stats entry {sorted(taken)[0]!r}; give one another name.")
            stats = {**stats, **entries}
        seed = jnp.asarray(seed, jnp.uint32)
        state = State(seed, jnp.uint32(0), jnp.int32(0), params, stats, optimizer.init(params))
        # A copy that is also in the params would be donated twice.
        return jax.tree.map(jnp.array, state)

    abstract = jax.eval_shape(lambda seed: complete(seed, *begin(seed)), np.uint32(0))
    layout = sharding.shardings(abstract, mesh, ex.rules)

    def fresh():
        # The seed is data: five seeds compile once.
        if ex.start is None:
            return jax.jit(lambda s: complete(s, *begin(s)), out_shardings=layout)(np.uint32(seed))
        params, stats = ex.start(*jax.jit(begin)(np.uint32(seed)))
        return jax.jit(complete, out_shardings=layout)(np.uint32(seed), params, stats)

    grad_fn = ex.grad_fn or gradient(ex.loss)
    step = train_step(averaged(grad_fn, axis=AXIS) if strategy == "pmap" else grad_fn, optimizer, ex.after)
    if ex.on_nonfinite == "skip":
        step = nonfinite.skip(step)
    if ex.transform:
        step = ex.transform(step)
    elif ex.stride > 1:
        step = many(step, ex.stride)

    def accumulated(state, sums, batch):
        new, metrics = step(sharding.on_device(state), batch)
        first = (sums.bad < 0) & ~jnp.isfinite(metrics["loss"].sum)
        return new, Open.of(merge(sums.metrics, metrics), jnp.where(first, state.step, sums.bad))

    def compiled(function, carried, placed=None):
        donated = tuple(range(carried))
        if strategy == "pmap":
            return mapped(function, mesh, carried=carried, axis=int(ex.stride > 1), donated=donated)
        return jax.jit(sharding.under(mesh, function), donate_argnums=donated, out_shardings=placed)

    if strategy == "pmap":
        check_replicated(layout, mesh)
    source = stacked(ex.source, ex.stride)
    metrics = _check_step(compiled(step, 1), abstract, source(seed)(0))

    def no_sums():
        return Open.of(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), metrics), jnp.int32(-1))

    sums = jax.eval_shape(no_sums)
    replicated = sharding.shardings(sums, mesh)
    fresh_open = jax.jit(no_sums, out_shardings=replicated)

    def at(tree, places):
        return jax.tree.map(lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), tree, places)

    placed = at(abstract, layout)
    return Built(
        ex, seed, mesh, total, steps_of(ex.log_every, total), steps_of(ex.save_every, total),
        {name: steps_of(ev.every, total) if ev.every else total for name, ev in ex.evals.items()},
        placed, at(sums, replicated), fresh, fresh_open, compiled(accumulated, 2, (layout, replicated)), source,
        sharding.table(placed) if mesh.size > 1 else "",
    )  # fmt: skip


def stacked(source, stride: int):
    """The training source as the step wants it: `stride` consecutive batches stacked on a leading axis."""
    if stride == 1:
        return source

    def of_seed(seed):
        batch_at = source(seed)

        @functools.wraps(batch_at)  # so that it shows whether it takes rows=
        def at(step, **rows):
            return jax.tree.map(lambda *x: np.stack(x), *[batch_at(step + i, **rows) for i in range(stride)])

        return at

    return of_seed


def _check_step(step, state, batch):
    """The abstract metrics of one step; raises UserError where it cannot be traced or changes the state's form."""
    try:
        new, metrics = jax.eval_shape(step, state, batch)
    except (TypeError, ValueError, KeyError) as error:
        what = str(error).strip().split("\n")[0]
        raise UserError(
            f"the step does not fit a batch of {described(batch)}: {type(error).__name__}: {what}"
        ) from error
    old, now = shapes(state), shapes(new)
    for path in sorted({**old, **now}):
        if old.get(path) != now.get(path):
            raise UserError(
                f"one step changes {path} from {old.get(path, 'absent')} to {now.get(path, 'absent')}; "
                "the tree, shapes and dtypes of a State may not change."
            )
    return metrics
