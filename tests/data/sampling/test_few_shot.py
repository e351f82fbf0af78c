import numpy as np
import pytest

from research.data import arrays
from research.data.sampling.few_shot import few_shot, held
from research.errors import UserError

LABELS = np.repeat(np.arange(7) * 3, 6)
DATA = arrays(image=np.arange(42)[:, None], label=LABELS)
TASKS = few_shot(DATA, LABELS, 4, ways=3, shots=2, queries=3)


def test_a_task_is_made_of_other_examples_of_the_same_classes():
    batch = TASKS(1)(5)
    assert batch["support_image"].shape == (4, 6, 1) and batch["query_image"].shape == (4, 9, 1)
    for task in range(4):
        support, query = batch["support_image"][task, :, 0], batch["query_image"][task, :, 0]
        assert len({*support, *query}) == 15
        np.testing.assert_array_equal(batch["support_label"][task], np.repeat(np.arange(3), 2))
        true = {}
        for rows, given in ((support, batch["support_label"][task]), (query, batch["query_label"][task])):
            for row, label in zip(rows, given, strict=True):
                assert true.setdefault(label, LABELS[row]) == LABELS[row]
        assert len(set(true.values())) == 3


def test_it_is_pure_and_split_by_rows_and_moves_with_seed_step_and_task():
    whole = TASKS(1)(5)
    rows = np.array([3, 1])
    for name, part in TASKS(1)(5, rows).items():
        np.testing.assert_array_equal(part, whole[name][rows])
    images = whole["support_image"]
    assert not np.array_equal(images[0], images[1])
    for other in (TASKS(2)(5), TASKS(1)(6)):
        assert not np.array_equal(images, other["support_image"])
    firsts = np.concatenate([TASKS(0)(step)["support_image"][:, 0, 0] for step in range(300)])
    counts = np.bincount(LABELS[firsts] // 3, minlength=7)
    assert np.abs(counts / len(firsts) - 1 / 7).max() < 0.04  # every class as often; the deviation is 0.01


def test_held_tasks_are_fixed_and_counted():
    source = held(TASKS, count=2, seed=3)
    assert len(source) == 2 and source.size == 4
    np.testing.assert_array_equal(source(1)["query_image"], TASKS(3)(1)["query_image"])
    np.testing.assert_array_equal(source(0)["mask"], np.ones(4))
    with pytest.raises(IndexError, match="batch 2 of 2"):
        source(2)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (dict(ways=8), "8 ways need at least 8 classes; the data have 7"),
        (dict(shots=4), "4 shots and 3 queries need 7 examples; a class has 6"),
        (dict(labels=LABELS[:-1]), "41 labels for 42 records"),
    ],
)
def test_too_little_data_is_told(wrong, message):
    given = {"labels": LABELS, "ways": 3, "shots": 2, "queries": 3, **wrong}
    with pytest.raises(UserError, match=message):
        few_shot(DATA, given.pop("labels"), 4, **given)
