"""Splits over clients and the Source of rounds."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.data import arrays, mapped
from research.data.sampling.clients import dirichlet, rounds, shards
from research.errors import UserError

LABELS = np.random.default_rng(0).integers(0, 10, 5000)


def is_partition(parts, n):
    assert all(part.dtype == np.int64 and (np.diff(part) > 0).all() for part in parts)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(n))


def shares(parts, labels=LABELS):
    """The classes' shares of every client that has records, [clients, C]."""
    return np.stack([np.bincount(labels[part], minlength=10) / len(part) for part in parts if len(part)])


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 80), classes=st.integers(1, 6), clients=st.integers(1, 30), seed=st.integers(0, 2**32 - 1),
    alpha=st.sampled_from([1e-12, 1e-3, 0.3, 1.0, 1e3, 1e300, math.inf]), uneven=st.booleans(),
)  # fmt: skip
def test_every_record_is_with_one_client(n, classes, clients, seed, alpha, uneven):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    sizes = rng.exponential(size=clients) * (rng.random(clients) < 0.8) + (np.arange(clients) == 0) if uneven else None
    parts = dirichlet(labels, clients, alpha=alpha, seed=seed, sizes=sizes)
    assert len(parts) == clients
    is_partition(parts, n)
    ideal = n * (np.ones(clients) if sizes is None else sizes) / (clients if sizes is None else sizes.sum())
    assert np.all(np.abs([len(part) for part in parts] - ideal) <= 1 + 1e-6)
    dealt = shards(labels, clients, seed=seed)
    assert len(dealt) == clients
    is_partition(dealt, n)


def test_dirichlet_moments_and_limits():
    """The variance of a Dirichlet's shares is p (1 - p) / (alpha + 1), plus that of drawing m records from them."""
    for alpha in (0.3, 3.0, 100.0, math.inf):
        found = shares(dirichlet(LABELS, 100, alpha=alpha, seed=1))[:50].var()  # before classes run out
        spread = 0.1 * 0.9
        expected = spread * (1 / (alpha + 1) + (1 - 1 / (alpha + 1)) / 50)
        assert 0.8 < found / expected < 1.25, alpha
    single = shares(dirichlet(LABELS, 100, alpha=1e-9, seed=1)).max(1)
    # Each of the ten classes may end in the middle of a client.
    assert np.sum(single == 1) >= 90
    assert len({row.tobytes() for row in shares(dirichlet(LABELS, 100, alpha=1e-9, seed=1)) > 0.5}) == 10


def test_shards_hold_two_labels_each():
    labels = np.repeat(np.arange(10), 60)
    parts = shards(labels, 30, seed=0)  # shards of 10 divide the classes
    assert all(len(part) == 20 and len(set(labels[part])) <= 2 for part in parts)
    assert sum(len(set(labels[part])) == 2 for part in parts) > 15
    assert len(set(labels[shards(labels, 6, seed=0, per_client=1)[0]])) <= 3
    # Which records of a label share a shard is drawn too, not left to their order.
    assert all((np.diff(part) > 1).sum() > 3 for part in shards(np.zeros(80), 4, seed=0))


def test_splits_depend_on_their_seed_and_take_names():
    names = np.array([f"class {i}" for i in LABELS])
    for split in (lambda x, seed: dirichlet(x, 20, alpha=0.5, seed=seed), lambda x, seed: shards(x, 20, seed=seed)):
        first = split(LABELS, 3)
        assert all(map(np.array_equal, first, split(names, 3)))
        assert not all(map(np.array_equal, first, split(LABELS, 4)))


DATA = arrays(index=np.arange(40, dtype=np.int32), image=np.arange(80, dtype=np.float32).reshape(40, 2))
PARTS = (np.arange(0, 7), np.arange(7, 8), np.array([], int), np.arange(8, 30), np.arange(30, 40))


def real(batch):
    return [batch["index"][k][batch["mask"][k] > 0].ravel() for k in range(len(batch["index"]))]


def owners(batch):
    return [{next(c for c, part in enumerate(PARTS) if i in part) for i in rows} for rows in real(batch)]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), step=st.integers(0, 10**6), clients=st.integers(1, 5), size=st.integers(1, 9),
       epochs=st.integers(1, 3), local=st.one_of(st.none(), st.integers(1, 4)))  # fmt: skip
def test_a_round_holds_the_records_of_its_clients(seed, step, clients, size, epochs, local):
    source = rounds(DATA, PARTS, clients=clients, batch_size=size, epochs=epochs, local_steps=local)
    batch = source(seed)(step)
    steps = local or -(-22 * epochs // size)
    assert batch["image"].shape == (clients, steps, size, 2) and batch["mask"].shape == (clients, steps, size)
    assert batch["mask"].dtype == np.float32 and source.size == clients and source.examples == 5
    np.testing.assert_array_equal(batch["image"][..., 0], 2 * batch["index"])
    who = owners(batch)
    assert all(len(one) <= 1 for one in who) and len({c for one in who for c in one}) == sum(map(len, who))
    for one, rows in zip(who, real(batch), strict=True):
        part = PARTS[next(iter(one))] if one else PARTS[2]
        assert len(rows) == min(len(part) * epochs, steps * size)
        for epoch in range(-(-len(rows) // max(1, len(part)))):
            mine = rows[epoch * len(part) : (epoch + 1) * len(part)]
            assert len(set(mine)) == len(mine) and set(mine) <= set(part)
        assert not one or set(batch["index"][who.index(one)].ravel()) <= set(part)  # padding too is a record of its own
    # Only the end of a client's batches is padding.
    flat = batch["mask"].reshape(clients, -1)
    assert (np.diff(flat, axis=1) <= 0).all()
    # Pure, and the same for processes that hold some of the clients.
    again = rounds(DATA, PARTS, clients=clients, batch_size=size, epochs=epochs, local_steps=local)(seed)
    again(step + 1)
    for name, x in batch.items():
        np.testing.assert_array_equal(again(step)[name], x)
        shares = [again(step, slice(k, k + 2))[name] for k in range(0, clients, 2)]
        np.testing.assert_array_equal(np.concatenate(shares), x)


def test_clients_come_equally_often_and_orders_change_with_seed_round_and_epoch():
    source = rounds(DATA, PARTS, clients=2, batch_size=22, epochs=2)(0)
    counts = np.zeros(5)
    orders = set()
    for step in range(600):
        batch = source(step)
        for one, rows in zip(owners(batch), real(batch), strict=True):
            counts[next(iter(one), 2)] += 1
            if one == {3}:
                orders |= {tuple(rows[:22]), tuple(rows[22:])}
    # Binomial: 600 rounds, each client in 2 of 5 of them.
    assert np.all(np.abs(counts - 240) < 5 * np.sqrt(600 * 0.4 * 0.6)) and len(orders) == 2 * counts[3]
    first, second = real(rounds(DATA, (np.arange(20), np.arange(20, 40)), clients=2, batch_size=20)(0)(0))
    assert not np.array_equal(first % 20, second % 20)
    other = rounds(DATA, PARTS, clients=5, batch_size=22)(1)(0)["index"]
    assert not np.array_equal(other, rounds(DATA, PARTS, clients=5, batch_size=22)(2)(0)["index"])
    # A client with more records than its steps hold trains on others of them each round.
    short = rounds(DATA, PARTS[3:4], clients=1, batch_size=2, local_steps=1)(0)
    assert len({int(i) for step in range(60) for i in short(step)["index"].ravel()}) == 22


def test_only_the_records_of_the_rows_asked_for_are_read_and_augmentation_is_keyed_by_them():
    read = []
    data = mapped(DATA, lambda record: read.append(int(record["index"])) or record)
    augment = lambda rng, record: {**record, "noise": rng.random()}
    source = rounds(data, PARTS, clients=5, batch_size=7, local_steps=2, epochs=2, augment=augment)
    batch = source(0)(3, slice(1, 3))
    assert set(read) <= set(batch["index"].ravel().tolist())
    whole, later = source(0)(3), source(0)(4)
    np.testing.assert_array_equal(whole["noise"][1:3], batch["noise"])
    real_noise = lambda batch: batch["noise"][batch["mask"] > 0]
    assert len(set(real_noise(whole)) | set(real_noise(later))) == len(real_noise(whole)) + len(real_noise(later))


def test_mistakes_are_named():
    def fails(what, function):
        with pytest.raises(UserError, match=what):
            function()

    good = {"clients": 2, "batch_size": 4}
    fails("rounds of 6 clients; expected at most 5", lambda: rounds(DATA, PARTS, clients=6, batch_size=4))
    fails("no client has a record", lambda: rounds(DATA, PARTS[2:3], clients=1, batch_size=4))
    fails("records outside 0 to 39", lambda: rounds(DATA, [np.array([40])], clients=1, batch_size=4))
    fails("expected at least 1", lambda: rounds(DATA, PARTS, epochs=0, **good))
    fails("expected at least 1", lambda: rounds(DATA, PARTS, local_steps=0, **good))
    masked = arrays(mask=np.ones(40))
    fails("field 'mask'", lambda: rounds(masked, PARTS, **good)(0)(0))
    fails("alpha=0", lambda: dirichlet(LABELS, 3, alpha=0, seed=0))
    fails("alpha=nan", lambda: dirichlet(LABELS, 3, alpha=math.nan, seed=0))
    fails("one label per record", lambda: dirichlet(LABELS[:, None], 3, alpha=1, seed=0))
    fails("over 0 clients", lambda: shards(LABELS, 0, seed=0))
    fails("weight of at least 0 for each of the 3", lambda: dirichlet(LABELS, 3, alpha=1, seed=0, sizes=[1, 2]))
