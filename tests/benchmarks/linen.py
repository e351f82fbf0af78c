"""The idiom of Flax's examples with Linen: TrainState, and a jitted train_step that takes and gives it."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax.training import train_state

from tests.benchmarks import works
from tests.benchmarks.ours import optimizer_of
from tests.benchmarks.turns import Gate, serve, turns


class MLP(nn.Module):
    width: int
    classes: int

    @nn.compact
    def __call__(self, x, train):
        for _ in range(2):
            x = nn.relu(nn.Dense(self.width)(x))
        return nn.Dense(self.classes)(x)


class Block(nn.Module):
    heads: int

    @nn.compact
    def __call__(self, x, mask=None):
        y = nn.LayerNorm()(x)
        x = x + nn.MultiHeadDotProductAttention(self.heads, deterministic=True)(y, mask=mask)
        y = nn.Dense(4 * x.shape[-1])(nn.LayerNorm()(x))
        return x + nn.Dense(x.shape[-1])(nn.gelu(y))


class ViT(nn.Module):
    patch: int
    width: int
    depth: int
    heads: int
    classes: int

    @nn.compact
    def __call__(self, x, train):
        x = nn.Conv(self.width, (self.patch, self.patch), strides=self.patch, padding="VALID")(x)
        x = x.reshape(len(x), -1, self.width)
        x = x + self.param("positions", nn.initializers.normal(0.02), (1, *x.shape[1:]))
        for _ in range(self.depth):
            x = Block(self.heads)(x)
        return nn.Dense(self.classes, kernel_init=nn.initializers.zeros)(nn.LayerNorm()(x).mean(1))


class GPT(nn.Module):
    vocabulary: int
    length: int
    width: int
    depth: int
    heads: int

    @nn.compact
    def __call__(self, x, train):
        mask = nn.make_causal_mask(x)
        embed = nn.Embed(self.vocabulary, self.width, embedding_init=nn.initializers.normal(0.02))
        x = embed(x) + nn.Embed(self.length, self.width)(jnp.arange(x.shape[1]))
        for _ in range(self.depth):
            x = Block(self.heads)(x, mask)
        return embed.attend(nn.LayerNorm()(x))


class LSTM(nn.Module):
    vocabulary: int
    width: int
    depth: int

    @nn.compact
    def __call__(self, x, train):
        x = nn.Embed(self.vocabulary, self.width)(x)
        for _ in range(self.depth):
            x = nn.RNN(nn.OptimizedLSTMCell(self.width))(x)
        return nn.Dense(self.vocabulary)(x)


class ResNet(nn.Module):
    width: int
    stages: int
    classes: int

    @nn.compact
    def __call__(self, x, train):
        def conv(x, width, size=3, stride=1):
            padding = [(size // 2, size // 2)] * 2
            x = nn.Conv(width, (size, size), strides=stride, padding=padding, use_bias=False)(x)
            return nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5)(x)

        x = nn.relu(conv(x, self.width))
        for stage in range(self.stages):
            for number in range(2):
                width, stride = self.width * 2**stage, 2 if stage and not number else 1
                y = conv(nn.relu(conv(x, width, stride=stride)), width)
                x = nn.relu(y + (conv(x, width, size=1, stride=stride) if stride > 1 else x))
        return nn.Dense(self.classes)(x.mean((1, 2)))


class Leaves(nn.Module):
    """Next to no arithmetic, in many arrays."""

    leaves: int

    @nn.compact
    def __call__(self, x, train):
        return sum(jnp.sum(self.param(f"leaf{i}", nn.initializers.normal(), (4, 4)) ** 2) for i in range(self.leaves))


class TrainState(train_state.TrainState):
    stats: Any


def module_of(work: works.Work) -> nn.Module:
    """The module for a piece of work."""
    s = work.sizes
    if work.kind == "mlp":
        return MLP(s.width, s.classes)
    if work.kind == "vit":
        return ViT(s.patch, s.width, s.depth, s.heads, s.classes)
    if work.kind == "gpt":
        return GPT(s.vocabulary, s.length, s.width, s.depth, s.heads)
    if work.kind == "lstm":
        return LSTM(s.vocabulary, s.width, s.depth)
    return ResNet(s.width, s.stages, s.classes) if work.kind == "resnet" else Leaves(s.leaves)


def train(work: works.Work, gate: Gate):
    """Takes turns with the loop of an example."""
    module = module_of(work)
    variables = jax.jit(lambda key: module.init(key, work.batch["x"], train=True))(jax.random.key(0))
    state = TrainState.create(
        apply_fn=module.apply, params=variables["params"], tx=optimizer_of(work), stats=variables.get("batch_stats", {})
    )
    gate.facts["parameters"] = sum(x.size for x in jax.tree.leaves(state.params))

    def train_step(state, batch):
        def loss_fn(params):
            variables = {"params": params, "batch_stats": state.stats}
            outputs, changed = state.apply_fn(variables, batch["x"], train=True, mutable=["batch_stats"])
            if work.kind in works.DISPATCH:
                return outputs, changed
            loss = optax.softmax_cross_entropy_with_integer_labels(outputs, batch["y"]).mean()
            return loss, changed

        (loss, changed), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
        return state.apply_gradients(grads=grads, stats=changed.get("batch_stats", {})), loss

    compiled = jax.jit(train_step, donate_argnums=0)
    batch = jax.device_put(work.batch)

    def one():
        nonlocal state
        state, loss = compiled(state, batch)
        return loss

    turns(gate, one, wait=lambda _: jax.block_until_ready(state.params), loss=float)


if __name__ == "__main__":
    serve({"linen": train, "linen-kept": train})
