"""Adapters: train bottlenecks after chosen linear layers, while the model's own params are frozen."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from research.axes import Array, Float
from research.core import Model, Tree, draw
from research.errors import UserError
from research.layers.activations import gelu
from research.layers.linear import TunedKernel
from research.wrappers.frozen import thawed
from research.wrappers.tuned import beside, change_layers, frozen_beside, linear_kernels

ADAPTER = "adapter"  # a sibling of the kernel
BRANCHES = r"(attention/out|feed_forward/down)/kernel$"  # the last layers of both branches of a transformer block


def adapters(model: Model, pattern: str = BRANCHES, *, width: int = 64, train: str | None = None) -> Model:
    """Insert a bottleneck after each linear layer whose kernel's path matches the regular expression `pattern`.

    The output h of the layer becomes h + up(gelu(down(h))), with linear layers `down` to `width` features and `up`
    back (Houlsby et al. 2019, arXiv:1902.00751, section 2.1). By default they follow the attention and the feed-forward
    layers of every transformer block, before the residual sum. Their params are `adapter/down` and `adapter/up` beside
    the kernel. The kernel of `down` is normal with variance 1 / outputs, and `up` begins with zeros: the model at the
    start therefore equals `model`.

    The other params whose path matches `train`, such as a new head and the norms (as in the paper), are trained as they
    are; all remaining ones are frozen, as in `lora`. `mixed_precision` and `Linear`, too, are as in `lora`.

    Raises UserError if a pattern matches no parameter, if `pattern` matches anything but the kernel of a linear layer
    or something that `train` matches, if the width is below 1, and if the model is already frozen.
    """
    if width < 1:
        raise UserError(f"adapters(width={width}); expected at least 1.")

    def add(key, arrays):
        added = {}
        for path, layers, _, outputs in linear_kernels(pattern, arrays, owner="adapters", train=train):
            dtype = arrays[path].dtype
            down = jax.random.normal(draw(key, f"adapter/{path}"), (*layers, outputs, width), dtype)
            parts = {
                "down/kernel": down / jnp.sqrt(outputs).astype(dtype),
                "down/bias": jnp.zeros((*layers, width), dtype),
                "up/kernel": jnp.zeros((*layers, width, outputs), dtype),
                "up/bias": jnp.zeros((*layers, outputs), dtype),
            }
            added |= {beside(path, f"{ADAPTER}/{name}"): x for name, x in parts.items()}
        return added

    def apply(params: Tree, stats: Tree, *inputs, **options):
        full, model_stats = thawed(params, stats)
        return model.apply(change_layers(full, (ADAPTER,), _tuned), model_stats, *inputs, **options)

    return Model(frozen_beside(model, add, owner="adapters", train=train), apply)


def _tuned(layer, adapter):
    """The adapter follows the layer's bias, which therefore moves into the kernel's parts; the layer then adds 0."""
    parts = {f"{name}_{kind}": x for name, linear in adapter.items() for kind, x in linear.items()}
    if "bias" in layer:
        parts["bias"], layer = layer["bias"], {**layer, "bias": jnp.zeros_like(layer["bias"])}
    return {**layer, "kernel": TunedKernel(layer["kernel"], parts, bottleneck)}


def bottleneck(
    dot, x: Float[Array, "*batch features"], kernel: Float[Array, "features outputs"], *,
    down_kernel: Float[Array, "outputs bottleneck"], down_bias: Float[Array, " bottleneck"],
    up_kernel: Float[Array, "bottleneck outputs"], up_bias: Float[Array, " outputs"],
    bias: Float[Array, " outputs"] | None = None,
) -> Float[Array, "*batch outputs"]:  # fmt: skip
    """Compute h + up(gelu(down(h))) for h = x kernel + bias."""
    h = dot(x, kernel)
    if bias is not None:
        h = h + bias
    hidden = gelu(dot(h.astype(x.dtype), down_kernel) + down_bias)
    return h + (dot(hidden.astype(x.dtype), up_kernel) + up_bias)
