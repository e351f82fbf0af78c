"""Pairs of sequences as rows of token ids, for networks that map one sequence to another."""

from collections.abc import Sequence

import numpy as np

from research.data.text.tokens import padded_tokens


def pair_rows(
    sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]], *, begin: int, end: int,
    lengths: tuple[int, int], source_end: int | None = None,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Return the fields source i32 [n, lengths[0]] and target i32 [n, lengths[1]] of n pairs; 0 is padding.

    Both end with the token `end` (a source with `source_end`, if it is given), and a target starts with `begin`. A
    longer source is cut before its end. Raises UserError for a target that is longer: a cut reference is another one.
    """
    room, last = lengths[0] - 1, end if source_end is None else source_end
    rows = {
        "source": [[*ids[:room], last] for ids in sources],
        "target": [[begin, *ids, end] for ids in targets],
    }
    return {
        name: padded_tokens([np.array(ids, np.int32) for ids in rows[name]], length=length)["tokens"]
        for name, length in zip(rows, lengths, strict=True)
    }
