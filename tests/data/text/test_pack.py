import numpy as np
import pytest

from research.data import batches, pack, pack_whole
from research.errors import UserError


def documents(seed=0, count=60, longest=40):
    """Every token differs from every other."""
    lengths = np.random.default_rng(seed).integers(0, longest, count)
    ends = np.cumsum(lengths)
    return [np.arange(end - n, end) + 1 for n, end in zip(lengths, ends, strict=True)]


def segments_of(packed):
    for row in range(len(packed)):
        record = packed[row]
        numbers = record["segments"]
        for number in range(1, numbers.max() + 1):
            chosen = np.flatnonzero(numbers == number)
            assert (np.diff(chosen) == 1).all(), "a segment is one run"
            yield record["tokens"][chosen], record["positions"][chosen]


@pytest.mark.parametrize("packer", [pack, pack_whole])
@pytest.mark.parametrize("length", [1, 16, 64])
def test_every_token_once_and_segments_apart(packer, length):
    whole = documents()
    packed = packer(whole, length, pad=-1)
    for name in ("tokens", "segments", "positions"):
        assert packed.columns[name].shape == (len(packed), length) and packed.columns[name].dtype == np.int32
    tokens, segments = packed.columns["tokens"], packed.columns["segments"]
    np.testing.assert_array_equal(np.sort(tokens[segments > 0]), np.sort(np.concatenate(whole)))
    assert (tokens[segments == 0] == -1).all() and (packed.columns["positions"][segments == 0] == 0).all()
    owner = {int(t): i for i, document in enumerate(whole) for t in document}
    for words, positions in segments_of(packed):
        np.testing.assert_array_equal(positions, np.arange(len(words)))
        np.testing.assert_array_equal(words, words[0] + np.arange(len(words)))  # in order, without holes
        assert len({owner[int(word)] for word in words}) == 1


def test_pack_by_hand():
    packed = pack([[1, 2, 3], [4, 5], [], [6, 7, 8, 9]], 4)
    assert packed.columns["tokens"].tolist() == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 0, 0, 0]]
    assert packed.columns["segments"].tolist() == [[1, 1, 1, 2], [1, 2, 2, 2], [1, 0, 0, 0]]
    assert packed.columns["positions"].tolist() == [[0, 1, 2, 0], [0, 0, 1, 2], [0, 0, 0, 0]]


def test_pack_whole_by_hand():
    packed = pack_whole([[1], [2, 3, 4], [5, 6], [7, 8], [9] * 5], 4)
    assert packed.columns["tokens"].tolist() == [[9, 9, 9, 9], [2, 3, 4, 1], [5, 6, 7, 8], [9, 0, 0, 0]]
    assert packed.columns["segments"].tolist() == [[1] * 4, [1, 1, 1, 2], [1, 1, 2, 2], [1, 0, 0, 0]]
    # The last document fits in both rows; it goes to the fuller one.
    best = pack_whole([[1] * 5, [2] * 4, [3]], 6)
    assert best.columns["tokens"].tolist() == [[1, 1, 1, 1, 1, 3], [2, 2, 2, 2, 0, 0]]


def test_pack_pads_the_last_row_only_and_pack_whole_splits_no_document_that_fits():
    whole = documents()
    assert (pack(whole, 16).columns["segments"][:-1] > 0).all()
    found = {tuple(words.tolist()) for words, _ in segments_of(pack_whole(whole, 40))}
    assert found == {tuple(document.tolist()) for document in whole if len(document)}
    used = (pack_whole(whole, 64).columns["segments"] > 0).mean()
    assert used > 0.9


def test_packed_rows_are_a_data_set():
    batch = batches(pack(documents(), 16), 4)(0)(0)
    assert {name: x.shape for name, x in batch.items()} == dict.fromkeys(("tokens", "segments", "positions"), (4, 16))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: pack([[1.5]], 4), "document 0 is float64"),
        (lambda: pack([[1], [[2]]], 4), "document 1"),
        (lambda: pack([[], []], 4), "no tokens"),
        (lambda: pack_whole([], 4), "no tokens"),
        (lambda: pack([[1]], 0), "length 0"),
    ],
)
def test_errors(make, words):
    with pytest.raises(UserError, match=words):
        make()
