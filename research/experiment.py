"""The Experiment: a value that defines the model, data, training method and evaluations of a run.

`wire` combines the functions of an experiment with those of its techniques. `build` checks an experiment and derives
its compiled step; `research.loop.run` then trains it.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from research import duration, nonfinite
from research.checks import check_classes, check_evaluations, check_settings, check_step, uniform
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
    train_step,
)
from research.data.preparation import Preparation
from research.data.sampling.source import BatchAt, TrainingSource, check_source
from research.data.text.preparation import TextPreparation
from research.distributed import sharding
from research.distributed.pmap import AXIS, check_replicated, pmapped
from research.duration import Period
from research.errors import UserError, unknown
from research.evaluate import evaluator
from research.gradients.averaged import averaged
from research.metric_sums import MetricSums, Total
from research.model import started
from research.technique import Technique, check_names, check_read, memories, select_hook
from research.weights.layout import Layout


class Claim(NamedTuple):
    """An expected result: a bound on a metric of the last evaluation, and the reference for the bound.

    `metric` is EVALUATION/METRIC, such as "test/accuracy".
    """

    metric: str
    at_least: float | None = None
    at_most: float | None = None
    reference: str = ""


class Best(NamedTuple):
    """The criterion for the best checkpoint: the highest (`mode="max"`) or lowest (`mode="min"`) value of `metric`.

    `metric` is EVALUATION/METRIC, such as "test/accuracy".
    """

    metric: str
    mode: str = "max"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """The complete definition of a run. Its results depend only on it, the seed and the software versions.

    Model:
      init, apply     the two functions of a Model
      init_from       (params, stats) -> (params, stats): replaces initial weights; not called on resume. It receives
                      shapes with shardings (jax.ShapeDtypeStruct); the initialisers draw those that it leaves
      published       the Layout of a public checkpoint, which `weights export` writes (`research.weights`)
      predict         (trained, batch) -> {name: [B, ...]}: predictions for records without labels
      preparation     the fitted Preparation of a table, or TextPreparation, saved with the run; `predict` applies it to
                      the rows of a file

    Training:
      source          a TrainingSource (`research.data.sampling.source`), such as the result of `batches(data, size)`
      steps           the length of the run: a Duration, or a number of optimizer steps
      loss            the Loss; None if a technique provides it
      grad_fn         a gradient estimator; by default that of a technique, or the exact gradient of `loss`
      optimizer       an optax transformation; with `learning_rate`, a function of it, such as `optax.adam`
      learning_rate   a number or a schedule step -> number, recorded as `train/learning_rate`
      schedules       {name: step -> number}: further numbers to record
      techniques      the Techniques, each listed once (`research.technique`)
      stride          optimizer steps per dispatch; the step receives batches stacked on a leading axis
      transform       a Step -> Step whose result takes `stride` optimizer steps; None for `many(step, stride)`
      on_nonfinite    "stop", "skip" or "rollback": the response to a NaN or infinity (`research.nonfinite`)

    Evaluation and records:
      evals           {name: Eval}
      claims          expected results, which the report compares with the measured ones
      log_every       the Duration between records of the training metrics, which are means over this interval
      save_every      the Duration between checkpoints
      keep            the number of newest checkpoints to keep
      best            the criterion for the best checkpoint, which is kept in addition

    Devices:
      mesh            {axis: number of devices}; -1 takes the remaining devices
      rules           ((pattern, PartitionSpec or tactic), ...): how arrays are sharded

    `mesh` and `rules` do not change the step, and results agree up to rounding (`research.distributed.sharding`).
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
    preparation: Preparation | TextPreparation | None = None
    schedules: Mapping[str, Callable] = dataclasses.field(default_factory=dict)
    init_from: Callable[[Any, Any], tuple[Any, Any]] | None = None
    published: Layout | None = None
    mesh: Mapping[str, int] = dataclasses.field(default_factory=lambda: {"data": -1})
    rules: tuple = ()
    claims: tuple[Claim, ...] = ()
    log_every: Any = duration.percent(1)
    save_every: Any = duration.percent(10)
    keep: int = 2
    best: Best | None = None
    on_nonfinite: str = "stop"


class Wired(NamedTuple):
    """The functions of an experiment combined with the hooks of its techniques: the parts of a step."""

    loss: Loss
    grad_fn: GradFn | None
    optimizer: optax.GradientTransformationExtraArgs
    after: tuple[After, ...]
    observe: tuple[Observe, ...]
    transform: Callable[[Step], Step] | None
    schedules: Mapping[str, Callable]


def wire(ex: Experiment) -> Wired:
    """Combine the functions of an experiment with the hooks of its techniques.

    Raises UserError if a function is missing, is given twice, or has the wrong type.
    """
    check_names(ex.techniques)
    loss = select_hook(ex.techniques, "loss", ex.loss)
    if loss is None:
        raise UserError("the experiment has no loss; set Experiment(loss=...), or add a technique that provides one.")
    optimizer, schedules = ex.optimizer, dict(ex.schedules)
    if ex.learning_rate is not None:
        if "learning_rate" in schedules:
            raise UserError(
                "the learning rate is given twice: as learning_rate= and in schedules=. Remove it from schedules=."
            )
        rate = ex.learning_rate
        if not callable(rate) and (isinstance(rate, bool) or not isinstance(rate, int | float)):
            raise UserError(f"learning_rate= is {rate!r}; expected a number or a schedule step -> number.")
        if isinstance(optimizer, optax.GradientTransformation) or not callable(optimizer):
            raise UserError(
                f"with learning_rate=, optimizer= must be a function of the learning rate, such as optax.adam or "
                f"lambda rate: optax.sgd(rate, momentum=0.9); it is {type(optimizer).__name__}."
            )
        optimizer = optimizer(rate)
        schedules = {"learning_rate": rate if callable(rate) else lambda step: rate, **schedules}
    if not isinstance(optimizer, optax.GradientTransformation):
        raise UserError(f"optimizer= is {optimizer!r}; expected an optax transformation, or set learning_rate= too.")
    for technique in ex.techniques:
        optimizer = technique.optimizer(optimizer) if technique.optimizer else optimizer
    return Wired(
        loss, select_hook(ex.techniques, "grad_fn", ex.grad_fn), optax.with_extra_args_support(optimizer),
        tuple(t.after for t in ex.techniques if t.after), tuple(t.observe for t in ex.techniques if t.observe),
        ex.transform, schedules,
    )  # fmt: skip


class CompiledStep(NamedTuple):
    """The compiled step: `step(state, sums, batch)` returns the new state, and `sums` with the step's metrics added.

    `on_leaves(leaves, batch)` is the same for `leaves`, the list of the arrays of (state, sums), and `form` is the tree
    of (state, sums). Between two steps the loop needs only the arrays: the NamedTuples of a State and of its optimizer
    would cost the host a tenth of a small step.
    """

    on_leaves: Callable[[list, Any], list]
    form: jax.tree_util.PyTreeDef

    def __call__(self, state: State, sums: MetricSums, batch: Any) -> tuple[State, MetricSums]:
        return self.form.unflatten(self.on_leaves(jax.tree.leaves((state, sums)), batch))


class Built(NamedTuple):
    """A checked experiment with its seed, device mesh and compiled step.

    `fresh()` returns the State at step 0, and `fresh_sums()` the metric sums of an empty interval. `step` is the
    CompiledStep. `abstract` and `abstract_sums` are the shapes, dtypes and shardings of its first two arguments.
    `total` is the length of the run.
    `evaluators` {name: (state, interrupted) -> Results} are the evaluations (see `research.evaluate.evaluator`).
    `table` lists the sharding of every array; it is empty on one device.
    """

    experiment: Experiment
    wired: Wired
    seed: int
    mesh: Any
    total: int
    log_every: Period
    save_every: Period
    eval_every: Mapping[str, Period]
    abstract: State
    abstract_sums: MetricSums
    fresh: Callable[[], State]
    fresh_sums: Callable[[], MetricSums]
    step: CompiledStep
    evaluators: Mapping[str, Callable]
    source: Callable[[int], BatchAt]
    table: str

    def boundary(self, step: int) -> int:
        """Return the first step after `step` at which metrics are recorded, an evaluation or a checkpoint is due."""
        periods = (self.log_every, self.save_every, *self.eval_every.values())
        return min(self.total, *(period.next_end(step) for period in periods))


STRATEGIES = ("jit", "pmap")


def build(experiment: Experiment, *, seed: int = 0, devices=None, strategy: str = "jit") -> Built:
    """Check an Experiment and derive its compiled step, without training or allocating parameters.

    `strategy` selects how the step is compiled: "jit" compiles one program for the entire mesh; "pmap" compiles a
    program for one device and runs it on all of them (see `research.distributed.pmap`).

    Raises UserError for a mistake that would otherwise appear later: shapes that do not match, `stats` that change
    their tree structure, a duration that cannot be converted to steps, a batch size that does not divide over the mesh,
    or an unknown strategy.
    """
    ex = experiment
    if strategy not in STRATEGIES:
        raise unknown("strategy", strategy, STRATEGIES)
    if ex.on_nonfinite not in nonfinite.POLICIES:
        raise unknown("on_nonfinite", ex.on_nonfinite, nonfinite.POLICIES)
    wired = wire(ex)
    check_settings(ex)
    check_source(ex.source, stride=ex.stride)
    check_classes(ex.source, ex.evals)
    mesh = sharding.make_mesh(ex.mesh, devices=devices)
    sharding.check_batch(ex.source.size, mesh)

    known = {"batch_size": ex.source.size, "epoch_examples": ex.source.examples, "stride": ex.stride}
    total = duration.in_steps(ex.steps, name="steps", **known)

    def period(name, length):
        return duration.period(length, name=name, total=total, **known)

    def init_model(seed):
        return ex.init(draw(seed, "init"))

    def init_state(seed, params, stats):
        stats = memories(ex.techniques, stats, seed=seed, params=params)
        seed = jnp.asarray(seed, jnp.uint32)
        state = State(seed, jnp.uint32(0), jnp.int32(0), params, stats, wired.optimizer.init(params))
        # Copy every array: an array that `stats` shares with `params` would be donated twice.
        return jax.tree.map(jnp.array, state)

    abstract = jax.eval_shape(lambda seed: init_state(seed, *init_model(seed)), np.uint32(0))
    layout = sharding.shardings(abstract, mesh, ex.rules)
    placed = sharding.with_shardings(abstract, layout)

    # The seed is an argument, not a constant, so that several seeds share one compilation.
    state_from = jax.jit(init_state, out_shardings=layout)
    fresh_state = jax.jit(lambda seed: init_state(seed, *init_model(seed)), out_shardings=layout)

    def fresh():
        if ex.init_from is None:
            return fresh_state(np.uint32(seed))
        start = started(ex.init_from, init_model, (placed.params, placed.stats), seed=np.uint32(seed))
        return state_from(np.uint32(seed), *start)

    grad_fn = wired.grad_fn or gradient(wired.loss)
    step = train_step(averaged(grad_fn, axis=AXIS) if strategy == "pmap" else grad_fn, wired.optimizer, wired.after)
    if ex.on_nonfinite == "skip":
        step = nonfinite.skip_nonfinite(step)
    if wired.transform:
        step = wired.transform(step)
    elif ex.stride > 1:
        step = many(step, ex.stride)
    if strategy == "jit":
        step = jax.jit(step, inline=True)  # traced once: by `check_step`, and not again for the compilation

    def one(state, batch):
        return step(sharding.on_device(state), batch)

    def accumulated(leaves, batch):
        state, sums = form.unflatten(leaves)
        new, metrics = one(state, batch)
        first_bad = (sums.bad < 0) & ~jnp.isfinite(metrics["loss"].sum)
        sums = MetricSums.of(sums.total.plus(metrics), jnp.where(first_bad, state.step, sums.bad))
        return jax.tree.leaves((new, sums))

    def compiled(function, out_shardings=None):
        """Compile a function whose first argument is donated and returned."""
        if strategy == "pmap":
            return pmapped(function, mesh, axis=int(ex.stride > 1))
        return jax.jit(sharding.under(mesh, function), donate_argnums=0, out_shardings=out_shardings)

    if strategy == "pmap":
        check_replicated(layout, mesh)
    source = stacked(uniform(ex.source), ex.stride)
    batch = source(seed)(0)
    metrics = check_step(compiled(one), placed, batch)
    # Check one update without `many` or `skip_nonfinite`: a loop carries, and thus reads, every array of the state.
    bare = train_step(grad_fn, wired.optimizer, wired.after)
    check_read(
        ex.techniques,
        grad_fn=None if wired.transform else sharding.under(mesh, grad_fn),
        step=sharding.under(mesh, wired.transform(bare) if wired.transform else bare),
        state=abstract,
        batch=batch if wired.transform or ex.stride == 1 else jax.tree.map(lambda x: x[0], batch),
    )
    once = {id(ev.measure): jax.jit(ev.measure, inline=True) for ev in ex.evals.values()}  # as for the step
    evals = {name: ev._replace(measure=once[id(ev.measure)]) for name, ev in ex.evals.items()}
    check_evaluations(dataclasses.replace(ex, evals=evals), placed, mesh)

    def no_sums():
        return MetricSums.of(Total.zero(metrics), jnp.int32(-1))

    sums = jax.eval_shape(no_sums)
    replicated = sharding.shardings(sums, mesh)
    fresh_sums = jax.jit(no_sums, out_shardings=replicated)
    form = jax.tree.structure((abstract, sums))

    return Built(
        experiment=ex,
        wired=wired,
        seed=seed,
        mesh=mesh,
        total=total,
        log_every=period("log_every", ex.log_every),
        save_every=period("save_every", ex.save_every),
        eval_every={
            name: period(f"evals[{name!r}], every", total if ev.every is None else ev.every)
            for name, ev in ex.evals.items()
        },
        abstract=placed,
        abstract_sums=sharding.with_shardings(sums, replicated),
        fresh=fresh,
        evaluators={name: evaluator(ev, ex.apply, mesh=mesh) for name, ev in evals.items()},
        fresh_sums=fresh_sums,
        step=CompiledStep(compiled(accumulated, jax.tree.leaves((layout, replicated))), form),
        source=source,
        table=sharding.table(placed) if mesh.size > 1 else "",
    )


def remarks(built: Built) -> list[str]:
    """Return the remarks to print before the first step: the sharding, and a batch that exceeds the data."""
    size, examples = built.experiment.source.size, built.experiment.source.examples
    found = [f"Sharding of the arrays:\n{built.table}"] if built.table else []
    if examples and examples < size:
        found.append(
            f"A batch of {size} is larger than the training data ({examples} examples): it repeats examples, and every "
            "step is more than an epoch. Use a smaller batch."
        )
    return found


def stacked(source, stride: int):
    """Return a training source that stacks `stride` consecutive batches on a leading axis."""
    if stride == 1:
        return source

    def of_seed(seed):
        batch_at = source(seed)

        def at(step, rows=slice(None)):
            return jax.tree.map(lambda *x: np.stack(x), *[batch_at(step + i, rows=rows) for i in range(stride)])

        return at

    return of_seed
