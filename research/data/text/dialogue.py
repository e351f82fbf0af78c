"""Dialogues as tokens: a prompt template, and a mark on the tokens that the model is to learn.

A dialogue is a list of turns, {"role", "content"}, with the roles system, user and assistant. The rows have the fields
of a language model and "response", i32 [T]: 1 for the tokens of the assistant, 0 for all others.
`research.fields.targets` reads it, and the loss is then that of the responses alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from research.data.readers.arrays import Arrays, arrays
from research.data.text.pack import pack_whole
from research.errors import UserError, unknown

Encode = Callable[[str], Sequence[int]]
Dialogue = Sequence[Mapping[str, str]]


class Template(NamedTuple):
    """The text around each turn, with `{}` for its content.

    The text before the `{}` of `assistant` is part of the prompt; the text after it ends a response, and the model
    learns it. A text that a user types may contain the words of the template: use a marker that is a special token if
    users are not trusted.
    """

    system: str = "{}\n\n"
    user: str = "User: {}\n"
    assistant: str = "Assistant: {}\n"


PLAIN = Template()


def prompt_of(dialogue: Dialogue, *, template: Template = PLAIN) -> str:
    """Return the text that the model continues: all turns, and the beginning of the assistant's next one."""
    return "".join(part for part, _ in _parts(dialogue, template)) + _around(template, "assistant")[0]


def dialogue_rows(dialogues: Iterable[Dialogue], length: int, *, encode: Encode, template: Template = PLAIN) -> Arrays:
    """Pack dialogues in rows of `length`; a longer one is split, and the first token of each later
    part is not learned. The parts of a turn are encoded separately.

    Raises UserError for an unknown role, a template without `{}`, and if no dialogue has a response.
    """
    tokens, marks = [], []
    for dialogue in dialogues:
        document, response = encode_dialogue(dialogue, encode=encode, template=template)
        tokens.append(document)
        marks.append(response)
    if not any(mark.any() for mark in marks):
        raise UserError("no dialogue has a turn of the assistant; there is nothing to learn.")
    # The positions of the tokens are packed instead of the tokens, and then select from both arrays.
    flat, flat_marks = (np.concatenate([np.zeros(1, np.int32), *parts]) for parts in (tokens, marks))
    ends = 1 + np.cumsum([len(document) for document in tokens])
    places = [np.arange(end - len(document), end) for end, document in zip(ends, tokens, strict=True)]
    columns = dict(pack_whole(places, length).columns)
    places = columns.pop("tokens")
    return arrays(tokens=flat[places], response=flat_marks[places], **columns)


def preference_rows(
    prompts: Iterable[Dialogue], chosen: Iterable[str], rejected: Iterable[str], *, length: int, encode: Encode,
    template: Template = PLAIN,
) -> Arrays:  # fmt: skip
    """Encode pairs of responses to the same prompt, for `objectives.preference`: each field is i32 [2, length].

    Raises UserError, with the number of the pair, if a text is longer than `length` tokens, and as `dialogue_rows`.
    """
    rows = []
    for number, (prompt, *responses) in enumerate(zip(prompts, chosen, rejected, strict=True)):
        for response in responses:
            dialogue = [*prompt, {"role": "assistant", "content": response}]
            document, mark = encode_dialogue(dialogue, encode=encode, template=template, last_only=True)
            if len(document) > length:
                raise UserError(f"pair {number} has {len(document)} tokens; expected at most length={length}.")
            rows.append(np.stack([np.pad(x, (0, length - len(x))) for x in (document, mark, np.ones_like(document))]))
    if not rows:
        raise UserError("there are no pairs of responses; expected at least one.")
    pairs = np.stack(rows).reshape(-1, 2, 3, length)
    positions = np.broadcast_to(np.arange(length, dtype=np.int32), pairs[:, :, 0].shape)
    return arrays(tokens=pairs[:, :, 0], response=pairs[:, :, 1], segments=pairs[:, :, 2], positions=positions.copy())


class Encoded(NamedTuple):
    """The tokens of a dialogue, and 1 for those of a response; i32 [T] each."""

    tokens: np.ndarray
    response: np.ndarray


def encode_dialogue(
    dialogue: Dialogue, *, encode: Encode, template: Template = PLAIN, last_only: bool = False
) -> Encoded:  # fmt: skip
    """Encode the turns of a dialogue; with `last_only`, only the last response is marked."""
    parts = [(np.asarray(encode(text), np.int32), mark) for text, mark in _parts(dialogue, template) if text]
    last = max((i for i, (_, mark) in enumerate(parts) if mark), default=-1)
    mark_of = lambda i, mark: mark if not last_only else int(i == last)
    marks = [np.full(len(ids), mark_of(i, mark), np.int32) for i, (ids, mark) in enumerate(parts)]
    empty = np.zeros(0, np.int32)
    return Encoded(np.concatenate([empty, *(ids for ids, _ in parts)]), np.concatenate([empty, *marks]))


def _parts(dialogue, template):
    """Yield (text, 1 if the model learns it)."""
    for turn in dialogue:
        role, content = turn["role"], turn["content"]
        before, after = _around(template, role)
        if role == "assistant":
            yield before, 0
            yield content + after, 1
        else:
            yield before + content + after, 0


def _around(template, role):
    if role not in template._fields:
        raise unknown("role", role, template._fields)
    text = getattr(template, role)
    if text.count("{}") != 1:
        raise UserError(f"the template of {role} is {text!r}; expected exactly one {{}} for the content.")
    return text.split("{}")
