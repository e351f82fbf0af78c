"""The suite itself: equal work, a harness that runs, arithmetic of the results; and what of speed is no timing."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from research.errors import UserError
from tests.benchmarks import floor, harness, memory, ours, results, turns, waiting, works
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
        {"round": i, "contender": name, "ms": ms, "cpu_ms": 2 * ms, "foreign": 0.01, "rss": 5e6}
        for name, found in times.items()
        for i, ms in enumerate(found)
    ]
    machine = {"processor": "Chip (R) 9", "cores": 2, "memory_gib": 4.0, "devices": 1, "device": "cpu", "system": "L"}
    return {
        "time": "2026-01-01T00:00:00", "machine": machine, "versions": {"jax": "1"}, "commit": "abc", "load": 0.1,
        "work": "mlp", "sizes": {"batch": 8}, "lost": [], "contenders": {"ours": {}, "floor": {}}, "rounds": played,
        **changes,
    }  # fmt: skip


def test_medians_and_ratios_of_the_same_round():
    mine, least = results.rows(line())
    assert (mine.ms, mine.low, mine.high, mine.cpu_ms, least.ms) == (6.0, 3.5, 7.0, 12.0, 2.0)
    assert mine.to_floor == 2.0 and least.ours == 2.0  # of 0.5, 3 and 2; the ratio of the medians would be 3
    assert mine.ours == least.to_floor == 1.0
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
    assert page.count("### mlp (batch 8)") == 1 and "2026-02-02" in page and "2026-01-01" not in page
    assert "**NOT QUIET** (others took 20.0% of the cores)" in page and "quiet (others took 1.0%" in results.table(old)


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
    assert harness.warmed(fake, work, seconds=1.0).steps == 10 and fake.asked == [1, 4]  # 4 steps took 0.4 s
    with pytest.raises(harness.Lost, match="fake has 5 parameters, not 778"):
        harness.warmed(Fake(parameters=5), work, seconds=1.0)
    with pytest.raises(harness.Lost, match="does not fall"):
        harness.warmed(Fake(parameters=right, losses=(2.0, 2.0)), work, seconds=1.0)


def test_the_share_that_others_took():
    cores = os.cpu_count()
    found = turns.passed((1.0, 10.0, 100.0), (3.0, 11.0, 100.0 + 1.0 + cores))
    assert found == {"seconds": 2.0, "cpu": 1.0, "foreign": 0.5}
    assert turns.passed((1.0, 0.0, 0.0), (2.0, 1.0, 0.9))["foreign"] == 0  # the machine counts in ticks


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
