"""This codebase through its public path: an Experiment, `build`, and the real loop with all that listens to it."""

import functools
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import optax

from research import losses
from research.core import Model, Out, weighted_mean
from research.data import generated
from research.experiment import Experiment, build
from research.loop import run
from research.model import from_nnx
from research.models.gpt import GPT
from research.models.lstm import LSTM
from research.models.mlp import MLP
from research.models.resnet import ResNet
from research.models.vit import ViT
from research.objectives.classify import classify
from research.runs.checkpoint import Checkpoints
from research.runs.record import Record
from research.tracking.trackers import timing_writer
from tests.benchmarks import works
from tests.benchmarks.turns import Gate, serve, turns


def model_of(work: works.Work) -> Model:
    """The codebase's own model for a piece of work."""
    s = work.sizes
    if work.kind == "mlp":
        return from_nnx(
            lambda rngs: MLP((s.features,), hidden=(s.width, s.width), num_classes=s.classes, rngs=rngs)
        )  # fmt: skip
    if work.kind == "vit":
        size = dict(size=s.size, patch=s.patch, width=s.width, depth=s.depth, heads=s.heads)
        return from_nnx(lambda rngs: ViT(**size, num_classes=s.classes, pool="gap", rngs=rngs))
    if work.kind == "gpt":
        size = dict(vocabulary=s.vocabulary, length=s.length, width=s.width, depth=s.depth, heads=s.heads)
        return from_nnx(lambda rngs: GPT(**size, rngs=rngs))
    if work.kind == "lstm":
        return from_nnx(lambda rngs: LSTM(vocabulary=s.vocabulary, width=s.width, depth=s.depth, rngs=rngs))
    if work.kind == "resnet":
        size = dict(blocks=(2,) * s.stages, width=s.width, stem="small", num_classes=s.classes)
        return from_nnx(lambda rngs: ResNet(**size, rngs=rngs))
    return Model(
        lambda key: ({f"leaf{i:03}": jax.random.normal(key, (4, 4)) for i in range(s.leaves)}, {}),
        lambda params, stats, x, key=None, train=False: (sum(jnp.sum(p * p) for p in params.values()), {}),
    )


def loss_of(work: works.Work, model: Model):
    """`classify` for images. For text every token is predicted and nothing is packed, as in the other contenders:
    the mask of `objectives.language` would be work that they do not do.
    """
    if work.kind in ("mlp", "vit", "resnet"):
        return classify(model, inputs="x", labels="y")

    def loss(params, ctx):
        outputs, stats = model.apply(params, ctx.stats, ctx.batch["x"], key=ctx.key, train=True)
        values = outputs[None] if work.kind in works.DISPATCH else losses.cross_entropy(outputs, ctx.batch["y"])
        mean = weighted_mean(values, jnp.ones(values.shape))
        return mean.value(), Out(stats, {"loss": mean})

    return loss


def optimizer_of(work: works.Work) -> optax.GradientTransformation:
    """The optimizer, as optax has it."""
    if work.optimizer == "sgd":
        return optax.sgd(work.learning_rate, momentum=works.MOMENTUM)
    if work.optimizer == "adam":
        return optax.adam(work.learning_rate, **works.ADAM)
    return optax.adamw(work.learning_rate, weight_decay=works.WEIGHT_DECAY, **works.ADAM)


def experiment(work: works.Work, *, stride: int = 1) -> Experiment:
    """What an experiment file would hold; the one batch is in memory, and the metrics of 100 steps are one line."""
    model = model_of(work)
    return Experiment(
        init=model.init,
        apply=model.apply,
        loss=loss_of(work, model),
        optimizer=optimizer_of(work),
        source=generated(lambda seed: lambda step: work.batch, len(jax.tree.leaves(work.batch)[0])),
        steps=stride * 10**8,
        stride=stride,
        log_every=stride * 100,
        save_every=stride * 10**8,
        mesh={"data": work.sizes.devices},
    )


def train(work: works.Work, gate: Gate, *, stride: int = 1):
    """Takes turns inside the loop: after the last step of a turn the step itself sleeps."""
    built = build(experiment(work, stride=stride), devices=jax.devices()[: work.sizes.devices])
    gate.facts |= {"parameters": sum(x.size for x in jax.tree.leaves(built.abstract.params)), "stride": stride}
    left = 0
    sums = lambda leaves: built.step.form.unflatten(leaves)[1]

    def on_leaves(leaves, batch):
        nonlocal left
        if not left:  # before the first step of all
            left = gate.turn()
        before = jax.tree.map(jnp.copy, sums(leaves)) if left <= stride else None
        leaves = built.step.on_leaves(leaves, batch)
        left -= stride
        if left <= 0:
            jax.block_until_ready(leaves)
            left = gate.turn(loss=lambda: mean_between(before, sums(leaves)))
            if not left:
                raise Over
        return leaves

    with tempfile.TemporaryDirectory() as folder, Record(Path(folder, "metrics.jsonl")) as record:
        with Checkpoints(Path(folder, "checkpoints")) as checkpoints:
            tell = timing_writer(Path(folder, "timing.jsonl"))
            try:
                run(
                    built._replace(step=built.step._replace(on_leaves=on_leaves)),
                    checkpoints=checkpoints,
                    record=record,
                    tell=tell,
                )
            except Over:
                pass


def mean_between(before, after) -> float:
    """The mean loss of the steps from one MetricSums to a later one."""
    before, after = (jax.device_get(sums).total.sum["loss"] for sums in (before, after))
    return float((after.sum - before.sum) / (after.weight - before.weight))


def step_alone(work: works.Work, gate: Gate):
    """Takes turns with the compiled step that the loop calls, its batch on the device as in the other contenders."""
    built = build(experiment(work), devices=jax.devices()[: work.sizes.devices])
    gate.facts["parameters"] = sum(x.size for x in jax.tree.leaves(built.abstract.params))
    leaves, batch = jax.tree.leaves((built.fresh(), built.fresh_sums())), jax.device_put(work.batch)

    def one():
        nonlocal leaves
        leaves = built.step.on_leaves(leaves, batch)
        return leaves

    def loss(leaves):
        return float(built.step.form.unflatten(leaves)[1].total.sum["loss"].value())

    turns(gate, one, wait=jax.block_until_ready, loss=loss)


class Over(Exception):
    """The harness has had enough turns."""


if __name__ == "__main__":
    serve({"ours": train, "ours-step": step_alone, "ours-many": functools.partial(train, stride=32)})
