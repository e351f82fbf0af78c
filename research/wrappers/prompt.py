"""Prompt tuning: train the vectors of virtual tokens before each row, while the model's own params are frozen."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from research.core import Model, Tree, draw
from research.errors import UserError
from research.layers.cache import NewCache
from research.layers.embedding import Prompted
from research.tree import matching
from research.wrappers.frozen import named_arrays, thawed, with_arrays
from research.wrappers.tuned import beside, change_layers, frozen_beside

PROMPT = "prompt"  # a sibling of the embedding
EMBEDDING = r"(^|/)embed/embedding$"


def prompted(model: Model, length: int, *, embedding: str = EMBEDDING, train: str | None = None) -> Model:
    """Put `length` virtual tokens before each row of tokens, and train their vectors.

    Prompt tuning (Lester et al. 2021, arXiv:2104.08691, section 2). The vectors `prompt` [length, features] are a
    sibling of the embedding, whose path matches the regular expression `embedding`. They begin as random numbers with
    the standard deviation of its table; `prompt_from` starts with those of real tokens.

    The rows of the model become longer: positions begin at the prompt, and the model's length must allow for it.
    Outputs per token are those of the real tokens. A model that reads the first token, such as BERT's pooler, reads the
    first virtual one. Each row holds one document, padded on its right. A new cache (GPT, LLaMA) contains the prompt.

    The other params whose path matches `train`, such as a new head, are trained as they are; all remaining ones are
    frozen, as in `lora`, and `mixed_precision` is applied inside. The model must read tokens by
    `layers.embedding.embed_tokens`. Raises UserError if `length` is below 1, if a pattern matches no parameter, if
    `embedding` matches several, and if the model is already frozen.
    """
    if length < 1:
        raise UserError(f"prompted(length={length}); expected at least 1 virtual token.")

    def add(key, arrays):
        found = matching(embedding, arrays, owner="prompted: embedding")
        if len(found) > 1:
            raise UserError(f"prompted: {embedding!r} matches {found[0]!r} and {found[1]!r}; expected one embedding.")
        table = arrays[found[0]]
        vectors = jax.random.normal(draw(key, PROMPT), (length, table.shape[1]), table.dtype)
        return {beside(found[0], PROMPT): vectors * jnp.std(table)}

    def before(first, rows):
        rows = jnp.asarray(rows)
        first = jnp.broadcast_to(jnp.asarray(first, rows.dtype), (len(rows), length))
        return jnp.concatenate([first, rows], 1)

    def apply(params: Tree, stats: Tree, tokens, segments=None, positions=None, *more, **options):
        full, model_stats = thawed(params, stats)
        vocabulary = 0

        def change(layer, prompt):
            nonlocal vocabulary
            vocabulary = len(layer["embedding"])
            return {**layer, "embedding": Prompted(layer["embedding"], prompt)}

        full = change_layers(full, (PROMPT,), change)
        # The numbers of virtual tokens remain out of range in the data: they give NaN, as -1 does.
        tokens = jnp.where(tokens < vocabulary, tokens, -1)
        positions = None if positions is None else positions + length
        cache = more[0] if more and not hasattr(more[0], "shape") else None
        if cache is not None and not isinstance(cache, NewCache):  # it contains the prompt
            return model.apply(full, model_stats, tokens, segments, positions, *more, **options)
        total = length + tokens.shape[1]
        tokens = before(vocabulary + jnp.arange(length), tokens)
        segments = None if segments is None else before(segments[:, :1], segments)
        positions = None if positions is None else before(jnp.arange(length), positions)
        if cache is not None:
            more = (NewCache(cache.tokens + length, cache.rewinds), *more[1:])
        more = [before(0, x) if hasattr(x, "shape") else x for x in more]  # the token types of BERT
        outputs, changed = model.apply(full, model_stats, tokens, segments, positions, *more, **options)
        outputs, *cache = (outputs,) if cache is None else outputs
        outputs = jax.tree.map(lambda x: x[:, length:] if x.ndim == 3 and x.shape[1] == total else x, outputs)
        return (outputs, *cache) if cache else outputs, changed

    return Model(frozen_beside(model, add, owner="prompted", train=train), apply)


def prompt_from(tokens: Sequence[int], init_from: Callable) -> Callable:
    """Return an `init_from` that does the same and starts the prompt with the vectors of real `tokens`.

    Lester et al. 2021, section 3.2. Raises UserError if the number of tokens is not the length of the prompt, if a
    token is not one of the vocabulary, and if `init_from` does not load the embedding.
    """

    def start(params, stats):
        params, stats = init_from(params, stats)
        arrays = named_arrays(params, stats)
        path = next((name for name in arrays if name.split("/")[-1] == PROMPT), None)
        if path is None:
            raise UserError("prompt_from: the model has no prompt; expected that of prompted(...).")
        target, table = arrays[path], arrays[beside(path, "embedding")]
        if len(tokens) != len(target):
            raise UserError(f"prompt_from: {len(tokens)} tokens for a prompt of {len(target)}; expected as many.")
        if wrong := [token for token in tokens if not 0 <= token < len(table)]:
            raise UserError(
                f"prompt_from: the token {wrong[0]} is none of the vocabulary; expected 0 to {len(table) - 1}."
            )
        if isinstance(table, jax.ShapeDtypeStruct):
            raise UserError(
                "prompt_from: init_from= does not load the embedding, whose vectors the prompt starts with."
            )
        rows = jax.jit(lambda table: table[np.asarray(tokens)], out_shardings=target.sharding)(table)
        return with_arrays({path: rows}, params, stats)

    return start
