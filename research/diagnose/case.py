"""An experiment prepared for checks: its evaluation as a function of the model, and a train step with a probe."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from research.core import Ctx, GradFn, Rows, State, Step, Trained, draw, gradient, train_step
from research.distributed import sharding
from research.errors import UserError
from research.experiment import Built, Experiment, build, stacked

MISFITS = (TypeError, ValueError, LookupError, AttributeError, UserError)  # raised by tracing if shapes do not fit
ROWS = 16  # examples of the small batch: few enough for cheap checks, enough for a meaningful mean


class Unasked(Exception):
    """Raised for a measure that does not call the model exactly once per batch."""


class Question(NamedTuple):
    """One evaluation as a compiled function of the model, `ask(params, stats, batch) -> Answer`.

    `name`: the name of the evaluation. `measure`: its measure, applied to the live params, because an average lags,
    plus the stats that its View adds. `inputs`: the batch fields that reach the model, None for an input that is not a
    field. `target`: the field of the labels or targets, None if there is none.
    """

    name: str
    measure: Callable[..., Mapping[str, Any]]
    ask: Callable[..., "Answer"]
    inputs: tuple[str | None, ...]
    target: str | None


class Answer(NamedTuple):
    """One evaluation of a batch: the inputs of the model, its outputs, and the states of the measure by name."""

    inputs: tuple
    outputs: Any
    states: Mapping[str, Any]


class Case(NamedTuple):
    """An experiment `built` for a seed, with its `state` at step 0 (numpy) and its first training `batch`.

    `question`: the first evaluation that calls the model once per batch; None if there is none, and then `silent` is
    the reason. `small`: 16 examples that the question accepts, from the training batch or otherwise from the
    evaluation. `plain`: the gradient of the loss; None if only `grad_fn` accepts a training batch.
    """

    experiment: Experiment
    built: Built
    state: State
    batch: Mapping[str, Any]
    question: Question | None
    silent: str
    small: Mapping[str, Any] | None
    plain: GradFn | None


def make_case(experiment: Experiment, *, seed: int = 0) -> Case:
    """Build an experiment for checks, on one device if its mesh allows that.

    Raises UserError in the cases in which `research.experiment.build` does.
    """
    fits = all(size in (-1, 1) for size in experiment.mesh.values())
    built = build(experiment, seed=seed, devices=jax.devices()[:1] if fits else None)
    state = jax.device_get(built.fresh())
    batch = built.source(seed)(0)
    question, small, why = first_question(experiment, state, batch)
    plain = None
    wired = built.wired
    if wired.transform is None:
        first = experiment.source(seed)(0)
        plain = gradient(wired.loss) if _traces(wired.loss, built.abstract, first) else None
    return Case(experiment, built, state, batch, question, why, small, plain)


def context(state, batch) -> Ctx:
    """Return the Ctx of a loss for a batch and a state, with the key of the step."""
    return Ctx(batch, state.stats, draw(state.seed, "step", state.salt, state.step), state.step)


def takes(case: Case, batch) -> bool:
    """Whether the experiment's loss accepts the batch, found by tracing."""
    return _traces(case.built.wired.loss, case.built.abstract, batch)


def stepper(case: Case, *, optimizer, grad_fn=None) -> tuple[Step, State]:
    """Return the experiment's compiled step with another optimizer (and GradFn), and its initial State.

    A call makes one optimizer step, unless the experiment has a transform.
    """
    wired = case.built.wired
    step = train_step(grad_fn or wired.grad_fn or gradient(wired.loss), optimizer, wired.after)
    step = wired.transform(step) if wired.transform else step
    layout = jax.tree.map(lambda x: x.sharding, case.built.abstract)
    params, stats = (sharding.put(x, y) for x, y in zip(case.state[3:5], layout[3:5], strict=True))
    state = case.state._replace(params=params, stats=stats, opt=jax.jit(optimizer.init)(params))
    return jax.jit(sharding.under(case.built.mesh, step)), state


def training_batches(case: Case):
    """Return the Source of the batches that the step of `stepper` accepts."""
    ex = case.experiment
    return stacked(ex.source, ex.stride if ex.transform else 1)(case.built.seed)


class Probe(NamedTuple):
    """The state of a probed optimizer.

    `inner`: the state of the optimizer itself. `factor`: the multiplier of its updates. `largest` and `broken`: for
    every parameter, the largest absolute gradient so far, and whether a gradient was not finite.
    """

    inner: Any
    factor: jax.Array
    largest: Any
    broken: Any


def probed(optimizer, *, at: int | None = None) -> optax.GradientTransformation:
    """Wrap an optimizer to scale its updates by `factor` and to record the largest gradient of every parameter.

    `factor` is 1 until the caller replaces it in the state. With `at`, every optax schedule is frozen at that step.
    """
    optimizer = optax.with_extra_args_support(optimizer)

    def init(params):
        each = lambda value: jax.tree.map(lambda _: value, params)
        return Probe(optimizer.init(params), jnp.float32(1), each(jnp.float32(0)), each(jnp.bool(False)))

    def update(grads, state, params=None, **extra):
        inner = state.inner if at is None else frozen(state.inner)
        updates, inner = optimizer.update(grads, inner, params, **extra)
        updates = jax.tree.map(lambda u: (u * state.factor).astype(u.dtype), updates)
        size = jax.tree.map(lambda g: jnp.max(jnp.abs(g), initial=0).astype(jnp.float32), grads)
        broken = jax.tree.map(lambda was, g: was | ~jnp.isfinite(g).all(), state.broken, grads)
        return updates, Probe(inner, state.factor, jax.tree.map(jnp.maximum, state.largest, size), broken)

    def frozen(inner):
        is_schedule = lambda node: isinstance(node, optax.ScaleByScheduleState)
        fix = lambda node: node._replace(count=jnp.asarray(at, node.count.dtype)) if is_schedule(node) else node
        return jax.tree.map(fix, inner, is_leaf=is_schedule)

    return optax.GradientTransformationExtraArgs(init, update)


def _traces(loss, abstract, batch):
    try:
        jax.eval_shape(lambda state, batch: loss(state.params, context(state, batch)), abstract, batch)
    except MISFITS:
        return False
    return True


def asking(measure, apply):
    """Return `(params, stats, batch) -> Answer` for a measure. It raises Unasked if the model is not called once."""

    def ask(params, stats, batch):
        calls = []

        def spy(params, stats, *inputs, **options):
            outputs, changed = apply(params, stats, *inputs, **options)
            calls.append((inputs, outputs))
            return outputs, changed

        states = measure(Trained(spy, params, stats), batch)
        if len(calls) != 1:
            raise Unasked(f"calls the model {len(calls)} times per batch")
        return Answer(*calls[0], states)

    return ask


def first_question(experiment: Experiment, state, batch):
    """Return the `question`, the `small` batch and the reason `silent` of a Case. The state may be abstract."""
    question, small, why = None, None, "there is no evaluation"
    for name, ev in experiment.evals.items():
        question, small, why = _question(name, ev, experiment.apply, state, batch)
        if question:
            break
    return question, small, why


def _question(name, ev, apply, state, batch):
    """(Question, small batch, reason why there is none) of an evaluation."""

    def measure(trained, batch):
        seen = ev.view(state._replace(params=trained.params, stats=trained.stats))[1]
        stats = {name: trained.stats.get(name, entry) for name, entry in seen.items()}
        return ev.measure(dataclasses.replace(trained, stats=stats), batch)

    ask, names, own = asking(measure, apply), [], ev.source(0)

    def recorded(params, stats, batch):
        answer = ask(params, stats, batch)
        # Within one trace a field remains the same object, so identity shows which fields reached the model.
        field_of = lambda x: next((field for field, value in batch.items() if value is x), None)
        rows = {k: v for state in answer.states.values() if isinstance(state, Rows) for k, v in state.values.items()}
        # A field that the measure reports has priority over one that the records merely contain.
        likely = sorted(("label", "target"), key=lambda k: k not in rows)
        targets = [field_of(rows.get(k)) or k for k in likely if k in rows or k in batch]
        names.append((tuple(map(field_of, answer.inputs)), next((k for k in targets if k in batch), None)))
        return answer

    try:
        jax.eval_shape(recorded, state.params, state.stats, own)
        question = Question(name, measure, jax.jit(ask), *names[-1])
    except Unasked as error:
        return None, None, f"the evaluation {name!r} {error}"
    except jax.errors.UnexpectedTracerError:
        return None, None, f"the evaluation {name!r} calls the model inside a loop"
    for candidate in (batch, own):
        small = _some(candidate)
        try:
            jax.eval_shape(ask, state.params, state.stats, small)
            return question, small, ""
        except MISFITS:
            continue
    return question, dict(own), ""


def _some(batch):
    """Up to ROWS examples, spread evenly because a batch may be sorted by class, and their mask."""
    size = len(jax.tree.leaves(dict(batch))[0])
    rows = np.linspace(0, size - 1, min(size, ROWS)).astype(int)
    examples = {name: np.asarray(x)[rows] for name, x in batch.items()}
    return {"mask": np.ones(len(rows), np.float32), **examples}
