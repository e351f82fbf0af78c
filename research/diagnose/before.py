"""What can be known of an experiment before it runs: checks of a `Case`, each giving one Outcome."""

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
    """The loss of the fresh model, beside that of a model whose outputs are all equal: of cross-entropy this is the
    logarithm of the number of classes; of squared errors it is the variance of the targets.

    A problem where it is above 2 x that + 1 nat (a logit's standard deviation of 2.6, for ten classes), or 10 x that
    where errors are squared; where it is below a half: what is not trained cannot know anything; and where it is not
    finite. The same for the training's own loss, where that has an accuracy and so is a classifier's.
    """
    rule, known = "loss at the start", constant_baseline(case)
    if known is None:
        return Skipped(rule, case.silent or "the evaluation gives no loss of the model's outputs")
    if case.experiment.init_from is not None:
        return Skipped(rule, f"it begins with weights that were trained: {known.metric} {known.fresh:.4g}")
    high = 2 * known.constant + 1 if known.metric == "loss" else 10 * known.constant
    why = f"{known.constant:.4g} where all outputs are equal"
    if known.classes and abs(known.constant - np.log(known.classes)) < 1e-3:
        why = f"log({known.classes}) = {known.constant:.4g}"
    evidence = {"measured": known.fresh, "expected": known.constant}
    text = f"The fresh model's {known.metric} is {known.fresh:.4g}; expected about {why}."
    if not np.isfinite(known.fresh):
        return Finding(rule, True, text, (
            "look for NaN in the data: the data checks name the fields", "log, sqrt or a division near 0 in the model",
        ), evidence)  # fmt: skip
    if known.fresh > high:
        return Finding(rule, True, f"{text} It is sure of wrong answers before it has learnt anything.", (
            "normalise what reaches the model: preprocessed(model, lambda image: normalize(image, mean=..., std=...))",
            "initialise the last layer with small weights or zeros",
            "check that the model gives logits, not logits times a large factor; standardise a regression's targets",
        ), evidence)  # fmt: skip
    if known.fresh < 0.5 * known.constant:
        if _as_good_on_others(case, known):
            return Passed(rule, f"{known.metric} {known.fresh:.4g}, and as good on inputs of other examples")
        sure = known.metric == "loss"  # a forecaster may well begin at its input
        return Finding(rule, sure, f"{text} A model that has learnt nothing cannot be that good.", (
            "look for the label, or what was made of it, among the inputs",
            "check that the evaluation's loss is a mean over examples, by research.core.weighted_mean",
        ), evidence)  # fmt: skip
    training = _training_loss(case)
    if training is not None and not known.fresh / 4 - 1 <= training <= 4 * known.fresh + 1:
        text = f"The training loss begins at {training:.4g}, the evaluation's at {known.fresh:.4g}, of one fresh model."
        return Finding(rule, True, text, (
            "make the training loss a mean over examples: weighted_mean(values, weights), not a sum",
            "give the model logits' loss once: no softmax before cross_entropy",
        ), evidence | {"training": training})  # fmt: skip
    return Passed(rule, f"{known.metric} {known.fresh:.4g}, expected about {why}")


def _as_good_on_others(case, known) -> bool:
    """Whether the fresh model is as good on inputs of other examples: what it knows is no leak."""
    given = case.question.inputs
    if not given or None in given:
        return False
    other = {name: np.roll(x, 1, axis=0) if name in given else x for name, x in case.small.items()}
    states = case.question.ask(case.state.params, case.state.stats, other).states
    return float(states[known.metric].value()) < 0.5 * known.constant


def _training_loss(case):
    """The training loss of the small batch, where it is a classifier's; else None."""
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
    """The largest gradient of every parameter over the first steps, by a probe in the experiment's own optimizer.

    A problem where a gradient is not finite, where none is above 0, and where a parameter that the evaluation depends
    on gets exactly 0; worth a look where the evaluation does not depend on it either (a head that this loss leaves
    out). Over several steps, since behind a layer that begins at 0 gradients begin one step later. Left out is what
    the optimizer would not move whatever the gradient. Gradients are the loss's own where the loss takes the batch:
    an estimator's noise would hide zeros. `probe` is (step, state) of `stepper` with a `probed` optimizer.
    """
    rule = "gradients"
    step, state = probe or stepper(case, optimizer=probed(case.built.wired.optimizer), grad_fn=case.plain)
    batch_at = training_batches(case)
    for number in range(calls):
        state, _ = step(state, batch_at(number))
    found = jax.device_get(state.opt)
    names = [path_name(path) for path, _ in jax.tree.leaves_with_path(found.largest)]
    largest, broken = (np.array(jax.tree.leaves(x)) for x in (found.largest, found.broken))
    if broken.any():
        bad = [name for name, wrong in zip(names, broken, strict=True) if wrong]
        return Finding(rule, True, f"Gradients are not finite in the first {calls} steps: {format_names(bad)}.", (
            "look for log(0), sqrt(0) and 0/0 in the loss: a jnp.where around the value does not save its gradient",
            'JAX_DEBUG_NANS=True python -m research train ... stops at the operation; on_nonfinite="skip" goes on',
            "look for values that are not finite in the data: the data checks name the fields",
        ), {"parameters": bad})  # fmt: skip
    if not largest.max() > 0:
        return Finding(rule, True, f"No parameter gets any gradient in the first {calls} steps.", (
            "look for stop_gradient, an integer cast or an argmax between the params and the loss",
            "check that the loss calls the model with its argument `params`, not with params from outside",
        ), {"largest": 0.0})  # fmt: skip
    moved = _moved(case) if largest.min() == 0 else np.ones(len(names), bool)
    silent = [n for n, size, moves in zip(names, largest, moved, strict=True) if size == 0 and moves]
    if silent:
        used = [name for name in silent if _matters(case, name)]
        text = f"{len(silent)} of {len(names)} parameters get a gradient of exactly 0: {format_names(silent)}."
        text += (
            f" The evaluation depends on {format_names(used)}." if used else " The evaluation does not depend on them."
        )
        return Finding(rule, bool(used), text, (
            "look for stop_gradient, or a layer whose output is not used, on the way from them to the loss",
            f'if they are to stay as they are, say so: frozen(model, r"^{silent[0]}")',
            "dead units from the start: a smaller learning rate, or another initialisation of the layer before",
        ), {"parameters": silent, "used": used})  # fmt: skip
    least = int(np.argmin(np.where(moved, largest, np.inf)))
    still = f"; {len(names) - sum(moved)} are held by the optimizer" if not all(moved) else ""
    return Passed(rule, f"reach all {len(names)} arrays of params; the least is {largest[least]:.2g} in {names[least]}"
                  + still)  # fmt: skip


def _moved(case) -> list[bool]:
    """Of every parameter, whether the optimizer moves it when it has a gradient: all are given ones, twice."""
    optimizer = case.built.wired.optimizer
    schedule = case.built.wired.schedules.get("learning_rate")

    def twice(params):
        ones, state, moved = jax.tree.map(jnp.ones_like, params), optimizer.init(params), []
        for _ in range(2):  # a warm-up may begin at a rate of 0
            updates, state = optimizer.update(ones, state, params, value=jnp.float32(1))
            moved.append([jnp.any(u != 0) for u in jax.tree.leaves(updates)])
        return jnp.array(moved).any(0)

    moved = np.asarray(jax.jit(twice)(case.state.params))
    return list(moved if moved.any() or schedule is None else np.ones_like(moved))


def _matters(case, name) -> bool:
    """Whether the evaluation of the small batch changes with a parameter; True where that cannot be asked."""
    if case.question is None:
        return True
    change = lambda path, x: x + np.asarray(0.1 + 0.5 * np.abs(x), x.dtype) if path_name(path) == name else x
    params = jax.tree.map_with_path(change, case.state.params)
    was, now = (case.question.ask(p, case.state.stats, case.small).states for p in (case.state.params, params))
    return any(not np.array_equal(a, b, equal_nan=True)
               for a, b in zip(*map(jax.tree.leaves, (was, now)), strict=True))  # fmt: skip


def overfits(case: Case, *, steps: int = 300, seconds: float = 60) -> Outcome:
    """Whether the model can learn 16 examples by heart: Adam on the experiment's own loss, judged by its evaluation.

    The evaluation sees the examples without augmentation, dropout or smoothing, so that those make no floor: 90 %
    correct, or 0.3 x the loss of an answer that is the same for all, is enough. A problem where `steps` do not get
    there at either of two rates; not decided where the time is over first.
    """
    rule, known = "one batch by heart", constant_baseline(case)
    if known is None:
        return Skipped(rule, case.silent or "the evaluation gives no loss of the model's outputs")
    if not takes(case, case.small):
        return Skipped(rule, "the loss does not take the evaluation's examples")
    until, best = time.monotonic() + seconds, known.fresh
    for rate in (3e-3, 3e-4):
        step, state = stepper(case, optimizer=optax.adam(rate), grad_fn=gradient(case.built.wired.loss))
        if case.experiment.transform:
            return Skipped(rule, "its batches are made by its transform")
        for number in range(1, steps + 1):
            state, _ = step(state, case.small)
            if number % 20:
                continue
            states = case.question.ask(state.params, state.stats, case.small).states
            now = float(states[known.metric].value())
            hits = states.get("accuracy")
            best = np.fmin(best, now)
            if now <= 0.3 * known.constant or (isinstance(hits, Mean) and float(hits.value()) >= 0.9):
                return Passed(rule, f"{known.metric} {known.fresh:.4g} -> {now:.4g} in {number} steps of Adam")
            if time.monotonic() > until:
                return Skipped(rule, f"not decided in {seconds:.0f} s: {known.metric} {known.fresh:.4g} -> {best:.4g}")
    text = f"{steps} steps of Adam on the same {len(case.small['mask'])} examples bring the {known.metric} from "
    text += f"{known.fresh:.4g} to {best:.4g} only; {known.constant:.4g} is the same answer for all."
    # To learn n answers by heart takes about as many weights; what has fewer may be sound.
    answers = len(case.small["mask"]) * (known.classes or 1)
    small = sum(x.size for x in jax.tree.leaves(case.state.params)) < answers
    text += " The model may be too small to learn them by heart." if small else ""
    return Finding(rule, not small, text, (
        "look for labels that do not belong to their inputs: a shuffle, a sort or an augmentation of only one of them",
        "check that the loss and the evaluation mean the same fields and the same params",
        "train with less regularisation first (dropout=0, weight_decay=0), or a larger model",
    ), {"first": known.fresh, "best": float(best), "constant": known.constant})  # fmt: skip


def separate(case: Case) -> Outcome:
    """Whether one example's inputs change what comes out for another: of 16, the first is replaced by a second.

    In evaluation (`apply` as the measure calls it) this is always a problem. In training, all but one example are
    masked out of the loss, which then may depend on that one alone: where it does not, BatchNorm, mixing and contrast
    do so by design, and it is worth a look unless the model keeps batch statistics or the loss is marked as one of
    the whole batch. Not looked at in training where the loss does not go by the mask.
    """
    rule, question = "examples are separate", case.question
    if question is None or not question.inputs or None in question.inputs:
        return Skipped(rule, case.silent or "what the evaluation gives to the model is made by itself")
    params, stats, small = case.state.params, case.state.stats, case.small
    size = len(small["mask"])
    other = {name: _replaced(x) if name in question.inputs else x for name, x in small.items()}
    outputs = [jax.tree.leaves(question.ask(params, stats, batch).outputs) for batch in (small, other)]
    pairs = [(np.asarray(a), np.asarray(b)) for a, b in zip(*outputs, strict=True) if np.shape(a)[:1] == (size,)]
    if not pairs:
        return Skipped(rule, f"the model's outputs are not one for each of {size} examples")
    # The arithmetic of a row does not depend on the others', but which kernel is chosen for a shape is XLA's affair.
    moved = [np.abs(a[1:] - b[1:]).max() / (np.abs(a[1:]).max() + 1e-30) for a, b in pairs]
    if max(moved) > 1e-5:
        text = f"Replacing one example's inputs changes the outputs of others by up to {max(moved):.2g} of their size."
        return Finding(rule, True, text, (
            "look for a mean, softmax, norm or attention over axis 0, the batch: it wants axis -1",
            "look for a reshape or transpose that mixes axis 0 with another one",
            "BatchNorm must use its running statistics in evaluation: use_running_average, train=False",
        ), {"change": float(max(moved))})  # fmt: skip
    leak, why = _training_leak(case)
    if leak is None:
        return Passed(rule, f"in evaluation{why}")
    if leak > 1e-5:
        text = f"In training, the loss of one example changes by {leak:.2g} of its size with another's inputs."
        return Finding(rule, False, text, (
            "mixing (mixup, cutmix) does so by design; else look for a softmax or mean over axis 0 in the loss",
            "mark a loss of the whole batch as one: research.core.not_additive(metrics['loss'])",
        ), {"change": leak})  # fmt: skip
    return Passed(rule, f"in evaluation and in training{why}")


def _training_leak(case):
    """(How much the second example's loss changes with the first's inputs, or None; a remark)."""
    small, state = dict(case.small), case.state
    if not takes(case, small) or case.experiment.transform:
        return None, ""
    loss = jax.jit(lambda state, batch: case.built.wired.loss(state.params, context(state, batch))[1].metrics["loss"])
    only = np.zeros_like(small["mask"])
    unheard = loss(state, {**small, "mask": only})
    if isinstance(unheard, NotAdditive):
        return None, "; its loss is one of the whole batch by design"
    if float(unheard.weight) != 0:
        return None, "; its loss does not go by a mask, so that training was not looked at"
    only[1] = 1
    names = [name for name in small if name != "mask"]
    batches = [{**small, "mask": only}, {**{k: _replaced(small[k]) for k in names}, "mask": only}]
    a, b = (float(loss(state, batch).value()) for batch in batches)
    if not np.isfinite([a, b]).all():
        return None, "; in training its loss is not finite"
    leak = abs(a - b) / (abs(a) + 1e-30)
    normed = jax.eval_shape(lambda p, s, x: case.experiment.apply(p, s, *x, key=jax.random.key(0), train=True)[1],
                            state.params, state.stats, [small[k] for k in case.question.inputs])  # fmt: skip
    if leak > 1e-5 and jax.tree.leaves(normed):
        return None, "; in training BatchNorm makes each depend on the batch, by design"
    return leak, ""


def _replaced(x):
    """The rows with the first one replaced by another that differs, where there is one."""
    x = np.array(x)
    others = [i for i in range(2, len(x)) if not np.array_equal(x[i], x[0])]
    x[0] = x[others[0] if others else -1]
    return x


def estimate(case: Case, probe=None) -> Outcome:
    """The memory of a step, by `research.diagnose.cost`, beside the device's own; and the time of the whole run.

    A problem where the memory is not there. The time leaves out evaluations, checkpoints and waiting for data. `probe`
    as in `gradients`.
    """
    rule, built = "memory and time", case.built
    found = plan(built)
    step, state = probe or stepper(case, optimizer=probed(case.built.wired.optimizer))
    batch, stride = (
        training_batches(case)(0),
        case.experiment.stride if case.experiment.transform else 1,
    )
    for _ in range(2):  # the first compiles
        began = time.perf_counter()
        jax.block_until_ready(step(state, batch))
        seconds = (time.perf_counter() - began) / stride
    needed, there = found.bytes["total"], memory_of(built.mesh.devices.flat[0])
    text = f"{found.parameters:,} parameters; {needed / 2**20:,.0f} MiB a device; "
    text += f"{1e3 * seconds:.3g} ms a step, so {duration(seconds * built.total)} for {built.total:,} steps"
    if there and needed > there:
        return Finding(rule, True, f"{text}. The device has {there / 2**20:,.0f} MiB.", (
            "a smaller batch, its gradient summed over microbatches: grad_fn=accumulate(gradient(loss), 4)",
            "mixed_precision(model) and low_precision_state(optimizer) halve activations and moments",
            'mesh={"fsdp": -1} with rules=((r".", fsdp()),) splits the state over devices',
        ), {"needed": needed, "there": there})  # fmt: skip
    return Passed(rule, text)


def memory_of(device) -> int | None:
    """The bytes that a device has, by itself or, of a CPU, by the operating system; None where neither tells."""
    limit = (device.memory_stats() or {}).get("bytes_limit")
    if limit is None and device.platform == "cpu":
        limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return limit
