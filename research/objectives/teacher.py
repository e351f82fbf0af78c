"""Teachers: networks whose outputs are the targets of another loss, and how their weights enter a run.

A teacher is a model's `apply` and a View. The View is the same kind that selects the weights of an evaluation: `live`
(the model itself), `ema(...).view` (its moving average), or the view of a `with_teacher` model (a trained network).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax

from research.axes import Array, Key, Shaped
from research.core import Ctx, Model, State, Tree, View, draw
from research.errors import UserError


class WithTeacher(NamedTuple):
    """A student `model` whose init also makes the teacher's arrays, and the `view` of those arrays."""

    model: Model
    view: View


def with_teacher(model: Model, teacher: Model, *, name: str = "teacher") -> WithTeacher:
    """Combine the student `model` with the weights of a `teacher`, which are never trained.

    Effect on `stats`: the entry `name` holds {"params": ..., "stats": ...}. The arrays are placed and saved with the
    rest, so a resumed run does not need the teacher's run. Trap: init returns fresh, untrained weights. Load trained
    ones by the Experiment's `init_from=pretrained(RUN, {r"stats/teacher/params/(.*)": r"\\1"})`, with a second line
    `r"stats/teacher/stats/(.*)": r"stats/\\1"` if the teacher has stats (BatchNorm); or pass a teacher whose init
    returns trained arrays. Raises UserError if the model already has a stats entry of that name.
    """

    def init(key):
        params, stats = model.init(key)
        if name in stats:
            raise UserError(f"the model already has a stats entry {name!r}; set another with_teacher(..., name=).")
        weights, teacher_stats = teacher.init(draw(key, name))
        return params, {**stats, name: {"params": weights, **({"stats": teacher_stats} if teacher_stats else {})}}

    def view(state):
        entry = state.stats[name]
        return entry["params"], entry.get("stats", {})

    return WithTeacher(Model(init, model.apply), view)


def teacher_outputs(
    apply: Callable, view: View, params: Tree, ctx: Ctx, *inputs: Shaped[Array, "batch ..."],
    key: Key[Array, ""] | None = None, train: bool = False,
) -> Tree:  # fmt: skip
    """Compute the outputs of the teacher (`apply`, `view`) for `inputs`, without gradient.

    A Loss does not have the complete State, so the view receives only params, stats and step; the other fields are
    None. Stats that the teacher changes are discarded.
    """
    weights, stats = view(State(None, None, ctx.step, params, ctx.stats, None))
    outputs, _ = apply(weights, stats, *inputs, key=key, train=train)
    return jax.lax.stop_gradient(outputs)
