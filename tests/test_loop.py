"""The loop: exact resume, interruption, what it does about numbers that are not finite, and early stops."""

import functools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import events
from research.core import Eval, Stop, draw
from research.data import eval_batches
from research.errors import UserError
from research.experiment import Best, build
from research.loop import NonFinite, run
from research.runs.checkpoint import Checkpoints
from research.runs.record import Record
from research.technique import Technique
from tests import toys

ONE = jax.devices()[:1]


def toy(**changes):
    return build(toys.experiment(**changes), seed=3, devices=ONE)


shared = functools.cache(toy)  # what several lives and tests run is compiled once


def go(folder, built=None, *, interrupted=lambda: False, tell=lambda event: None, **changes):
    """Runs `built`, or the toy with these changes, in a folder, as one life of a process would."""
    built = built or shared(**changes)
    folder.mkdir(exist_ok=True)
    keep = built.experiment.keep
    with (
        Record(folder / "metrics.jsonl") as record,
        Checkpoints(folder / "checkpoints", keep=keep, regular=built.save_every.ends_at) as checkpoints,
    ):
        return run(built, checkpoints=checkpoints, record=record, tell=tell, interrupted=interrupted)


def after(calls):
    """An `interrupted` that says yes from its n-th call on."""
    left = [calls]

    def interrupted():
        left[0] -= 1
        return left[0] < 0

    return interrupted


def text(folder):
    return (folder / "metrics.jsonl").read_text()


def lines_of(folder):
    return [json.loads(line) for line in text(folder).splitlines()]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    return folder, go(folder)


def test_a_run_writes_every_interval_and_evaluation_once(unbroken):
    folder, outcome = unbroken
    lines = lines_of(folder)
    assert [line["step"] for line in lines if "train/loss" in line] == [*range(3, 40, 3), 40]
    assert [line["step"] for line in lines if "valid/mse" in line] == [10, 20, 30, 40]
    assert [line["step"] for line in lines if "test/mse" in line] == [40]
    assert outcome.status == "finished" and outcome.results["test"] == {"mse": lines[-1]["test/mse"]}
    params = jax.device_get(outcome.state.params)
    error = (toys.DATA.columns["x"] @ params["w"] + params["b"] - toys.DATA.columns["y"]) ** 2
    # 50 records in batches of 12 and 16: padding does not count
    assert np.isclose(outcome.results["test"]["mse"], error.mean(), rtol=1e-5)
    assert np.isclose(outcome.results["valid"]["mse"], error.mean(), rtol=1e-5)


@pytest.mark.parametrize("lives", [(1,), (7, 5, 1, 30), (13,) * 6])
def test_interrupted_runs_end_bitwise_as_unbroken_ones(unbroken, tmp_path, lives):
    folder, whole = unbroken
    statuses = [go(tmp_path, interrupted=after(calls)).status for calls in lives]
    assert "preempted" in statuses
    final = go(tmp_path)
    assert text(tmp_path) == text(folder)
    jax.tree.map(np.testing.assert_array_equal, final.state, whole.state)
    assert final.results == whole.results


def test_an_interruption_far_from_any_boundary_ends_the_run_at_its_step(tmp_path):
    built = toy(log_every=40, save_every=40, evals={})
    outcome = go(tmp_path, built, interrupted=after(3))
    assert (outcome.status, outcome.step) == ("preempted", 3)
    assert go(tmp_path, built).status == "finished"
    assert [line["step"] for line in lines_of(tmp_path) if "train/loss" in line] == [40]


def test_interrupted_around_the_last_evaluations(unbroken, tmp_path):
    """At any moment from the last steps on: what is not evaluated is not finished, and is done in the next life."""
    folder, whole = unbroken
    asked = []
    go(tmp_path / "count", interrupted=lambda: asked.append(0))
    late = tmp_path / "late"
    go(late, interrupted=after(len(asked) - 16))
    left = []
    go(shutil.copytree(late, tmp_path / "left"), interrupted=lambda: left.append(0))
    for back in range(1, 14, 2):
        life = shutil.copytree(late, tmp_path / f"{back}")
        first = go(life, interrupted=after(len(left) - back))
        assert first.status == ("finished" if first.results == whole.results else "preempted")
        final = go(life)
        assert text(life) == text(folder) and final.results == whole.results


def test_a_lost_tail_is_done_again_and_a_torn_line_is_cut(unbroken, tmp_path):
    go(tmp_path, interrupted=after(20))
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 99, "train/loss": 0.1}\n{"step": 10')
    go(tmp_path)
    assert text(tmp_path) == text(unbroken[0])


def test_the_open_interval_and_recorded_evaluations_survive(tmp_path):
    """Interrupted inside an interval, and right after an evaluation: neither is lost or repeated."""
    evaluated = []

    def tell(event):
        if isinstance(event, events.Evaluated):
            evaluated.append((event.step, event.name))

    for calls in (9, 14, 8, 3, 11):
        go(tmp_path, interrupted=after(calls), tell=tell)
    go(tmp_path, tell=tell)
    assert sorted(set(evaluated)) == [(10, "valid"), (20, "valid"), (30, "valid"), (40, "test"), (40, "valid")]
    assert len(evaluated) == 5


def test_several_steps_a_dispatch_train_the_same_and_resume_exactly(unbroken, tmp_path):
    changes = {"stride": 5, "log_every": 10}
    whole = go(tmp_path / "whole", **changes)
    np.testing.assert_allclose(whole.state.params["w"], unbroken[1].state.params["w"], rtol=1e-5)
    for calls in (3, 4):
        go(tmp_path / "pieces", interrupted=after(calls), **changes)
    jax.tree.map(np.testing.assert_array_equal, go(tmp_path / "pieces", **changes).state, whole.state)
    assert text(tmp_path / "pieces") == text(tmp_path / "whole")


def test_stop_names_the_step_and_keeps_the_last_good_checkpoint(tmp_path):
    spoil = lambda step, key: jnp.where(step == 17, jnp.nan, 1.0)
    with pytest.raises(NonFinite, match=r"(?s)At step 17 the loss.*to step 15.*y float32\[8\].*is of step 15"):
        go(tmp_path, spoil=spoil)
    assert Checkpoints(tmp_path / "checkpoints").steps()[-1] == 15
    assert all(line["step"] <= 15 for line in lines_of(tmp_path))


def test_a_bad_update_is_never_saved(tmp_path):
    """The loss of the step is finite, its gradient is not: the weights are checked before they are saved."""

    def loss(params, ctx):
        value, out = toys.loss_of(toys.model().apply)(params, ctx)
        # The root's slope at 0 is infinite, its value is not.
        return value + jnp.sqrt(jnp.sum(params["w"]) * 0 + jnp.where(ctx.step == 14, 0.0, 1.0)), out

    with pytest.raises(NonFinite, match="update produced weights that are not finite"):
        go(tmp_path, loss=loss)
    assert Checkpoints(tmp_path / "checkpoints").steps() == [5, 10]


def test_skip_leaves_the_bad_step_out(tmp_path, optimised):
    spoil = lambda step, key: jnp.where((step == 17) | (step == 18), jnp.inf, 1.0)
    outcome = go(tmp_path, toy(spoil=spoil, on_nonfinite="skip"))
    assert outcome.status == "finished" and np.isfinite(outcome.results["test"]["mse"])
    lines = [line for line in lines_of(tmp_path) if "train/skipped" in line]
    assert {line["step"]: round(line["train/skipped"] * 3) for line in lines if line["train/skipped"]} == {18: 1, 21: 1}
    assert all(np.isfinite(line["train/loss"]) for line in lines)
    healthy = go(tmp_path / "healthy", toy(on_nonfinite="skip"))
    plain = go(tmp_path / "plain", toy())
    jax.tree.map(np.testing.assert_array_equal, healthy.state.params, plain.state.params)
    assert not np.array_equal(outcome.state.params["w"], plain.state.params["w"])


def unlucky():
    """A `spoil` with a bad step 17: the draw of the first try is unlucky, and so is that of the first rollback."""
    luck = lambda key: jax.random.uniform(jax.random.fold_in(key, 1))
    draws = [float(luck(draw(3, "step", salt, 17))) for salt in range(3)]
    limit = max(draws[:2]) + 1e-4
    assert draws[2] > limit
    return lambda step, key: jnp.where((step == 17) & (luck(key) < limit), jnp.nan, 1.0)


def test_rollback_goes_on_with_other_random_numbers_and_survives_interruption(tmp_path):
    bad, notes = unlucky(), []
    whole = go(tmp_path / "whole", spoil=bad, on_nonfinite="rollback", tell=notes.append)
    assert sum("Rolling back to step 15" in event.text for event in notes if isinstance(event, events.Message)) == 2
    assert whole.status == "finished" and int(whole.state.salt) == 2
    for calls in (10, 3, 20):
        part = go(tmp_path / "pieces", spoil=bad, on_nonfinite="rollback", interrupted=after(calls))
    assert part.status == "preempted" and int(part.state.salt) == 2, "the last interruption is after the rollbacks"
    again = go(tmp_path / "pieces", spoil=bad, on_nonfinite="rollback")
    jax.tree.map(np.testing.assert_array_equal, again.state, whole.state)
    assert text(tmp_path / "pieces") == text(tmp_path / "whole")


@pytest.mark.parametrize(("every", "base"), [(5, 15), (40, 0)])
def test_a_rollback_starts_where_that_of_an_uninterrupted_run_does(tmp_path, every, base):
    """A preemption just before the bad step leaves newer checkpoints, which the uninterrupted run does not have."""
    built, notes = toy(spoil=unlucky(), on_nonfinite="rollback", save_every=every), []
    whole = go(tmp_path / "whole", built, tell=notes.append)
    assert (
        sum(f"Rolling back to step {base}," in event.text for event in notes if isinstance(event, events.Message)) == 2
    )
    pieces, ends, calls = tmp_path / "pieces", [0], 1
    for _ in range(60):  # lives of one step, or of as many questions as an evaluation asks
        ends.append(go(pieces, built, interrupted=after(calls)).step)
        calls = calls + 1 if ends[-1] == ends[-2] else 1
        if ends[-1] == 17:
            break
    assert ends[-2:] == [16, 17], f"preempted at {ends}"
    again = go(pieces, built)
    jax.tree.map(np.testing.assert_array_equal, again.state, whole.state)
    assert text(pieces) == text(tmp_path / "whole")
    assert sorted(path.name for path in (pieces / "checkpoints").iterdir() if path.name.isdigit()) == sorted(
        path.name for path in (tmp_path / "whole" / "checkpoints").iterdir() if path.name.isdigit()
    )


def test_rollback_gives_up_when_it_does_not_help(tmp_path):
    with pytest.raises(NonFinite, match="step 17"):
        go(tmp_path, spoil=lambda step, key: jnp.where(step == 17, jnp.nan, 1.0), on_nonfinite="rollback")


def test_observers_keep_their_memory_in_the_state_and_stop_early(tmp_path):
    """Stops at the third evaluation; killed and resumed it stops at the same one."""

    def observe(state, results):
        seen = state.stats["seen"] + 1
        state = state._replace(stats={**state.stats, "seen": seen})
        assert set(results) == {"valid/mse"}
        return Stop(state, "seen enough") if int(seen) == 3 else state

    changes = {"techniques": (Technique("seen", memory=lambda key, params: jnp.int32(0), observe=observe),)}
    whole = go(tmp_path / "a", **changes)
    assert (whole.status, whole.step, int(whole.state.stats["seen"])) == ("finished", 30, 3)
    assert set(whole.results) == {"valid", "test"}
    for calls in (15, 12, 9):
        go(tmp_path / "b", interrupted=after(calls), **changes)
    again = go(tmp_path / "b", **changes)
    jax.tree.map(np.testing.assert_array_equal, again.state, whole.state)
    assert text(tmp_path / "a") == text(tmp_path / "b")


def test_an_observer_sees_all_evaluations_of_a_step_though_a_life_ended_between_them(tmp_path):
    seen, told = [], []

    def observe(state, results):
        seen.append(set(results))
        return state

    watch = Technique("watch", observe=observe)
    evals = {name: Eval(eval_batches(toys.DATA, 16), toys.measure, every=10) for name in ("one", "two")}
    evaluated = lambda: any(isinstance(event, events.Evaluated) for event in told)
    built = toy(techniques=(watch,), evals=evals)
    first = go(tmp_path, built, interrupted=evaluated, tell=told.append)
    assert (first.status, first.step, set(first.results), seen) == ("preempted", 10, {"one"}, [])
    go(tmp_path, built)
    assert seen == [{"one/mse", "two/mse"}] * 3


def test_an_evaluation_sees_the_weights_of_its_view(tmp_path):
    """An average kept by an After, evaluated beside the live weights."""

    def average(state, params):
        return {"ema": jax.tree.map(lambda m, p: 0.9 * m + 0.1 * p, state.stats["ema"], params)}

    live = Eval(eval_batches(toys.DATA, 16), toys.measure)
    evals = {"live": live, "ema": live._replace(view=lambda state: (state.stats["ema"], state.stats))}
    ema = Technique("ema", memory=lambda key, params: params, after=average)
    outcome = go(tmp_path, toy(techniques=(ema,), evals=evals))
    params = jax.device_get(outcome.state.stats["ema"])
    error = (toys.DATA.columns["x"] @ params["w"] + params["b"] - toys.DATA.columns["y"]) ** 2
    assert np.isclose(outcome.results["ema"]["mse"], error.mean(), rtol=1e-5)
    assert outcome.results["live"] != outcome.results["ema"]


def test_the_best_checkpoint_is_kept(tmp_path):
    go(tmp_path, best=Best("valid/mse", "min"), save_every=10)
    lines = {ln["step"]: ln["valid/mse"] for ln in lines_of(tmp_path) if "valid/mse" in ln}
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.best() == min(lines, key=lines.get)
    with pytest.raises(UserError, match="Did you mean 'mse'"):
        go(tmp_path / "wrong", best=Best("valid/mes", "min"))


def test_a_run_resumes_on_another_number_of_devices(tmp_path):
    go(tmp_path, interrupted=after(20))
    built = build(toys.experiment(), seed=3, devices=jax.devices()[:4])
    with Record(tmp_path / "metrics.jsonl") as record, Checkpoints(tmp_path / "checkpoints") as checkpoints:
        outcome = run(built, checkpoints=checkpoints, record=record, tell=lambda event: None)
    assert outcome.step == 40 and len(outcome.state.params["w"].sharding.device_set) == 4
    whole = go(tmp_path / "one")
    np.testing.assert_allclose(outcome.state.params["w"], whole.state.params["w"], rtol=1e-5)


def test_a_longer_run_compiles_no_more(tmp_path):
    """Ragged epochs, evaluations with a padded last batch and checkpoints: all programs are those of the start."""
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: compiled.append(event) if "backend_compile" in event else None
    )
    try:
        counts = []
        for steps in (20, 20, 40):
            before = len(compiled)
            go(tmp_path / f"{len(counts)}", toy(steps=steps))
            counts.append(len(compiled) - before)
    finally:
        jax.monitoring.clear_event_listeners()
    assert counts[1] == counts[2] > 0


def test_evaluation_compiles_once_over_ragged_batches():
    from research.evaluate import evaluator

    traces = []

    def measure(trained, batch):
        traces.append(batch["x"].shape)
        return toys.measure(trained, batch)

    built = shared()
    evaluate = evaluator(Eval(eval_batches(toys.DATA, 16), measure), built.experiment.apply, mesh=built.mesh)
    state = built.fresh()
    results = [evaluate(state) for _ in range(3)]
    # Once for the shapes of the totals, once for the program.
    assert len(traces) == 2 and len(set(traces)) == 1
    assert results[0].rows["y"].shape == (50,) and results[0].numbers == results[2].numbers
