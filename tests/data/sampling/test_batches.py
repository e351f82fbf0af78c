import concurrent.futures
import subprocess
import sys

import numpy as np
import pytest

from research.data import arrays, batches, digits, eval_batches, mapped
from research.data.sampling.batches import Batches, EvalBatches
from research.errors import UserError


def numbered(n):
    return arrays(index=np.arange(n), image=np.arange(n * 6, dtype=np.float32).reshape(n, 2, 3))


def noisy(rng, record):
    record["image"] += rng.normal(size=record["image"].shape).astype(np.float32)  # written in place on purpose
    return record


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype
        np.testing.assert_array_equal(a[name], b[name])


class Items:
    """Only len() and [i]."""

    def __init__(self, n):
        self.rows = [numbered(n)[i] for i in range(n)]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i]


class Fetched(Items):
    """As TFDS and torch read many."""

    __getitem__ = None

    def __getitems__(self, indices):
        assert isinstance(indices, list) and all(type(i) is int for i in indices)
        return [self.rows[i] for i in indices]


@pytest.mark.parametrize("augment", [None, noisy])
def test_a_step_is_a_pure_function(augment):
    data = numbered(23)
    source = batches(data, 5, augment=augment)
    one, other = source(7), source(7)
    first = [one(step) for step in range(20)]
    for step in (13, 4, 4, 19, 0):
        same(one(step), first[step])
        same(other(step), first[step])
    np.testing.assert_array_equal(data.columns["image"], numbered(23).columns["image"])


@pytest.mark.parametrize("size", [1, 5, 23, 60])
def test_every_record_comes_once_an_epoch(size):
    source = batches(numbered(23), size)(3)
    seen = np.concatenate([source(step)["index"] for step in range(-(-23 * 4 // size))])[: 23 * 4].reshape(4, 23)
    np.testing.assert_array_equal(np.sort(seen, axis=1), np.tile(np.arange(23), (4, 1)))
    assert len({tuple(epoch) for epoch in seen}) == 4, "epochs must not repeat one order"


def test_the_ragged_batch_wraps_into_the_next_epoch():
    source = batches(numbered(5), 3, shuffle=False)(0)
    assert [source(step)["index"].tolist() for step in range(3)] == [[0, 1, 2], [3, 4, 0], [1, 2, 3]]


def test_seeds_differ():
    orders = {tuple(batches(numbered(23), 23)(seed)(0)["index"].tolist()) for seed in range(10)}
    assert len(orders) == 10


@pytest.mark.parametrize("processes", [1, 2, 3, 4])
@pytest.mark.parametrize("augment", [None, noisy])
def test_processes_hold_rows_of_one_global_batch(processes, augment):
    source = batches(numbered(7), 12, augment=augment)(1)
    for step in range(4):
        share = 12 // processes
        parts = [source(step, slice(p * share, (p + 1) * share)) for p in range(processes)]
        same({name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, source(step))
    same(source(2, np.array([5, 0])), {name: x[[5, 0]] for name, x in source(2).items()})


def test_only_the_rows_asked_for_are_read():
    read = []
    data = mapped(numbered(20), lambda record: read.append(int(record["index"])) or record)
    rows = batches(data, 10)(0)(0, slice(3, 6))
    assert read == rows["index"].tolist()


@pytest.mark.parametrize("augment", [None, noisy])
def test_all_ways_of_reading_agree(augment):
    expected = batches(numbered(9), 4, augment=augment)(2)
    for data in (Items(9), Fetched(9)):
        source = batches(data, 4, augment=augment)(2)
        for step in range(5):
            same(source(step), expected(step))
    same(dict(Items(9)[3]), dict(numbered(9)[3]))  # augmentation wrote into copies


def test_augmentation_changes_with_epoch_record_and_seed():
    draws = lambda seed, step: batches(arrays(x=np.zeros(3)), 3, augment=lambda rng, _: {"x": rng.random()})(seed)(step)
    values = np.concatenate([draws(seed, step)["x"] for seed in (0, 1) for step in (0, 1)])
    assert len(set(values)) == 12


def test_augmentation_is_keyed_by_record_not_by_position():
    data = arrays(index=np.arange(6))
    augment = lambda rng, record: {**record, "noise": rng.random()}
    by_size = []
    for size in (2, 3, 6):
        source = batches(data, size, augment=augment)(5)
        batch = [source(step) for step in range(6 // size)]
        by_size.append({int(i): x for b in batch for i, x in zip(b["index"], b["noise"], strict=True)})
    assert by_size[0] == by_size[1] == by_size[2]


def test_threads_share_a_source():
    source, lonely = batches(numbered(50), 7)(0), batches(numbered(50), 7)(0)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for step, batch in enumerate(pool.map(source, list(range(60)))):
            same(batch, lonely(step))


def test_another_process_draws_the_same():
    code = """
import numpy as np
from research.data import arrays
from research.data import batches
source = batches(arrays(index=np.arange(1000)), 8, augment=lambda rng, r: {**r, "noise": rng.random()})(4)
print(source(300)["index"].tolist(), source(300)["noise"].tolist())
"""
    source = batches(arrays(index=np.arange(1000)), 8, augment=lambda rng, r: {**r, "noise": rng.random()})(4)
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{source(300)['index'].tolist()} {source(300)['noise'].tolist()}"


def test_batches_hold_numbers_only():
    data = arrays(label=np.arange(3), text=["a", "bb", "c"], raw=[b"1", b"2", b"3"])
    seen = []
    augment = lambda rng, record: seen.append(record["text"]) or record
    assert batches(data, 2)(0)(0).keys() == {"label"}
    assert batches(data, 2, augment=augment)(0)(0).keys() == {"label"}
    assert set(seen) <= {"a", "bb", "c"} and len(seen) == 2


def test_sizes_and_lengths():
    source = batches(numbered(23), 5)
    assert (source.size, source.examples) == (5, 23)
    assert isinstance(source, Batches) and source == batches(source.data, 5)
    checks = eval_batches(source.data, 5)
    assert (len(checks), checks.size, checks.examples) == (5, 5, 23) and isinstance(checks, EvalBatches)


@pytest.mark.parametrize("size", [1, 4, 5, 23, 30])
def test_a_sweep_sees_every_record_once_in_order(size):
    checks = eval_batches(numbered(23), size)
    parts = [checks(i) for i in range(len(checks))]
    assert all(part["mask"].shape == (size,) and part["mask"].dtype == np.float32 for part in parts)
    mask = np.concatenate([part["mask"] for part in parts])
    index = np.concatenate([part["index"] for part in parts])
    np.testing.assert_array_equal(index[mask == 1], np.arange(23))
    np.testing.assert_array_equal(index[mask == 0], np.full(len(index) - 23, (len(checks) - 1) * size))
    assert set(mask) <= {0.0, 1.0}


@pytest.mark.parametrize("processes", [1, 2, 3, 4])
def test_a_sweep_splits_over_processes(processes):
    checks, share = eval_batches(numbered(17), 12), 12 // processes
    for i in range(2):
        parts = [checks(i, slice(p * share, (p + 1) * share)) for p in range(processes)]
        same({name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, checks(i))
    with pytest.raises(IndexError):
        checks(2)


def test_a_pipeline_over_real_images(data_dir):
    data = digits(data_dir=data_dir)
    source = batches(data, 64)(0)
    batch = source(100)
    assert batch["image"].shape == (64, 8, 8, 1) and batch["label"].dtype == np.int32


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: batches(arrays(x=np.zeros(0)), 2), "is empty"),
        (lambda: eval_batches([], 2), "evaluation set is empty"),
        (lambda: batches(iter([1]), 2), "without len()"),
        (lambda: batches(numbered(3), 0), "batch size of 0"),
        (lambda: batches(numbered(3), 2.0), "batch size of 2.0"),
        (lambda: batches(numbered(3), 2)(2**32), "does not fit 32 bits"),
        (lambda: batches(numbered(3), 2)(-1), "does not fit 32 bits"),
        (lambda: batches(numbered(3), 2)("x"), "not an integer"),
        (lambda: batches(arrays(text=["a"]), 2)(0)(0), "no field of numbers"),
        (lambda: batches([{"x": 1}, {"y": 1}], 2)(0)(0), "has the fields"),
        (lambda: batches([1, 2], 2)(0)(0), "expected a dict"),
        (lambda: batches([{"x": {"y": 1}}], 1)(0)(0), "is a dict; expected a number"),
        (lambda: batches([{"x": np.zeros(2)}, {"x": np.zeros(3)}], 2)(0)(0), "'x' has the shape"),
        (lambda: batches(arrays(x=[[1, 2], [3]]), 2)(0)(0), "'x' has the shape"),
        (lambda: eval_batches(arrays(mask=np.ones(3)), 2)(0), "field 'mask'"),
    ],
)
def test_errors(make, words):
    with pytest.raises(UserError, match=words.replace("(", r"\(").replace(")", r"\)")):
        make()


def test_columns_that_are_not_of_the_asked_rows_are_refused():
    class Head(Items):
        def take_columns(self, n):
            return self.rows[:1]

    with pytest.raises(UserError, match=r"take_columns\(indices\) must return a dict of arrays with one row per index"):
        batches(Head(3), 2)(0)(0)
