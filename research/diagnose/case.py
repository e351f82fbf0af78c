"""An experiment made ready to be looked at: what its evaluations ask of the model, and a step with a probe in it."""

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

MISFITS = (TypeError, ValueError, LookupError, AttributeError, UserError)  # what tracing raises where shapes do not fit
ROWS = 16  # examples of the small batch: few, so that checks are cheap; many, so that their mean says something


class Unasked(Exception):
    """A measure that does not call the model once a batch."""


class Question(NamedTuple):
    """One evaluation as a question to the model: `ask(params, stats, batch) -> Answer`, compiled.

    `name` is the evaluation's, `measure` its own (given the params as they are: an average lags behind them, but with
    what else its View adds to stats); `inputs` are the batch fields that reach the model, None for what
    is no field; `target` is the field that says what is right, if there is one.
    """

    name: str
    measure: Callable[..., Mapping[str, Any]]
    ask: Callable[..., "Answer"]
    inputs: tuple[str | None, ...]
    target: str | None


class Answer(NamedTuple):
    """What passed through: the inputs of the model, its outputs, and the measure's states by name."""

    inputs: tuple
    outputs: Any
    states: Mapping[str, Any]


class Case(NamedTuple):
    """An experiment `built` for a seed, with its `state` at step 0 (numpy) and its first training `batch`.

    `question` is the first evaluation that calls the model once a batch; None, for the reason `silent`, where there is
    none. `small` are 16 examples that it can be asked about: of the training batch, or else of the evaluation. `plain`
    is the gradient of the loss, where the loss takes the training batch as it is; None where only `grad_fn` does.
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
    """The experiment made ready, on one device where its mesh allows that: a check needs no more.

    Raises UserError for what `research.experiment.build` raises it for.
    """
    fits = all(size in (-1, 1) for size in experiment.mesh.values())
    built = build(experiment, seed=seed, devices=jax.devices()[:1] if fits else None)
    state = jax.device_get(built.fresh())
    batch, question, small, why = built.source(seed)(0), None, None, "there is no evaluation"
    for name, ev in experiment.evals.items():
        question, small, why = _question(name, ev, experiment.apply, state, batch)
        if question:
            break
    plain = None
    wired = built.wired
    if wired.transform is None:
        first = experiment.source(seed)(0)
        plain = gradient(wired.loss) if _traces(wired.loss, built.abstract, first) else None
    return Case(experiment, built, state, batch, question, why, small, plain)


def context(state, batch) -> Ctx:
    """What a loss sees of a batch at a state, with the key of the step."""
    return Ctx(batch, state.stats, draw(state.seed, "step", state.salt, state.step), state.step)


def takes(case: Case, batch) -> bool:
    """Whether the experiment's loss can be traced on the batch."""
    return _traces(case.built.wired.loss, case.built.abstract, batch)


def stepper(case: Case, *, optimizer, grad_fn=None) -> tuple[Step, State]:
    """The experiment's step, compiled, with another optimizer (and another GradFn), one optimizer step a call unless
    there is a transform; and the State that it begins with.
    """
    wired = case.built.wired
    step = train_step(grad_fn or wired.grad_fn or gradient(wired.loss), optimizer, wired.after)
    step = wired.transform(step) if wired.transform else step
    layout = jax.tree.map(lambda x: x.sharding, case.built.abstract)
    params, stats = (sharding.put(x, y) for x, y in zip(case.state[3:5], layout[3:5], strict=True))
    state = case.state._replace(params=params, stats=stats, opt=jax.jit(optimizer.init)(params))
    return jax.jit(sharding.under(case.built.mesh, step)), state


def training_batches(case: Case):
    """The Source that fits `stepper`."""
    ex = case.experiment
    return stacked(ex.source, ex.stride if ex.transform else 1)(case.built.seed)


class Probe(NamedTuple):
    """The state of a probed optimizer: that of the optimizer, the `factor` of its updates, and of every parameter the
    largest absolute gradient so far and whether one was not finite.
    """

    inner: Any
    factor: jax.Array
    largest: Any
    broken: Any


def probed(optimizer, *, at: int | None = None) -> optax.GradientTransformation:
    """The optimizer with its updates multiplied by `factor`, which is 1 until one writes another into its state, and
    with a memory of its gradients. Every schedule in it that optax made is held at its step `at`.
    """
    optimizer = optax.with_extra_args_support(optimizer)

    def init(params):
        each = lambda value: jax.tree.map(lambda _: value, params)
        return Probe(optimizer.init(params), jnp.float32(1), each(jnp.float32(0)), each(jnp.bool(False)))

    def update(grads, state, params=None, **extra):
        inner = state.inner if at is None else held(state.inner)
        updates, inner = optimizer.update(grads, inner, params, **extra)
        updates = jax.tree.map(lambda u: (u * state.factor).astype(u.dtype), updates)
        size = jax.tree.map(lambda g: jnp.max(jnp.abs(g), initial=0).astype(jnp.float32), grads)
        broken = jax.tree.map(lambda was, g: was | ~jnp.isfinite(g).all(), state.broken, grads)
        return updates, Probe(inner, state.factor, jax.tree.map(jnp.maximum, state.largest, size), broken)

    def held(inner):
        known = lambda node: isinstance(node, optax.ScaleByScheduleState)
        fix = lambda node: node._replace(count=jnp.asarray(at, node.count.dtype)) if known(node) else node
        return jax.tree.map(fix, inner, is_leaf=known)

    return optax.GradientTransformationExtraArgs(init, update)


def _traces(loss, abstract, batch):
    try:
        jax.eval_shape(lambda state, batch: loss(state.params, context(state, batch)), abstract, batch)
    except MISFITS:
        return False
    return True


def asking(measure, apply):
    """`(params, stats, batch) -> Answer` of a measure; raises Unasked where it does not call the model once."""

    def ask(params, stats, batch):
        calls = []

        def spy(params, stats, *inputs, **options):
            outputs, changed = apply(params, stats, *inputs, **options)
            calls.append((inputs, outputs))
            return outputs, changed

        states = measure(Trained(spy, params, stats), batch)
        if len(calls) != 1:
            raise Unasked(f"calls the model {len(calls)} times a batch")
        return Answer(*calls[0], states)

    return ask


def _question(name, ev, apply, state, batch):
    """(Question, the small batch, why not) of an evaluation."""

    def measure(trained, batch):
        seen = ev.view(state._replace(params=trained.params, stats=trained.stats))[1]
        stats = {name: trained.stats.get(name, entry) for name, entry in seen.items()}
        return ev.measure(dataclasses.replace(trained, stats=stats), batch)

    ask, names, own = asking(measure, apply), [], ev.source(0)

    def noted(params, stats, batch):
        answer = ask(params, stats, batch)
        # Within one trace a field is the same object wherever it goes, so that identity says what reached the model.
        which = lambda x: next((field for field, value in batch.items() if value is x), None)
        rows = {k: v for state in answer.states.values() if isinstance(state, Rows) for k, v in state.values.items()}
        # What the measure tells of goes before what merely lies in the records.
        likely = sorted(("label", "target"), key=lambda k: k not in rows)
        targets = [which(rows.get(k)) or k for k in likely if k in rows or k in batch]
        names.append((tuple(map(which, answer.inputs)), next((k for k in targets if k in batch), None)))
        return answer

    try:
        jax.eval_shape(noted, state.params, state.stats, own)
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
    """Up to ROWS examples, evenly over the batch (which may be in the order of its classes), and their mask."""
    size = len(jax.tree.leaves(dict(batch))[0])
    rows = np.linspace(0, size - 1, min(size, ROWS)).astype(int)
    taken = {name: np.asarray(x)[rows] for name, x in batch.items()}
    return {"mask": np.ones(len(rows), np.float32), **taken}
