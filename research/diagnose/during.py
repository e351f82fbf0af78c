"""What can be seen to go wrong while a run goes on: rules `History -> Finding | None`, cheap enough for each interval.

The thresholds are meant to be silent on what works: each is a factor beyond what sound runs of this codebase show.
"""

from typing import NamedTuple

import numpy as np

from research.diagnose.finding import Finding
from research.diagnose.history import History, middle
from research.errors import format_names

CALM = "optimizer=optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule))"
LOWER = "learning_rate: a third of it, then a tenth (`python -m research doctor FILE` measures the range)"
WARM = "schedule = warmup_cosine(learning_rate, steps=steps, warmup=max(1, steps // 10))"
SCALE = "model = preprocessed(model, lambda x: normalize(x, mean=MEAN, std=STD))  # of the training set"
START = "kernel_init=nnx.initializers.he_normal() before ReLU, xavier_normal() before tanh and sigmoid"
NORM = "LayerNorm(width) of research.layers.layer_norm or BatchNorm(width) of .batch_norm, before the activation"

SMALL, LARGE = 1e-5, 0.1  # of the update over the weights; 1e-3 is what the handbooks aim at
FAINT = 1e-4  # of the largest gradient
DEAD, FULL, FLAT = 0.9, 0.95, 0.75  # of the units, or values, of a layer


def divergence(history: History) -> Finding | None:
    """The loss is far above where it began, or the run failed of a loss or a weight that is not finite."""
    loss = history.values("train/loss")
    if "not finite" in history.trouble:
        text = f"The run failed: {history.trouble.splitlines()[0]}"
    elif len(history.values("train/skipped")) and (skipped := middle(history.values("train/skipped")[-5:])) > 0.1:
        text = f"{skipped:.0%} of the last steps were skipped, since their loss or gradient was not finite."
    elif len(loss) >= 6 and middle(loss[-3:]) > loss[0] + max(abs(loss[0]), 5 * _noise(loss), loss[0] - loss.min()):
        text = f"The loss began at {loss[0]:.4g}, came to {loss.min():.4g} and is now {middle(loss[-3:]):.4g}."
    else:
        return None
    return Finding("divergence", True, text, (LOWER, WARM, CALM), curve(history, "train/loss"), history.step())


def spike(history: History) -> Finding | None:
    """In one interval the loss gave back more than half of what it had won, and stands out of its noise."""
    loss = history.values("train/loss")
    if len(loss) < 7:
        return None
    before = np.median(np.lib.stride_tricks.sliding_window_view(loss[:-1], 5), axis=1)[1:]
    won, rise = middle(loss[:2]) - before, loss[6:] - before
    noise = _noise(loss)  # and a loss that has won nothing beside it, as that of two players, has nothing to give back
    found = np.flatnonzero((won > 10 * noise) & (rise > 0.5 * won) & (rise > 10 * noise))
    if not len(found):
        return None
    at = int(found[0]) + 6
    step = [s for s, x in zip(*history.metrics["train/loss"], strict=True) if np.isfinite(x)][at]
    text = f"At step {step:.0f} the loss jumped from {before[at - 6]:.4g} to {loss[at]:.4g}."
    again = 'on_nonfinite="rollback" helps only where it ends in NaN; look at the batch of that step'
    return Finding("loss spike", False, text, (CALM, LOWER, again), curve(history, "train/loss"), step)


def stall(history: History) -> Finding | None:
    """Nothing is learnt: every classifier guesses after a third of the run, or neither loss nor results ever moved."""
    loss, step = history.values("train/loss"), history.step()
    if not history.total or step < 0.3 * history.total or len(loss) < 6:
        return None
    guesses = {name: guessing(history, name) for name in history.classes}
    if guesses and all(guesses.values()):
        text = " ".join(guesses.values())
    elif guesses or not _still(loss):
        return None
    else:
        metrics = [n for n in history.metrics if not n.startswith(("train/", "layers/")) and len(history.values(n)) > 2]
        # Where nothing is evaluated, the loss must be as good as constant: that of two players need not fall.
        if not all(_still(history.values(name)) for name in metrics) or not (metrics or _noise(loss) < 1e-3 * loss[0]):
            return None
        text = f"After {step:.0f} steps the loss is {middle(loss[-3:]):.4g}; it began at {loss[0]:.4g}."
    steps = (SCALE, f"{LOWER}; where the loss does not move at all, ten times as much", START)
    return Finding("stalled", True, text, steps, curve(history, "train/loss"), step)


def gradients(history: History) -> Finding | None:
    """A layer gets no gradient, or next to none beside the others; or the gradient is larger than the weights."""
    found = {layer: _finite(series) for layer, series in history.layers("gradient").items()}
    found = {layer: values for layer, values in found.items() if len(values)}
    if not found:
        return None
    step = history.step()
    last = {layer: max(values[-2:]) for layer, values in found.items()}
    most = max(last.values())
    none = [layer for layer, values in found.items() if len(values) > 1 and not values.any()]
    alive = most > 0 and not _above(history, "dead", DEAD)  # dead units pass nothing on, which is their rule
    if none and alive:
        text = f"No gradient ever reached {format_names(none, 3)}."
        steps = ("look for stop_gradient, an output that the loss does not use, or an argmax on the way", START)
        return Finding("no gradient", True, text, steps, _layers(history, "gradient", none), step)
    faint = [layer for layer, value in last.items() if value < FAINT * most]
    if faint and alive and all(len(found[layer]) > 1 for layer in faint):
        text = (
            f"The gradients vanish: that of {format_names(faint, 3)} is {min(last.values()) / most:.1g} of the largest."
        )
        steps = ("jax.nn.relu or jax.nn.gelu in place of a sigmoid or tanh", NORM, "y = x + block(x): residual layers")
        return Finding("vanishing gradient", True, text, steps, _layers(history, "gradient", faint), step)
    weights = history.layers("weight")
    size = np.sqrt(sum(x.values[-1] ** 2 for x in weights.values()))
    large = [layer for layer, values in found.items() if len(values) > 1 and min(values[-2:]) > 100 * size]
    if large:
        text = (
            f"The gradient of {format_names(large, 3)} is {last[large[0]]:.3g}; the norm of all weights is {size:.3g}."
        )
        steps = (CALM, START, "target = (target - mean) / std  # and the inputs alike")
        return Finding("exploding gradient", True, text, steps, _layers(history, "gradient", large), step)
    return None


def dead_units(history: History) -> Finding | None:
    """Nearly all units of a layer are 0 after their ReLU for the whole of the watched batch, twice in a row."""
    dead = _above(history, "dead", DEAD)
    if not dead:
        return None
    share = history.metrics[f"layers/dead/{dead[0]}"].values[-1]
    text = f"{share:.0%} of the units of {format_names(dead, 3)} give 0 for a whole batch, and get no gradient."
    return Finding("dead units", True, text, (LOWER, "jax.nn.leaky_relu(x), or jax.nn.gelu(x), in place of relu",
        f"{SCALE}; {START}"), _layers(history, "dead", dead), history.step())  # fmt: skip


def saturation(history: History) -> Finding | None:
    """Twice in a row nearly all values of a layer are at the ends of their tanh or sigmoid, or most, and its gradient
    is a tenth of the largest or less: an output, such as that of the pixels of a picture, may well be at its ends.
    """
    last = {layer: series.values[-1] for layer, series in history.layers("gradient").items()}
    full, flat = (_above(history, "saturated", limit) for limit in (FULL, FLAT))
    flat = [layer for layer in flat if layer in full or last.get(layer, np.inf) < 0.1 * max(last.values())]
    if not flat:
        return None
    share = history.metrics[f"layers/saturated/{flat[0]}"].values[-1]
    text = f"{share:.0%} of the values of {format_names(flat, 3)} are within 1 % of an end of their tanh or sigmoid."
    evidence = _layers(history, "saturated", flat)
    return Finding("saturated activations", True, text, (SCALE, START, NORM), evidence, history.step())


def updates(history: History) -> Finding | None:
    """A step changes the weights of most layers by more than a tenth, or those of none ever by a hundred-thousandth."""
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
        steps = ("learning_rate: ten times as much, then a hundred times", WARM)
    else:
        return None
    return Finding("update size", True, text, steps, _layers(history, "update", high), history.step())


def starvation(history: History) -> Finding | None:
    """More than half of the time of the last intervals, and of two seconds at least, went into waiting for data."""
    seconds, waits = (np.array(history.timing[name].values if name in history.timing else [], float)[-20:]
                      for name in ("seconds", "data_wait"))  # fmt: skip
    if len(waits) < 3 or len(waits) != len(seconds) or not seconds.sum() > 2:
        return None
    share = float((waits * seconds).sum() / seconds.sum())
    if not share > 0.5:
        return None
    text = f"The devices wait for data {share:.0%} of the time."
    steps = ("data = in_memory(data)  # from research.data, where it fits", "python -m research prepare DATA",
             "loss=classify(model, augment=...)  # on the device, in place of batches(..., augment=)")  # fmt: skip
    series = history.timing["data_wait"]
    evidence = {"step": list(series.steps), "data wait": list(series.values)}
    return Finding("data starvation", False, text, steps, evidence, history.step())


def recompilation(history: History) -> Finding | None:
    """The run compiles again and again: most of the last ten intervals, three at least, for a tenth of their time.
    Now and then it may: each life compiles what evaluates, checks and saves when it first does.
    """
    seconds, spent = (np.array(history.timing[name].values if name in history.timing else [], float)[1:][-10:]
                      for name in ("seconds", "compiling"))  # fmt: skip
    count = (spent > 0.02).sum()
    if len(spent) != len(seconds) or count <= max(2, len(spent) / 2) or spent.sum() < 0.1 * seconds.sum():
        return None
    text = f"{count} of the last {len(spent)} intervals compiled again, for {spent.sum():.1f} s in all."
    steps = ("give every batch the same shapes: pack(documents, length), or pad and give a mask",
             "JAX_LOG_COMPILES=1 python -m research train FILE  # says what is compiled, of which shapes")  # fmt: skip
    series = history.timing["compiling"]
    evidence = {"step": list(series.steps), "seconds of compilation": list(series.values)}
    return Finding("recompilation", True, text, steps, evidence, history.step())


OF_INTERVALS = (divergence, stall, spike, starvation, recompilation)
OF_LAYERS = (gradients, dead_units, saturation, updates)
RULES = (*OF_INTERVALS, *OF_LAYERS)


def _noise(values) -> float:
    """How much successive values differ, at the median."""
    return middle(np.abs(np.diff(values))) if len(values) > 1 else 0.0


def _still(values) -> bool:
    """Whether the last third is where the beginning was: within 1 %, or within the noise."""
    first, last = middle(values[:2]), middle(values[-max(1, len(values) // 3) :])
    return abs(last - first) <= max(0.01 * abs(first), _noise(values))


class Guess(NamedTuple):
    """The accuracy and the loss (nats) of one who knows nothing but how common each class is."""

    accuracy: float
    loss: float


def guess(history: History, name: str) -> Guess:
    """The Guess on an evaluation set: the share of its commonest class, and the entropy of its classes."""
    counts = history.classes[name]
    p = counts[counts > 0] / counts.sum()
    return Guess(float(p.max()), float(-(p * np.log(p)).sum()))


def guessing(history: History, name: str) -> str:
    """In words that a classifier is no better than its Guess, in accuracy and in loss; else ""."""
    accuracy, loss = (history.values(f"{name}/{metric}") for metric in ("accuracy", "loss"))
    if not len(accuracy) or not len(loss):
        return ""
    best = guess(history, name)
    error = np.sqrt(best.accuracy * (1 - best.accuracy) / history.classes[name].sum())
    if accuracy[-1] > best.accuracy + 3 * error or loss[-1] < 0.97 * best.loss or not best.loss:
        return ""
    return (f"On {name} the accuracy is {accuracy[-1]:.3g} and the loss {loss[-1]:.4g}; to know nothing but how common "
            f"each class is gives {best.accuracy:.3g} and {best.loss:.4g}.")  # fmt: skip


def curve(history: History, *names: str) -> dict:
    """Metrics as the evidence of a Finding; those that were recorded at the steps of the first."""
    names = [name for name in names if name in history.metrics]
    if not names:
        return {}
    steps = history.metrics[names[0]].steps
    same = {name: history.metrics[name].values for name in names if history.metrics[name].steps == steps}
    return {"step": list(steps), **{name: list(values) for name, values in same.items()}}


def _above(history, statistic, limit) -> list[str]:
    """The layers whose last two values of a statistic, or the only one where the run has ended, are above a limit."""
    found = []
    for layer, series in history.layers(statistic).items():
        values = _finite(series)
        if len(values) > 1 and min(values[-2:]) > limit:
            found.append(layer)
    return sorted(found, key=lambda layer: -history.metrics[f"layers/{statistic}/{layer}"].values[-1])


def _finite(series) -> np.ndarray:
    values = np.array(series.values, float)
    return values[np.isfinite(values)]


def _layers(history, statistic, layers) -> dict:
    return curve(history, *(f"layers/{statistic}/{layer}" for layer in layers[:6]))
