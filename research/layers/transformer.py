"""The pre-LN transformer block of ViT and GPT."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
from flax import nnx

from research.axes import Array, Float, Integer
from research.errors import UserError
from research.layers.attention import Mask, SelfAttention, attention
from research.layers.experts import Experts, Routed
from research.layers.layer_norm import LayerNorm
from research.layers.linear import Linear


class FeedForward(nnx.Module):
    """Two linear layers with a (tanh-approximated) GELU between them."""

    def __init__(self, width, *, hidden, kernel_init, out_init=None, rngs: nnx.Rngs):
        self.up = Linear(width, hidden, kernel_init=kernel_init, rngs=rngs)
        self.down = Linear(hidden, width, kernel_init=out_init or kernel_init, rngs=rngs)

    def __call__(
        self, x: Float[Array, "*batch features"], *, train: bool, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "*batch features"]:
        return self.down(jax.nn.gelu(self.up(x), approximate=True))


class Block(nnx.Module):
    """A pre-LN block: x + attention(norm(x)), then x + feed_forward(norm(x)), with dropout on each branch.

    Xiong et al. 2020. `hidden` defaults to four times the width. `out_init` initialises the two layers that write to
    the residual stream. `attend` is passed to `SelfAttention`. With `experts`, the options of `Experts`, a mixture of
    experts replaces the feed-forward layers; the block then maps Routed to Routed and adds its load-balancing loss.

    Raises UserError if the width is not a multiple of the number of heads.
    """

    def __init__(
        self, width: int, *, heads: int, hidden: int | None = None, experts: Mapping | None = None,
        dropout: float = 0.0, epsilon: float = 1e-6, kernel_init, out_init=None, attend: Callable = attention,
        rngs: nnx.Rngs,
    ):  # fmt: skip
        if width % heads:
            raise UserError(f"a width of {width} cannot be split over {heads} heads; use a multiple of {heads}.")
        inits = dict(kernel_init=kernel_init, out_init=out_init, rngs=rngs)
        self.attention_norm = LayerNorm(width, epsilon=epsilon)
        self.attention = SelfAttention(width, heads=heads, attend=attend, **inits)
        self.feed_forward_norm = LayerNorm(width, epsilon=epsilon)
        if experts is None:
            self.feed_forward = FeedForward(width, hidden=hidden or 4 * width, **inits)
        else:
            self.feed_forward = Experts(width, **experts, **inits)
        self.dropout = nnx.Dropout(dropout)

    def __call__(
        self,
        x: Float[Array, "batch time features"] | Routed,
        *,
        mask: Mask | Integer[Array, "batch time"] | None = None,
        train: bool,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "batch time features"] | Routed:
        routed = isinstance(x, Routed)
        x, balance = x if routed else (x, 0.0)
        y = self.attention(self.attention_norm(x), mask=mask, train=train, rngs=rngs)
        x = x + self.dropout(y, deterministic=not train, rngs=rngs)
        y = self.feed_forward(self.feed_forward_norm(x), train=train, rngs=rngs)
        y, block_balance = y if routed else (y, 0.0)
        x = x + self.dropout(y, deterministic=not train, rngs=rngs)
        return Routed(x, balance + block_balance) if routed else x
