import jax
import numpy as np
import pytest
from flax import nnx

from research.layers.embedding import Embed, embed_tokens

EMBED = Embed(5, 3, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.int8])
def test_a_token_is_a_row_of_the_table_and_one_out_of_range_is_nan(dtype):
    tokens = np.array([[0, 4], [-1, 5]]).astype(dtype)
    found, slopes = jax.jit(
        lambda tokens: (embed_tokens(EMBED, tokens), jax.grad(total)(EMBED.embedding[...], tokens))
    )(tokens)
    table = np.asarray(EMBED.embedding[...])
    np.testing.assert_array_equal(found, [[table[0], table[4]], np.full((2, 3), np.nan)])
    np.testing.assert_array_equal(slopes.sum(1), [3, 0, 0, 0, 3])


def total(table, tokens):
    embed = Embed(5, 3, rngs=nnx.Rngs(0))
    embed.embedding[...] = table
    return embed_tokens(embed, tokens).sum()
