"""Sequence packing: concatenate documents in rows of equal length, with segment ids and positions.

`segments` numbers the documents of a row from 1; padding is 0. Attention is allowed if query and key have the same
nonzero segment. `positions` restarts at 0 with every segment. Packing neither drops nor adds tokens. Add begin and end
tokens to the documents beforehand.
"""

import bisect

import numpy as np

from research.data.readers.arrays import Arrays, arrays
from research.errors import UserError


def pack(documents, length: int, *, pad: int = 0) -> Arrays:
    """Pack documents (1-D integer arrays) in order, and split a document wherever a row is full.

    The records have "tokens", "segments" and "positions", i32 [length] each. Only the last row is padded. A document
    that spans several rows is one segment in each. Empty documents are skipped.
    Raises UserError for a length below 1, for documents that are not 1-D integers, and if there are no tokens.
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
    """Pack documents without splitting those that fit in one row; unlike `pack`, any row may have padding.

    Best fit, longest first: each document goes to the row that would have the least free space left. Documents longer
    than `length` are first split into pieces of `length`. Rows are not in the order of the documents.
    Source: best-fit packing of Ding et al. 2024, "Fewer Truncations Improve Language Modeling" (arXiv:2404.10830).
    Raises as `pack`.
    """
    parts = [d[i : i + length] for d in _checked(documents, length) for i in range(0, len(d), length)]
    open_rows, pieces, rows = [], [], 0  # open_rows: sorted (free, row) of the rows that are not full
    for part in sorted(parts, key=len, reverse=True):
        best = bisect.bisect_left(open_rows, (len(part), -1))
        if best < len(open_rows):
            free, row = open_rows.pop(best)
        else:
            free, row, rows = length, rows, rows + 1
        pieces.append((row, part))
        if free > len(part):
            bisect.insort(open_rows, (free - len(part), row))
    return _rows(pieces, length, pad)


def _checked(documents, length):
    if length < 1:
        raise UserError(f"rows have length {length}; expected at least 1.")
    for number, document in enumerate(documents):
        document = np.asarray(document)
        if document.ndim != 1 or (document.size and document.dtype.kind not in "iu"):
            raise UserError(
                f"document {number} is {document.dtype}{list(document.shape)}; expected a 1-D array of integer tokens."
            )
        if document.size:
            yield document


def _rows(pieces, length, pad):
    if not pieces:
        raise UserError("there are no tokens to pack: all documents are empty; expected at least one token.")
    count = 1 + max(row for row, _ in pieces)
    tokens = np.full((count, length), pad, np.int32)
    segments, positions = np.zeros((2, count, length), np.int32)
    used, seen = np.zeros((2, count), np.int64)
    for row, piece in pieces:
        span = slice(used[row], used[row] + len(piece))
        used[row] += len(piece)
        seen[row] += 1
        tokens[row, span] = piece
        segments[row, span] = seen[row]
        positions[row, span] = np.arange(len(piece))
    return arrays(tokens=tokens, segments=segments, positions=positions)
