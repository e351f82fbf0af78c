import numpy as np
import pytest

from research.data import arrays, batches
from research.data.sampling.paired import paired
from research.errors import UserError

LABELLED = arrays(image=np.arange(10.0)[:, None], label=np.arange(10))
OTHERS = arrays(image=100 + np.arange(21.0)[:, None], label=np.arange(21))


def test_both_are_walked_through_in_permutations_of_their_own():
    source = paired(batches(LABELLED, 3), OTHERS, ratio=2)
    assert (source.size, source.examples) == (3, 10)
    batch_at, plain = source(0), batches(LABELLED, 3)(0)
    for step in range(8):
        batch, expected = batch_at(step), plain(step)
        assert set(batch) == {"image", "label", "unlabelled"} and batch["unlabelled"].shape == (3, 2, 1)
        for name in expected:
            np.testing.assert_array_equal(batch[name], expected[name])
    seen = np.concatenate([batch_at(step)["unlabelled"].ravel() for step in range(7)])  # 42 are two epochs
    for epoch in (seen[:21], seen[21:]):
        np.testing.assert_array_equal(np.sort(epoch), 100 + np.arange(21))
    assert (seen[:21] != seen[21:]).any() and (np.sort(seen[:21]) != seen[:21]).any()
    assert (source(1)(0)["unlabelled"] != batch_at(0)["unlabelled"]).any()


def test_the_rows_of_processes_make_up_the_batch():
    batch_at = paired(batches(LABELLED, 4), OTHERS, ratio=3)(5)
    whole = batch_at(2)
    for name, field in whole.items():
        parts = [batch_at(2, rows=rows)[name] for rows in (slice(0, 1), np.array([1, 2]), slice(3, None))]
        np.testing.assert_array_equal(np.concatenate(parts), field)


def test_what_cannot_be_is_an_error():
    labelled = batches(LABELLED, 3)
    with pytest.raises(UserError, match="size of 0"):
        paired(labelled, OTHERS, ratio=0)
    with pytest.raises(UserError, match="no field 'picture'; they have"):
        paired(labelled, OTHERS, ratio=1, inputs="picture")
    with pytest.raises(UserError, match="field 'label' already"):
        paired(labelled, OTHERS, ratio=1, name="label")
    with pytest.raises(UserError, match="the unlabelled set is empty"):
        paired(labelled, [], ratio=1)
