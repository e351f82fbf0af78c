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
from research.core import After, GradFn, Loss, Observe, State, Tree, View, draw
from research.errors import UserError
from research.tree import path_name


class Technique(NamedTuple):
    """What a technique brings to an experiment; each field but the name may be None.

    name: of the technique, and of its entry of stats
    memory: `(key, params) -> entry`, the entry at step 0
    after: what follows each update of the params
    observe: what follows the evaluations of a step
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
    loss: Loss | None = None
    grad_fn: GradFn | None = None
    optimizer: Callable[[optax.GradientTransformation], optax.GradientTransformation] | None = None
    view: View | None = None
    use: Callable[..., Any] | None = None


def check_names(techniques: tuple[Any, ...]) -> None:
    """Raises UserError for a value that is no Technique, and for two of one name."""
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


def check_read(techniques: tuple[Technique, ...], read: Mapping[str, bool]) -> None:
    """Raises UserError for an entry of a technique that the step never reads: then a part of it is not wired.

    `read` {path below stats: whether the step reads it}. What an `observe` remembers is read by the host.
    """
    for technique in techniques:
        for path, used in read.items():
            if path.split("/")[0] == technique.name and not used and technique.observe is None:
                raise UserError(
                    f"nothing reads {path!r}, which the technique {technique.name!r} keeps in stats. Does the "
                    "experiment's loss=, grad_fn= or transform= leave out the technique's own?"
                )


def read_entries(jaxpr: Any, state: State) -> dict[str, bool]:
    """{path below stats: whether the program reads it}, of a jaxpr whose first arguments are the leaves of `state`."""
    used = {id(atom) for equation in jaxpr.eqns for atom in equation.invars}
    leaves = jax.tree.leaves_with_path(state)
    return {
        path_name(path).removeprefix("stats/"): id(variable) in used
        for (path, _), variable in zip(leaves, jaxpr.invars, strict=False)
        if path_name(path).startswith("stats/")
    }
