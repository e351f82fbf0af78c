"""What `build` derives from an experiment, and what it refuses."""

import dataclasses
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import research.duration as duration
from research.core import Eval, Out
from research.data import arrays, batches, eval_batches, generated
from research.errors import UserError
from research.evaluate import fetch_total
from research.experiment import Best, Claim, build, remarks
from research.metric_sums import MetricSums, Total
from research.metrics.classification import measure_classification
from research.optim.ema import ema
from research.optim.observe import early_stop, reduce_on_plateau
from research.technique import Technique
from tests import toys

ONE = jax.devices()[:1]
TEST = toys.experiment().evals["test"]


def test_step_compiles_once_donates_and_never_syncs():
    built = build(toys.experiment(), devices=ONE)
    state, sums, batch_at = built.fresh(), built.fresh_sums(), built.source(0)
    first = state.params["w"]
    with jax.transfer_guard_device_to_host("disallow"):
        for step in range(15):  # 6 batches of 8 are an epoch of 50 and a wrap
            state, sums = built.step(state, sums, batch_at(step))
    assert first.is_deleted()
    assert built.step.on_leaves._cache_size() == 1
    assert float(sums.total.sum["loss"].weight) == 15 * 8 and int(sums.bad) == -1


def test_the_step_is_traced_once_and_a_measure_twice():
    traces = []

    def counted(name, function):
        return lambda *arguments: (traces.append(name), function(*arguments))[1]

    made = toys.experiment()
    measure = counted("measure", toys.measure)  # one measure for all evaluations
    evals = {name: ev._replace(measure=measure) for name, ev in made.evals.items()}
    built = build(dataclasses.replace(made, loss=counted("loss", made.loss), evals=evals), devices=jax.devices()[:1])
    state, _ = built.step(built.fresh(), built.fresh_sums(), built.source(0)(0))
    for evaluate in built.evaluators.values():
        evaluate(state)
    assert traces.count("loss") == 1
    assert traces.count("measure") == 2 * len(evals)  # for abstract arrays, and for those on the mesh


def test_the_sums_of_an_interval_are_exact():
    built = build(toys.experiment(), devices=ONE)
    total = jax.tree.map(lambda x: jnp.full_like(x, 2.0**30), built.fresh_sums().total.sum)
    sums = MetricSums.of(Total(total, Total.zero(total).sum), jnp.int32(-1))
    for step in range(3):
        _, sums = built.step(built.fresh(), sums, built.source(0)(step))
    assert fetch_total(sums.total)["loss"].weight == 2**30 + 3 * 8


def test_four_devices_equal_one():
    states = []
    for devices in (ONE, jax.devices()[:4]):
        built = build(toys.experiment(), devices=devices)
        state, sums, batch_at = built.fresh(), built.fresh_sums(), built.source(0)
        for step in range(10):
            state, sums = built.step(state, sums, batch_at(step))
        states.append((state, sums.total.sum))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), *states)


def test_stride_equals_single_steps():
    results = []
    for stride in (1, 5):
        built = build(toys.experiment(stride=stride, log_every=10, save_every=10), devices=ONE)
        state, sums, batch_at = built.fresh(), built.fresh_sums(), built.source(0)
        for step in range(0, 10, stride):
            state, sums = built.step(state, sums, batch_at(step))
        results.append((state.params, sums.total.sum))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), *results)


def test_durations_resolve_against_the_source():
    lengths = {"steps": duration.epochs(2), "log_every": duration.percent(25), "save_every": duration.examples(16)}
    built = build(toys.experiment(**lengths, evals={}), devices=ONE)
    assert (built.total, built.log_every.length, built.save_every.length) == (12, 3, 2)  # 2 * 50 / 8 steps
    assert duration.parse("3 epochs") == duration.epochs(3) and duration.parse("10%") == duration.percent(10)
    assert duration.parse("1e3") == duration.steps(1000)
    assert duration.in_steps(duration.percent(10), total=312, stride=8) == 32


@pytest.mark.parametrize(
    ("total", "percent", "stride"), [(625, 10, 1), (625, 1, 1), (11, 10, 1), (624, 10, 8), (9, 5, 1)]
)
def test_intervals_in_percent_end_where_the_run_ends(total, percent, stride):
    period = duration.period(duration.percent(percent), total=total, stride=stride)
    ends = [step for step in range(0, total + 1, stride) if period.ends_at(step)]
    exact = [Fraction(total * percent * i, 100 * stride) for i in range(1, 100 // percent + 1)]
    assert ends == sorted({max(1, round(x)) * stride for x in exact})
    assert ends[-1] == total and len(ends) == min(total // stride, 100 // percent)
    following = [next((end for end in ends if end > step), None) for step in range(0, total, stride)]
    assert [period.next_end(step) for step in range(0, total, stride)] == following


@pytest.mark.parametrize(
    ("text", "message"), [("3 epoch", None), ("3 epocs", "Did you mean 'epochs'"), ("many", "unit"), ("-1", "positive")]
)
def test_durations_refuse(text, message):
    if message is None:
        assert duration.parse(text) == duration.epochs(3)
    else:
        with pytest.raises(UserError, match=message):
            duration.in_steps(duration.parse(text))


def test_memories_join_stats_and_collisions_raise():
    def follow(state, params):
        return {"teacher": jax.tree.map(lambda t, p: 0.5 * t + 0.5 * p, state.stats["teacher"], params)}

    teacher = Technique("teacher", memory=lambda key, params: params, after=follow)
    built = build(toys.experiment(techniques=(teacher,)), devices=ONE)
    state = built.fresh()
    np.testing.assert_array_equal(state.stats["teacher"]["w"], state.params["w"])
    built.step(state, built.fresh_sums(), built.source(0)(0))  # a shared buffer would be donated twice
    with pytest.raises(UserError, match="2 techniques are named 'teacher'"):
        build(toys.experiment(techniques=(teacher, teacher)), devices=ONE)


def _grows(params, ctx):
    loss, out = toys.loss_of(toys.model().apply)(params, ctx)
    return loss, Out({"count": jnp.zeros(ctx.stats["count"].shape[0] + 1)}, out.metrics)


def _no_loss(params, ctx):
    loss, out = toys.loss_of(toys.model().apply)(params, ctx)
    return loss, Out(out.stats, {"mse": out.metrics["loss"], "loss": loss})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": _grows, "techniques": (Technique("count", lambda key, params: jnp.zeros(2)),)},
         r"stats/count from float32\[2\] to float32\[3\]"),
        ({"loss": _no_loss}, r'metrics\["loss"\] as a Mean'),
        ({"on_nonfinite": "skipp"}, "Did you mean 'skip'"),
        ({"source": batches(toys.DATA, 8), "init": lambda key: ({"w": jnp.zeros(4), "b": jnp.zeros(())}, {})},
         r"fails for a batch of label int32\[8\], x float32\[8,3\]"),
        ({"steps": duration.percent(10)}, "cannot be 10%; give it in steps"),
        ({"source": generated(lambda seed: lambda step: toys.DATA.take_columns(np.arange(8)), 8),
          "steps": duration.epochs(1)},
         "batch size and a number of examples"),
        ({"log_every": 0.1}, r"log_every=0.1; expected a whole number of steps, epochs\(...\) or percent\(10\)"),
        ({"evals": {"test": TEST._replace(every="3epochs")}}, r"evals\['test'\], every='3epochs'; expected a whole"),
        ({"evals": {"test": TEST._replace(every=0)}}, r"evals\['test'\], every=0 steps must be positive"),
        ({"steps": None}, "steps=None; expected a whole number"),
        ({"stride": 3}, "40 steps is not a multiple of the stride, 3"),
        ({"mesh": {"data": 3}}, r"mesh of \{'data': 3\} does not fit 1 devices"),
        ({"rules": (("nowhere/", jax.P("data")),)}, "rules match no path.*nowhere"),
    ],
)  # fmt: skip
def test_build_refuses(changes, message):
    with pytest.raises(UserError, match=message):
        build(toys.experiment(**changes), devices=ONE)


def test_a_batch_that_does_not_split_is_refused_before_training():
    with pytest.raises(UserError, match="batch of 10 examples cannot be split over 4 devices"):
        build(toys.experiment(source=batches(toys.DATA, 10)), devices=jax.devices()[:4])


def test_a_batch_larger_than_the_data_is_remarked():
    made = toys.experiment(source=batches(toys.DATA, 64), steps=1, save_every=1)
    (said,) = remarks(build(made, devices=jax.devices()[:1]))
    assert said.startswith("A batch of 64 is larger than the training data (50 examples)")
    assert remarks(build(toys.experiment(), devices=jax.devices()[:1])) == []


def test_start_replaces_fresh_weights():
    def start(params, stats):
        return {**params, "w": jnp.full(params["w"].shape, 7.0)}, stats

    built = build(toys.experiment(init_from=start), devices=ONE)
    assert built.fresh().params["w"].tolist() == [7, 7, 7]


def test_optimizer_state_is_a_plain_tree():
    built = build(toys.experiment(optimizer=optax.chain(optax.clip(1.0), optax.adam(1e-3))), devices=ONE)
    assert all(hasattr(x, "dtype") for x in jax.tree.leaves(built.fresh()))
    assert isinstance(toys.experiment().evals["test"], Eval) and len(eval_batches(toys.DATA, 12)) == 5


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (dict(evals={"test": TEST.source}), r"evals\['test'\] is of type EvalBatches; expected an Eval"),
        (dict(evals={"test/en": TEST}), "invalid evaluation name 'test/en'.*no slash"),
        (dict(evals={"train": TEST}), "invalid evaluation name 'train'"),
        (dict(evals={"../test": TEST}), "invalid evaluation name"),
        (dict(evals={"é" * 101: TEST}), "at most 200 bytes"),
        (dict(keep=0), "keep=0; expected 1 or more"),
        (dict(published="gpt2"), "published= is .gpt2.; expected a Layout"),
        (
            dict(best=Best("tset/mse", "min")),
            "best= names the metric 'tset/mse'.*Did you mean 'test'",
        ),
        (dict(best=Best("test", "min")), "expected EVALUATION/METRIC"),
        (dict(best=Best("test/mse", "minimum")), "'minimum'. Did you mean 'min'"),
        (dict(claims=(Claim("exam/mse", at_most=1.0),)), "claims= names the metric 'exam/mse'"),
        (
            dict(techniques=(early_stop("val/mse", patience=2),)),
            "the technique 'early_stop' names the metric 'val/mse'",
        ),
        (dict(techniques=(reduce_on_plateau("val/mse"),)), "the technique 'reduce_on_plateau' names"),
    ],
)
def test_a_name_or_a_number_that_nothing_would_refer_to_is_refused(settings, words):
    with pytest.raises(UserError, match=words):
        build(toys.experiment(**settings), devices=ONE)


ONE_HOT = arrays(x=toys.DATA.columns["x"], label=np.eye(3, dtype=np.float32)[toys.DATA.columns["label"]])


def _evaluated(measure=toys.measure, data=toys.DATA, **parts):
    return {"evals": {"test": Eval(eval_batches(data, 12), measure, **parts)}}


def _three_classes(count):
    measure = measure_classification(num_classes=count, inputs="x")
    apply = lambda params, stats, x, key=None, train=False: (x * params["w"], {})
    return lambda trained, batch: measure(dataclasses.replace(trained, apply=apply), batch)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (_evaluated(_three_classes(3), ONE_HOT),
         r"evaluation 'test': 'label' is float32\[12, 3\]; expected class numbers, int \[batch\].*argmax"),
        (_evaluated(_three_classes(3), arrays(x=ONE_HOT.columns["x"], label=ONE_HOT.columns["label"].astype(np.int32))),
         r"'label' is int32\[12, 3\]; expected class numbers"),
        (_evaluated(_three_classes(5)), "evaluation 'test': the model returns 3 classes; the measure expects 5"),
        (_evaluated(lambda trained, batch: {"mse": batch["x"] @ batch["x"]}),
         r"evaluation 'test': the measure fails for a batch of .*x float32\[12,3\]"),
        (_evaluated(lambda trained, batch: {"mse": batch["x"].nothing}), "has no attribute nothing"),
        (dict(best=Best("valid/mes", "min")), "best= names the metric 'valid/mes'.*Did you mean 'mse'"),
        (dict(claims=(Claim("test/other", at_least=1),)), "claims= names the metric 'test/other'.*Valid: mse"),
        (dict(techniques=(early_stop("valid/loss", patience=2),)), "technique 'early_stop' names .*Valid: mse"),
        (dict(init=toys.model()), "init= is of type Model; expected a function, such as its .init"),
        (dict(apply="model"), "apply= is of type str; expected a function"),
        (_evaluated(view="ema"), r"evals\['test'\], view= is of type str; expected a function"),
        (_evaluated(view=ema(0.9)), "view= is of type Technique; expected a function, such as its .view"),
    ],
)  # fmt: skip
def test_a_broken_evaluation_is_refused_before_training(settings, words):
    with pytest.raises(UserError, match=words):
        build(toys.experiment(**settings), devices=ONE)


def test_metrics_of_a_finish_are_unknown_before_the_first_evaluation():
    rooted = _evaluated(finish=lambda results: {"rmse": results["mse"] ** 0.5})
    build(toys.experiment(**rooted, best=Best("test/rmse", "min")), devices=ONE)
