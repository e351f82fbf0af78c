"""The suite itself: equal work, a harness that runs, arithmetic of the results; and what of speed is no timing."""

import collections
import json
import math
import os
import subprocess
import sys
from typing import NamedTuple

import jax
import numpy as np
import pytest

from research.data import table
from research.errors import UserError
from research.system import allocator
from tests.benchmarks import floor, harness, memory, ours, preparation, results, stability, turns, waiting, works
from tests.benchmarks.__main__ import main


@pytest.mark.parametrize("name", [*works.TRAINING, *works.DISPATCH])
def test_ours_and_the_floor_have_the_size_of_the_architecture(name):
    work = works.work(name + ("@depth=2" if name in ("vit", "gpt") else ""))
    for params in (
        jax.eval_shape(ours.model_of(work).init, jax.random.key(0))[0],
        jax.eval_shape(lambda: floor.init(work)),
    ):
        assert sum(x.size for x in jax.tree.leaves(params)) == works.parameters(work)


SMALL = {
    "mlp": "@batch=32,width=64,features=64",
    "gpt": "@batch=2,length=32,width=32,heads=2,depth=2,vocabulary=256",
    "vit": "@batch=16,width=48,depth=2",
    "resnet": "@width=8,stages=2",
}


@pytest.mark.parametrize("name", SMALL)
def test_the_step_is_in_place_and_needs_no_more_memory_than_the_floor(name):
    work = works.work(name + SMALL[name])
    mine, least = memory.of_ours(work), memory.of_floor(work)
    assert mine.aliased == mine.state  # every array of the state and of the open sums is donated, and taken
    assert mine.peak <= 1.05 * least.peak


def test_ours_and_the_pipeline_of_scikit_learn_make_the_same_features():
    columns = preparation.columns(works.work("prepare-fit@rows=3000").sizes)
    data = table(columns)
    mine = preparation.ours_fitted(data)(data).columns["features"]
    theirs = preparation.theirs().fit_transform(preparation.frame(columns))
    pairs = [np.flatnonzero(np.isclose(mine, column[:, None], atol=1e-5).all(0)) for column in theirs.T]
    assert mine.shape == theirs.shape == (3000, 62)
    assert sorted(at for (at,) in pairs) == list(range(62))  # each of theirs is one of ours, in another order


def test_a_quick_run_by_the_command(capfd, tmp_path, monkeypatch):
    monkeypatch.setattr(harness, "RESULTS", tmp_path / "results")
    assert main(["mlp", "--quick", "--contenders", "ours,floor"]) == 0
    printed = capfd.readouterr().out
    assert "| ours |" in printed and "| floor |" in printed and "mlp: round 1 of 1" in printed
    assert not list(tmp_path.iterdir())  # tiny sizes say nothing: they are not kept


def line(**changes):
    """A line of the results as the harness writes it: ours takes 1, 6 and 8 ms where the floor takes 2, 2 and 4."""
    times = {"ours": (1.0, 6.0, 8.0), "floor": (2.0, 2.0, 4.0)}
    played = [
        {
            "round": i,
            "contender": name,
            "ms": ms,
            "cpu_ms": 7.0,
            "parts": [ms],
            "foreign": 0.01,
            "steal": 0.0,
            "rss": 5e6,
        }
        for name, found in times.items()
        for i, ms in enumerate(found)
    ]
    machine = {"processor": "Chip (R) 9", "cores": 2, "memory_gib": 4.0, "devices": 1, "device": "cpu", "system": "L"}
    return {
        "time": "2026-01-01T00:00:00", "machine": machine, "versions": {"jax": "1"}, "commit": "abc", "load": 0.1,
        "work": "mlp", "sizes": {"batch": 8}, "lost": [], "wanted": 3, "contenders": {"ours": {}, "floor": {}},
        "rounds": played, **changes,
    }  # fmt: skip


def test_medians_and_ratios_of_the_same_round():
    mine, least = results.rows(line())
    assert (mine.ms, mine.low, mine.high, mine.cpu_ms, least.ms) == (6.0, 3.5, 7.0, 7.0, 2.0)
    # Of 0.5, 3 and 2; the ratio of the medians would be 3.
    assert mine.to_floor == least.ours == results.Ratio(2.0, 0.5, 3.0)
    assert mine.ours == least.to_floor == results.Ratio(1.0, 1.0, 1.0)
    alone = line(contenders={"ours": {}})
    assert results.rows(alone)[0].to_floor is None


def test_the_page_keeps_the_newest_and_marks_what_was_not_quiet(tmp_path):
    old, new = line(), line(time="2026-02-02T00:00:00")
    for played in new["rounds"]:
        played["foreign"] = 0.2
    path = harness.store(old, folder=tmp_path)
    assert path.name == "chip-r-9-x2.jsonl" and harness.store(new, folder=tmp_path) == path
    assert [json.loads(text)["time"] for text in path.read_text().splitlines()] == [old["time"], new["time"]]
    page = results.page(results.read(tmp_path))
    assert page.count("## Limits") == 1
    assert page.count("### mlp (batch 8)") == 1 and "2026-02-02" in page and "2026-01-01" not in page
    assert "others took 20.0% of the cores, **NOT QUIET**." in page and "took 1.0% of the cores." in results.table(old)


def test_the_interval_covers_the_median_as_often_as_it_says():
    # They cover the median with .9375 and .9297 (Conover, Practical Nonparametric Statistics, binomial tables).
    assert results.interval([3, 1, 2, 5, 4]) == (3, 1, 5)
    assert results.interval(range(8)) == (3.5, 1, 6)
    assert results.interval([2.0]) == (2.0, 2.0, 2.0)
    draws = np.random.default_rng(0).exponential(size=(2000, 12))
    covered = [found.low <= np.log(2) <= found.high for found in map(results.interval, draws)]
    assert np.mean(covered) == pytest.approx(1 - 2 * sum(math.comb(12, i) for i in range(3)) / 2**12, abs=0.01)


def test_a_disturbed_turn_is_named_and_its_round_left_out():
    found = line(wanted=2)
    first, second, third = (played for played in found["rounds"] if played["contender"] == "ours")
    assert not any(stability.disturbances(found["rounds"]).values())
    for changes, cause in [
        ({"steal": 0.02}, "steal"), ({"foreign": 0.05}, "other processes"), ({"parts": [1.0, 1.2]}, "spread"),
        ({"cpu_ms": 8.0}, "CPU time"), ({"cpu_ms": 6.0}, "CPU time"),
    ]:  # fmt: skip
        kept = dict(third)
        third.update(changes)
        assert stability.disturbances(found["rounds"])["ours", 2] == [cause]
        assert stability.stable(found["rounds"]) == {"ours": [0, 1], "floor": [0, 1, 2]}
        mine, least = results.rows(found)
        assert mine.stable and mine.ms == 3.5 and mine.to_floor == results.Ratio(1.75, 0.5, 3.0) and least.ms == 2.0
        assert f"2 of 3 ({cause} 1)" in results.table(found) and "NOT STABLE" not in results.table(found)
        third.clear()
        third.update(kept)
    second["steal"] = third["steal"] = 0.5
    mine, least = results.rows(found)
    assert not mine.stable and mine.ms == 6.0 and least.stable  # too few: all of them count, and are marked
    assert "**NOT STABLE**, 1 of 3 (steal 2)" in results.table(found)


def test_an_earlier_line_is_shown_but_not_judged():
    early = line()
    del early["wanted"]
    for played in early["rounds"]:
        del played["steal"], played["parts"]
    assert results.rows(early)[0].stable is None and results.table(early).count("not judged") == 2


def test_contenders_without_enough_stable_turns_play_again(monkeypatch):
    class Named(NamedTuple):
        contender: harness.Contender
        file = None

        def tell(self, steps): ...
        def end(self): ...

        process = type("Ended", (), {"wait": lambda self, seconds: 0})()

    def turn(ready):
        name, steal = ready.process.contender.name, 0.0
        if name == "linen":
            steal = next(steals)
        return {"contender": name, "ms": 1.0, "cpu_ms": 1.0, "parts": [1.0], "foreign": steal, "steal": steal}

    monkeypatch.setattr(harness, "start", lambda contender, *args, **options: Named(contender))
    monkeypatch.setattr(harness, "warmed", lambda process, *args, **options: harness.Ready(process, 1, {}))
    monkeypatch.setattr(harness, "turn", turn)
    monkeypatch.setattr(harness, "circumstances", dict)
    monkeypatch.setattr(harness.importlib.util, "find_spec", lambda name: True)
    how = dict(rounds=2, seconds=1.0, only=("floor", "linen", "torch-best"), tell=lambda text: None)
    count = lambda found: collections.Counter(played["contender"] for played in found["rounds"])
    steals = iter([0.5, 0.0, 0.5, 0.0, 0.0])
    assert count(harness.measure("mlp", again=5, **how)) == {"linen": 4, "floor": 4, "torch-best": 2}
    steals = iter([0.5] * 9)
    assert count(harness.measure("mlp", again=1, **how)) == {"linen": 3, "floor": 3, "torch-best": 2}


def test_a_turn_of_training_has_a_step_that_does_not_count_and_parts():
    class Asked:
        contender, asked = harness.Contender("fake", "none"), []

        def ask(self, steps):
            self.asked.append(steps)
            seconds = float(len(self.asked))
            return {
                "seconds": seconds,
                "cpu": 2.0,
                "foreign": 0.1,
                "steal": 0.3 if seconds == 2 else 0.0,
                "rss": 7,
                "loss": 1.0,
            }

    found = harness.turn(harness.Ready(Asked(), 10, {"parameters": 5}))
    assert Asked.asked == [1, 10, 10, 10] and found["parts"] == [200.0, 300.0, 400.0]
    assert (found["ms"], found["cpu_ms"]) == (300.0, 200.0) and found["steal"] == pytest.approx(0.3 * 2 / 9)


def test_kept_contenders_have_our_settings_and_the_others_none(monkeypatch, tmp_path):
    environments = {}
    monkeypatch.setenv(allocator.SETTING, "glibc.malloc.arena_max=7")
    monkeypatch.setattr(
        harness.subprocess, "Popen", lambda command, env, **rest: environments.update({command[3]: env})
    )
    monkeypatch.setattr(harness.importlib.util, "find_spec", lambda name: True)
    work = works.work("mlp", quick=True)
    for contender in harness.contenders(work):
        harness.start(contender, work, quick=True, folder=tmp_path)
    kept = {name for name, env in environments.items() if env.get(allocator.SETTING) == allocator.TUNABLES}
    assert kept == {"ours", "floor", "linen-kept", "torch-best-kept"}
    assert not any(allocator.SETTING in env for name, env in environments.items() if name not in kept)


def test_mistakes_name_what_there_is():
    with pytest.raises(UserError, match="vit"):
        works.work("vitt")
    with pytest.raises(UserError, match="depth"):
        works.work("vit@dept=3")
    with pytest.raises(UserError, match="batch=NUMBER"):
        works.work("vit@batch=0")
    with pytest.raises(UserError, match="floor"):
        main(["mlp", "--contenders", "flor"])


def test_a_contender_that_cannot_take_part_is_told(monkeypatch):
    told = []
    absent = harness.Contender("absent", "torch_twin", ("no_such_package",))
    broken = harness.Contender("broken", "floor")  # its process does not know this name, and dies
    monkeypatch.setattr(harness, "contenders", lambda work: (absent, broken))
    found = harness.measure("mlp", rounds=1, seconds=0.01, quick=True, tell=told.append)
    assert not found["rounds"] and len(found["lost"]) == 2
    assert ".[bench]" in found["lost"][0] and "broken died" in found["lost"][1]


def test_a_contender_that_dies_under_way_leaves_the_others(monkeypatch):
    warmed, told = harness.warmed, []

    def killed(process, *args, **options):
        ready = warmed(process, *args, **options)
        if process.contender.name == "linen":
            process.process.kill()
        return ready

    monkeypatch.setattr(harness, "warmed", killed)
    found = harness.measure("mlp", rounds=2, seconds=0.01, quick=True, only=("floor", "linen"), tell=told.append)
    assert [played["contender"] for played in found["rounds"]] == ["floor", "floor"]
    assert list(found["contenders"]) == ["floor"] and found["lost"][0].startswith("linen died")


class Fake:
    """A contender that reports what it is told to: a process without one."""

    contender = harness.Contender("fake", "none")

    def __init__(self, *, parameters, losses=(2.0, 1.0), seconds=0.4):
        self.parameters, self.losses, self.seconds, self.asked = parameters, iter(losses), seconds, []

    def answer(self):
        return {"facts": {"parameters": self.parameters}}

    def ask(self, steps):
        self.asked.append(steps)
        return {"seconds": self.seconds, "loss": next(self.losses)}


def test_a_contender_must_have_the_size_and_learn():
    work = works.work("mlp", quick=True)
    right = works.parameters(work)
    fake = Fake(parameters=right)
    assert harness.warmed(fake, work, seconds=3.0).steps == 10 and fake.asked == [1, 4]  # a second by 0.1 s
    with pytest.raises(harness.Lost, match="fake has 5 parameters, not 778"):
        harness.warmed(Fake(parameters=5), work, seconds=1.0)
    with pytest.raises(harness.Lost, match="does not fall"):
        harness.warmed(Fake(parameters=right, losses=(2.0, 2.0)), work, seconds=1.0)


def test_the_share_that_others_took():
    cores = os.cpu_count()
    found = turns.passed((1.0, 10.0, 100.0, 7.0), (3.0, 11.0, 100.0 + 1.0 + cores, 7.0 + 0.5 * cores))
    assert found == {"seconds": 2.0, "cpu": 1.0, "foreign": 0.5, "steal": 0.25}
    assert turns.passed((1.0, 0.0, 0.0, 0.0), (2.0, 1.0, 0.9, 0.0))["foreign"] == 0  # the machine counts in ticks


def test_children_count_as_ones_own():
    before = turns.own()
    subprocess.run([sys.executable, "-c", "sum(range(3_000_000))"], check=True)
    assert turns.own() - before > 0.01


def test_the_floor_differentiates_its_convolution_as_xla_does():
    x, w = (jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate([(4, 9, 9, 3), (3, 3, 3, 5)]))
    for stride in (1, 2):
        losses = (
            lambda x, w, f=f, stride=stride: (f(x, w, stride) ** 2).sum()
            for f in (floor.convolution, floor.convolution.fun)
        )
        found, expected = (jax.jit(jax.grad(loss, (0, 1)))(x, w) for loss in losses)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3)


def test_the_floor_differentiates_its_layer_norm_as_jax_does():
    x, scale, bias, dy = (
        jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate([(2, 3, 8), (8,), (8,), (2, 3, 8)])
    )
    by_hand = jax.vjp(floor.normalized, x, scale, bias)[1](dy)
    expected = jax.vjp(lambda *args: floor.normalize(*args)[0], x, scale, bias)[1](dy)
    for a, b in zip(by_hand, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_speedrun_is_not_warmed_up_and_tells_what_was_right():
    class Told:
        def answer(self):
            return {"facts": {"warm": False}}

    assert harness.warmed(Told(), works.work("speedrun"), seconds=1.0)[1:] == (1, {"warm": False})
    found = line(work="speedrun", sizes={})
    for played in found["rounds"]:
        played["loss"] = 0.07 if played["contender"] == "ours" else 0.0625
    assert "Right on the test images, mean over the rounds: ours 93.00%, floor 93.75%." in results.table(found)
    assert "Right" not in results.table(line())


def test_waiting_is_what_a_run_has_recorded_without_its_first_line(tmp_path):
    found = waiting.share("tests/line.py", seconds=60, folder=tmp_path / "run")
    lines = [json.loads(text) for text in (tmp_path / "run" / "timing.jsonl").read_text().splitlines()]
    told = [entry for entry in lines if "data_wait" in entry][1:]
    weights = [entry["seconds"] for entry in told]
    assert len(told) > 5 and found[1] > 0
    assert found[0] == pytest.approx(np.average([entry["data_wait"] for entry in told], weights=weights))
    assert waiting.share("experiments/absent.py", seconds=60, folder=tmp_path / "other") is None
