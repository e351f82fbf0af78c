"""Keras 3 on JAX: functional models, compiled, and `train_on_batch`."""

import math

import keras
from keras import layers, ops

from tests.benchmarks import works
from tests.benchmarks.turns import Gate, serve, turns


class Positions(layers.Layer):
    """A learned vector for every place, added on."""

    def build(self, shape):
        self.table = self.add_weight(shape=shape[1:], initializer=keras.initializers.RandomNormal(stddev=0.02))

    def call(self, x):
        return x + self.table


class Tied(layers.Layer):
    """Logits by an embedding's transpose."""

    def __init__(self, embed):
        super().__init__()
        self.embed = embed

    def call(self, x):
        return ops.matmul(x, ops.transpose(self.embed.embeddings))


def transformer(x, s, *, causal):
    """The pre-LN blocks and the last norm."""
    norm = lambda x: layers.LayerNormalization(epsilon=1e-6)(x)
    for _ in range(s.depth):
        attention = layers.MultiHeadAttention(s.heads, s.width // s.heads)
        y = norm(x)
        x = x + attention(y, y, use_causal_mask=causal)
        y = layers.Dense(4 * s.width)(norm(x))
        x = x + layers.Dense(s.width)(ops.gelu(y, approximate=True))
    return norm(x)


def conv(x, width, size=3, stride=1):
    """A convolution, padded alike on both sides, and its norm."""
    x = layers.ZeroPadding2D(size // 2)(x) if size > 1 else x
    x = layers.Conv2D(width, size, strides=stride, use_bias=False)(x)
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)


def model_of(work: works.Work) -> keras.Model:
    """The functional model for a piece of work."""
    s = work.sizes
    inputs = x = keras.Input(work.batch["x"].shape[1:], dtype=work.batch["x"].dtype.name)
    if work.kind == "mlp":
        for _ in range(2):
            x = layers.Dense(s.width, activation="relu")(x)
        x = layers.Dense(s.classes)(x)
    elif work.kind == "vit":
        x = layers.Conv2D(s.width, s.patch, strides=s.patch)(x)
        x = Positions()(layers.Reshape((-1, s.width))(x))
        x = transformer(x, s, causal=False)
        x = layers.Dense(s.classes)(layers.GlobalAveragePooling1D()(x))
    elif work.kind == "gpt":
        embed = layers.Embedding(
            s.vocabulary, s.width, embeddings_initializer=keras.initializers.RandomNormal(stddev=0.02)
        )
        x = Tied(embed)(transformer(Positions()(embed(x)), s, causal=True))
    elif work.kind == "lstm":
        x = layers.Embedding(s.vocabulary, s.width)(x)
        for _ in range(s.depth):
            x = layers.LSTM(s.width, return_sequences=True)(x)
        x = layers.Dense(s.vocabulary)(x)
    else:
        x = ops.relu(conv(x, s.width))
        for stage in range(s.stages):
            for number in range(2):
                width, stride = s.width * 2**stage, 2 if stage and not number else 1
                y = conv(ops.relu(conv(x, width, stride=stride)), width)
                x = ops.relu(y + (conv(x, width, size=1, stride=stride) if stride > 1 else x))
        x = layers.Dense(s.classes)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, x)


def optimizer_of(work: works.Work) -> keras.optimizers.Optimizer:
    """The optimizer, with the numbers of the other contenders."""
    if work.optimizer == "sgd":
        return keras.optimizers.SGD(work.learning_rate, momentum=works.MOMENTUM)
    numbers = dict(beta_1=works.ADAM["b1"], beta_2=works.ADAM["b2"], epsilon=works.ADAM["eps"])
    if work.optimizer == "adam":
        return keras.optimizers.Adam(work.learning_rate, **numbers)
    return keras.optimizers.AdamW(work.learning_rate, weight_decay=works.WEIGHT_DECAY, **numbers)


def train(work: works.Work, gate: Gate):
    """Takes turns with `train_on_batch`, which waits for the loss of every step."""
    keras.utils.set_random_seed(0)
    model = model_of(work)
    model.compile(optimizer_of(work), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    gate.facts["parameters"] = sum(math.prod(w.shape) for w in model.trainable_weights)
    x, y = work.batch["x"], work.batch["y"]
    turns(gate, lambda: model.train_on_batch(x, y), wait=lambda _: None, loss=float)


if __name__ == "__main__":
    serve({"keras": train})
