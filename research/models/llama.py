"""LLaMA, a decoder-only language model, and its relatives that differ in options: Mistral, Qwen2 and Qwen3."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P

from research.axes import Array, Float, Integer
from research.core import Tree
from research.distributed.sharding import BATCH_AXES, constrain, fsdp
from research.errors import UserError
from research.layers.attention import attention, causal_mask
from research.layers.embedding import Embed, embed_tokens
from research.layers.linear import Linear, flatten_leading_axes
from research.layers.rms_norm import RMSNorm
from research.layers.rotary import Llama3, Scaling, rotate
from research.layers.transformer import Block
from research.models.decoder import apply_blocks, apply_cached, check_length, packed_mask, vocabulary_tactic

QKV = ("q", "k", "v")
LLAMA_7B = {"length": 2048, "epsilon": 1e-6}
LLAMA2_7B = {"length": 4096}
LLAMA3_8B = {
    "vocabulary": 128_256, "length": 8192, "kv_heads": 8, "hidden": 14_336, "rope_base": 500_000.0,
}  # fmt: skip
LLAMA32_1B = {
    "vocabulary": 128_256, "length": 131_072, "width": 2048, "depth": 16, "kv_heads": 8, "hidden": 8192, "tied": True,
    "rope_base": 500_000.0, "rope_scaling": Llama3(32.0),
}  # fmt: skip
TINYLLAMA_1B = {"length": 2048, "width": 2048, "depth": 22, "kv_heads": 4, "hidden": 5632}
MISTRAL_7B = {"length": 32_768, "kv_heads": 8, "hidden": 14_336, "window": 4096}
QWEN2_05B = {
    "vocabulary": 151_936, "length": 131_072, "width": 896, "depth": 24, "heads": 14, "kv_heads": 2, "hidden": 4864,
    "rope_base": 1_000_000.0, "epsilon": 1e-6, "use_bias": QKV, "tied": True,
}  # fmt: skip
QWEN3_06B = {
    "vocabulary": 151_936, "length": 40_960, "width": 1024, "depth": 28, "heads": 16, "kv_heads": 8, "head_width": 128,
    "hidden": 3072, "rope_base": 1_000_000.0, "epsilon": 1e-6, "qk_norm": True, "tied": True,
}  # fmt: skip


def rules(*, tied: bool = False, use_bias: bool = False, min_size: int = 2**14) -> tuple:
    """Return the sharding rules of a LLaMA's params for any mesh, for `Experiment.rules`.

    The axis "tensor" splits heads, hidden units and the vocabulary (Shoeybi et al. 2019, Megatron-LM), and "pipeline"
    the layers if they are stacked. A vocabulary that "tensor" does not divide is not split over it. "fsdp" splits the
    largest remaining dimension of every array that has at least `min_size` entries. `tied` and `use_bias` are those of
    the model (`use_bias`: whether q, k and v have biases).
    """
    return (
        *(((r"attention/[qkv]/bias$", P("tensor")),) if use_bias else ()),
        *(() if tied else ((r"(^|/)head/kernel$", vocabulary_tactic(1, min_size=min_size)),)),
        (r"(^|/)embed/embedding$", vocabulary_tactic(0, min_size=min_size)),
        (r"attention/[qkv]/kernel$", fsdp(None, "tensor", min_size=min_size)),
        (r"attention/out/kernel$", fsdp("tensor", min_size=min_size)),
        (r"feed_forward/(gate|up)/kernel$", fsdp(None, "tensor", min_size=min_size)),
        (r"feed_forward/down/kernel$", fsdp("tensor", min_size=min_size)),
        (r".", fsdp(min_size=min_size)),
    )


class LLaMA(nnx.Module):
    """A causal transformer with rotary positions, RMSNorm and SwiGLU; returns the logits of each next token.

    Touvron et al. 2023, arXiv:2302.13971. The defaults are LLaMA 2 7B, 6.738 G parameters; the constants of this file
    are other members of the family. `segments` and `positions` of packed documents, `attend`, `mask` and `stack` are
    those of `models.gpt.GPT`, and so is `cache`.

    `kv_heads` shares keys and values among groups of heads (LLaMA 3). `window` limits attention to the last tokens
    (Mistral). `use_bias` names the layers of attention that have a bias (Qwen2: q, k, v), and `qk_norm` normalises
    queries and keys (Qwen3). With `tied`, the output layer is the transposed embedding. `rope_base` and `rope_scaling`
    are those of `layers.rotary.rotate`. With `states` the result is the normalised vector of each token.

    Raises UserError if a row is longer than `length`, and for a window without a mask.
    """

    def __init__(
        self, *, vocabulary: int = 32_000, length: int = 4096, width: int = 4096, depth: int = 32, heads: int = 32,
        kv_heads: int | None = None, head_width: int | None = None, hidden: int = 11_008, rope_base: float = 10_000.0,
        rope_scaling: Scaling | None = None, epsilon: float = 1e-5, window: int | None = None,
        use_bias: bool | Collection[str] = False, qk_norm: bool = False, tied: bool = False, dropout: float = 0.0,
        mask: Callable | None = causal_mask, attend: Callable = attention, states: bool = False,
        stack: Callable | None = None, rngs: nnx.Rngs,
    ):  # fmt: skip
        if window and mask is None:
            raise UserError(f"window={window} needs a mask; an attention function with its own mask has no window.")
        normal = nnx.initializers.normal(0.02)
        self.embed = Embed(vocabulary, width, embedding_init=normal, rngs=rngs)
        attention_options = dict(
            kv_heads=kv_heads, head_width=head_width, use_bias=use_bias, attend=attend,
            rope=functools.partial(rotate, base=rope_base, scaling=rope_scaling),
            qk_norm=functools.partial(RMSNorm, epsilon=epsilon) if qk_norm else None,
        )  # fmt: skip

        def build():
            return Block(
                width, heads=heads, hidden=hidden, attention=attention_options,
                feed_forward={"activation": jax.nn.silu, "gated": True, "use_bias": False}, norm=RMSNorm,
                epsilon=epsilon, dropout=dropout, kernel_init=normal, rngs=rngs,
            )  # fmt: skip

        self.blocks = stack(build, depth) if stack else nnx.List(build() for _ in range(depth))
        self.norm = RMSNorm(width, epsilon=epsilon)
        self.head = None if tied or states else Linear(width, vocabulary, use_bias=False, kernel_init=normal, rngs=rngs)
        self.states = states
        self.length, self.mask = length, functools.partial(mask, window=window) if window else mask

    def __call__(
        self,
        tokens: Integer[Array, "batch time"],
        segments: Integer[Array, "batch time"] | None = None,
        positions: Integer[Array, "batch time"] | None = None,
        cache: Tree = None,
        *,
        train: bool,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "batch time outputs"] | tuple[Float[Array, "batch time outputs"], Tree]:
        check_length(tokens, self.length, cache=cache)
        x = constrain(embed_tokens(self.embed, tokens), BATCH_AXES, "context")
        positions = jnp.arange(tokens.shape[1]) if positions is None else positions
        if cache is None:
            mask = packed_mask(self.mask, segments, length=tokens.shape[1])
            x = apply_blocks(self.blocks, x, mask=mask, positions=positions, train=train, rngs=rngs)
        else:
            x, cache = apply_cached(self.blocks, x, cache, mask=self.mask, segments=segments, positions=positions)
        x = self.norm(x)
        if not self.states:
            x = flatten_leading_axes(self.embed.attend, x) if self.head is None else self.head(x)
        return x if cache is None else (x, cache)
