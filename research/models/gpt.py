"""GPT-2, a decoder-only language model, over packed documents (Radford et al. 2019); also usable as an encoder."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P

from research.axes import Array, Float, Integer
from research.core import Tree
from research.distributed.sharding import BATCH_AXES, constrain, fsdp
from research.errors import UserError
from research.layers.attention import attention, causal_mask
from research.layers.embedding import Embed, embed_tokens
from research.layers.experts import Routed
from research.layers.layer_norm import LayerNorm
from research.layers.linear import Linear, flatten_leading_axes
from research.layers.transformer import Block
from research.models.decoder import apply_blocks, apply_cached, check_length, packed_mask, vocabulary_tactic


def rules(*, experts: bool = False, min_size: int = 2**14) -> tuple:
    """Return the sharding rules of a GPT's params for any mesh, for `Experiment.rules`.

    The axis "tensor" splits heads, hidden units and the vocabulary (Shoeybi et al. 2019, Megatron-LM), "expert" the
    experts, and "pipeline" the layers if they are stacked. A vocabulary that "tensor" does not divide is not split over
    it: round its size up. "fsdp" splits the largest remaining dimension of every array that has at least `min_size`
    entries. Set `experts` for a model with a mixture of experts.
    """
    lead = ("expert",) if experts else ()
    return (
        (r"(^|/)embed/embedding$", vocabulary_tactic(0, min_size=min_size)),
        (r"attention/[qkv]/kernel$", fsdp(None, "tensor", min_size=min_size)),
        (r"attention/[qkv]/bias$", P("tensor")),
        (r"attention/out/kernel$", fsdp("tensor", min_size=min_size)),
        (r"feed_forward/up/kernel$", fsdp(*lead, None, "tensor", min_size=min_size)),
        (r"feed_forward/up/bias$", P(*lead, "tensor")),
        (r"feed_forward/down/kernel$", fsdp(*lead, "tensor", min_size=min_size)),
        *(((r"feed_forward/down/bias$", P(*lead)),) if experts else ()),
        (r".", fsdp(min_size=min_size)),
    )


class GPT(nnx.Module):
    """A causal transformer that returns the logits of each next token, or with `num_classes` those of the row's class.

    The defaults are GPT-2 small, 124.4 M parameters.

    `segments` numbers the documents packed into a row (0 is padding): a token attends only within its own segment.
    `positions` counts tokens within the document, by default within the row. The output layer is the transposed
    embedding. With `num_classes` it is a linear layer instead, which reads the last token of each row (Radford et al.
    2018, section 3.2); padding is on its right. With `states` there is no output layer: the result is the normalised
    vector of each token.

    `mask(length)` returns the attention mask by position, by default causal. With `full_mask`, a token attends in both
    directions, and the logits are those of the token itself: an encoder for masked language modelling (BERT, but
    pre-LN). `attend` is the attention function. With `mask=None` it must apply its own mask by position, and receives
    the segments: use `layers.ring.ring_attention` for rows too long for one device.

    With `experts`, the options of `layers.experts.Experts` such as {"number": 8}, a mixture of experts replaces the
    feed-forward layers. In training the result is then Routed(logits, balance), with the load-balancing loss averaged
    over the layers. `stack(build, depth)`, such as `layers.stack.Stack`, stores the blocks as one stacked module.

    With a `cache`, the tokens continue those in it, and the result is (logits, cache): see `decoder.apply_cached`.

    Raises UserError if a row is longer than `length`, for a cache with experts or with a mask that is not causal, and
    for classes with experts.
    """

    def __init__(
        self, *, vocabulary: int = 50_257, length: int = 1024, width: int = 768, depth: int = 12, heads: int = 12,
        dropout: float = 0.0, mask: Callable | None = causal_mask, attend: Callable = attention,
        experts: Mapping | None = None, num_classes: int | None = None, states: bool = False,
        stack: Callable | None = None, rngs: nnx.Rngs,
    ):  # fmt: skip
        if experts and num_classes:
            raise UserError(f"num_classes={num_classes} with experts; expected one of them.")
        normal = nnx.initializers.normal
        self.embed = Embed(vocabulary, width, embedding_init=normal(0.02), rngs=rngs)
        self.place = Embed(length, width, embedding_init=normal(0.01), rngs=rngs)
        self.dropout = nnx.Dropout(dropout)
        # 2 * depth layers write to the residual stream. This scale keeps their sum independent of depth.
        out = normal(0.02 / math.sqrt(2 * depth))

        def build():
            return Block(
                width, heads=heads, attention={"attend": attend}, experts=experts, dropout=dropout, epsilon=1e-5,
                kernel_init=normal(0.02), out_init=out, rngs=rngs,
            )  # fmt: skip

        self.blocks = stack(build, depth) if stack else nnx.List(build() for _ in range(depth))
        self.norm = LayerNorm(width, epsilon=1e-5)
        self.classifier = Linear(width, num_classes, kernel_init=normal(0.02), rngs=rngs) if num_classes else None
        self.length, self.depth, self.mask, self.routed, self.states = length, depth, mask, experts is not None, states

    def __call__(
        self,
        tokens: Integer[Array, "batch time"],
        segments: Integer[Array, "batch time"] | None = None,
        positions: Integer[Array, "batch time"] | None = None,
        cache: Tree = None,
        *,
        train: bool,
        rngs: nnx.Rngs | None = None,
    ) -> (
        Float[Array, "batch time outputs"]
        | Float[Array, "batch classes"]
        | Routed
        | tuple[Float[Array, "batch time outputs"] | Float[Array, "batch classes"], Tree]
    ):
        check_length(tokens, self.length, cache=cache)
        positions = jnp.arange(tokens.shape[1]) if positions is None else positions
        x = embed_tokens(self.embed, tokens) + embed_tokens(self.place, positions)
        x = constrain(self.dropout(x, deterministic=not train, rngs=rngs), BATCH_AXES, "context")
        if cache is not None:
            if self.routed:
                raise UserError("a mixture of experts has no cache, because the tokens of a row share its experts.")
            x, cache = apply_cached(self.blocks, x, cache, mask=self.mask, segments=segments, positions=positions)
            return self._outputs(x, segments), cache
        if self.routed:
            x = Routed(x, jnp.zeros(len(tokens)))
        mask = packed_mask(self.mask, segments, length=tokens.shape[1])
        x = apply_blocks(self.blocks, x, mask=mask, train=train, rngs=rngs)
        x, balance = x if self.routed else (x, None)
        logits = self._outputs(x, segments)
        return Routed(logits, balance / self.depth) if self.routed and train else logits

    def _outputs(self, x, segments):
        if self.states:
            return self.norm(x)
        if self.classifier is None:
            return flatten_leading_axes(self.embed.attend, self.norm(x))
        if segments is None:
            return self.classifier(self.norm(x[:, -1]))
        last = jnp.maximum((segments > 0).sum(1) - 1, 0)
        return self.classifier(self.norm(jnp.take_along_axis(x, last[:, None, None], 1)[:, 0]))
