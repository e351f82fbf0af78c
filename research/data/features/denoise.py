"""Remove noise from numbers: replace them by their reconstruction by a model of the training rows."""

import numpy as np

from research import core
from research.data.features.project import principal_components
from research.data.steps import Fitted, applied, chosen, matrix, namespace, step
from research.errors import UserError


@step
def pca(frame, count: int | float, *, columns=None) -> Fitted:
    """Replace numbers by their projection onto the first principal components (`inverse_transform` of PCA).

    `count` is the number of components, or, below 1, the share of the variance that they have to explain. Scale the
    columns before.
    """
    names, fitted = principal_components(frame, count, columns, what="denoise.pca()")
    return Fitted(reconstructed, {"names": names}, {"mean": fitted.mean_, "directions": fitted.components_})


@applied
def reconstructed(columns, arrays, *, names):
    """Replace `names` by `mean` + (columns - `mean`) D^T D, with D the `directions` [components, names]."""
    xp, directions = namespace(columns), arrays["directions"]
    x = xp.stack([columns[name] for name in names], -1) - arrays["mean"]
    made = x @ directions.T @ directions + arrays["mean"]
    return {**columns, **{name: made[:, i] for i, name in enumerate(names)}}


@step
def autoencoder(
    frame, hidden=(32,), *, columns=None, noise: float = 0.5, steps: int = 2000, batch_size: int = 256,
    learning_rate: float = 0.01, seed: int = 0,
) -> Fitted:  # fmt: skip
    """Replace numbers by the output of a denoising autoencoder (Vincent et al. 2008, "Extracting and Composing Robust
    Features with Denoising Autoencoders").

    The network has layers of `hidden` units with tanh, and a linear output. Its inputs are the columns, standardized;
    in training they have normal noise of the standard deviation `noise`, and the loss is the squared error to the
    inputs without this noise. Adam takes `steps` steps with batches of random rows, at a rate that decays to 0.
    Limit: without hidden layers it is ridge regression of the columns on themselves, with alpha = rows noise^2.
    Raises UserError for missing values, and for sizes that are not positive.
    """
    names = chosen(frame, columns, ("number",))
    x = matrix(frame, names, what="denoise.autoencoder()")
    hidden = (hidden,) if isinstance(hidden, int) else tuple(hidden)
    if min((*hidden, steps, batch_size)) < 1 or noise < 0:
        raise UserError(
            f"denoise.autoencoder(hidden={hidden}, noise={noise}, steps={steps}, batch_size={batch_size}); expected "
            "positive sizes and a noise of at least 0."
        )
    scale = np.where(x.std(0) > 0, x.std(0), 1)
    arrays = {"mean": x.mean(0), "scale": scale}
    layers = _trained((x - arrays["mean"]) / scale, hidden, noise, steps, batch_size, learning_rate, seed)
    for i, layer in enumerate(layers):
        arrays |= {f"{name} {i}": np.asarray(values, np.float64) for name, values in layer.items()}
    return Fitted(decoded, {"names": names, "depth": len(layers)}, arrays)


@applied
def decoded(columns, arrays, *, names, depth):
    """Replace `names` by the output of the network with `weights i` [in, out] and `offsets i` [out]."""
    xp = namespace(columns)
    x = (xp.stack([columns[name] for name in names], -1) - arrays["mean"]) / arrays["scale"]
    layers = [{name: arrays[f"{name} {i}"] for name in ("weights", "offsets")} for i in range(depth)]
    made = _output(xp, layers, x) * arrays["scale"] + arrays["mean"]
    return {**columns, **{name: made[:, i] for i, name in enumerate(names)}}


def _output(xp, layers, x):
    for layer in layers[:-1]:
        x = xp.tanh(x @ layer["weights"] + layer["offsets"])
    return x @ layers[-1]["weights"] + layers[-1]["offsets"]


def _trained(x, hidden, noise, steps, batch_size, learning_rate, seed):
    """Return the layers [{"weights": [in, out], "offsets": [out]}] of the trained network."""
    import jax
    import jax.numpy as jnp
    import optax

    widths, x = (x.shape[1], *hidden, x.shape[1]), jnp.asarray(x, jnp.float32)
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))

    def loss(layers, rows, key):
        return jnp.mean((_output(jnp, layers, rows + noise * jax.random.normal(key, rows.shape)) - rows) ** 2)

    def one(carry, number):
        layers, state = carry
        rows = x[jax.random.randint(core.draw(seed, "rows", number), (batch_size,), 0, len(x))]
        updates, state = optimizer.update(jax.grad(loss)(layers, rows, core.draw(seed, "noise", number)), state)
        return (optax.apply_updates(layers, updates), state), None

    layers = []
    for i, size in enumerate(zip(widths, widths[1:], strict=False)):
        weights = jax.random.normal(core.draw(seed, "weights", i), size) / np.sqrt(size[0])
        layers.append({"weights": weights, "offsets": jnp.zeros(size[1])})
    start = (layers, optimizer.init(layers))
    return jax.jit(lambda start: core.repeat(one, start, jnp.arange(steps)))(start)[0][0]
