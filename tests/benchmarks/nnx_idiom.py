"""The idiom of Flax's examples with NNX: nnx.Optimizer, and a train_step under nnx.jit that changes both in place."""

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from tests.benchmarks import works
from tests.benchmarks.ours import optimizer_of
from tests.benchmarks.turns import Gate, serve, turns


class MLP(nnx.Module):
    def __init__(self, s, *, rngs):
        self.first = nnx.Linear(s.features, s.width, rngs=rngs)
        self.second = nnx.Linear(s.width, s.width, rngs=rngs)
        self.head = nnx.Linear(s.width, s.classes, rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.relu(self.second(nnx.relu(self.first(x)))))


class Block(nnx.Module):
    def __init__(self, width, heads, *, rngs):
        self.norm1, self.norm2 = nnx.LayerNorm(width, rngs=rngs), nnx.LayerNorm(width, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(heads, width, decode=False, rngs=rngs)
        self.up, self.down = nnx.Linear(width, 4 * width, rngs=rngs), nnx.Linear(4 * width, width, rngs=rngs)

    def __call__(self, x, mask=None):
        x = x + self.attention(self.norm1(x), mask=mask)
        return x + self.down(nnx.gelu(self.up(self.norm2(x))))


class ViT(nnx.Module):
    def __init__(self, s, *, rngs):
        patch, zeros = (s.patch, s.patch), nnx.initializers.zeros
        self.embed = nnx.Conv(3, s.width, patch, strides=patch, padding="VALID", rngs=rngs)
        shape = (1, (s.size // s.patch) ** 2, s.width)
        self.positions = nnx.Param(0.02 * jax.random.normal(rngs.params(), shape))
        self.blocks = nnx.List(Block(s.width, s.heads, rngs=rngs) for _ in range(s.depth))
        self.norm = nnx.LayerNorm(s.width, rngs=rngs)
        self.head = nnx.Linear(s.width, s.classes, kernel_init=zeros, rngs=rngs)

    def __call__(self, x):
        x = self.embed(x)
        x = x.reshape(len(x), -1, x.shape[-1]) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


class GPT(nnx.Module):
    def __init__(self, s, *, rngs):
        normal = nnx.initializers.normal(0.02)
        self.embed = nnx.Embed(s.vocabulary, s.width, embedding_init=normal, rngs=rngs)
        self.place = nnx.Embed(s.length, s.width, embedding_init=normal, rngs=rngs)
        self.blocks = nnx.List(Block(s.width, s.heads, rngs=rngs) for _ in range(s.depth))
        self.norm = nnx.LayerNorm(s.width, rngs=rngs)

    def __call__(self, x):
        mask = nnx.make_causal_mask(x)
        x = self.embed(x) + self.place(jnp.arange(x.shape[1]))
        for block in self.blocks:
            x = block(x, mask)
        return self.embed.attend(self.norm(x))


class LSTM(nnx.Module):
    def __init__(self, s, *, rngs):
        self.embed = nnx.Embed(s.vocabulary, s.width, rngs=rngs)
        self.layers = nnx.List(
            nnx.RNN(nnx.OptimizedLSTMCell(s.width, s.width, rngs=rngs), rngs=rngs) for _ in range(s.depth)
        )
        self.head = nnx.Linear(s.width, s.vocabulary, rngs=rngs)

    def __call__(self, x):
        x = self.embed(x)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


class ConvNorm(nnx.Module):
    def __init__(self, channels, width, *, size=3, stride=1, rngs):
        padding = [(size // 2, size // 2)] * 2
        self.conv = nnx.Conv(
            channels, width, (size, size), strides=stride, padding=padding, use_bias=False, rngs=rngs
        )  # fmt: skip
        self.norm = nnx.BatchNorm(width, momentum=0.9, epsilon=1e-5, rngs=rngs)

    def __call__(self, x):
        return self.norm(self.conv(x))


class Residual(nnx.Module):
    def __init__(self, channels, width, stride, *, rngs):
        self.a = ConvNorm(channels, width, stride=stride, rngs=rngs)
        self.b = ConvNorm(width, width, rngs=rngs)
        self.shortcut = ConvNorm(channels, width, size=1, stride=stride, rngs=rngs) if stride > 1 else None

    def __call__(self, x):
        y = self.b(nnx.relu(self.a(x)))
        return nnx.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class ResNet(nnx.Module):
    def __init__(self, s, *, rngs):
        self.stem, channels, blocks = ConvNorm(3, s.width, rngs=rngs), s.width, []
        for stage in range(s.stages):
            for number in range(2):
                width = s.width * 2**stage
                blocks.append(Residual(channels, width, 2 if stage and not number else 1, rngs=rngs))
                channels = width
        self.blocks, self.head = nnx.List(blocks), nnx.Linear(channels, s.classes, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((1, 2)))


class Leaves(nnx.Module):
    """Next to no arithmetic, in many arrays."""

    def __init__(self, s, *, rngs):
        self.leaves = nnx.List(nnx.Param(jax.random.normal(rngs.params(), (4, 4))) for _ in range(s.leaves))

    def __call__(self, x):
        return sum(jnp.sum(leaf[...] ** 2) for leaf in self.leaves)


def train(work: works.Work, gate: Gate):
    """Takes turns with the loop of an example."""
    kinds = {"mlp": MLP, "vit": ViT, "gpt": GPT, "lstm": LSTM, "resnet": ResNet}
    build = kinds.get(work.kind, Leaves)
    model = nnx.jit(lambda: build(work.sizes, rngs=nnx.Rngs(0)))()
    optimizer = nnx.Optimizer(model, optimizer_of(work), wrt=nnx.Param)
    gate.facts["parameters"] = sum(x.size for x in jax.tree.leaves(nnx.state(model, nnx.Param)))

    def loss_fn(model, batch):
        outputs = model(batch["x"])
        if work.kind in works.DISPATCH:
            return outputs
        return optax.softmax_cross_entropy_with_integer_labels(outputs, batch["y"]).mean()

    @nnx.jit(donate_argnames=("model", "optimizer"))
    def train_step(model, optimizer, batch):
        loss, grads = nnx.value_and_grad(loss_fn)(model, batch)
        optimizer.update(model, grads)
        return loss

    batch = jax.device_put(work.batch)
    wait = lambda loss: jax.block_until_ready((loss, nnx.state(model)))
    turns(gate, lambda: train_step(model, optimizer, batch), wait=wait, loss=float)


if __name__ == "__main__":
    serve({"nnx": train})
