"""What a run that has ended shows: rules (History, evaluations) -> Finding | None, and one over several runs."""

from collections.abc import Mapping, Sequence

import numpy as np

from research.diagnose.during import curve, guess, guessing
from research.diagnose.finding import Finding
from research.diagnose.history import History, middle
from research.runs.reader import Evaluation, Run, results

MORE = ("augment=crop_and_flip(padding=1) in the loss, or mixup(loss, alpha=0.2, num_classes=C)",
        "weight_decay and dropout: three times as much")  # fmt: skip


def overfitting(history: History, evaluations: Mapping[str, Evaluation]) -> Finding | None:
    """The loss of an evaluation set has risen by a quarter from its lowest while that of training fell; or training is
    all but perfect and the set is not, by 15 points of accuracy.
    """
    train, accuracy = history.values("train/loss"), history.values("train/accuracy")
    for name, series in history.evaluations("loss").items():
        values = np.array(series.values, float)
        if not len(values) or not np.isfinite(values).all() or len(train) < 4:
            continue
        best = int(values.argmin())
        step = series.steps[best]
        then = [x for s, x in zip(*history.metrics["train/loss"], strict=True) if s <= step]
        risen = values[-1] > 1.25 * values[best] > 0 and len(then) and middle(train[-3:]) < middle(then[-3:])
        risen = risen and (name not in history.classes or values[best] < guess(history, name).loss)
        scores = history.values(f"{name}/accuracy")
        gap = middle(accuracy[-3:]) - scores[-1] if len(accuracy) and len(scores) else 0
        if not (risen or (gap > 0.15 and middle(accuracy[-3:]) > 0.9)):
            continue
        text = f"The accuracy is {middle(accuracy[-3:]):.1%} in training and {scores[-1]:.1%} on {name}." if gap else ""
        if risen:
            text = f"On {name} the loss was {values[best]:.4g} at step {step:.0f} and is {values[-1]:.4g} now. {text}"
        stop = f'observe=(early_stop("{name}/loss", patience=3),), and best=Best("{name}/loss", mode="min")'
        worse = len(scores) > 1 and scores[-1] < scores.max() - 0.02
        evidence = {"step": list(series.steps), f"{name}/loss": list(series.values)}
        evidence["train/loss"] = list(np.interp(series.steps, *history.metrics["train/loss"]))
        return Finding("over-fitting", bool(worse or gap > 0.15), text, (*MORE, stop), evidence, history.step())
    return None


def underfitting(history: History, evaluations: Mapping[str, Evaluation]) -> Finding | None:
    """Training is no better than evaluation, and both losses are above half of what guessing gives, or still fall by a
    tenth over the last fifth of the run.
    """
    train, accuracy = history.values("train/loss"), history.values("train/accuracy")
    sets = {name: history.values(f"{name}/accuracy") for name in history.classes}
    sets = {name: scores for name, scores in sets.items() if len(scores) and not guessing(history, name)}
    if not sets or len(train) < 10 or not len(accuracy) or label_noise(history, evaluations):
        return None
    name = next(iter(sets))
    entropy = guess(history, name).loss
    fifth = max(1, len(train) // 5)
    now, before = middle(train[-fifth:]), middle(train[-2 * fifth : -fifth])
    alike = middle(accuracy[-3:]) < sets[name][-1] + 0.05
    # With augmentation, mixing and dropout the loss of training alone says little.
    level = min([now, *history.values(f"{name}/loss")[-1:]])
    if not alike or level < 0.3 * entropy or not (level > 0.5 * entropy or now < 0.9 * before):
        return None
    text = f"The accuracy is {middle(accuracy[-3:]):.1%} in training and {sets[name][-1]:.1%} on {name}, no less, "
    text += f"but the loss of training is {now:.4g} (guessing gives {entropy:.4g})"
    text += f" and still fell by {1 - now / before:.0%} at the end." if now < 0.9 * before else "."
    first = "epochs: three times as many" if now < 0.9 * before else "a wider or a deeper model: twice the units"
    steps = (first, "weight_decay, dropout, smoothing, augmentation: less", "learning_rate: three times as much")
    return Finding("under-fitting", False, text, steps, curve(history, "train/loss", "train/accuracy"), history.step())


def label_noise(history: History, evaluations: Mapping[str, Evaluation]) -> Finding | None:
    """Many labels of a set are contradicted by a model that is as sure there as where it is right: confident learning
    (Northcutt, Jiang & Chuang 2021, section 3.1, their counts), and a ROC area that tells noise from weakness.

    A weak model is less sure where it errs. One that was told wrong labels errs where the label is wrong, and knows
    nothing of it.
    """
    from sklearn.metrics import roc_auc_score

    for name, found in evaluations.items():
        if not {"label", "probabilities"} <= set(found.rows) or not len(found.rows["label"]):
            continue
        label, p = np.asarray(found.rows["label"], int), np.asarray(found.rows["probabilities"], float)
        if not np.isfinite(p).all() or label.min() < 0 or label.max() >= p.shape[1] or name not in history.classes:
            continue
        best = guess(history, name)
        # Who has learnt little, or is sure of everything, contradicts any label.
        hit, loss = p.argmax(1) == label, history.values(f"{name}/loss")
        if hit.mean() < best.accuracy + 0.2 or not len(loss) or loss[-1] > 1.5 * best.loss:
            continue
        sure = np.array([p[label == c, c].mean() if (label == c).any() else np.inf for c in range(p.shape[1])])
        confident = np.where(p >= sure, p, 0)
        other = confident.argmax(1)
        suspects = np.flatnonzero((confident.max(1) > 0) & (other != label))
        if len(suspects) < max(10, 0.08 * len(label)) or hit.all() or not hit.any():
            continue
        area = float(roc_auc_score(hit, p.max(1)))
        if area > 0.7:
            continue
        order = suspects[np.argsort(p[suspects, label[suspects]] - p[suspects, other[suspects]], kind="stable")]
        text = f"{len(suspects)} of {len(label)} labels of {name} ({len(suspects) / len(label):.0%}) are contradicted "
        text += f"by the model, which is as sure there as where it is right (ROC area {area:.2f}). "
        text += f"The clearest are records {', '.join(map(str, order[:8]))}."
        look = "python -m research doctor FILE  # lists the suspect labels of training"
        steps = (look, "loss=classify(model, smoothing=0.1)", f'best=Best("{name}/accuracy"): noise is memorised late')
        evidence = {"suspects": order.tolist(), "share": len(suspects) / len(label), "area": area}
        return Finding("label noise", True, text, steps, evidence, found.step)
    return None


def slice_gap(history: History, evaluations: Mapping[str, Evaluation]) -> Finding | None:
    """On a slice of an evaluation set a watched metric (`higher` or `lower` of `metrics.slices.sliced`) is worse than
    on the whole by more than chance gives: a tenth and 3.5 standard errors of a share. Of another number twice as much,
    which is only worth a look: sound classes differ so in their losses.
    """
    for name, found in evaluations.items():
        for key, worst in found.numbers.items():
            metric, slash, by = key.partition("/worst_")
            table, counts, names = (found.arrays.get(f"slices/{by}{part}") for part in (f"/{metric}", "/count", ""))
            whole = found.numbers.get(metric)
            if not slash or table is None or whole is None or worst is None or not np.isfinite([whole, worst]).all():
                continue
            at = int(np.nanargmin(np.abs(table - worst)))
            count, gap = float(counts[at]), abs(whole - worst)
            share = (0 <= np.nanmin(table)) and np.nanmax(table) <= 1 and worst <= whole
            error = np.sqrt(max(whole * (1 - whole), 1e-4) / max(count, 1)) if share else 0
            if (gap < max(0.1, 3.5 * error)) if share else (count < 30 or max(worst, whole) < 2 * min(worst, whole)):
                continue
            text = f"On {name} {metric} is {whole:.4g}; where {by} is {names[at]} ({count:.0f} records), {worst:.4g}."
            steps = (
                f"look at the worst errors where {by} is {names[at]}",
                'source=mixture({"all": train, "slice": part}, size, weights={"all": 3, "slice": 1})',
                "more records of that slice, or augmentation that makes others look like it",
            )
            evidence = {str(title): float(x) for title, x in zip(names, table, strict=True)}
            return Finding("slice gap", bool(share), text, steps, evidence, found.step)
    return None


RULES = (overfitting, underfitting, label_noise, slice_gap)


def unstable_seeds(runs: Sequence[Run]) -> Finding | None:
    """Runs that differ in their seeds differ more than their evaluation sets explain: the standard deviation of an
    accuracy is above 0.02 and three times its sampling error, or that of a loss above 30 % of the mean.

    Runs of another experiment or of other knobs than the first are left out; three are needed.
    """
    same = [run for run in runs if all(run.about.get(k) == runs[0].about.get(k) for k in ("experiment", "knobs"))]
    for name, numbers in results(same[0]).items() if len(same) > 2 else ():
        for metric in ("accuracy", "loss"):
            values = [results(run).get(name, {}).get(metric) for run in same]
            if metric not in numbers or None in values:
                continue
            mean, spread = float(np.mean(values)), float(np.std(values, ddof=1))
            rows = same[0].evaluations[name].rows if name in same[0].evaluations else {}
            count = max((len(x) for x in rows.values()), default=np.inf)
            error = np.sqrt(max(mean * (1 - mean), 0) / count)
            if not (spread > max(0.02, 3 * error) if metric == "accuracy" else spread > 0.3 * abs(mean)):
                continue
            seeds = [run.about.get("seed") for run in same]
            text = f"{name}/{metric} over seeds {', '.join(map(str, seeds))}: " + ", ".join(f"{x:.4g}" for x in values)
            steps = ("schedule = warmup_cosine(learning_rate, steps=steps, warmup=max(1, steps // 10))",
                     "learning_rate: half of it", "after=(ema(...),): average the weights")  # fmt: skip
            return Finding("unstable seeds", True, f"{text}.", steps, {"seed": seeds, f"{name}/{metric}": values})
    return None
