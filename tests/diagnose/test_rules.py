"""The edges of the rules, on series made by hand: what a training gives too seldom or takes too long to give."""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import events
from research.diagnose import after, during
from research.diagnose.examine import examine
from research.diagnose.findings_page import diagnosis as page_section
from research.diagnose.history import History, follow, grow, recorded
from research.diagnose.live import diagnosis, explained
from research.errors import UserError
from research.report.layers import layer_plots
from research.runs.reader import Evaluation, Run, Series, read_run
from research.system.resources import compilations, peak_memory
from tests.report.runs import write_json, write_lines


def history(total=100, classes=None, trouble="", timing=None, **metrics):
    """Series at steps 1, 2, ...; `a__b` stands for `a/b`."""
    series = {
        name.replace("__", "/"): Series(list(range(1, len(x) + 1)), list(map(float, x))) for name, x in metrics.items()
    }
    timed = {name: Series(list(range(1, len(x) + 1)), list(x)) for name, x in (timing or {}).items()}
    return History(series, timed, classes or {}, total, trouble)


FALLING = [2.3 * 0.97**i + 0.02 * (-1) ** i for i in range(60)]


@pytest.mark.parametrize("loss, found", [
    (FALLING, False),
    ([2.3, 2.0, 1.8, 4.0, 9.0, 9.5, 9.2], True),
    ([2.3, 2.2, 2.4, 2.1, 2.5, 2.2, 2.4, 2.3], False),  # noise
    ([-5.0, -6.0, -7.0, -2.0, 1.0, 2.0, 2.0], True),  # a log-likelihood
    ([2.3, 9.0, 9.0], False),  # too soon
])  # fmt: skip
def test_divergence(loss, found):
    assert bool(during.divergence(history(train__loss=loss))) is found


def test_divergence_by_what_is_not_finite():
    assert "not finite" in during.divergence(history(trouble="At step 7 the loss is not finite.")).text
    assert during.divergence(history(trouble="no space left on the device")) is None
    assert "50%" in during.divergence(history(train__skipped=[0, 0.5, 0.5, 0.5, 0.5])).text
    assert during.divergence(history(train__skipped=[0.5, 0, 0, 0, 0.05, 0])) is None


def test_spikes_stand_out_of_noise():
    assert during.spike(history(train__loss=FALLING)) is None
    found = during.spike(history(train__loss=[*FALLING, 2.0, *FALLING[-3:]]))
    assert found.step == 61 and "2" in found.text and not found.problem
    noisy = [1 + 0.5 * (-1) ** i for i in range(30)]
    assert during.spike(history(train__loss=[*noisy, 2.0])) is None


def test_a_stall_needs_that_nothing_moves():
    flat = [2.3 + 0.001 * (-1) ** i for i in range(40)]
    assert during.stall(history(train__loss=flat))
    assert during.stall(history(train__loss=flat, valid__score=[0.1, 0.1, 0.1, 0.1]))
    assert during.stall(history(train__loss=flat, valid__score=[0.1, 0.3, 0.5, 0.6])) is None  # as of two players
    assert during.stall(history(train__loss=flat, total=1000)) is None  # 4 % of the run
    assert during.stall(history(train__loss=flat, total=None)) is None
    assert during.stall(history(train__loss=FALLING)) is None


def test_guessing_is_told_from_imbalance_and_from_tasks_to_come():
    counts = {"valid": np.array([90.0, 10.0])}
    entropy = -(0.9 * np.log(0.9) + 0.1 * np.log(0.1))
    numbers = dict(train__loss=[0.4] * 40, valid__accuracy=[0.9, 0.9], valid__loss=[entropy, entropy])
    assert "0.9 and" in during.stall(history(classes=counts, **numbers)).text
    ranked = {**numbers, "valid__loss": [0.2, 0.2]}  # no better in accuracy, but it knows something
    assert during.stall(history(classes=counts, **ranked)) is None
    later = {**numbers, "later__accuracy": [1.0], "later__loss": [0.1]}
    assert during.stall(history(classes={**counts, "later": counts["valid"]}, **later)) is None


def layered(**series):
    return history(**{f"layers__{name}": values for name, values in series.items()})


def test_gradients_by_layer():
    weights = {"weight__a": [1, 1], "weight__b": [1, 1]}
    rule = lambda a, b, **more: during.gradients(layered(gradient__a=a, gradient__b=b, **weights, **more))
    assert rule([1, 1], [1e-3, 1e-3]) is None
    assert rule([1, 1], [1e-5, 1e-5]).rule == "vanishing gradient"
    assert rule([1, 1], [1e-5, 1e-2]) is None  # not any more
    assert rule([1, 1], [0, 0]).rule == "no gradient" and rule([1], [0]) is None
    assert rule([0, 0], [0, 0]) is None  # all is learnt
    assert rule([1, 1], [0, 0], dead__b=[1, 1]) is None  # that is the rule of dead units
    assert rule([500, 400], [1, 1]).rule == "exploding gradient" and rule([500, 4], [1, 1]) is None
    assert during.gradients(history()) is None


def test_dead_and_saturated_and_updates():
    assert during.dead_units(layered(dead__a=[0.95, 0.95], gradient__a=[1, 1])).rule == "dead units"
    assert during.dead_units(layered(dead__a=[0.95, 0.5])) is None
    assert during.dead_units(layered(dead__a=[0.95])) is None
    small = {"gradient__a": [0.01, 0.01], "gradient__b": [1, 1]}
    assert during.saturation(layered(saturated__a=[0.8, 0.8], **small))
    assert during.saturation(layered(saturated__b=[0.8, 0.8], **small)) is None  # an output that learns
    assert during.saturation(layered(saturated__b=[0.99, 0.99], **small))
    assert during.updates(layered(update__a=[1e-3, 1e-3])) is None
    assert "1e-3 is usual" in during.updates(layered(update__a=[0.2, 0.2])).text
    assert during.updates(layered(update__a=[0.2, 0.2], update__b=[1e-3] * 2, update__c=[1e-3] * 2)) is None
    assert during.updates(layered(update__a=[1e-7, 1e-7]))
    assert during.updates(layered(update__a=[1e-7, 1e-3, 1e-7])) is None  # warm-up and the end of a schedule
    assert during.updates(layered(update__a=[0, 0])) is None


def test_starvation_and_recompilation():
    timed = lambda **timing: history(timing=timing)
    assert during.starvation(timed(seconds=[1.0] * 5, data_wait=[0.7] * 5))
    assert during.starvation(timed(seconds=[1.0] * 5, data_wait=[0.3] * 5)) is None
    assert during.starvation(timed(seconds=[0.1] * 5, data_wait=[0.7] * 5)) is None  # half a second
    assert during.recompilation(timed(seconds=[1.0] * 6, compiling=[0.5] * 6))
    assert during.recompilation(timed(seconds=[1.0] * 6, compiling=[0.5, 0.5, 0, 0, 0, 0])) is None
    assert during.recompilation(timed(seconds=[9.0] * 6, compiling=[0.5] * 6)) is None
    assert during.recompilation(timed(seconds=[1.0] * 9, compiling=[0.5, 0.5, 0, 0] * 2 + [0.5])) is None  # lives


def fitted(rise=1.0, train=0.9, valid=0.9):
    loss = [2.0, 1.0, 0.5, 0.5 * (1 + rise) / 2, 0.5 * rise]
    return history(
        classes={"valid": np.full(10, 50.0)}, train__loss=[2.0, 0.8, 0.4, 0.2, 0.1], train__accuracy=[train] * 5,
        valid__loss=loss, valid__accuracy=[valid] * 5,
    )  # fmt: skip


def test_overfitting():
    assert after.overfitting(fitted(), {}) is None
    assert after.overfitting(fitted(rise=1.2), {}) is None
    assert not after.overfitting(fitted(rise=1.5), {}).problem
    gap = after.overfitting(fitted(train=0.99, valid=0.7), {})
    assert gap.problem and "99.0%" in gap.text and 'early_stop("valid/loss"' in gap.remedies[-1]
    assert after.overfitting(fitted(train=0.7, valid=0.5), {}) is None


def test_memorising_is_not_learning():
    def memorised(loss):
        return history(classes={"valid": np.full(10, 50.0)}, total=20, train__loss=loss,
                       valid__accuracy=[0.1] * 3, valid__loss=[2.35] * 3)  # fmt: skip

    found = during.stall(memorised(list(np.linspace(2.3, 1.2, 20))))
    assert found.rule == "nothing learnt" and "fell to 1.2" in found.text and "shuffled labels" in found.remedies[0]
    found = during.stall(memorised([2.3] * 20))
    assert found.rule == "stalled" and found.remedies[0].startswith("if the inputs are not normalised")


def test_underfitting():
    def poor(loss, train=0.5, valid=0.5, evaluated=1.5):
        return history(classes={"valid": np.full(10, 50.0)}, train__loss=loss, train__accuracy=[train] * len(loss),
                       valid__accuracy=[valid], valid__loss=[evaluated])  # fmt: skip

    assert "deeper" in after.underfitting(poor([1.5] * 20), {}).remedies[0]
    assert "epochs" in after.underfitting(poor(list(np.linspace(2.3, 1.0, 20))), {}).remedies[0]
    hot = after.underfitting(poor([2.5] * 20, train=0.18, valid=0.2, evaluated=2.25), {})
    assert hot.remedies[0].startswith("lower learning_rate") and "triple learning_rate" not in hot.remedies
    assert after.underfitting(poor([1.5] * 20, train=0.9), {}) is None  # that is no under-fitting
    assert after.underfitting(poor([0.5] * 20), {}) is None
    assert after.underfitting(poor([1.5] * 20, evaluated=0.4), {}) is None  # mixup, say
    assert after.underfitting(
        poor([1.5] * 20, evaluated=np.nan), {}
    )  # an evaluation without a loss, or an infinite one


def predictions(*, noise, sure):
    """500 predictions of 10 classes: the labels are wrong, or the model errs, and is unsure where it does."""
    rng = np.random.default_rng(0)
    true, wrong = rng.integers(0, 10, 500), rng.random(500) < 0.25
    said = np.where(wrong & (not noise), (true + 1) % 10, true)
    label = np.where(wrong & noise, (true + 1) % 10, true)
    confidence = np.where(wrong & (not sure), 0.72, 0.85) + 0.05 * rng.random(500)
    p = np.full((500, 10), 1.0) * ((1 - confidence) / 9)[:, None]
    p[np.arange(500), said] = confidence
    found = Evaluation(10, {}, {}, {}, {"label": label, "probabilities": p})
    return (
        history(classes={"valid": np.bincount(label, minlength=10)}, valid__loss=[1.0], valid__accuracy=[0.75]),
        {"valid": found},
        np.flatnonzero(wrong),
    )


def test_wrong_labels_are_told_from_a_weak_model():
    told, evaluations, wrong = predictions(noise=True, sure=True)
    found = after.label_noise(told, evaluations)
    assert set(found.evidence["suspects"]) <= set(wrong) and len(found.evidence["suspects"]) > 0.9 * len(wrong)
    told, evaluations, _ = predictions(noise=False, sure=False)
    assert after.label_noise(told, evaluations) is None


def test_slices_are_told_from_chance():
    def sets(worst, count, whole=0.9):
        arrays = {"slices/source": np.array(["usual", "rare"]), "slices/source/count": np.array([400, count]),
                  "slices/source/accuracy": np.array([whole, worst])}  # fmt: skip
        return {"test": Evaluation(5, {"accuracy": whole, "accuracy/worst_source": worst}, {}, arrays, {})}

    found = after.slice_gap(history(), sets(0.6, 100))
    assert found.problem and "source is rare (100 records), 0.6" in found.text and found.evidence["rare"] == 0.6
    assert after.slice_gap(history(), sets(0.6, 8)) is None  # eight records
    assert after.slice_gap(history(), sets(0.85, 400)) is None
    assert after.slice_gap(history(), sets(float("nan"), 0)) is None
    loss = sets(2.5, 100, whole=1.0)
    assert (
        after.slice_gap(history(), loss) is not None and after.slice_gap(history(), sets(1.5, 100, whole=1.0)) is None
    )


def seeds(*values, knobs=({},) * 9):
    def one(seed, accuracy, given):
        about = {"experiment": "a", "knobs": given, "seed": seed}
        return Run("", about, {"results": {"test": {"accuracy": accuracy, "loss": 1.0}}}, [], [], {}, [])

    return [one(i, x, k) for i, (x, k) in enumerate(zip(values, knobs, strict=False))]


def test_seeds():
    assert after.unstable_seeds(seeds(0.9, 0.91, 0.9)) is None
    assert "seeds 0, 1, 2" in after.unstable_seeds(seeds(0.9, 0.1, 0.9)).text
    assert after.unstable_seeds(seeds(0.9, 0.1)) is None
    assert after.unstable_seeds(seeds(0.9, 0.1, 0.9, knobs=({}, {"x": 1}, {}))) is None  # another experiment


def test_a_restart_takes_steps_again():
    series = {}
    for step, value in ((1, 1.0), (2, 2.0), (3, 3.0), (2, 9.0), (3, None)):
        grow(series, step, {"loss": value})
    assert series["loss"].steps == [1, 2, 3] and series["loss"].values[:2] == [1.0, 9.0]
    assert np.isnan(series["loss"].values[2])


def folder_of(path, lines, timing=(), **status):
    write_json(path / "run.json", {"experiment": "a", "knobs": {}, "seed": 0})
    write_json(path / "status.json", {"status": "finished", "step": 40, "total": 40, **status})
    write_lines(path / "metrics.jsonl", lines)
    write_lines(path / "timing.jsonl", timing)
    return path


def test_a_folder_is_examined(tmp_path):
    flat = [{"step": step, "train/loss": 2.3} for step in range(1, 41)]
    found = examine(folder_of(tmp_path / "flat", flat))
    assert [finding.rule for finding in found] == ["stalled"] and found[0].evidence["train/loss"] == [2.3] * 40
    assert examine(folder_of(tmp_path / "empty", [])) == []
    broken = folder_of(tmp_path / "broken", flat[:2], status="failed", text="At step 3 the loss is not finite.")
    assert [finding.rule for finding in examine(broken)] == ["divergence"]
    with pytest.raises(UserError, match="no run.json"):
        examine(tmp_path)


def test_the_first_interval_of_each_life_is_not_timed(tmp_path):
    timing = [{"step": 0, "event": "started"}, {"step": 1, "seconds": 9.0}, {"step": 2, "seconds": 1.0},
              {"step": 2, "event": "saved"}, {"step": 3, "seconds": 1.0},
              {"step": 3, "event": "started"}, {"step": 4, "seconds": 9.0}, {"step": 5, "seconds": 1.0}]  # fmt: skip
    found = recorded(read_run(folder_of(tmp_path / "run", [], timing)))
    assert found.timing["seconds"] == Series([2, 3, 5], [1.0, 1.0, 1.0])


def test_live_goes_on_from_what_was_recorded_and_tells_once(tmp_path):
    flat = [{"step": step, "train/loss": 2.3} for step in range(1, 11)]
    told = []
    listen = diagnosis(told.append, folder=folder_of(tmp_path / "run", flat))
    listen(events.Started(10, 20, lambda: 10))
    for step in (11, 12, 13):
        listen(events.Interval(step, {"loss": 2.3}, {"seconds": 1.0, "steps_per_second": 1.0, "data_wait": 0.0}))
    listen(events.Ended(13, "finished", {}))
    assert [(note.step, note.text.split(":")[1]) for note in told] == [(11, " stalled")]
    assert "try:" in told[0].text


def test_compilations_are_timed_until_the_end():
    taken, close = compilations()
    jax.jit(lambda x: jnp.sin(x) * 3.25)(jnp.ones(7))
    assert taken() > 0 and taken() == 0
    close()
    jax.jit(lambda x: jnp.sin(x) * 4.25)(jnp.ones(7))
    assert taken() == 0
    assert 2**20 < peak_memory() < 2**44


def test_a_shape_that_changes_compiles_again_and_is_named(tmp_path):
    told = []
    ragged = lambda step: {"x": np.ones((step + 1, 3), np.float32), "y": np.ones(2)}
    listen = diagnosis(told.append, folder=folder_of(tmp_path / "run", []), batch_at=ragged)
    listen(events.Started(0, 9, lambda: 0))
    new = time.time() % 1000  # a program that no cache of compiled ones holds
    step = jax.jit(lambda x: functools.reduce(lambda y, _: jnp.sort(jnp.sin(y @ y.T + new)), range(12), x))
    for at in range(1, 8):
        step(jnp.ones((at, 3)))
        listen(
            events.Interval(at, {"loss": 2.0 - 0.1 * at}, {"seconds": 0.05, "steps_per_second": 1.0, "data_wait": 0.0})
        )
    listen(events.Ended(9, "finished", {}))
    assert [note.text.split(":")[1] for note in told] == [" recompilation"]
    assert told[0].step == 5 and "At step 4 the batch changed: x was float32[4,3] and is float32[5,3]." in told[0].text


def test_what_changed_between_batches_is_told():
    steady = {"x": np.ones((4, 3), np.float32), "mask": np.ones(4)}
    batch_at = lambda step: steady if step < 7 else {"x": np.ones((4, 3), np.float16)}
    said = "At step 7 the batch changed: mask was float64[4] and is absent, x was float32[4,3] and is float16[4,3]."
    assert explained(batch_at, [2, 5, 9]) == said
    assert "types of its batches did not change" in explained(batch_at, [0, 6])


def test_the_page_shows_findings_and_layers(tmp_path):
    lines = [{"step": s, "train/loss": 2.3, "layers/gradient/a": 1.0, "layers/gradient/b": 0.0, "layers/dead/a": 0.5}
             for s in range(1, 41)]  # fmt: skip
    run = read_run(folder_of(tmp_path / "run", lines))
    page = page_section(run)
    assert "No gradient" in page and "Stalled" in page and page.count('role="img"') == 2 and "stop_gradient" in page
    assert "No problem found" in page_section(read_run(folder_of(tmp_path / "good", [{"step": 1, "train/loss": 1.0}])))
    assert len(layer_plots(recorded(run))) == 2
    assert layer_plots(history()) == [] and not page_section(read_run(folder_of(tmp_path / "none", [])))


def test_an_evaluation_brings_its_classes():
    from research.evaluate import to_results

    told = history()
    results = to_results({"accuracy": 0.5, "confusion": np.array([[3, 1], [0, 6]])})
    follow(told, events.Evaluated(4, "valid", results), compiling=0.0, timed=True)
    assert told.classes["valid"].tolist() == [4, 6] and told.metrics["valid/accuracy"] == Series([4], [0.5])
