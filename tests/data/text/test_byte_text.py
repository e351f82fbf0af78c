"""Bytes in, the same bytes out, each exactly once."""

import numpy as np
import pytest

from research.data.text.byte_text import BEGIN, byte_prompts, byte_rows, decoded
from research.errors import UserError


def test_every_byte_stands_behind_a_beginning_exactly_once():
    texts = [np.frombuffer(text.encode(), np.uint8) for text in ("héllo wörld " * 9, "x", "def f(): pass\n")]
    rows = byte_rows(texts, 16)
    pieces = []
    for row in rows.columns["tokens"], rows.columns["segments"]:
        assert row.shape[1] == 16
    for tokens, segments in zip(rows.columns["tokens"], rows.columns["segments"], strict=True):
        for segment in range(1, segments.max() + 1):
            piece = tokens[segments == segment]
            assert piece[0] == BEGIN and BEGIN not in piece[1:]
            pieces.append(tuple(piece[1:]))
    expected = [tuple(text[i : i + 15]) for text in texts for i in range(0, len(text), 15)]
    assert sorted(pieces) == sorted(expected)


def test_prompts_are_padded_cut_and_decoded():
    prompts = byte_prompts(("def ", "a much longer beginning"), 8)
    assert prompts.columns["length"].tolist() == [5, 8]
    assert prompts.columns["tokens"][0].tolist() == [BEGIN, *b"def ", 0, 0, 0]
    assert decoded(prompts.columns["tokens"][1:]) == ["a much "]
    assert decoded([[BEGIN, 0xC3, 0xA9, 0xFF]]) == ["é\ufffd"]


@pytest.mark.parametrize("length", [1, 0])
def test_rows_hold_at_least_a_byte(length):
    with pytest.raises(UserError, match=rf"byte_rows\(length={length}\); expected at least 2"):
        byte_rows([np.arange(3, dtype=np.uint8)], length)
