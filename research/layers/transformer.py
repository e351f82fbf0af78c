"""The transformer block, pre-LN or post-LN, and its feed-forward layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from flax import nnx

from research.axes import Array, Bool, Float, Int, Integer
from research.layers.activations import gelu_tanh
from research.layers.attention import Mask, MultiHeadAttention
from research.layers.cache import Cache
from research.layers.experts import Experts, Routed
from research.layers.layer_norm import LayerNorm
from research.layers.linear import Linear


class FeedForward(nnx.Module):
    """Two linear layers with an activation between them: down(activation(up(x))).

    With `gated` it is down(activation(gate(x)) * up(x)), a gated linear unit (Shazeer 2020, arXiv:2002.05202).
    `dropout` is the rate on the hidden units.
    """

    def __init__(
        self, width, *, hidden, activation: Callable = gelu_tanh, gated=False, use_bias=True, dropout=0.0, kernel_init,
        out_init=None, rngs: nnx.Rngs,
    ):  # fmt: skip
        self.up = Linear(width, hidden, use_bias=use_bias, kernel_init=kernel_init, rngs=rngs)
        self.down = Linear(hidden, width, use_bias=use_bias, kernel_init=out_init or kernel_init, rngs=rngs)
        self.gate = Linear(width, hidden, use_bias=use_bias, kernel_init=kernel_init, rngs=rngs) if gated else None
        self.dropout, self.activation = nnx.Dropout(dropout), activation

    def __call__(
        self, x: Float[Array, "*batch features"], *, train: bool, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "*batch features"]:
        hidden = self.activation(self.up(x)) if self.gate is None else self.activation(self.gate(x)) * self.up(x)
        return self.down(self.dropout(hidden, deterministic=not train, rngs=rngs))


class Block(nnx.Module):
    """A transformer block: attention, optionally attention to another sequence, and feed-forward layers.

    Each of these branches has a norm and dropout. The block is pre-LN: x + dropout(branch(norm(x))) (Xiong et al.
    2020). With `post_norm` it is norm(x + dropout(branch(x))) (Vaswani et al. 2017, BERT).

    `hidden` defaults to four times the width. `norm(width, epsilon=)` is LayerNorm, RMSNorm or the like. `attention`
    and `feed_forward` contain further options of `MultiHeadAttention` and `FeedForward`. With `cross_attention`, the
    options of a second `MultiHeadAttention` such as {}, the block also attends to `memory`. `out_init` initialises the
    layers that write to the residual stream. With `experts`, the options of `Experts`, a mixture of experts replaces
    the feed-forward layers; the block then maps Routed to Routed and adds its load-balancing loss. `cache` and
    `sources` are those of `MultiHeadAttention`: with `sources`, the result is (x, cache).

    Raises UserError for options that do not fit; see `MultiHeadAttention`, `Experts`.
    """

    def __init__(
        self, width: int, *, heads: int, hidden: int | None = None, attention: Mapping | None = None,
        cross_attention: Mapping | None = None, feed_forward: Mapping | None = None, experts: Mapping | None = None,
        norm: Callable = LayerNorm, post_norm: bool = False, dropout: float = 0.0, epsilon: float = 1e-6, kernel_init,
        out_init=None, rngs: nnx.Rngs,
    ):  # fmt: skip
        inits = dict(kernel_init=kernel_init, out_init=out_init, rngs=rngs)
        self.attention_norm = norm(width, epsilon=epsilon)
        self.attention = MultiHeadAttention(width, heads=heads, **{**inits, **(attention or {})})
        if cross_attention is None:
            self.cross_attention_norm = self.cross_attention = None
        else:
            self.cross_attention_norm = norm(width, epsilon=epsilon)
            self.cross_attention = MultiHeadAttention(width, heads=heads, **{**inits, **cross_attention})
        self.feed_forward_norm = norm(width, epsilon=epsilon)
        if experts is None:
            self.feed_forward = FeedForward(width, hidden=hidden or 4 * width, **{**inits, **(feed_forward or {})})
        else:
            self.feed_forward = Experts(width, **{**inits, **experts})
        self.dropout, self.post_norm = nnx.Dropout(dropout), post_norm

    def __call__(
        self,
        x: Float[Array, "batch time features"] | Routed,
        *,
        mask: Mask | Integer[Array, "batch time"] | None = None,
        bias: Float[Array, "#batch #heads time keys"] | None = None,
        positions: Integer[Array, " time"] | Integer[Array, "#batch time"] | None = None,
        memory: Float[Array, "batch memory_time memory_features"] | Cache | None = None,
        memory_mask: Bool[Array, "#batch #heads #time memory_time"] | None = None,
        cache: Cache | None = None,
        sources: Int[Array, "batch places"] | None = None,
        train: bool,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "batch time features"] | Routed | tuple[Float[Array, "batch time features"], Cache]:
        routed = isinstance(x, Routed)
        x, balance = x if routed else (x, 0.0)

        def add(x, branch, norm):
            if self.post_norm:
                return norm(x + self.dropout(branch(x), deterministic=not train, rngs=rngs))
            return x + self.dropout(branch(norm(x)), deterministic=not train, rngs=rngs)

        def attend(x):
            nonlocal cache
            options = dict(mask=mask, bias=bias, positions=positions, train=train, rngs=rngs)
            if sources is None:
                return self.attention(x, **options)
            y, cache = self.attention(x, cache=cache, sources=sources, **options)
            return y

        def cross_attend(x):
            return self.cross_attention(x, memory, mask=memory_mask, train=train, rngs=rngs)

        def feed_forward(x):
            nonlocal balance
            y = self.feed_forward(x, train=train, rngs=rngs)
            y, block_balance = y if routed else (y, 0.0)
            balance = balance + block_balance
            return y

        x = add(x, attend, self.attention_norm)
        if self.cross_attention is not None:
            x = add(x, cross_attend, self.cross_attention_norm)
        x = add(x, feed_forward, self.feed_forward_norm)
        if sources is not None:
            return x, cache
        return Routed(x, balance) if routed else x
