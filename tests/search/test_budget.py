"""What a budget allows."""

import pytest

from research.errors import UserError
from research.search.budget import Budget, parse, spent


def test_every_unit():
    assert parse("50") == parse("50trials") == parse("50 trials") == Budget(trials=50)
    assert parse("2h") == Budget(seconds=7200) and parse("1.5min") == Budget(seconds=90)
    assert parse("1e6steps") == Budget(steps=1_000_000) and parse("1d, 3trials") == Budget(trials=3, seconds=86400)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a budget; expected, for example, 50trials"),
        ("fifty", "is not a budget"),
        ("1.2.3h", "'1.2.3' is not a number"),
        ("3hours", "unknown unit 'hours'.*Valid: trials, steps, s, min, h, d"),
        ("3trial s", "is not a budget"),
        ("3tials", "Did you mean 'trials'"),
        ("0h", "must be positive"),
        ("1h,3min", "sets seconds twice"),
    ],
)
def test_mistakes(text, message):
    with pytest.raises(UserError, match=message):
        parse(text)


def test_what_is_spent_first_counts():
    budget = Budget(trials=5, seconds=10, steps=100)
    assert spent(budget, trials=4, seconds=9.9, steps=99) == ""
    assert spent(budget, trials=5, seconds=0, steps=0) == "5 trials"
    assert spent(budget, trials=0, seconds=10, steps=0) == "10 s of training"
    assert spent(budget, trials=0, seconds=0, steps=100) == "100 steps"
    assert spent(Budget(), trials=10**9, seconds=1e9, steps=10**9) == ""
