"""Text from a language model, piece by piece as it is generated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from research.axes import Array, Key
from research.core import Trained
from research.data.text.preparation import TextPreparation
from research.data.text.tokenizer import Tokenizer, byte_tokenizer
from research.data.text.tokens import Tokens
from research.decoding.decoder import Decoder, cached, recomputed
from research.decoding.rules import Rule
from research.decoding.sampling import advance, begin
from research.errors import UNPRINTABLE, UserError
from research.layers.cache import NewCache


def generated_text(
    trained: Trained,
    prompt: str,
    *,
    tokenizer: Tokenizer,
    count: int,
    rules: tuple[Rule, ...] = (),
    key: Key[Array, ""] | None = None,
) -> Iterator[str]:
    """Yield the continuation of a prompt by up to `count` tokens, in pieces of whole characters.

    The tokenizer's begin token precedes the prompt, and its end token ends the text, if the tokenizer has them. `rules`
    and `key` are those of `generate`. Control characters and others that would steer a terminal appear as escapes, such
    as \\x1b.

    Raises UserError for an empty prompt, for a network that is no language model over the tokens of the tokenizer, and
    if the prompt and `count` tokens exceed the length of the network.
    """
    if not prompt:
        raise UserError("the prompt is empty; expected at least one character.")
    special = tokenizer.special
    ids = [special["begin"]] * ("begin" in special) + np.asarray(tokenizer.encode(prompt)).tolist()
    decoder = decoder_of(trained, vocabulary=tokenizer.vocabulary, length=len(ids), count=count)
    tokens = token_stream(decoder, ids, count=count, rules=rules, key=key, end=special.get("end"))
    for piece in text_stream(tokens, decode=tokenizer.decode):
        yield UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), piece)


def tokenizer_of(preparation: object) -> Tokenizer:
    """Return the tokenizer of an experiment's preparation, or that of bytes if it has no preparation of texts."""
    if isinstance(preparation, TextPreparation) and isinstance(preparation.encoder, Tokens):
        return preparation.encoder.tokenizer
    return byte_tokenizer()


def decoder_of(trained: Trained, *, vocabulary: int, length: int, count: int) -> Decoder:
    """Return the Decoder of a causal language model: with a cache, or without one if the network accepts none.

    Raises UserError for another network, for another vocabulary, and if `length` + `count` tokens are too many.
    """
    tokens = jnp.zeros((1, length), jnp.int32)
    try:
        shape = getattr(jax.eval_shape(trained, tokens), "shape", None)
    except UserError as error:
        raise UserError(f"the prompt has {length} tokens: {error}") from None
    except Exception as error:  # a network for images, for instance, fails in its own way
        raise UserError(f"the network is no language model: it does not accept a row of tokens ({error}).") from error
    if shape is None or len(shape) != 3 or shape[:2] != (1, length):
        raise UserError(
            f"the network is no language model: for tokens of shape (1, {length}), its output has the shape {shape}; "
            f"expected (1, {length}, vocabulary)."
        )
    if shape[2] != vocabulary:
        raise UserError(f"the network has {shape[2]} tokens and the tokenizer {vocabulary}.")
    try:
        jax.eval_shape(lambda t, x: t(x, None, None, NewCache(length + count)), trained, tokens)
    except TypeError:
        _check_causal(trained, length + count)
        return recomputed(trained)
    except UserError as error:
        raise UserError(f"the prompt has {length} tokens, and {count} may follow: {error}") from None
    return cached(trained)


def _check_causal(trained, length):
    tokens = jnp.zeros((1, length), jnp.int32)
    logits = jax.jit(lambda trained, tokens: trained(tokens)[0, :-1])
    before, after = (np.asarray(logits(trained, x)) for x in (tokens, tokens.at[0, -1].set(1)))
    if not np.allclose(before, after, rtol=1e-3, atol=1e-3):
        raise UserError("the network is no causal language model: its logits depend on later tokens.")


def token_stream(
    decoder: Decoder,
    prompt: Sequence[int],
    *,
    count: int,
    rules: tuple[Rule, ...] = (),
    key: Key[Array, ""] | None = None,
    end: int | None = None,
) -> Iterator[int]:
    """Yield the tokens of `generate` for one prompt, each as soon as it is chosen, without the end token."""
    options = dict(rules=rules, key=key, end=end)
    progress = _begin(decoder, jnp.asarray([prompt]), lengths=jnp.array([len(prompt)]), room=count, **options)
    for i in range(count):
        if i:
            progress = _advance(decoder, progress, **options)
        token = int(progress.tokens[0])
        if token == end:
            return
        yield token


_begin = jax.jit(begin, static_argnames=("room", "rules", "end"))
_advance = jax.jit(advance, static_argnames=("rules", "end"), donate_argnames="progress")  # changes the cache in place


def text_stream(tokens: Iterable[int], *, decode: Callable[[list[int]], str]) -> Iterator[str]:
    """Yield the text of tokens as it becomes complete: the bytes of a character may be spread over several tokens."""
    ids, sent = [], 0
    for token in tokens:
        ids.append(token)
        text = decode(ids)
        complete = len(text) - text.endswith("\ufffd")  # the replacement character of bytes that are not complete
        if complete > sent:
            yield text[sent:complete]
            sent = complete
    if rest := decode(ids)[sent:]:
        yield rest
