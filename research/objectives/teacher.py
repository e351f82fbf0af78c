"""Teachers: which weights give the targets that another loss is trained on, and how they come into a run.

A teacher is a model's `apply` and a View, the same as says which weights an evaluation sees: `live` (the model
itself), `ema(...).view` (its moving average), or the view of a `taught` model (another, trained network).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax

from research.axes import Array, Key, Shaped
from research.core import Ctx, Model, State, Tree, View, draw
from research.errors import UserError


class Taught(NamedTuple):
    """A student `model` whose init also makes the teacher's arrays, and the `view` of these."""

    model: Model
    view: View


def taught(model: Model, teacher: Model, *, name: str = "teacher") -> Taught:
    """The student `model` together with the weights of a `teacher`, which nothing trains.

    They are the entry `name` of stats, {"params": ..., "stats": ...}: they are placed and saved with the rest, and
    a run that resumes needs no other run. Fresh ones are of no use: load them by the Experiment's
    `init_from=pretrained(RUN, {r"stats/teacher/params/(.*)": r"\\1"})`, with a second line
    `r"stats/teacher/stats/(.*)": r"stats/\\1"` where the teacher has stats (BatchNorm); or give a teacher whose init
    returns the arrays. Raises UserError where the model keeps a stats entry of that name.
    """

    def init(key):
        params, stats = model.init(key)
        if name in stats:
            raise UserError(f"the model keeps a stats entry {name!r} itself; give taught(..., name=) another.")
        weights, others = teacher.init(draw(key, name))
        return params, {**stats, name: {"params": weights, **({"stats": others} if others else {})}}

    def view(state):
        entry = state.stats[name]
        return entry["params"], entry.get("stats", {})

    return Taught(Model(init, model.apply), view)


def targets(
    apply: Callable, view: View, params: Tree, ctx: Ctx, inputs: Shaped[Array, "batch ..."], *,
    key: Key[Array, ""] | None = None, train: bool = False,
) -> Tree:  # fmt: skip
    """The outputs of the teacher (`apply`, `view`) for `inputs`, through which no gradient flows.

    A Loss knows no optimizer: of the State that the view sees only params, stats and step are there. Stats that
    the teacher changes are dropped.
    """
    weights, stats = view(State(None, None, ctx.step, params, ctx.stats, None))
    outputs, _ = apply(weights, stats, inputs, key=key, train=train)
    return jax.lax.stop_gradient(outputs)
