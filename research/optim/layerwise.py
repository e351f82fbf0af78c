"""A learning rate for each layer: factors on the updates of any optimizer, by depth or by path.

    optimizer=lambda rate: optax.chain(optax.adamw(rate), scale_by_depth(0.8))

The factor scales the entire update, with a decoupled weight decay, as a learning rate of each group of parameters does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax

from research.core import Tree
from research.distributed.sharding import STACKED
from research.errors import UserError
from research.tree import matching, path_name

LAYERS = r"(^|/)blocks/(?P<layer>\w+)/"
BOTTOM = r"(^|/)(embed|place|type|embed_norm|widen)/"


def scale_by_depth(decay: float, *, layers: str = LAYERS, bottom: str = BOTTOM) -> optax.GradientTransformation:
    """Scale updates by a factor that decreases with the distance from the output, decay^(depth + 1 - level).

    Level 0 are the parameters whose path matches `bottom` (the embeddings), levels 1 to `depth` the layers, and level
    depth + 1 all others, such as the head (Clark et al. 2020, ELECTRA, arXiv:2003.10555, appendix B; Bao et al. 2022,
    BEiT). ULMFiT has decay = 1 / 2.6 (Howard & Ruder 2018, section 3.2). Limit: with decay 1 nothing changes.

    The group `layer` of the regular expression `layers` is the number of a layer, from 0, or "stacked": then the
    leading axis of the array counts the layers. `depth` is that of the params, thus frozen layers are not counted if
    no later layer is trained. Raises UserError if decay is not above 0 and at most 1, if `layers` has no group `layer`,
    and if it matches no parameter.
    """
    if not 0 < decay <= 1:
        raise UserError(f"scale_by_depth(decay={decay}); expected a number above 0 and at most 1.")
    if "layer" not in re.compile(layers).groupindex:
        raise UserError(
            f"scale_by_depth(layers={layers!r}); expected a group (?P<layer>...) for the number of a layer."
        )

    def factors(params):
        named = {path_name(path): x for path, x in jax.tree.leaves_with_path(params)}
        found = {name: re.search(layers, name)["layer"] for name in matching(layers, named, owner="scale_by_depth:")}
        depth = max(len(named[name]) if layer == STACKED else int(layer) + 1 for name, layer in found.items())

        def factor(path, x):
            name = path_name(path)
            if found.get(name) == STACKED:
                return decay ** jnp.arange(depth, 0, -1, dtype=jnp.float32).reshape(-1, *(1,) * (x.ndim - 1))
            if name in found:
                return decay ** (depth - int(found[name]))
            return decay ** (depth + 1) if re.search(bottom, name) else 1.0

        return jax.tree.map_with_path(factor, params)

    return _scaled(factors)


def scale_by_path(factors: Mapping[str, float]) -> optax.GradientTransformation:
    """Scale the updates of parameters by {pattern: factor}; the first regular expression that matches decides.

    A pattern is searched in the path, such as `blocks/0/attention/q/kernel`. Parameters that no pattern matches keep
    their updates. This is discriminative fine-tuning (Howard & Ruder 2018, section 3.2). Raises UserError for a pattern
    that matches no parameter.
    """

    def of(params):
        names = [path_name(path) for path, _ in jax.tree.leaves_with_path(params)]
        for pattern in factors:
            matching(pattern, names, owner="scale_by_path:")
        first = lambda name: next((f for pattern, f in factors.items() if re.search(pattern, name)), 1.0)
        return jax.tree.map_with_path(lambda path, _: first(path_name(path)), params)

    return _scaled(of)


def _scaled(factors: Callable[[Tree], Tree]) -> optax.GradientTransformation:
    def init(params):
        factors(params)  # raises the errors before the first step
        return optax.EmptyState()

    def update(updates, state, params=None):
        scaled = jax.tree.map(lambda u, factor: (u * factor).astype(u.dtype), updates, factors(updates))
        return scaled, state

    return optax.GradientTransformation(init, update)
