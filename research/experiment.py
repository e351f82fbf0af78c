"""An experiment is a value: what to train, on what, how it is judged. The step is derived from it."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from research import duration, nonfinite
from research.checks import check_evaluations, check_settings, check_step
from research.core import (
    After,
    Eval,
    GradFn,
    Loss,
    Observe,
    State,
    Step,
    draw,
    gradient,
    many,
    merge,
    train_step,
)
from research.data.sampling.source import BatchAt, TrainingSource, check_source
from research.distributed import sharding
from research.distributed.pmap import AXIS, check_replicated, pmapped
from research.errors import UserError, unknown
from research.evaluate import evaluator
from research.gradients.averaged import averaged
from research.metric_sums import MetricSums
from research.technique import Technique, brought, check_names, check_read, memories


class Claim(NamedTuple):
    """A promise of an experiment: a bound on a metric of its last evaluation, and the reference for it."""

    metric: str
    at_least: float | None = None
    at_most: float | None = None
    reference: str = ""


class Best(NamedTuple):
    """Which checkpoint is the best: the one with the highest (`mode="max"`) or lowest value of `metric`."""

    metric: str
    mode: str = "max"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """Everything that a run is a function of, besides its seed and the versions of the software.

    `source` is a TrainingSource (`research.data.sampling.source`), such as `batches(data, size)` makes.
    `techniques` are those that keep a memory, each listed once (`research.technique`).
    `learning_rate` is a number or a schedule, recorded as `train/learning_rate`; `optimizer` is then a function of it,
    such as `optax.adam`. Without it `optimizer` is an optax transformation. `schedules` are other numbers to record.
    `init_from(params, stats)` replaces fresh weights by others and is not called on resume. `predict(trained, batch)`
    gives {name: [B, ...]} for records without labels. A `transform` is a declared Step -> Step that takes `stride`
    optimizer steps a call, over batches stacked on a leading axis; without one it is `many(step, stride)`.

    `mesh` {axis: devices} and `rules` ((pattern, PartitionSpec or tactic), ...) say where arrays live: see
    `research.distributed.sharding`. They change neither the step nor, to rounding, its numbers.
    """

    init: Callable[[jax.Array], tuple[Any, Any]]
    apply: Callable[..., tuple[Any, Any]]
    optimizer: optax.GradientTransformation | Callable[[Any], optax.GradientTransformation]
    source: TrainingSource
    steps: Any
    loss: Loss | None = None
    learning_rate: float | Callable | None = None
    grad_fn: GradFn | None = None
    techniques: tuple[Technique, ...] = ()
    transform: Callable[[Step], Step] | None = None
    stride: int = 1
    evals: Mapping[str, Eval] = dataclasses.field(default_factory=dict)
    predict: Callable[..., Mapping[str, Any]] | None = None
    schedules: Mapping[str, Callable] = dataclasses.field(default_factory=dict)
    init_from: Callable[[Any, Any], tuple[Any, Any]] | None = None
    mesh: Mapping[str, int] = dataclasses.field(default_factory=lambda: {"data": -1})
    rules: tuple = ()
    claims: tuple[Claim, ...] = ()
    log_every: Any = duration.percent(1)
    save_every: Any = duration.percent(10)
    keep: int = 2
    best: Best | None = None
    on_nonfinite: str = "stop"


class Wired(NamedTuple):
    """The functions of an experiment, with those of its techniques in place: what a step is made of."""

    loss: Loss
    grad_fn: GradFn | None
    optimizer: optax.GradientTransformationExtraArgs
    after: tuple[After, ...]
    observe: tuple[Observe, ...]
    transform: Callable[[Step], Step] | None
    schedules: Mapping[str, Callable]


def wire(ex: Experiment) -> Wired:
    """The functions of an experiment. Raises UserError for what is missing, given twice or of another kind."""
    check_names(ex.techniques)
    loss = brought(ex.techniques, "loss", ex.loss)
    if loss is None:
        raise UserError("the experiment has no loss: give Experiment(loss=...), or a technique that brings one.")
    optimizer, schedules = ex.optimizer, dict(ex.schedules)
    if ex.learning_rate is not None:
        if "learning_rate" in schedules:
            raise UserError(
                "the learning rate is given twice: as learning_rate= and in schedules=. Leave out the latter."
            )
        rate = ex.learning_rate
        if not callable(rate) and (isinstance(rate, bool) or not isinstance(rate, int | float)):
            raise UserError(f"learning_rate= is {rate!r}; expected a number, or a schedule step -> number.")
        if isinstance(optimizer, optax.GradientTransformation) or not callable(optimizer):
            raise UserError(
                f"learning_rate= is given and optimizer= is {type(optimizer).__name__}; expected a function of the "
                "learning rate, such as optax.adam or lambda rate: optax.sgd(rate, momentum=0.9)."
            )
        optimizer = optimizer(rate)
        schedules = {"learning_rate": rate if callable(rate) else lambda step: rate, **schedules}
    if not isinstance(optimizer, optax.GradientTransformation):
        raise UserError(f"optimizer= is {optimizer!r}; expected an optax transformation, or give it a learning_rate=.")
    for technique in ex.techniques:
        optimizer = technique.optimizer(optimizer) if technique.optimizer else optimizer
    return Wired(
        loss, brought(ex.techniques, "grad_fn", ex.grad_fn), optax.with_extra_args_support(optimizer),
        tuple(t.after for t in ex.techniques if t.after), tuple(t.observe for t in ex.techniques if t.observe),
        ex.transform, schedules,
    )  # fmt: skip


class Built(NamedTuple):
    """An experiment made ready for a seed: checked, placed on a mesh, with every interval in steps.

    `fresh()` is the State at step 0, `step(state, sums, batch)` the compiled step that also adds up metrics;
    `evaluators` {name: (state, interrupted) -> Results} are the evaluations (see `research.evaluate.evaluator`);
    `abstract` and `abstract_sums` are the shapes and shardings of its first two arguments.
    `table` tells what lives where on the mesh; it is empty on one device.
    """

    experiment: Experiment
    wired: Wired
    seed: int
    mesh: Any
    total: int
    log_every: int
    save_every: int
    eval_every: Mapping[str, int]
    abstract: State
    abstract_sums: MetricSums
    fresh: Callable[[], State]
    fresh_sums: Callable[[], MetricSums]
    step: Callable[[State, MetricSums, Any], tuple[State, MetricSums]]
    evaluators: Mapping[str, Callable]
    source: Callable[[int], BatchAt]
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
    wired = wire(ex)
    check_settings(ex)
    check_source(ex.source)
    mesh = sharding.make_mesh(ex.mesh, devices=devices)
    sharding.check_batch(ex.source.size, mesh)

    def steps_of(length, total=None, stride=ex.stride):
        size, count = ex.source.size, ex.source.examples
        return duration.in_steps(length, batch_size=size, epoch_examples=count, total=total, stride=stride)

    total = steps_of(ex.steps)

    def begin(seed):
        return ex.init(draw(seed, "init"))

    def complete(seed, params, stats):
        stats = memories(ex.techniques, stats, seed=seed, params=params)
        seed = jnp.asarray(seed, jnp.uint32)
        state = State(seed, jnp.uint32(0), jnp.int32(0), params, stats, wired.optimizer.init(params))
        # A copy that is also in the params would be donated twice.
        return jax.tree.map(jnp.array, state)

    abstract = jax.eval_shape(lambda seed: complete(seed, *begin(seed)), np.uint32(0))
    layout = sharding.shardings(abstract, mesh, ex.rules)

    # The seed is data: five seeds compile once.
    initial, begun = jax.jit(lambda s: complete(s, *begin(s)), out_shardings=layout), jax.jit(begin)
    completed = jax.jit(complete, out_shardings=layout)

    def fresh():
        if ex.init_from is None:
            return initial(np.uint32(seed))
        return completed(np.uint32(seed), *ex.init_from(*begun(np.uint32(seed))))

    grad_fn = wired.grad_fn or gradient(wired.loss)
    step = train_step(averaged(grad_fn, axis=AXIS) if strategy == "pmap" else grad_fn, wired.optimizer, wired.after)
    if ex.on_nonfinite == "skip":
        step = nonfinite.skip(step)
    if wired.transform:
        step = wired.transform(step)
    elif ex.stride > 1:
        step = many(step, ex.stride)

    def accumulated(state, sums, batch):
        new, metrics = step(sharding.on_device(state), batch)
        first = (sums.bad < 0) & ~jnp.isfinite(metrics["loss"].sum)
        return new, MetricSums.of(merge(sums.metrics, metrics), jnp.where(first, state.step, sums.bad))

    def compiled(function, carried, placed=None):
        donated = tuple(range(carried))
        if strategy == "pmap":
            return pmapped(function, mesh, carried=carried, axis=int(ex.stride > 1), donated=donated)
        return jax.jit(sharding.under(mesh, function), donate_argnums=donated, out_shardings=placed)

    if strategy == "pmap":
        check_replicated(layout, mesh)
    source = stacked(ex.source, ex.stride)
    batch = source(seed)(0)
    metrics = check_step(compiled(step, 1), abstract, batch)
    # Of one optimizer step, without what wraps it: a loop over steps would pass on, and thus read, the whole state.
    bare = train_step(grad_fn, wired.optimizer, wired.after)
    check_read(
        ex.techniques,
        grad_fn=None if wired.transform else sharding.under(mesh, grad_fn),
        step=sharding.under(mesh, wired.transform(bare) if wired.transform else bare),
        state=abstract,
        batch=batch if wired.transform or ex.stride == 1 else jax.tree.map(lambda x: x[0], batch),
    )
    check_evaluations(ex.evals, abstract)

    def no_sums():
        return MetricSums.of(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), metrics), jnp.int32(-1))

    sums = jax.eval_shape(no_sums)
    replicated = sharding.shardings(sums, mesh)
    fresh_sums = jax.jit(no_sums, out_shardings=replicated)

    def at(tree, places):
        return jax.tree.map(lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), tree, places)

    placed = at(abstract, layout)
    return Built(
        experiment=ex,
        wired=wired,
        seed=seed,
        mesh=mesh,
        total=total,
        log_every=steps_of(ex.log_every, total),
        save_every=steps_of(ex.save_every, total),
        eval_every={name: steps_of(ev.every, total) if ev.every else total for name, ev in ex.evals.items()},
        abstract=placed,
        abstract_sums=at(sums, replicated),
        fresh=fresh,
        evaluators={name: evaluator(ev, ex.apply, mesh=mesh) for name, ev in ex.evals.items()},
        fresh_sums=fresh_sums,
        step=compiled(accumulated, 2, (layout, replicated)),
        source=source,
        table=sharding.table(placed) if mesh.size > 1 else "",
    )


def stacked(source, stride: int):
    """The training source as the step wants it: `stride` consecutive batches stacked on a leading axis."""
    if stride == 1:
        return source

    def of_seed(seed):
        batch_at = source(seed)

        def at(step, rows=slice(None)):
            return jax.tree.map(lambda *x: np.stack(x), *[batch_at(step + i, rows=rows) for i in range(stride)])

        return at

    return of_seed
