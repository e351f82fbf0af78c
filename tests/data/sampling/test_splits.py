import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedShuffleSplit, TimeSeriesSplit

from research.data import chronological, folds, grouped, nested_folds, shuffled, stratified, time_folds
from research.errors import UserError

LABELS = load_digits().target


def test_no_overlap_and_nothing_lost():
    for parts in (stratified(LABELS, [1000, 297, None], seed=0), shuffled(len(LABELS), [1000, 297, None], seed=0)):
        assert [len(part) for part in parts] == [1000, 297, 500]
        np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(1797))
        assert all((np.diff(part) > 0).all() for part in parts)


@pytest.mark.parametrize("sizes", [(1000, 797), (1200, 300), (50, 33), (10, 10)])
def test_class_counts_are_scikit_learns(sizes):
    train, test = stratified(LABELS, sizes, seed=1)
    split = StratifiedShuffleSplit(1, train_size=sizes[0], test_size=sizes[1], random_state=0)
    (ours_train, ours_test) = (np.bincount(LABELS[part], minlength=10) for part in (train, test))
    ((their_train, their_test),) = split.split(LABELS, LABELS)
    shares = np.bincount(LABELS) / len(LABELS)
    for ours, theirs, size in ((ours_train, their_train, sizes[0]), (ours_test, their_test, sizes[1])):
        theirs = np.bincount(LABELS[theirs], minlength=10)
        # Where remainders tie, scikit-learn draws the class by lot, so only the rounding is comparable.
        if len(np.unique(np.round(shares * size % 1, 9))) < 10:
            np.testing.assert_array_equal(*(np.sort(counts - np.floor(shares * size)) for counts in (ours, theirs)))
        else:
            np.testing.assert_array_equal(ours, theirs)
        assert np.abs(ours - shares * size).max() < 1.5


def test_class_counts_without_ties():
    labels = np.repeat(["a", "b", "c"], [503, 302, 101])
    ours = stratified(labels, [200, 77], seed=3)
    theirs = next(StratifiedShuffleSplit(1, train_size=200, test_size=77, random_state=0).split(labels, labels))
    for a, b in zip(ours, theirs, strict=True):
        counts = [np.unique(labels[part], return_counts=True)[1].tolist() for part in (a, b)]
        assert counts[0] == counts[1]


def test_the_seed_decides():
    first, again, other = (stratified(LABELS, [500], seed=seed)[0].tolist() for seed in (0, 0, 1))
    assert first == again != other
    assert shuffled(100, [50], seed=0)[0].tolist() != shuffled(100, [50], seed=1)[0].tolist()


def test_members_of_a_class_are_drawn_at_random():
    (part,) = stratified(np.zeros(1000), [500], seed=0)
    assert 200 < np.sum(part < 500) < 300


def test_rare_classes():
    parts = stratified([0] * 9 + [1], [5, 5], seed=0)
    assert sorted(np.concatenate(parts)) == list(range(10))


@pytest.mark.parametrize(
    "sizes",
    [
        [2000],
        [0, None],
        [1797, None],
        [None, None],
        [-1, None],
        [True, None],
        [0.7, 0.4],
        [1.0],
        [0.0, 0.5],
        ["a"],
        [0.0001],
    ],
    ids=str,
)
def test_errors(sizes):
    for make in (lambda: stratified(LABELS, sizes, seed=0), lambda: shuffled(1797, sizes, seed=0)):
        with pytest.raises(UserError, match="split sizes"):
            make()


def test_labels_must_be_one_a_record():
    with pytest.raises(UserError, match=r"shape \[2, 3\]"):
        stratified(np.zeros((2, 3)), [1], seed=0)


@pytest.mark.parametrize("sizes, counts", [
    ((0.7, 0.15, 0.15), [1258, 270, 269]), ((0.5, None), [899, 898]), ((0.1, 100), [180, 100]),
    ((1 / 3, 1 / 3, 1 / 3), [599, 599, 599]),
])  # fmt: skip
def test_fractions(sizes, counts):
    for parts in (stratified(LABELS, sizes, seed=0), shuffled(1797, sizes, seed=0)):
        assert [len(part) for part in parts] == counts
        assert len(np.unique(np.concatenate(parts))) == sum(counts)
    assert stratified(LABELS, sizes, seed=0)[0].tolist() == stratified(LABELS, counts, seed=0)[0].tolist()


GROUPS = np.arange(1797) // 7


def test_groups_stay_together():
    sizes = np.random.default_rng(0).integers(1, 40, 100)
    groups = np.random.default_rng(1).permutation(np.repeat(np.arange(100), sizes))
    labels = (np.arange(len(groups)) % 10 == 0).astype(int)
    for options in ({}, {"labels": labels}):
        parts = grouped(groups, (0.7, 0.2, None), seed=0, **options)
        assert sorted(np.concatenate(parts)) == list(range(len(groups)))
        sides = [set(groups[part]) for part in parts]
        assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
        shares = [len(part) / len(groups) for part in parts]
        np.testing.assert_allclose(shares, (0.7, 0.2, 0.1), atol=0.005)
    for part in parts:
        assert abs(labels[part].mean() - labels.mean()) < 0.01, "with labels, the class proportions too"
    part = grouped(groups, [100], seed=0)[0]
    assert abs(len(part) - 100) <= 2 and not set(groups[part]) & set(np.delete(groups, part))
    assert part.tolist() == grouped(groups, [100], seed=0)[0].tolist() != grouped(groups, [100], seed=1)[0].tolist()


def test_later_records_are_in_later_parts():
    times = np.random.default_rng(0).permutation(np.arange(100) // 3).astype("datetime64[D]")
    parts = chronological(times, (50, 0.2, None))
    assert sorted(np.concatenate(parts)) == list(range(100))
    assert all(times[a].max() < times[b].min() for a, b in zip(parts, parts[1:], strict=False))
    assert [len(part) for part in parts] == [48, 21, 31]
    assert chronological(np.arange(10), (7, 3))[1].tolist() == [7, 8, 9]
    groups = np.arange(100) % 20
    parts = chronological(np.arange(100), (0.5, 0.5), groups=groups)
    ends = [{g: max(i for i in part if groups[i] == g) for g in groups[part]} for part in parts]
    assert not set(ends[0]) & set(ends[1]) and max(ends[0].values()) < min(ends[1].values())


def test_nested_folds():
    found = nested_folds(210, 3, 4, seed=0, groups=np.arange(210) // 7, labels=np.arange(210) % 2)
    for train, test, inner in found:
        assert len(inner) == 4 and sorted([*train, *test]) == list(range(210))
        np.testing.assert_array_equal(np.sort(np.concatenate([fold.test for fold in inner])), train)
        for fold in inner:
            np.testing.assert_array_equal(np.sort(np.concatenate(fold)), train)
            assert not set(fold.train // 7) & set(fold.test // 7)


def test_time_folds_are_scikit_learns():
    for options, theirs in (({}, {}), ({"gap": 3, "test": 5}, {"gap": 3, "test_size": 5})):
        expected = list(TimeSeriesSplit(4, **theirs).split(np.zeros(53)))
        ours = time_folds(np.arange(53) * 2.5, 4, **options)
        assert all(np.array_equal(x, y) for a, b in zip(ours, expected, strict=True) for x, y in zip(a, b, strict=True))
    times = np.random.default_rng(0).permutation(np.arange(60) // 4)
    for train, test in time_folds(times, 5):
        assert times[train].max() < times[test].min()


@pytest.mark.parametrize("make, words", [
    (lambda: grouped(np.zeros(9), (0.5, 0.5), seed=0), "1 groups do not fill 2 parts"),
    (lambda: grouped(np.arange(9), (0.5, 0.5), seed=0, labels=np.zeros(8)), r"labels of shape \[8\]; .*\[9\]"),
    (lambda: chronological(np.zeros(9), (5, 4)), "too many records have the same time"),
    (lambda: chronological([1.0, np.nan], (1, 1)), "times are missing in 1 records, such as record 1"),
    (lambda: chronological(np.zeros((2, 2)), (1, 1)), r"times of shape \[2, 2\]"),
    (lambda: time_folds(np.arange(4), 9), "cannot make 9 folds of 4 records"),
    (lambda: time_folds(np.zeros(20), 3), "fold 0 has no training record before"),
])  # fmt: skip
def test_splits_that_cannot_be_are_errors(make, words):
    with pytest.raises(UserError, match=words):
        make()


@pytest.mark.parametrize("labels", [None, LABELS], ids=["any", "labels"])
@pytest.mark.parametrize("groups", [None, GROUPS], ids=["any", "groups"])
def test_every_record_is_tested_once_and_trained_on_in_the_other_folds(labels, groups):
    parts = folds(1797, 5, seed=0, labels=labels, groups=groups)
    assert len(parts) == 5
    np.testing.assert_array_equal(np.sort(np.concatenate([part.test for part in parts])), np.arange(1797))
    for train, test in parts:
        np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(1797))
        assert (np.diff(train) > 0).all() and (np.diff(test) > 0).all() and 330 < len(test) < 390
        if groups is not None:
            assert not set(groups[train]) & set(groups[test])
        spread = np.ptp([np.sum(LABELS[part.test] == 3) for part in parts])
        # By chance 36 of a class are in a fold, give or take 5; groups of 7 records allow no less than one or two.
        assert (spread <= 1) if labels is not None and groups is None else (spread < 6) == (labels is not None)


def test_the_seed_decides_which_fold_a_record_is_tested_in():
    first, again, other = (folds(100, 4, seed=seed)[0].test.tolist() for seed in (0, 0, 1))
    assert first == again != other


def test_labels_may_be_strings_and_rare():
    parts = folds(10, 3, seed=0, labels=["a"] * 8 + ["b"] * 2)
    assert sorted(sum(i >= 8 for i in part.test) for part in parts) == [0, 1, 1]


def test_folds_that_cannot_be_are_errors():
    for arguments, why in (
        (dict(k=1), "1 folds; expected an integer of at least 2"),
        (dict(k=2.5), "2.5 folds"),
        (dict(k=101), "101 folds of 100 records"),
        (dict(k=5, groups=np.arange(100) // 50), "5 folds of 100 records.*groups: 2"),
        (dict(k=60, labels=np.arange(100) % 2), "60 folds of 100 records.*each class"),
        (dict(k=5, labels=np.zeros(99)), r"labels of shape \[99\]; expected one per record, \[100\]"),
        (dict(k=5, groups=np.zeros((100, 1))), r"groups of shape \[100, 1\]"),
    ):
        with pytest.raises(UserError, match=why):
            folds(100, seed=0, **arguments)
