"""The floor: the leanest hand-written JAX for the same maths. Who finds a faster form of any of it replaces it here."""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from tests.benchmarks import works
from tests.benchmarks.turns import Gate, serve, turns


def init(work: works.Work):
    """The params as a nested dict: matrices normal / sqrt(fan-in), biases 0, scales 1."""
    s, keys = work.sizes, iter(jax.random.split(jax.random.key(0), 1000))
    matrix = lambda *shape: jax.random.normal(next(keys), shape) / math.sqrt(math.prod(shape[:-1]))
    linear = lambda a, b: {"w": matrix(a, b), "b": jnp.zeros(b)}
    norm = lambda width: {"scale": jnp.ones(width), "bias": jnp.zeros(width)}
    if work.kind == "mlp":
        return [linear(s.features, s.width), linear(s.width, s.width), linear(s.width, s.classes)]
    if work.kind in works.DISPATCH:
        return [matrix(4, 4) for _ in range(s.leaves)]
    if work.kind == "lstm":
        layers = [{**linear(s.width, 4 * s.width), "u": matrix(s.width, 4 * s.width)} for _ in range(s.depth)]
        return {"embed": matrix(s.vocabulary, s.width), "layers": layers, "head": linear(s.width, s.vocabulary)}
    if work.kind == "resnet":
        conv = lambda size, a, b: {"w": matrix(size, size, a, b), **norm(b)}
        blocks, channels = [], s.width
        for stage in range(s.stages):
            for number in range(2):
                inner = s.width * 2**stage
                block = {"a": conv(3, channels, inner), "b": conv(3, inner, inner)}
                if stage and not number:
                    block["shortcut"] = conv(1, channels, inner)
                blocks, channels = [*blocks, block], inner
        return {"stem": conv(3, 3, s.width), "blocks": blocks, "head": linear(channels, s.classes)}
    w = s.width
    names = {"q": (w, w), "k": (w, w), "v": (w, w), "out": (w, w), "up": (w, 4 * w), "down": (4 * w, w)}
    blocks = [
        {name: linear(*shape) for name, shape in names.items()} | {"norm1": norm(w), "norm2": norm(w)}
        for _ in range(s.depth)
    ]
    if work.kind == "gpt":
        tables = {"embed": matrix(w, s.vocabulary).T, "place": matrix(w, s.length).T}
        return {**tables, "blocks": blocks, "norm": norm(w)}
    cut = {"embed": linear(3 * s.patch**2, w), "place": 0.02 * matrix(1, (s.size // s.patch) ** 2, w)}
    return {**cut, "blocks": blocks, "norm": norm(w), "head": linear(w, s.classes)}


def apply(work: works.Work, params, stats, x):
    """(logits, changed running statistics)."""
    if work.kind == "mlp":
        for layer in params[:-1]:
            x = jax.nn.relu(linear(layer, x))
        return linear(params[-1], x), stats
    if work.kind == "lstm":
        return lstm(params, x), stats
    if work.kind == "resnet":
        return resnet(params, stats, x)
    if work.kind == "gpt":
        x = params["embed"][x] + params["place"]
        x = transformer(params, x, heads=work.sizes.heads, causal=True)
        return product(x, params["embed"].T), stats
    b, size, patch = len(x), work.sizes.size, work.sizes.patch
    x = x.reshape(b, size // patch, patch, size // patch, patch, 3).swapaxes(2, 3).reshape(b, -1, 3 * patch * patch)
    x = transformer(params, linear(params["embed"], x) + params["place"], heads=work.sizes.heads, causal=False)
    return linear(params["head"], x.mean(1)), stats


def linear(params, x):
    return product(x, params["w"]) + params["b"]


def product(x, w):
    """Of two matrices: over the two axes of examples and tokens the gradient of w takes up to three times as long."""
    return (x.reshape(-1, x.shape[-1]) @ w).reshape(*x.shape[:-1], -1)


@jax.custom_vjp
def normalized(x, scale, bias):
    return normalize(x, scale, bias)[0]


def normalize(x, scale, bias):
    mean = x.mean(-1, keepdims=True)
    deviation = lax.rsqrt((x * x).mean(-1, keepdims=True) - mean * mean + 1e-6)  # both means in one pass over x
    return (x - mean) * deviation * scale + bias, (x, mean, deviation, scale)


def normalize_back(kept, dy):
    """By hand: XLA would compute the gradients of all later blocks again in each of its transposes."""
    x, mean, deviation, scale = kept
    # A scale of its own: one that both passes share would be spread out to the size of x, and kept in between.
    x, dx = (x - mean) * deviation, dy * lax.optimization_barrier(scale)
    dx = deviation * (dx - dx.mean(-1, keepdims=True) - x * (dx * x).mean(-1, keepdims=True))
    return dx, (dy * x).sum((0, 1)), dy.sum((0, 1))


normalized.defvjp(normalize, normalize_back)


def layer_norm(params, x):
    return normalized(x, params["scale"], params["bias"])


def transformer(params, x, *, heads, causal):
    b, t, w = x.shape
    split = lambda x: x.reshape(b, t, heads, w // heads).swapaxes(1, 2)
    bias = jnp.where(jnp.tril(jnp.ones((t, t), bool)), 0.0, -1e30) if causal else 0.0
    for block in params["blocks"]:
        y = layer_norm(block["norm1"], x)
        q, k, v = (split(linear(block[name], y)) for name in "qkv")
        weights = jax.nn.softmax(jnp.einsum("bhtd,bhsd->bhts", q * (w // heads) ** -0.5, k) + bias)
        x = x + linear(block["out"], jnp.einsum("bhts,bhsd->bhtd", weights, v).swapaxes(1, 2).reshape(b, t, w))
        x = lax.optimization_barrier(x)
        x = x + linear(block["down"], jax.nn.gelu(linear(block["up"], layer_norm(block["norm2"], x))))
        x = lax.optimization_barrier(x)
    return layer_norm(params["norm"], x)


def lstm(params, tokens):
    x = params["embed"][tokens.T]
    for layer in params["layers"]:

        def step(carry, x, layer=layer):  # x W here: one product for all steps is slower, out of the cache
            h, c = carry
            i, f, g, o = jnp.split(linear(layer, x) + h @ layer["u"], 4, -1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zeros = jnp.zeros(x.shape[1:])
        _, x = lax.scan(step, (zeros, zeros), x)
    return linear(params["head"], x.swapaxes(0, 1))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolution(x, w, stride):
    size = len(w)
    return lax.conv_general_dilated(
        x, w, (stride, stride), [(size // 2, size // 2)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def convolution_back(stride, kept, dy):
    """XLA's own for x; for w matrix products over the windows of two images at a time, a tenth of XLA's time on CPU."""
    x, w = kept
    (dx,) = jax.linear_transpose(lambda x: convolution.fun(x, w, stride), x)(dy)
    size, reach = len(w), stride * (dy.shape[1] - 1) + 1
    x = jnp.pad(x, ((0, 0), *[(size // 2, size // 2)] * 2, (0, 0)))
    pairs = [z.reshape(-1, 2, *z.shape[1:]) for z in (x, dy)]

    def add(dw, pair):
        x, dy = pair
        cut = [x[:, i : i + reach : stride, j : j + reach : stride] for i in range(size) for j in range(size)]
        return dw + jnp.einsum("bhwc,bhwo->co", jnp.concatenate(cut, -1), dy), None

    dw, _ = lax.scan(add, jnp.zeros((w[..., 0].size, w.shape[-1])), pairs)
    return dx, dw.reshape(w.shape)


if jax.default_backend() == "cpu":
    convolution.defvjp(lambda x, w, stride: (convolution(x, w, stride), (x, w)), convolution_back)
else:
    convolution = convolution.fun


def resnet(params, stats, x):
    changed = []

    def conv(layer, x, stride=1):
        x = convolution(x, layer["w"], stride)
        mean = x.mean((0, 1, 2))
        var = (x * x).mean((0, 1, 2)) - mean * mean
        old = stats[len(changed)]
        new = lax.stop_gradient({"mean": mean, "var": var})
        changed.append(jax.tree.map(lambda a, b: 0.9 * a + 0.1 * b, old, new))
        scale = layer["scale"] * lax.rsqrt(var + 1e-5)
        return x * scale + (layer["bias"] - mean * scale)

    x = jax.nn.relu(conv(params["stem"], x))
    for block in params["blocks"]:
        stride = 2 if "shortcut" in block else 1
        y = conv(block["b"], jax.nn.relu(conv(block["a"], x, stride)))
        x = jax.nn.relu(y + (conv(block["shortcut"], x, stride) if "shortcut" in block else x))
    return linear(params["head"], x.mean((1, 2))), changed


def loss(work: works.Work, params, stats, batch):
    """(mean cross-entropy, changed running statistics)."""
    if work.kind in works.DISPATCH:
        return sum(jnp.sum(p * p) for p in params), stats
    logits, stats = apply(work, params, stats, batch["x"])
    chosen = jnp.take_along_axis(logits, batch["y"][..., None], -1)[..., 0]
    return (jax.nn.logsumexp(logits, -1) - chosen).mean(), stats


def update(work: works.Work, grads, opt, params):
    """(params, opt) of the optimizer by hand: Adam, AdamW, or SGD with momentum."""
    rate = work.learning_rate
    if work.optimizer == "sgd":
        trace = jax.tree.map(lambda v, g: works.MOMENTUM * v + g, opt, grads)
        return jax.tree.map(lambda p, v: p - rate * v, params, trace), trace
    b1, b2, eps = works.ADAM.values()
    count = opt["count"] + 1
    m = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, opt["m"], grads)
    v = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, opt["v"], grads)
    first, second = 1 - b1**count, 1 - b2**count
    decay = works.WEIGHT_DECAY if work.optimizer == "adamw" else 0.0
    new = lambda p, m, v: p - rate * ((m / first) / (jnp.sqrt(v / second) + eps) + decay * p)
    return jax.tree.map(new, params, m, v), {"count": count, "m": m, "v": v}


def start(work: works.Work):
    """The state at step 0: (params, stats, opt), all in one tuple that a step replaces."""
    params = init(work)
    zeros = lambda: jax.tree.map(jnp.zeros_like, params)
    opt = zeros() if work.optimizer == "sgd" else {"count": jnp.int32(0), "m": zeros(), "v": zeros()}
    stats = []
    if work.kind == "resnet":
        # In the order of the forward pass.
        layers = [params["stem"], *(b[name] for b in params["blocks"] for name in ("a", "b", "shortcut") if name in b)]
        stats = [{"mean": jnp.zeros_like(x["scale"]), "var": jnp.ones_like(x["scale"])} for x in layers]
    return params, stats, opt


def step(work: works.Work, state, batch):
    """(state, loss): one step of training."""
    params, stats, opt = state
    (value, stats), grads = jax.value_and_grad(functools.partial(loss, work), has_aux=True)(params, stats, batch)
    params, opt = update(work, grads, opt, params)
    return (params, stats, opt), value


def placed(work: works.Work):
    """(state, batch, compiled step) on as many devices as the work asks for, the batch split over them."""
    begin = functools.partial(start, work)
    devices = jax.devices()[: work.sizes.devices]
    mesh = jax.sharding.Mesh(devices, "data")
    whole, split = (jax.sharding.NamedSharding(mesh, jax.P(*axes)) for axes in ((), ("data",)))
    if len(devices) == 1:
        whole = split = jax.sharding.SingleDeviceSharding(devices[0])
    state = jax.jit(begin, out_shardings=whole)()
    return state, jax.device_put(work.batch, split), jax.jit(functools.partial(step, work), donate_argnums=0)


def train(work: works.Work, gate: Gate):
    """Takes turns with a plain loop around the compiled step."""
    state, batch, compiled = placed(work)
    gate.facts["parameters"] = sum(x.size for x in jax.tree.leaves(state[0]))

    def one():
        nonlocal state
        state, value = compiled(state, batch)
        return value

    turns(gate, one, wait=lambda _: jax.block_until_ready(state), loss=float)


if __name__ == "__main__":
    serve({"floor": train})
