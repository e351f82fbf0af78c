"""The Technique: a training method with state of its own, listed once in `Experiment(techniques=(average, teacher))`.

A technique owns one entry of `stats`, under its name, and provides the hooks that update and read the entry.
`research.experiment.wire` collects the hooks, so that none can be forgotten. For a new technique, copy
`research/optim/ema.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import optax

from research.axes import Array, Integer, Key
from research.core import After, Ctx, GradFn, Loss, Observe, State, Step, Tree, View, draw
from research.errors import UserError
from research.tree import path_name


class Technique(NamedTuple):
    """The state and hooks of one technique. Every field except the name is optional.

    name: the name of the technique and of its entry of `stats`
    memory: `(key, params) -> entry`, which returns the entry at step 0
    after: the hook after each update of the params; `state.step` is still that of the update, 0 for the first one
    observe: the hook after the evaluations of a step
    metric: the metric that `observe` reads, as EVALUATION/METRIC; the experiment must have this evaluation
    loss: the loss of the experiment, if `Experiment(loss=)` is not set
    grad_fn: the gradient estimator of the experiment, if `Experiment(grad_fn=)` is not set
    optimizer: `optimizer -> optimizer`, which wraps the optimizer of the experiment
    view: the View of the weights in the entry, for `Eval(view=)` and for losses with a teacher
    use: a function for another part of the experiment; see the docstring of the technique's constructor
    """

    name: str
    memory: Callable[[Key[Array, ""], Tree], Tree] | None = None
    after: After | None = None
    observe: Observe | None = None
    metric: str = ""
    loss: Loss | None = None
    grad_fn: GradFn | None = None
    optimizer: Callable[[optax.GradientTransformation], optax.GradientTransformation] | None = None
    view: View | None = None
    use: Callable[..., Any] | None = None


def check_names(techniques: Any) -> None:
    """Raise UserError if a value is not a Technique, or if two techniques have the same name."""
    if not isinstance(techniques, tuple | list):
        raise UserError(f"techniques= is {techniques!r}; expected a tuple of Techniques, such as (average,).")
    for value in techniques:
        if not isinstance(value, Technique):
            raise UserError(f"techniques=(...) contains {value!r}; expected a Technique, such as ema(0.999).")
    name, count = Counter(technique.name for technique in techniques).most_common(1)[0] if techniques else ("", 0)
    if count > 1:
        raise UserError(f"{count} techniques are named {name!r}; set a different name= for one of them.")


def memories(
    techniques: tuple[Technique, ...], stats: Tree, *, seed: Integer[Array, ""] | int, params: Tree
) -> dict[str, Tree]:
    """Return `stats` with the initial entry of every technique. Raises UserError if an entry already exists."""
    entries = {}
    for number, technique in enumerate(technique for technique in techniques if technique.memory):
        if technique.name in stats:
            raise UserError(f"the technique and the model both use the stats entry {technique.name!r}; rename one.")
        entries[technique.name] = technique.memory(draw(seed, "memory", number), params)
    return {**stats, **entries}


def select_hook(techniques: tuple[Technique, ...], hook: str, given: Any = None) -> Any:
    """Select a function of an experiment, such as its "loss": `given`, or the `hook` of a technique, or None.

    Raises UserError if several techniques have this hook and `given` is None.
    """
    if given is not None:
        return given
    providers = [technique for technique in techniques if getattr(technique, hook)]
    if len(providers) > 1:
        names = " and ".join(repr(technique.name) for technique in providers)
        raise UserError(f"the techniques {names} each provide a {hook}; compose them and set Experiment({hook}=...).")
    return getattr(providers[0], hook) if providers else None


def check_read(
    techniques: tuple[Technique, ...], *, grad_fn: GradFn | None, step: Step, state: State, batch: Mapping[str, Any]
) -> None:  # fmt: skip
    """Raise UserError if nothing reads the `stats` entry of a technique, because a part of the technique is not used.

    If the technique has a loss or a gradient estimator, the gradient must read its entry. Otherwise the step must read
    it, unless the technique has a `view` or an `observe`, which read it outside the step. If `grad_fn` is None, the
    step is checked in its place. The state may be abstract.
    """
    with_entry = [technique for technique in techniques if technique.memory]
    in_gradient = [technique for technique in with_entry if technique.loss or technique.grad_fn]
    in_step = [t for t in with_entry if t not in in_gradient and not (t.view or t.observe)]
    if grad_fn is None:
        in_gradient, in_step = [], [*in_gradient, *in_step]
    read: set[str] = set()
    if in_gradient:
        key = jax.eval_shape(lambda: jax.random.key(0))
        read |= _entries_read(grad_fn, state.params, Ctx(batch, state.stats, key, state.step))
    if in_step:
        read |= _entries_read(step, state, batch)
    for technique in (*in_gradient, *in_step):
        if technique.name not in read:
            raise UserError(
                f"nothing reads the stats entry of the technique {technique.name!r}. Does the experiment's loss=, "
                "grad_fn= or transform= replace the technique's own without calling it?"
            )


def _entries_read(program: Callable, *arguments: Any) -> set[str]:
    """Return the names of the `stats` entries, anywhere in the arguments, that a function reads."""
    jaxpr = jax.make_jaxpr(program)(*arguments).jaxpr
    used = {id(atom) for equation in jaxpr.eqns for atom in equation.invars}
    paths = [path_name(path).split("/") for path, _ in jax.tree.leaves_with_path(arguments)]
    read = [path for path, variable in zip(paths, jaxpr.invars, strict=True) if id(variable) in used]
    return {path[path.index("stats") + 1] for path in read if "stats" in path}
