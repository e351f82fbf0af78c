"""Packed sequences: documents laid end to end in rows of one length, with the numbers that keep them apart.

`segments` numbers the documents of a row from 1 and is 0 where there is padding: attention is allowed where the
segments of query and key are equal and not 0. `positions` restarts at 0 with every segment. No token is ever lost or
truncated, and none is added: documents bring their own begin and end tokens.
"""

import bisect

import numpy as np

from research.data.readers.arrays import Arrays, arrays
from research.errors import UserError


def pack(documents, length: int, *, pad: int = 0) -> Arrays:
    """Documents (1-D integer arrays) in order, one after the other, cut wherever a row is full.

    Gives records of "tokens", "segments" and "positions", i32 [length] each; only the last row is padded. A document
    that crosses rows becomes a segment in each. Empty documents are left out.
    Raises UserError for documents that are not 1-D integers, and where there is no token.
    """
    free, row, pieces = length, 0, []
    for document in _checked(documents, length):
        start = 0
        while start < len(document):
            piece = document[start : start + free]
            pieces.append((row, piece))
            start, free = start + len(piece), free - len(piece)
            if not free:
                free, row = length, row + 1
    return _rows(pieces, length, pad)


def pack_whole(documents, length: int, *, pad: int = 0) -> Arrays:
    """Like `pack`, but a document is cut only where it is longer than a row; rows have padding instead.

    Best fit, longest first: each document goes where the least room would be left over. Documents longer than
    `length` are first cut into pieces of `length`. Rows are therefore not in the order of the documents.
    Source: best-fit packing of Ding et al. 2024, "Fewer Truncations Improve Language Modeling" (arXiv:2404.10830).
    Raises as `pack`.
    """
    parts = [d[i : i + length] for d in _checked(documents, length) for i in range(0, len(d), length)]
    room, pieces, rows = [], [], 0  # room: sorted (free, row) of the rows that are not full
    for part in sorted(parts, key=len, reverse=True):
        at = bisect.bisect_left(room, (len(part), -1))
        if at < len(room):
            free, row = room.pop(at)
        else:
            free, row, rows = length, rows, rows + 1
        pieces.append((row, part))
        if free > len(part):
            bisect.insort(room, (free - len(part), row))
    return _rows(pieces, length, pad)


def _checked(documents, length):
    if length < 1:
        raise UserError(f"packed rows of length {length}; expected at least 1.")
    for number, document in enumerate(documents):
        document = np.asarray(document)
        if document.ndim != 1 or (document.size and document.dtype.kind not in "iu"):
            raise UserError(
                f"document {number} is {document.dtype}{list(document.shape)}; expected a 1-D array of token numbers."
            )
        if document.size:
            yield document


def _rows(pieces, length, pad):
    if not pieces:
        raise UserError("there is no token to pack: the documents are empty.")
    count = 1 + max(row for row, _ in pieces)
    tokens = np.full((count, length), pad, np.int32)
    segments, where = np.zeros((2, count, length), np.int32)
    used, seen = np.zeros((2, count), np.int64)
    for row, piece in pieces:
        span = slice(used[row], used[row] + len(piece))
        used[row] += len(piece)
        seen[row] += 1
        tokens[row, span] = piece
        segments[row, span] = seen[row]
        where[row, span] = np.arange(len(piece))
    return arrays(tokens=tokens, segments=segments, positions=where)
