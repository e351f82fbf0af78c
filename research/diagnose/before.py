"""Checks of an experiment before it runs. Each takes a `Case` and returns one Outcome."""

import os
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from research.core import Mean, NotAdditive, gradient
from research.diagnose.case import Case, context, probed, stepper, takes, training_batches
from research.diagnose.constant_baseline import constant_baseline
from research.diagnose.cost import plan
from research.diagnose.finding import Finding
from research.diagnose.outcome import Outcome, Passed, Skipped
from research.errors import format_names
from research.html.markup import duration
from research.tree import path_name


def first_loss(case: Case) -> Outcome:
    """Compare the loss of the untrained model with that of a constant prediction.

    The constant prediction scores log(number of classes) in cross-entropy and the variance of the targets in squared
    error. A problem if the loss is above 2 x that + 1 nat (for ten classes, logits with a standard deviation of 2.6),
    or above 10 x that in squared error; if it is below half of it, since an untrained model cannot know anything; and
    if it is not finite. The training loss must be of the same size, if it has an accuracy and thus is a classifier's.
    """
    rule, baseline = "loss at the start", constant_baseline(case)
    if baseline is None:
        return Skipped(rule, case.silent or "the evaluation computes no loss of the model's outputs")
    if case.experiment.init_from is not None:
        return Skipped(rule, f"it starts from pretrained weights: {baseline.metric} {baseline.fresh:.4g}")
    high = 2 * baseline.constant + 1 if baseline.metric == "loss" else 10 * baseline.constant
    why = f"{baseline.constant:.4g}, the value of a constant prediction"
    if baseline.classes and abs(baseline.constant - np.log(baseline.classes)) < 1e-3:
        why = f"log({baseline.classes}) = {baseline.constant:.4g}"
    evidence = {"measured": baseline.fresh, "expected": baseline.constant}
    text = f"The {baseline.metric} of the untrained model is {baseline.fresh:.4g}; expected about {why}."
    if not np.isfinite(baseline.fresh):
        return Finding(rule, True, text, (
            "look for NaN in the data: the data checks name the fields",
            "look for log(0), sqrt(0) or a division by 0 in the model",
        ), evidence)  # fmt: skip
    if baseline.fresh > high:
        return Finding(rule, True, f"{text} The model is confident before it has learnt anything, and wrong.", (
            "normalise the inputs: preprocessed(model, lambda image: normalize(image, mean=..., std=...))",
            "initialise the last layer with zeros or small weights",
            "classification: remove any large factor on the logits; regression: standardise the targets",
        ), evidence)  # fmt: skip
    if baseline.fresh < 0.5 * baseline.constant:
        if _as_good_on_others(case, baseline):
            return Passed(rule, f"{baseline.metric} {baseline.fresh:.4g}, as low with the inputs of other examples")
        sure = baseline.metric == "loss"  # an untrained forecaster may repeat its input
        return Finding(rule, sure, f"{text} An untrained model cannot be that good: a leak?", (
            "look for the label, or a field derived from it, among the inputs",
            "make the evaluation loss a mean over examples: research.core.weighted_mean(values, weights)",
        ), evidence)  # fmt: skip
    training = _training_loss(case)
    if training is not None and not baseline.fresh / 4 - 1 <= training <= 4 * baseline.fresh + 1:
        text = f"With the same weights the training loss begins at {training:.4g}, "
        text += f"the evaluation loss at {baseline.fresh:.4g}."
        return Finding(rule, True, text, (
            "make the training loss a mean over examples, not a sum: weighted_mean(values, weights)",
            "pass logits to cross_entropy: remove a softmax before it",
        ), evidence | {"training": training})  # fmt: skip
    return Passed(rule, f"{baseline.metric} {baseline.fresh:.4g}, expected about {why}")


def _as_good_on_others(case, baseline) -> bool:
    """Whether the untrained model scores as well with the inputs of other examples, which rules out a leak."""
    fields = case.question.inputs
    if not fields or None in fields:
        return False
    other = {name: np.roll(x, 1, axis=0) if name in fields else x for name, x in case.small.items()}
    states = case.question.ask(case.state.params, case.state.stats, other).states
    return float(states[baseline.metric].value()) < 0.5 * baseline.constant


def _training_loss(case):
    """The training loss of the small batch if it is a classifier's; otherwise None."""
    if not takes(case, case.small):
        return None
    loss = lambda state, batch: case.built.wired.loss(state.params, context(state, batch))[1].metrics
    metrics = jax.jit(loss)(case.state, case.small)
    return (
        float(metrics["loss"].value())
        if "accuracy" in metrics and not isinstance(metrics["loss"], NotAdditive)
        else None
    )


def gradients(case: Case, probe=None, *, calls: int = 3) -> Outcome:
    """Measure the largest gradient of every parameter over the first `calls` steps.

    A problem if a gradient is not finite, if all gradients are 0, or if a parameter that the evaluation depends on gets
    exactly 0. Worth a look if the evaluation does not depend on it either, such as a head that this loss does not use.
    Several steps are needed: behind a layer that is initialised to 0, gradients begin one step later. Parameters that
    the optimizer never moves are left out. Gradients are those of the loss itself if it accepts the batch, because the
    noise of an estimator would hide zeros. `probe` is (step, state) of `stepper` with a `probed` optimizer.
    """
    rule = "gradients"
    step, state = probe or stepper(case, optimizer=probed(case.built.wired.optimizer), grad_fn=case.plain)
    batch_at = training_batches(case)
    for number in range(calls):
        state, _ = step(state, batch_at(number))
    probe_state = jax.device_get(state.opt)
    names = [path_name(path) for path, _ in jax.tree.leaves_with_path(probe_state.largest)]
    largest, broken = (np.array(jax.tree.leaves(x)) for x in (probe_state.largest, probe_state.broken))
    if broken.any():
        bad = [name for name, wrong in zip(names, broken, strict=True) if wrong]
        return Finding(rule, True, f"Gradients are not finite in the first {calls} steps: {format_names(bad)}.", (
            "look for log(0), sqrt(0) and 0/0 in the loss: jnp.where around the result does not protect the gradient",
            'JAX_DEBUG_NANS=True python -m research train FILE  # finds the operation; or on_nonfinite="skip"',
            "look for NaN or infinity in the data: the data checks name the fields",
        ), {"parameters": bad})  # fmt: skip
    if not largest.max() > 0:
        return Finding(rule, True, f"No parameter gets any gradient in the first {calls} steps.", (
            "look for stop_gradient, an integer cast or an argmax between the params and the loss",
            "call the model with the `params` argument of the loss, not with params from an outer scope",
        ), {"largest": 0.0})  # fmt: skip
    moved = _moved(case) if largest.min() == 0 else np.ones(len(names), bool)
    silent = [n for n, size, moves in zip(names, largest, moved, strict=True) if size == 0 and moves]
    if silent:
        used = [name for name in silent if _matters(case, name)]
        text = f"The gradient of {len(silent)} of {len(names)} parameters is exactly 0: {format_names(silent)}."
        text += (
            f" The evaluation depends on {format_names(used)}." if used else " The evaluation does not depend on them."
        )
        return Finding(rule, bool(used), text, (
            "look for stop_gradient, or a layer whose output is not used, between them and the loss",
            f'if they should not be trained, declare it: frozen(model, r"^{silent[0]}")',
            "if units are dead from the start: lower the learning rate or initialise the preceding layer differently",
        ), {"parameters": silent, "used": used})  # fmt: skip
    least = int(np.argmin(np.where(moved, largest, np.inf)))
    still = f"; {len(names) - sum(moved)} are frozen by the optimizer" if not all(moved) else ""
    return Passed(rule, f"reach all {len(names)} arrays of params; smallest: {largest[least]:.2g} in {names[least]}"
                  + still)  # fmt: skip


def _moved(case) -> list[bool]:
    """Whether the optimizer moves each parameter if its gradient is 1, tried for two steps."""
    optimizer = case.built.wired.optimizer
    schedule = case.built.wired.schedules.get("learning_rate")

    def twice(params):
        ones, state, moved = jax.tree.map(jnp.ones_like, params), optimizer.init(params), []
        for _ in range(2):  # a warm-up may begin with a rate of 0
            updates, state = optimizer.update(ones, state, params, value=jnp.float32(1))
            moved.append([jnp.any(u != 0) for u in jax.tree.leaves(updates)])
        return jnp.array(moved).any(0)

    moved = np.asarray(jax.jit(twice)(case.state.params))
    return list(moved if moved.any() or schedule is None else np.ones_like(moved))


def _matters(case, name) -> bool:
    """Whether the evaluation of the small batch depends on a parameter; True without an evaluation to test it."""
    if case.question is None:
        return True
    change = lambda path, x: x + np.asarray(0.1 + 0.5 * np.abs(x), x.dtype) if path_name(path) == name else x
    params = jax.tree.map_with_path(change, case.state.params)
    before, after = (case.question.ask(p, case.state.stats, case.small).states for p in (case.state.params, params))
    return any(not np.array_equal(a, b, equal_nan=True)
               for a, b in zip(*map(jax.tree.leaves, (before, after)), strict=True))  # fmt: skip


def overfits(case: Case, *, steps: int = 300, seconds: float = 60) -> Outcome:
    """Test whether the model can overfit 16 examples: Adam on the experiment's own loss, scored by its evaluation.

    The evaluation uses no augmentation, dropout or smoothing, so they do not limit the score. The check passes at 90 %
    accuracy, or at 0.3 x the loss of a constant prediction. A problem if neither of two learning rates reaches that
    within `steps`; skipped if the time limit `seconds` comes first.
    """
    rule, baseline = "overfits one batch", constant_baseline(case)
    if baseline is None:
        return Skipped(rule, case.silent or "the evaluation computes no loss of the model's outputs")
    if not takes(case, case.small):
        return Skipped(rule, "the loss does not accept the evaluation's examples")
    until, best = time.monotonic() + seconds, baseline.fresh
    for rate in (3e-3, 3e-4):
        step, state = stepper(case, optimizer=optax.adam(rate), grad_fn=gradient(case.built.wired.loss))
        if case.experiment.transform:
            return Skipped(rule, "the experiment's transform creates its batches")
        for number in range(1, steps + 1):
            state, _ = step(state, case.small)
            if number % 20:
                continue
            states = case.question.ask(state.params, state.stats, case.small).states
            now = float(states[baseline.metric].value())
            hits = states.get("accuracy")
            best = np.fmin(best, now)
            if now <= 0.3 * baseline.constant or (isinstance(hits, Mean) and float(hits.value()) >= 0.9):
                return Passed(rule, f"{baseline.metric} {baseline.fresh:.4g} -> {now:.4g} in {number} steps of Adam")
            if time.monotonic() > until:
                return Skipped(
                    rule, f"undecided after {seconds:.0f} s: {baseline.metric} {baseline.fresh:.4g} -> {best:.4g}"
                )
    text = f"{steps} steps of Adam on the same {len(case.small['mask'])} examples lower the {baseline.metric} from "
    text += f"{baseline.fresh:.4g} to only {best:.4g}; a constant prediction scores {baseline.constant:.4g}."
    # Memorising n labels needs about n weights; a model with fewer may be correct.
    answers = len(case.small["mask"]) * (baseline.classes or 1)
    small = sum(x.size for x in jax.tree.leaves(case.state.params)) < answers
    text += " The model may be too small to memorise them." if small else ""
    return Finding(rule, not small, text, (
        "check that labels match inputs: look for a shuffle, sort or augmentation of only one of the two",
        "check that the loss and the evaluation use the same fields and the same params",
        "first train without regularisation (dropout=0, weight_decay=0), or with a larger model",
    ), {"first": baseline.fresh, "best": float(best), "constant": baseline.constant})  # fmt: skip


def separate(case: Case) -> Outcome:
    """Test whether the inputs of one example change the outputs of another: the first of 16 is replaced.

    In evaluation, with `apply` as the measure calls it, a leak is always a problem. In training, all but one example
    are masked out, and the loss should depend on that example alone. BatchNorm, mixing and contrastive losses break
    this by design; it is worth a look unless the model has batch statistics or the loss is marked `not_additive`.
    Training is not tested if the loss ignores the mask.
    """
    rule, question = "no leaks between examples", case.question
    if question is None or not question.inputs or None in question.inputs:
        return Skipped(rule, case.silent or "the evaluation computes some of the model's inputs itself")
    params, stats, small = case.state.params, case.state.stats, case.small
    size = len(small["mask"])
    other = {name: _replaced(x) if name in question.inputs else x for name, x in small.items()}
    outputs = [jax.tree.leaves(question.ask(params, stats, batch).outputs) for batch in (small, other)]
    pairs = [(np.asarray(a), np.asarray(b)) for a, b in zip(*outputs, strict=True) if np.shape(a)[:1] == (size,)]
    if not pairs:
        return Skipped(rule, f"the model has no output per example for {size} examples")
    # Rows are independent in exact arithmetic, but XLA may order the operations of a kernel differently: allow 1e-5.
    moved = [np.abs(a[1:] - b[1:]).max() / (np.abs(a[1:]).max() + 1e-30) for a, b in pairs]
    if max(moved) > 1e-5:
        text = f"Replacing the inputs of one example changes other outputs by up to {max(moved):.2g} of their size."
        return Finding(rule, True, text, (
            "look for a mean, softmax, norm or attention over axis 0, the batch axis; axis -1 is usual",
            "look for a reshape or transpose that mixes axis 0 with another axis",
            "make BatchNorm use its running statistics in evaluation: use_running_average, train=False",
        ), {"change": float(max(moved))})  # fmt: skip
    leak, why = _training_leak(case)
    if leak is None:
        return Passed(rule, f"in evaluation{why}")
    if leak > 1e-5:
        text = f"In training, the inputs of one example change the loss of another by {leak:.2g} of its size."
        return Finding(rule, False, text, (
            "without mixup or cutmix, which do so by design: look for a softmax or mean over axis 0 in the loss",
            "if the loss is one of the entire batch, mark it: research.core.not_additive(metrics['loss'])",
        ), {"change": leak})  # fmt: skip
    return Passed(rule, f"in evaluation and in training{why}")


def _training_leak(case):
    """(relative change of the second example's loss with the first one's inputs, or None if not tested; a remark)."""
    small, state = dict(case.small), case.state
    if not takes(case, small) or case.experiment.transform:
        return None, ""
    loss = jax.jit(lambda state, batch: case.built.wired.loss(state.params, context(state, batch))[1].metrics["loss"])
    only = np.zeros_like(small["mask"])
    masked = loss(state, {**small, "mask": only})
    if isinstance(masked, NotAdditive):
        return None, "; the training loss is one of the entire batch by design"
    if float(masked.weight) != 0:
        return None, "; training was not tested, because the loss ignores the mask"
    only[1] = 1
    names = [name for name in small if name != "mask"]
    batches = [{**small, "mask": only}, {**{k: _replaced(small[k]) for k in names}, "mask": only}]
    a, b = (float(loss(state, batch).value()) for batch in batches)
    if not np.isfinite([a, b]).all():
        return None, "; in training the loss is not finite"
    leak = abs(a - b) / (abs(a) + 1e-30)
    normed = jax.eval_shape(lambda p, s, x: case.experiment.apply(p, s, *x, key=jax.random.key(0), train=True)[1],
                            state.params, state.stats, [small[k] for k in case.question.inputs])  # fmt: skip
    if leak > 1e-5 and jax.tree.leaves(normed):
        return None, "; in training BatchNorm makes examples depend on the batch by design"
    return leak, ""


def _replaced(x):
    """Replace the first row by another row that differs from it, if there is one."""
    x = np.array(x)
    different = [i for i in range(2, len(x)) if not np.array_equal(x[i], x[0])]
    x[0] = x[different[0] if different else -1]
    return x


def estimate(case: Case, probe=None) -> Outcome:
    """Estimate the memory per device, by `research.diagnose.cost`, and the time of the complete run.

    A problem if the device has less memory. The time excludes evaluations, checkpoints and waiting for data. `probe` as
    in `gradients`.
    """
    rule, built = "memory and time", case.built
    cost = plan(built)
    step, state = probe or stepper(case, optimizer=probed(case.built.wired.optimizer))
    batch, stride = training_batches(case)(0), case.experiment.stride if case.experiment.transform else 1
    for _ in range(2):  # the first compiles
        began = time.perf_counter()
        jax.block_until_ready(step(state, batch))
        seconds = (time.perf_counter() - began) / stride
    needed, available = cost.bytes["total"], memory_of(built.mesh.devices.flat[0])
    text = f"{cost.parameters:,} parameters; {needed / 2**20:,.0f} MiB per device; "
    text += f"{1e3 * seconds:.3g} ms per step, {duration(seconds * built.total)} for {built.total:,} steps"
    if available and needed > available:
        return Finding(rule, True, f"{text}. The device has only {available / 2**20:,.0f} MiB.", (
            "accumulate the gradient over microbatches: grad_fn=accumulate(gradient(loss), 4); or use a smaller batch",
            "halve activations and moments: mixed_precision(model) and low_precision_state(optimizer)",
            'split the state over devices: mesh={"fsdp": -1} with rules=((r".", fsdp()),)',
        ), {"needed": needed, "there": available})  # fmt: skip
    return Passed(rule, text)


def memory_of(device) -> int | None:
    """Return the memory of a device in bytes; for a CPU, the memory of the machine. None if it is unknown."""
    limit = (device.memory_stats() or {}).get("bytes_limit")
    if limit is None and device.platform == "cpu":
        limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return limit
