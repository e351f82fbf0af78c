"""Rules for a live run, `History -> Finding | None`, cheap enough to apply after every interval.

The thresholds avoid false alarms: each lies well beyond the values that healthy runs of this codebase show.
"""

from typing import NamedTuple

import numpy as np

from research.diagnose.finding import Finding
from research.diagnose.history import History, middle
from research.errors import format_names

CALM = "optimizer=optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule))"
LOWER = "lower learning_rate to a third, then to a tenth; `python -m research doctor FILE` measures the range"
WARM = "schedule = warmup_cosine(learning_rate, steps=steps, warmup=max(1, steps // 10))"
SCALE = "model = preprocessed(model, lambda x: normalize(x, mean=MEAN, std=STD))  # MEAN, STD of the training set"
UNSCALED = f"if the inputs are not normalised (`python -m research doctor FILE` measures them): {SCALE}"
START = "kernel_init=nnx.initializers.he_normal() before ReLU, xavier_normal() before tanh or sigmoid"
NORM = "normalise before the activation: research.layers.layer_norm.LayerNorm(width) or batch_norm.BatchNorm(width)"

SMALL, LARGE = 1e-5, 0.1  # limits of the update-to-weight ratio; 1e-3 is the usual target
FAINT = 1e-4  # a gradient vanishes below this fraction of the largest one
DEAD, FULL, FLAT = 0.9, 0.95, 0.75  # fractions of the units, or values, of a layer


def divergence(history: History) -> Finding | None:
    """Detect divergence: a loss far above its initial value, or a loss or weight that is not finite."""
    loss = history.values("train/loss")
    if "not finite" in history.trouble:
        text = f"The run failed: {history.trouble.splitlines()[0]}"
    elif len(history.values("train/skipped")) and (skipped := middle(history.values("train/skipped")[-5:])) > 0.1:
        text = f"{skipped:.0%} of the last steps were skipped because their loss or gradient was not finite."
    elif len(loss) >= 6 and middle(loss[-3:]) > loss[0] + max(abs(loss[0]), 5 * _noise(loss), loss[0] - loss.min()):
        text = f"The loss began at {loss[0]:.4g}, fell to {loss.min():.4g} and is now {middle(loss[-3:]):.4g}."
    else:
        return None
    text += " The usual cause is a learning rate that is too high."
    return Finding("divergence", True, text, (LOWER, WARM, CALM), curve(history, "train/loss"), history.step())


def spike(history: History) -> Finding | None:
    """Detect a spike: in one interval the loss loses more than half of its progress, far beyond its noise."""
    loss = history.values("train/loss")
    if len(loss) < 7:
        return None
    before = np.median(np.lib.stride_tricks.sliding_window_view(loss[:-1], 5), axis=1)[1:]
    progress, rise = middle(loss[:2]) - before, loss[6:] - before
    noise = _noise(loss)  # without progress beyond the noise, as in a game of two players, there is none to lose
    spikes = np.flatnonzero((progress > 10 * noise) & (rise > 0.5 * progress) & (rise > 10 * noise))
    if not len(spikes):
        return None
    at = int(spikes[0]) + 6
    step = [s for s, x in zip(*history.metrics["train/loss"], strict=True) if np.isfinite(x)][at]
    text = f"At step {step:.0f} the loss jumped from {before[at - 6]:.4g} to {loss[at]:.4g}."
    text += " Usual causes: an unusual batch, or a learning rate near the limit of stability."
    again = 'look at the batch of that step; on_nonfinite="rollback" helps only if the loss becomes NaN'
    return Finding("loss spike", False, text, (CALM, LOWER, again), curve(history, "train/loss"), step)


def stall(history: History) -> Finding | None:
    """Detect a stall after 30 % of the run: every classifier still guesses, or neither loss nor scores ever moved.

    A classifier that guesses although its training loss fell below that of guessing has memorised the training set.
    """
    loss, step = history.values("train/loss"), history.step()
    if not history.total or step < 0.3 * history.total or len(loss) < 6:
        return None
    guesses = {name: guessing(history, name) for name in history.classes}
    if guesses and all(guesses.values()):
        text = " ".join(guesses.values())
        fallen, limit = middle(loss[-3:]), 0.97 * min(guess(history, name).loss for name in guesses)
        if fallen < limit:
            text += f" The training loss fell to {fallen:.4g}: the model memorises, and nothing carries over."
            return Finding("nothing learnt", True, text, (
                "check that labels belong to their inputs: `python -m research doctor FILE` reports shuffled labels",
                "check that training and evaluation data get the same preprocessing and class numbers",
                "add training data, or features that are related to the label",
            ), curve(history, "train/loss"), step)  # fmt: skip
    elif guesses or not _still(loss):
        return None
    else:
        metrics = [n for n in history.metrics if not n.startswith(("train/", "layers/")) and len(history.values(n)) > 2]
        # Without evaluations, only an almost constant loss counts: an adversarial loss need not fall.
        if not all(_still(history.values(name)) for name in metrics) or not (metrics or _noise(loss) < 1e-3 * loss[0]):
            return None
        text = (
            f"After {step:.0f} steps the loss is {middle(loss[-3:]):.4g}, no better than at the start ({loss[0]:.4g})."
        )
    steps = (UNSCALED, f"{LOWER}; if the loss does not move at all, raise it tenfold", START)
    return Finding("stalled", True, text, steps, curve(history, "train/loss"), step)


def gradients(history: History) -> Finding | None:
    """Detect layers without gradient, with a vanishing one, or with one of 100 x the norm of all weights."""
    norms = {layer: _finite(series) for layer, series in history.layers("gradient").items()}
    norms = {layer: values for layer, values in norms.items() if len(values)}
    if not norms:
        return None
    step = history.step()
    last = {layer: max(values[-2:]) for layer, values in norms.items()}
    largest = max(last.values())
    none = [layer for layer, values in norms.items() if len(values) > 1 and not values.any()]
    alive = largest > 0 and not _above(history, "dead", DEAD)  # dead units block the gradient; see `dead_units`
    if none and alive:
        text = f"No gradient ever reached {format_names(none, 3)}."
        steps = ("look for stop_gradient, an argmax, or an output that the loss does not use", START)
        return Finding("no gradient", True, text, steps, _layers(history, "gradient", none), step)
    faint = [layer for layer, value in last.items() if value < FAINT * largest]
    if faint and alive and all(len(norms[layer]) > 1 for layer in faint):
        text = f"The gradient vanishes in {format_names(faint, 3)}: {min(last.values()) / largest:.1g} of the largest. "
        text += "Usual causes: saturating activations, or many layers without normalisation or residual connections."
        steps = (
            "use jax.nn.relu or jax.nn.gelu instead of sigmoid or tanh",
            NORM,
            "add residual connections: y = x + block(x)",
        )
        return Finding("vanishing gradient", True, text, steps, _layers(history, "gradient", faint), step)
    weights = history.layers("weight")
    size = np.sqrt(sum(x.values[-1] ** 2 for x in weights.values()))
    large = [layer for layer, values in norms.items() if len(values) > 1 and min(values[-2:]) > 100 * size]
    if large:
        text = (
            f"The gradient norm of {format_names(large, 3)} is {last[large[0]]:.3g}; all weights have norm {size:.3g}."
        )
        steps = (CALM, START, "target = (target - mean) / std  # likewise the inputs")
        return Finding("exploding gradient", True, text, steps, _layers(history, "gradient", large), step)
    return None


def dead_units(history: History) -> Finding | None:
    """Detect layers in which more than 90 % of the ReLU units are 0 for the entire observed batch, twice in a row."""
    dead = _above(history, "dead", DEAD)
    if not dead:
        return None
    fraction = history.metrics[f"layers/dead/{dead[0]}"].values[-1]
    text = f"{fraction:.0%} of the units of {format_names(dead, 3)} are 0 for an entire batch and get no gradient."
    text += " Usual causes: a step that was too large, or inputs that are not normalised."
    return Finding("dead units", True, text, (LOWER, "use jax.nn.leaky_relu or jax.nn.gelu instead of relu",
        f"{SCALE}; {START}"), _layers(history, "dead", dead), history.step())  # fmt: skip


def saturation(history: History) -> Finding | None:
    """Detect saturated layers: twice in a row 95 % of the values are at the ends of their tanh or sigmoid.

    75 % suffice if the layer's gradient is below a tenth of the largest: outputs such as pixels may well saturate.
    """
    last = {layer: series.values[-1] for layer, series in history.layers("gradient").items()}
    full, flat = (_above(history, "saturated", limit) for limit in (FULL, FLAT))
    flat = [layer for layer in flat if layer in full or last.get(layer, np.inf) < 0.1 * max(last.values())]
    if not flat:
        return None
    fraction = history.metrics[f"layers/saturated/{flat[0]}"].values[-1]
    text = f"{fraction:.0%} of the values of {format_names(flat, 3)} are within 1 % of an end of their tanh or sigmoid."
    text += " Usual causes: inputs or initial weights that are too large."
    evidence = _layers(history, "saturated", flat)
    return Finding("saturated activations", True, text, (SCALE, START, NORM), evidence, history.step())


def updates(history: History) -> Finding | None:
    """Detect updates above 0.1 of the weights in most layers, or below 1e-5 in all layers at all times."""
    ratios = {layer: _finite(series) for layer, series in history.layers("update").items()}
    ratios = {layer: values for layer, values in ratios.items() if len(values) > 1 and values.any()}
    if not ratios:
        return None
    now = {layer: min(values[-2:]) for layer, values in ratios.items()}
    high = [layer for layer, value in now.items() if value > LARGE]
    if len(high) > len(now) / 2:
        change = middle(now[x] for x in high)
        text = f"A step changes {format_names(high, 3)} by {change:.2g} of their norm; 1e-3 is usual."
        steps = (LOWER, WARM, CALM)
    elif (largest := max(values.max() for values in ratios.values())) < SMALL:
        high, text = list(ratios), f"No step changes any layer by more than {largest:.1g} of its norm; 1e-3 is usual."
        steps = ("raise learning_rate tenfold, then a hundredfold", WARM)
    else:
        return None
    return Finding("update size", True, text, steps, _layers(history, "update", high), history.step())


def starvation(history: History) -> Finding | None:
    """Detect data starvation: the devices waited for more than half of the last 20 intervals (at least 2 s)."""
    seconds, waits = (np.array(history.timing[name].values if name in history.timing else [], float)[-20:]
                      for name in ("seconds", "data_wait"))  # fmt: skip
    if len(waits) < 3 or len(waits) != len(seconds) or not seconds.sum() > 2:
        return None
    fraction = float((waits * seconds).sum() / seconds.sum())
    if not fraction > 0.5:
        return None
    text = f"The devices wait for data {fraction:.0%} of the time: reading or augmentation is slower than the step."
    steps = ("data = in_memory(data)  # from research.data, if it fits", "python -m research prepare DATA",
             "loss=classify(model, augment=...)  # on the device, instead of batches(..., augment=)")  # fmt: skip
    series = history.timing["data_wait"]
    evidence = {"step": list(series.steps), "data wait": list(series.values)}
    return Finding("data starvation", False, text, steps, evidence, history.step())


def recompilation(history: History) -> Finding | None:
    """Detect repeated compilation: in most of the last ten intervals (at least three), for a tenth of their time.

    Occasional compilation is normal: evaluation, checks and saving compile at their first use in each process.
    """
    seconds, spent = (np.array(history.timing[name].values if name in history.timing else [], float)[1:][-10:]
                      for name in ("seconds", "compiling"))  # fmt: skip
    count = (spent > 0.02).sum()
    if len(spent) != len(seconds) or count <= max(2, len(spent) / 2) or spent.sum() < 0.1 * seconds.sum():
        return None
    text = f"{count} of the last {len(spent)} intervals compiled again, for a total of {spent.sum():.1f} s."
    steps = ("give every batch the same shapes: pack(documents, length), or pad with a mask",
             "JAX_LOG_COMPILES=1 python -m research train FILE  # shows functions and shapes")  # fmt: skip
    series = history.timing["compiling"]
    evidence = {"step": list(series.steps), "seconds of compilation": list(series.values)}
    return Finding("recompilation", True, text, steps, evidence, history.step())


OF_INTERVALS = (divergence, stall, spike, starvation, recompilation)
OF_LAYERS = (gradients, dead_units, saturation, updates)
RULES = (*OF_INTERVALS, *OF_LAYERS)


def _noise(values) -> float:
    """The median absolute difference of successive values."""
    return middle(np.abs(np.diff(values))) if len(values) > 1 else 0.0


def _still(values) -> bool:
    """Whether the median of the last third equals the start to within 1 % or the noise."""
    first, last = middle(values[:2]), middle(values[-max(1, len(values) // 3) :])
    return abs(last - first) <= max(0.01 * abs(first), _noise(values))


class Guess(NamedTuple):
    """The accuracy and the loss (nats) of predicting class frequencies alone."""

    accuracy: float
    loss: float


def guess(history: History, name: str) -> Guess:
    """Return the Guess on an evaluation set: the frequency of its largest class, and the entropy of its classes."""
    counts = history.classes[name]
    p = counts[counts > 0] / counts.sum()
    return Guess(float(p.max()), float(-(p * np.log(p)).sum()))


def guessing(history: History, name: str) -> str:
    """Describe a classifier that is no better than its Guess in both accuracy and loss; otherwise ""."""
    accuracy, loss = (history.values(f"{name}/{metric}") for metric in ("accuracy", "loss"))
    if not len(accuracy) or not len(loss):
        return ""
    best = guess(history, name)
    error = np.sqrt(best.accuracy * (1 - best.accuracy) / history.classes[name].sum())
    if accuracy[-1] > best.accuracy + 3 * error or loss[-1] < 0.97 * best.loss or not best.loss:
        return ""
    return (f"On {name} the accuracy is {accuracy[-1]:.3g} and the loss {loss[-1]:.4g}; predicting class frequencies "
            f"alone scores {best.accuracy:.3g} and {best.loss:.4g}.")  # fmt: skip


def curve(history: History, *names: str) -> dict:
    """Return metrics as the evidence of a Finding; those recorded at other steps than the first are left out."""
    names = [name for name in names if name in history.metrics]
    if not names:
        return {}
    steps = history.metrics[names[0]].steps
    aligned = {name: history.metrics[name].values for name in names if history.metrics[name].steps == steps}
    return {"step": list(steps), **{name: list(values) for name, values in aligned.items()}}


def _above(history, statistic, limit) -> list[str]:
    """The layers whose last two values of a statistic are above a limit, largest first."""
    layers = []
    for layer, series in history.layers(statistic).items():
        values = _finite(series)
        if len(values) > 1 and min(values[-2:]) > limit:
            layers.append(layer)
    return sorted(layers, key=lambda layer: -history.metrics[f"layers/{statistic}/{layer}"].values[-1])


def _finite(series) -> np.ndarray:
    values = np.array(series.values, float)
    return values[np.isfinite(values)]


def _layers(history, statistic, layers) -> dict:
    return curve(history, *(f"layers/{statistic}/{layer}" for layer in layers[:6]))
