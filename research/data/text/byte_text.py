"""Byte-level tokens: the 256 byte values, and BEGIN, which marks the beginning of a text."""

import numpy as np

from research.data.readers.arrays import Arrays, arrays
from research.data.text.pack import pack_whole
from research.errors import UserError

BEGIN = 256  # the only token that is not a byte
VOCABULARY = BEGIN + 1


def byte_rows(texts, length: int) -> Arrays:
    """Split texts (u8 arrays) into pieces of `length - 1` bytes, prepend BEGIN to each, and pack rows of `length`.

    Each byte is therefore predicted exactly once, from at most `length - 1` preceding tokens. Raises UserError for a
    length below 2.
    """
    if length < 2:
        raise UserError(f"byte_rows(length={length}); expected at least 2: BEGIN and a byte.")
    pieces = (text[i : i + length - 1] for text in texts for i in range(0, len(text), length - 1))
    return pack_whole([np.concatenate([[BEGIN], piece]) for piece in pieces], length)


def byte_prompts(prompts, length: int) -> Arrays:
    """Encode prompts for generation: "tokens" i32 [n, length], padded with 0 or truncated, and "length" i32 [n]."""
    tokens = [[BEGIN, *prompt.encode()][:length] for prompt in prompts]
    padded = np.stack([np.pad(row, (0, length - len(row))) for row in tokens])
    return arrays(tokens=padded.astype(np.int32), length=np.array([len(row) for row in tokens], np.int32))


def decoded(tokens) -> list[str]:
    """Decode rows of tokens into texts, without BEGIN. Invalid UTF-8 becomes replacement characters."""
    return [bytes(token for token in map(int, row) if token < BEGIN).decode(errors="replace") for row in tokens]
