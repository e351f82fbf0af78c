import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedShuffleSplit

from research.data import folds, shuffled, stratified
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
    "sizes", [[2000], [0, None], [1797, None], [None, None], [0.5], [-1, None], [True, None]], ids=str
)
def test_errors(sizes):
    for make in (lambda: stratified(LABELS, sizes, seed=0), lambda: shuffled(1797, sizes, seed=0)):
        with pytest.raises(UserError, match="split sizes"):
            make()


def test_labels_must_be_one_a_record():
    with pytest.raises(UserError, match=r"shape \[2, 3\]"):
        stratified(np.zeros((2, 3)), [1], seed=0)


GROUPS = np.arange(1797) // 7


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
