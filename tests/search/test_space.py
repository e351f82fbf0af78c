"""What a text on the command line means as a space to search, and how mistakes in it are answered."""

import json
from pathlib import Path
from typing import Literal

import optuna
import pytest

from research import duration
from research.errors import UserError
from research.runs.knobs import knobs_of
from research.search.space import Choices, Range, first, from_json, grid, space_of, suggest, to_json


def experiment(
    *,
    learning_rate: float = 1e-3,
    width: int = 8,
    network: Literal["mlp", "cnn"] = "mlp",
    widths: tuple[int, ...] = (8, 8),
    augment: bool = True,
    length: duration.Duration = duration.epochs(2),
    decay: float | None = None,
    folder: Path | None = None,
    title: str = "",
): ...


KNOBS = knobs_of(experiment)


def searched(**given):
    return space_of(KNOBS, given).searched


def test_ranges_take_the_type_of_their_knob():
    found = searched(learning_rate="1e-4:1e-2:log", width="8:1e2", decay="0:1")
    assert found == {"learning_rate": Range(1e-4, 1e-2, True), "width": Range(8, 100), "decay": Range(0.0, 1.0)}
    assert isinstance(found["width"].high, int) and isinstance(found["decay"].low, float)
    assert searched(learning_rate="-1:1")["learning_rate"] == Range(-1.0, 1.0)
    assert searched(width=Range(1, 9, True))["width"] == Range(1, 9, True)


def test_some_values_of_a_range():
    assert searched(learning_rate="1e-4:1e-2:log:3")["learning_rate"].values == pytest.approx((1e-4, 1e-3, 1e-2))
    assert searched(learning_rate="0:1:5")["learning_rate"] == Choices((0.0, 0.25, 0.5, 0.75, 1.0))
    assert searched(width="1:3:9")["width"] == Choices((1, 2, 3))  # whole, and each once


def test_choices_of_every_kind():
    assert searched(width="32, 64,128")["width"] == Choices((32, 64, 128))
    assert searched(network="mlp,cnn", augment="true,no") == {
        "network": Choices(("mlp", "cnn")), "augment": Choices((True, False)),
    }  # fmt: skip
    assert searched(decay="none,0.1")["decay"] == Choices((None, 0.1))
    assert searched(length="3epochs,10%")["length"] == Choices(("3 epochs", "10%"))
    assert searched(width=[1, 2])["width"] == Choices((1, 2))
    assert searched(widths=[(8,), (4, 4)])["widths"] == Choices(("8", "4,4"))


def test_plain_values_stay():
    space = space_of(KNOBS, {"width": "1:9", "learning_rate": "0.1", "widths": "4,5", "folder": "a:b", "title": "x:y"})
    assert space.fixed == {"learning_rate": 0.1, "widths": [4, 5], "folder": "a:b", "title": "x:y"}
    assert space_of(KNOBS, {"width": "1:9", "widths": [3], "length": duration.epochs(1)}).fixed == {
        "widths": [3], "length": "1 epochs",
    }  # fmt: skip
    assert first(space)["width"] == 1 and first(space)["title"] == "x:y"


def test_json_and_back():
    space = space_of(KNOBS, {"width": "1:9", "learning_rate": "0.1:1:log", "network": "mlp,cnn", "augment": "true"})
    back = from_json(json.loads(json.dumps(to_json(space))))
    assert back == space and isinstance(back.searched["width"].low, int)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"learning_rte": "1:2"}, "Did you mean 'learning_rate'"),
        ({"learning_rate": "1e-4:1e-2:lg"}, "unknown part 'lg' in .*Did you mean 'log'.*A range looks like"),
        ({"learning_rate": "1e-4:1e-2:log:x"}, "'x' in"),
        ({"learning_rate": "1:2:log:3:4"}, "'4' in"),
        ({"learning_rate": "a:1"}, "must be float, not 'a'.*range 'a:1'.*A range looks like 1e-4:1e-2"),
        ({"learning_rate": ":"}, "must be float, not ''"),
        ({"width": "1.5:3"}, "width must be int, not '1.5'"),
        ({"learning_rate": "1:1"}, "finite bounds, the lower one first"),
        ({"learning_rate": "2:1"}, "finite bounds, the lower one first"),
        ({"learning_rate": "nan:1"}, "finite bounds, the lower one first"),
        ({"learning_rate": "0:inf"}, "finite bounds, the lower one first"),
        ({"learning_rate": "0:1:log"}, "must start above 0"),
        ({"learning_rate": "0:1:1"}, "must be at least 2"),
        ({"width": "1,2.5"}, "width must be int, not '2.5'"),
        ({"width": "1,,2"}, "none of them empty.*choices like 32,64,128"),
        ({"width": [3]}, "two or more choices"),
        ({"width": "1,2,1"}, "the choice 1 is given twice"),
        ({"network": "mlp,cn"}, "Did you mean 'cnn'"),
        ({"network": "mlp:cnn"}, "unknown value of network"),
        ({"augment": "true,perhaps"}, "true or false"),
        ({"width": "7"}, "nothing to search: every knob has one value. A range looks like .* Knobs: learning_rate"),
    ],
)
def test_mistakes_name_the_knob_and_show_what_a_range_looks_like(given, message):
    with pytest.raises(UserError, match=message):
        space_of(KNOBS, given)


def test_a_knob_without_a_value_is_named():
    def required(*, width: int, depth: int): ...

    with pytest.raises(UserError, match="'depth' has no default"):
        space_of(knobs_of(required), {"width": "1:2"})


def test_a_grid_is_every_combination():
    space = space_of(KNOBS, {"width": "1:2", "network": "mlp,cnn", "decay": "none,0.1"})
    points = grid(space)
    assert len(points) == 8 and points[0] == {"width": 1, "network": "mlp", "decay": None}
    assert points[1]["decay"] == 0.1 and len({str(point) for point in points}) == 8
    with pytest.raises(UserError, match=r"learning_rate, such as 0.1:1.0:log:5, or choices"):
        grid(space_of(KNOBS, {"learning_rate": "0.1:1:log"}))
    with pytest.raises(UserError, match="10001 points; expected at most 10000"):
        grid(space_of(KNOBS, {"width": "0:10000"}))


def test_a_suggestion_lies_in_the_space_and_stays():
    space = space_of(KNOBS, {"width": "1:3", "learning_rate": "0.1:1:log", "network": "mlp,cnn", "title": "t"})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(20):
        trial = study.ask()
        values = suggest(trial, space)
        assert values["width"] in (1, 2, 3) and 0.1 <= values["learning_rate"] <= 1 and values["title"] == "t"
        assert suggest(trial, space) == values
