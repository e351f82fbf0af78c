"""The pre-LN transformer block that ViT and GPT share."""

import jax
from flax import nnx

from research.errors import UserError
from research.layers.attention import SelfAttention, attention


class FeedForward(nnx.Module):
    """Two linear layers with a (tanh-approximated) GELU between them: [..., width] -> the same."""

    def __init__(self, width, *, hidden, kernel_init, out_init=None, dtype=None, rngs: nnx.Rngs):
        self.up = nnx.Linear(width, hidden, kernel_init=kernel_init, dtype=dtype, rngs=rngs)
        self.down = nnx.Linear(hidden, width, kernel_init=out_init or kernel_init, dtype=dtype, rngs=rngs)

    def __call__(self, x, *, train: bool, rngs=None):
        return self.down(jax.nn.gelu(self.up(x), approximate=True))


class Block(nnx.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)), each branch with dropout: [B, T, width] -> the same.

    Pre-LN (Xiong et al. 2020). `hidden` defaults to four times the width; `out_init` is the initialiser of the two
    layers that write into the residual stream; `attend` is as for `SelfAttention`.

    Raises UserError where the width is not a multiple of the heads.
    """

    def __init__(
        self, width, *, heads, hidden=None, dropout=0.0, epsilon=1e-6,
        kernel_init, out_init=None, attend=attention, dtype=None, rngs: nnx.Rngs,
    ):  # fmt: skip
        if width % heads:
            raise UserError(f"a width of {width} cannot be split over {heads} heads.")
        inits = dict(kernel_init=kernel_init, out_init=out_init, dtype=dtype, rngs=rngs)
        self.attention_norm = nnx.LayerNorm(width, epsilon=epsilon, dtype=dtype, rngs=rngs)
        self.attention = SelfAttention(width, heads=heads, attend=attend, **inits)
        self.feed_forward_norm = nnx.LayerNorm(width, epsilon=epsilon, dtype=dtype, rngs=rngs)
        self.feed_forward = FeedForward(width, hidden=hidden or 4 * width, **inits)
        self.dropout = nnx.Dropout(dropout)

    def __call__(self, x, *, mask=None, train: bool, rngs=None):
        y = self.attention(self.attention_norm(x), mask=mask, train=train, rngs=rngs)
        x = x + self.dropout(y, deterministic=not train, rngs=rngs)
        y = self.feed_forward(self.feed_forward_norm(x), train=train, rngs=rngs)
        return x + self.dropout(y, deterministic=not train, rngs=rngs)
