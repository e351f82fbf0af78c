"""Text as bytes: the tokens are the 256 bytes, and one more that says where a text begins."""

import numpy as np

from research.data.readers.arrays import Arrays, arrays
from research.data.text.pack import pack_whole

BEGIN = 256  # the one token that is no byte
VOCABULARY = BEGIN + 1


def byte_rows(texts, length: int) -> Arrays:
    """Texts (u8 arrays) cut into pieces of `length - 1` bytes, each behind BEGIN, packed into rows of `length`.

    So every byte is predicted exactly once, from at most `length - 1` tokens before it.
    """
    pieces = (text[i : i + length - 1] for text in texts for i in range(0, len(text), length - 1))
    return pack_whole([np.concatenate([[BEGIN], piece]) for piece in pieces], length)


def byte_prompts(prompts, length: int) -> Arrays:
    """Beginnings of texts for a model to go on with: "tokens" i32 [n, length], filled up with 0, and "length" i32."""
    tokens = [[BEGIN, *prompt.encode()][:length] for prompt in prompts]
    padded = np.stack([np.pad(row, (0, length - len(row))) for row in tokens])
    return arrays(tokens=padded.astype(np.int32), length=np.array([len(row) for row in tokens], np.int32))


def decoded(tokens) -> list[str]:
    """Rows of tokens as texts, without BEGIN; bytes that are no UTF-8 become replacement characters."""
    rows = np.asarray(tokens).tolist()
    return [bytes(token for token in row if token < BEGIN).decode(errors="replace") for row in rows]
