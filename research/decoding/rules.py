"""Rules that change the logits before a token is chosen: temperature, top-k, top-p, min-p, repetition penalty."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from research.axes import Array, Float, Integer
from research.core import Tree
from research.errors import UserError

Logits = Float[Array, "batch vocabulary"]
FORBIDDEN = -jnp.inf  # the logit of a token that may not be chosen


class Rule(NamedTuple):
    """A change of the logits that may depend on the tokens of the row; its memory has the batch as its first axis.

    start(prompts, lengths=, vocabulary=, room=) -> memory
    apply(memory, logits)                        -> logits
    update(memory, tokens [batch])               -> memory
    """

    start: Callable[..., Tree]
    apply: Callable[[Tree, Logits], Logits]
    update: Callable[[Tree, Integer[Array, " batch"]], Tree]


def temperature(value: float) -> Rule:
    """Divide the logits by `value`, which must be positive. For 0, search without a key: the most likely token."""
    if not value > 0:
        raise UserError(f"temperature({value}); expected a positive number. Without a key, the search is greedy.")
    return _without_memory(lambda logits: logits / value)


def top_k(count: int) -> Rule:
    """Keep the `count` most likely tokens, and all that are as likely as the last of them (Fan et al. 2018)."""
    if count < 1:
        raise UserError(f"top_k({count}); expected at least 1.")

    def apply(logits):
        least = jax.lax.top_k(logits, min(count, logits.shape[-1]))[0][:, -1:]
        return jnp.where(logits < least, FORBIDDEN, logits)

    return _without_memory(apply)


def top_p(mass: float) -> Rule:
    """Keep the smallest set of most likely tokens with a probability of at least `mass` (Holtzman et al. 2020).

    Tokens that are as likely as the last one of the set are kept too.
    """
    _check_fraction("top_p", mass)

    def apply(logits):
        ordered = jnp.sort(logits, axis=-1, descending=True)
        probabilities = jax.nn.softmax(ordered)
        more_likely = jnp.cumsum(probabilities, axis=-1) - probabilities
        count = jnp.maximum((more_likely < mass).sum(-1, keepdims=True), 1)
        return jnp.where(logits < jnp.take_along_axis(ordered, count - 1, -1), FORBIDDEN, logits)

    return _without_memory(apply)


def min_p(fraction: float) -> Rule:
    """Keep the tokens that are at least `fraction` times as likely as the most likely one (Nguyen et al. 2024)."""
    _check_fraction("min_p", fraction)
    return _without_memory(
        lambda logits: jnp.where(
            logits < logits.max(-1, keepdims=True) + jnp.log(jnp.float32(fraction)), FORBIDDEN, logits
        )
    )


def repetition(penalty: float) -> Rule:
    """Divide positive logits of the tokens that the row has, prompt included, by `penalty`; multiply negative ones.

    Keskar et al. 2019, CTRL, section 4.1. A penalty above 1 makes repetitions less likely. The memory is a mask over
    the vocabulary.
    """
    if not penalty > 0:
        raise UserError(f"repetition({penalty}); expected a positive number, such as 1.2.")

    def start(prompts, *, lengths, vocabulary, room):
        # The padding goes to a column of its own.
        tokens = jnp.where(jnp.arange(prompts.shape[1]) < lengths[:, None], prompts, vocabulary)
        seen = jnp.zeros((len(prompts), vocabulary + 1), bool)
        return seen.at[jnp.arange(len(prompts))[:, None], tokens].set(True)[:, :-1]

    def apply(seen, logits):
        return jnp.where(seen, jnp.where(logits < 0, logits * penalty, logits / penalty), logits)

    return Rule(start, apply, lambda seen, tokens: seen.at[jnp.arange(len(seen)), tokens].set(True))


def started(
    rules: tuple[Rule, ...], prompts: Integer[Array, "batch time"], *, lengths: Integer[Array, " batch"], room: int,
    vocabulary: int,
) -> tuple[Tree, ...]:  # fmt: skip
    """Return the memory of every rule at the end of the prompts."""
    return tuple(rule.start(prompts, lengths=lengths, vocabulary=vocabulary, room=room) for rule in rules)


def applied(rules: tuple[Rule, ...], memory: tuple[Tree, ...], logits: Logits) -> Logits:
    """Apply the rules in order."""
    for rule, own in zip(rules, memory, strict=True):
        logits = rule.apply(own, logits)
    return logits


def updated(rules: tuple[Rule, ...], memory: tuple[Tree, ...], tokens: Integer[Array, " batch"]) -> tuple[Tree, ...]:
    """Return the memory of every rule after one more token of each row."""
    return tuple(rule.update(own, tokens) for rule, own in zip(rules, memory, strict=True))


def _without_memory(apply: Callable[[Logits], Logits]) -> Rule:
    return Rule(lambda prompts, **_: (), lambda memory, logits: apply(logits), lambda memory, tokens: memory)


def _check_fraction(name, value):
    if not 0 < value <= 1:
        raise UserError(f"{name}({value}); expected a number above 0 and at most 1.")
