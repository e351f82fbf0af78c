"""Decoding constrained to the language of a finite automaton over tokens: a regular expression or a list of words.

Willard & Louf 2023: the automaton over bytes is compiled once into a table of the allowed tokens of each state.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from research.axes import Bool, Int
from research.decoding.regex import ByteAutomaton, compile_regex
from research.decoding.rules import FORBIDDEN, Rule
from research.errors import UserError

NEVER = np.iinfo(np.int32).max // 2  # tokens to an accepting state that cannot be reached


class Automaton(NamedTuple):
    """A deterministic automaton over tokens that starts in state 0.

    `next` is the state after each token, -1 if the token is not allowed. `distance` is the smallest number of tokens
    from a state to an accepting one.
    """

    next: Int[np.ndarray, "states vocabulary"]
    accepting: Bool[np.ndarray, " states"]
    distance: Int[np.ndarray, " states"]


def regex(pattern: str, *, vocabulary: Sequence[bytes]) -> Automaton:
    """Return the automaton of the token sequences whose concatenated bytes match `pattern` as a whole.

    `vocabulary[i]` holds the bytes of token i; a token without bytes, such as one that marks the beginning, is never
    allowed. For the syntax, see `compile_regex`. Raises UserError if no sequence of tokens matches.
    """
    return over_tokens(compile_regex(pattern), vocabulary, name=f"the pattern {pattern!r}")


def words(sequences: Iterable[Sequence[int]], *, vocabulary: int) -> Automaton:
    """Return the automaton that accepts exactly the given token sequences: a trie, a state for each prefix.

    Raises UserError for an empty list and for tokens that are not below `vocabulary`.
    """
    rows, accepting = [{}], [False]
    for sequence in sequences:
        state = 0
        for token in map(int, sequence):
            if not 0 <= token < vocabulary:
                raise UserError(f"words: the token {token} is not in the vocabulary of {vocabulary} tokens.")
            if token not in rows[state]:
                rows[state][token] = len(rows)
                rows.append({})
                accepting.append(False)
            state = rows[state][token]
        accepting[state] = True
    table = np.full((len(rows), vocabulary), -1, np.int32)
    for state, row in enumerate(rows):
        table[state, list(row)] = list(row.values())
    return _automaton(table, np.array(accepting), name="the list of words")


def over_tokens(automaton: ByteAutomaton, vocabulary: Sequence[bytes], *, name: str = "the automaton") -> Automaton:
    """Return the automaton over tokens that reads the bytes of each token; `vocabulary` is as in `regex`."""
    sizes = np.array([len(token) for token in vocabulary])
    text = np.zeros((len(vocabulary), max(1, sizes.max())), np.uint8)
    for row, token in zip(text, vocabulary, strict=True):
        row[: len(token)] = np.frombuffer(token, np.uint8)
    dead = len(automaton.next)  # one more state, which is never left
    table = np.concatenate([np.where(automaton.next < 0, dead, automaton.next), np.full((1, 256), dead)])
    states = np.broadcast_to(np.arange(dead)[:, None], (dead, len(vocabulary)))
    for place in range(text.shape[1]):
        states = np.where(place < sizes, table[states, text[:, place]], states)
    following = np.where((states == dead) | (sizes == 0), -1, states).astype(np.int32)
    return _automaton(following, automaton.accepting, name=name)


def _automaton(following, accepting, *, name) -> Automaton:
    """Add the distances, by breadth-first search from the accepting states."""
    distance = np.where(accepting, 0, NEVER).astype(np.int32)
    while True:
        after = np.where(following >= 0, distance[following], NEVER).min(1)
        shorter = np.minimum(distance, np.minimum(after, NEVER - 1) + 1)
        if (shorter == distance).all():
            break
        distance = shorter
    if distance[0] >= NEVER:
        raise UserError(f"{name} matches no sequence of tokens of this vocabulary.")
    return Automaton(following, accepting, distance)


def constrained(automaton: Automaton, *, end: int) -> Rule:
    """Allow only tokens with which the continuation can still be completed within its room to an accepted sequence.

    Every continuation is therefore accepted. The token `end` is allowed in accepting states only; pass the same `end`
    to the search. If tokens cannot continue and the room is used up, no end token is needed. The memory is the state
    of the automaton and the number of tokens left; the table of the automaton is stored on the device.

    Raises UserError, when the search starts, if the room is too small for any accepted sequence.
    """
    if not 0 <= end < automaton.next.shape[1]:
        raise UserError(f"constrained(end={end}); expected a token below {automaton.next.shape[1]}.")
    if (automaton.next[:, end] >= 0).any():
        raise UserError(f"constrained(end={end}): the automaton also reads the end token; choose another end token.")

    def start(prompts, *, lengths, vocabulary, room):
        if automaton.next.shape[1] != vocabulary:
            raise UserError(f"the automaton has {automaton.next.shape[1]} tokens and the network has {vocabulary}.")
        if automaton.distance[0] > room:
            raise UserError(
                f"the shortest accepted sequence has {automaton.distance[0]} tokens; there is room for {room}."
            )
        return jnp.zeros(len(prompts), jnp.int32), jnp.full(len(prompts), room, jnp.int32)

    def apply(memory, logits):
        state, left = memory
        following = jnp.asarray(automaton.next)[state]
        possible = jnp.asarray(automaton.distance)[following] < left[:, None]
        allowed = (following >= 0) & possible
        allowed = allowed.at[:, end].set(jnp.asarray(automaton.accepting)[state])
        return jnp.where(allowed, logits, FORBIDDEN)

    def update(memory, tokens):
        state, left = memory
        following = jnp.asarray(automaton.next)[state, tokens]
        return jnp.where(tokens == end, state, following), left - 1

    return Rule(start, apply, update)
