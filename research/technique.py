"""A technique with a memory is one value, listed once: `Experiment(techniques=(average, teacher))`.

It owns one entry of `stats` under its name, and brings the hooks that keep and read that entry.
`research.experiment.wire` collects the hooks, so that none can be forgotten. `research/optim/ema.py` is one to copy.
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
    """What a technique brings to an experiment; each field but the name may be None.

    name: of the technique, and of its entry of stats
    memory: `(key, params) -> entry`, the entry at step 0
    after: what follows each update of the params
    observe: what follows the evaluations of a step
    metric: the metric that `observe` reads, `evaluation/name`; its evaluation must be one of the experiment's
    loss: the experiment's loss, if `Experiment(loss=)` gives none
    grad_fn: the experiment's gradient estimator, if `Experiment(grad_fn=)` gives none
    optimizer: `optimizer -> optimizer`, around the experiment's
    view: the weights it keeps, for `Eval(view=)` and for losses that have a teacher
    use: what another part of the experiment calls; the function that makes the technique says which
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
    """Raises UserError for a value that is no Technique, and for two of one name."""
    if not isinstance(techniques, tuple | list):
        raise UserError(f"techniques= is {techniques!r}; expected a tuple of Techniques, such as (average,).")
    for value in techniques:
        if not isinstance(value, Technique):
            raise UserError(f"techniques=(...) holds {value!r}; expected a Technique, as research.optim.ema.ema makes.")
    name, count = Counter(technique.name for technique in techniques).most_common(1)[0] if techniques else ("", 0)
    if count > 1:
        raise UserError(f"{count} techniques are called {name!r}; give one another name=.")


def memories(
    techniques: tuple[Technique, ...], stats: Tree, *, seed: Integer[Array, ""] | int, params: Tree
) -> dict[str, Tree]:
    """`stats` with the entries of all techniques at step 0. Raises UserError for an entry that is there already."""
    entries = {}
    for number, technique in enumerate(technique for technique in techniques if technique.memory):
        if technique.name in stats:
            raise UserError(f"the technique {technique.name!r} and the model keep the same stats entry; rename one.")
        entries[technique.name] = technique.memory(draw(seed, "memory", number), params)
    return {**stats, **entries}


def brought(techniques: tuple[Technique, ...], hook: str, given: Any = None) -> Any:
    """The `hook` (such as "loss") of an experiment: the `given` one, or that of the one technique that has it, or None.

    Raises UserError if several techniques have it and none is given.
    """
    if given is not None:
        return given
    having = [technique for technique in techniques if getattr(technique, hook)]
    if len(having) > 1:
        names = " and ".join(repr(technique.name) for technique in having)
        raise UserError(f"the techniques {names} each bring a {hook}; compose them and give Experiment({hook}=...).")
    return getattr(having[0], hook) if having else None


def check_read(
    techniques: tuple[Technique, ...], *, grad_fn: GradFn | None, step: Step, state: State, batch: Mapping[str, Any]
) -> None:  # fmt: skip
    """Raises UserError for a technique whose entry of stats nothing reads: then a part of it is not wired.

    The gradient must read the entry of a technique that brings a loss or a gradient estimator, and the step that of any
    other. An entry with a `view` or an `observe` is read elsewhere. Without `grad_fn`, the step stands for it. The
    state may be abstract.
    """
    kept = [technique for technique in techniques if technique.memory]
    estimating = [technique for technique in kept if technique.loss or technique.grad_fn]
    others = [t for t in kept if t not in estimating and not (t.view or t.observe)]
    if grad_fn is None:
        estimating, others = [], [*estimating, *others]
    read: set[str] = set()
    if estimating:
        key = jax.eval_shape(lambda: jax.random.key(0))
        read |= _entries_read(grad_fn, state.params, Ctx(batch, state.stats, key, state.step))
    if others:
        read |= _entries_read(step, state, batch)
    for technique in (*estimating, *others):
        if technique.name not in read:
            raise UserError(
                f"nothing reads the entry of stats that the technique {technique.name!r} keeps. Does the experiment's "
                "loss=, grad_fn= or transform= leave out the technique's own?"
            )


def _entries_read(program: Callable, *arguments: Any) -> set[str]:
    """The names of the entries of stats, anywhere among the arguments, that a program reads."""
    jaxpr = jax.make_jaxpr(program)(*arguments).jaxpr
    used = {id(atom) for equation in jaxpr.eqns for atom in equation.invars}
    paths = [path_name(path).split("/") for path, _ in jax.tree.leaves_with_path(arguments)]
    read = [path for path, variable in zip(paths, jaxpr.invars, strict=True) if id(variable) in used]
    return {path[path.index("stats") + 1] for path in read if "stats" in path}
