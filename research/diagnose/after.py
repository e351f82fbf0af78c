"""Rules for a finished run, (History, evaluations) -> Finding | None, and one rule for several runs."""

from collections.abc import Mapping, Sequence

import numpy as np

from research.diagnose.during import LOWER, curve, guess, guessing
from research.diagnose.finding import Finding
from research.diagnose.history import History, middle
from research.metrics.curves import roc_curve
from research.metrics.scores import read_log_odds
from research.runs.claims import judge
from research.runs.reader import Evaluation, Run, results

MORE = ("add augment=crop_and_flip(padding=1) to the loss, or mixup(loss, alpha=0.2, num_classes=C)",
        "triple weight_decay and dropout")  # fmt: skip


def overfitting(history: History, evaluations: Mapping[str, Evaluation]) -> Finding | None:
    """Detect over-fitting.

    Either the loss of an evaluation set is 25 % above its minimum while the training loss fell, or the training
    accuracy is above 90 % and exceeds that of the evaluation set by 15 points.
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
            text = f"The loss on {name} rose from {values[best]:.4g} at step {step:.0f} to {values[-1]:.4g}. {text}"
        stop = f'techniques=(early_stop("{name}/loss", patience=3),), and best=Best("{name}/loss", mode="min")'
        worse = len(scores) > 1 and scores[-1] < scores.max() - 0.02
        evidence = {"step": list(series.steps), f"{name}/loss": list(series.values)}
        evidence["train/loss"] = list(np.interp(series.steps, *history.metrics["train/loss"]))
        return Finding("over-fitting", bool(worse or gap > 0.15), text, (*MORE, stop), evidence, history.step())
    return None


def underfitting(history: History, evaluations: Mapping[str, Evaluation]) -> Finding | None:
    """Detect under-fitting: training is no better than evaluation, and there is room for improvement.

    Room means that both losses are above half of the loss of guessing, or that the training loss is above 0.3 x that
    and still fell by a tenth over the last fifth of the run.
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
    no_gap = middle(accuracy[-3:]) < sets[name][-1] + 0.05
    # Augmentation, mixing and dropout raise the training loss, so the evaluation loss counts, too.
    level = min([now, *history.values(f"{name}/loss")[-1:]])
    if not no_gap or level < 0.3 * entropy or not (level > 0.5 * entropy or now < 0.9 * before):
        return None
    text = (
        f"The accuracy is {middle(accuracy[-3:]):.1%} in training and {sets[name][-1]:.1%} on {name}, without a gap, "
    )
    text += f"but the training loss is {now:.4g} (guessing scores {entropy:.4g})"
    text += f" and still fell by {1 - now / before:.0%} at the end." if now < 0.9 * before else "."
    first = "triple epochs" if now < 0.9 * before else "use a wider or deeper model: double the units"
    steps = (first, "reduce weight_decay, dropout, smoothing and augmentation", "triple learning_rate")
    if now > entropy:
        text += " A loss above that of guessing usually means that the learning rate is too high."
        steps = (LOWER, *steps[1:2])
    return Finding("under-fitting", False, text, steps, curve(history, "train/loss", "train/accuracy"), history.step())


def label_noise(history: History, evaluations: Mapping[str, Evaluation]) -> Finding | None:
    """Detect label noise: a model contradicts many labels as confidently as it predicts the others.

    Suspects are counted by confident learning (Northcutt, Jiang & Chuang 2021, section 3.1). The ROC area of the
    model's confidence as a predictor of its correctness separates noise from weakness: a weak model is less confident
    where it errs, but a wrong label does not lower the confidence of the model. The limit is an area of 0.7.
    """
    for name, result in evaluations.items():
        if not {"label", "probabilities"} <= set(result.rows) or not len(result.rows["label"]):
            continue
        rows = result.rows
        label, p = np.asarray(rows["label"], int), np.asarray(rows["probabilities"], float)
        if not np.isfinite(p).all() or label.min() < 0 or label.max() >= p.shape[1] or name not in history.classes:
            continue
        best = guess(history, name)
        # An undertrained or overconfident model contradicts any label.
        hit, loss = p.argmax(1) == label, history.values(f"{name}/loss")
        if hit.mean() < best.accuracy + 0.2 or not len(loss) or loss[-1] > 1.5 * best.loss:
            continue
        sure = np.array([p[label == c, c].mean() if (label == c).any() else np.inf for c in range(p.shape[1])])
        confident = np.where(p >= sure, p, 0)
        other = confident.argmax(1)
        suspects = np.flatnonzero((confident.max(1) > 0) & (other != label))
        if len(suspects) < max(10, 0.08 * len(label)) or hit.all() or not hit.any():
            continue
        area = roc_curve(hit, read_log_odds(rows).max(1)).area
        if area > 0.7:
            continue
        order = suspects[np.argsort(p[suspects, label[suspects]] - p[suspects, other[suspects]], kind="stable")]
        text = f"The model contradicts {len(suspects)} of {len(label)} labels of {name} "
        text += f"({len(suspects) / len(label):.0%}), as confidently as it predicts the others (ROC area {area:.2f}). "
        text += f"The clearest cases are records {', '.join(map(str, order[:8]))}."
        look = "python -m research doctor FILE  # lists suspect training labels"
        steps = (
            look,
            "loss=classify(model, smoothing=0.1)",
            f'keep the best step, since noise is memorised late: best=Best("{name}/accuracy")',
        )
        evidence = {"suspects": order.tolist(), "share": len(suspects) / len(label), "area": area}
        return Finding("label noise", True, text, steps, evidence, result.step)
    return None


def slice_gap(history: History, evaluations: Mapping[str, Evaluation]) -> Finding | None:
    """Detect a slice of an evaluation set on which a metric is much worse than on the entire set.

    The metrics are `higher` and `lower` of `metrics.slices.sliced`. For a fraction, such as accuracy, the limit is 0.1
    and 3.5 standard errors. For other metrics it is a factor of two on at least 30 records, and then only worth a look:
    losses differ that much between healthy classes.
    """
    for name, result in evaluations.items():
        for key, worst in result.numbers.items():
            metric, slash, by = key.partition("/worst_")
            table, counts, names = (result.arrays.get(f"slices/{by}{part}") for part in (f"/{metric}", "/count", ""))
            total = result.numbers.get(metric)
            if not slash or table is None or total is None or worst is None or not np.isfinite([total, worst]).all():
                continue
            at = int(np.nanargmin(np.abs(table - worst)))
            count, gap = float(counts[at]), abs(total - worst)
            ratio = (0 <= np.nanmin(table)) and np.nanmax(table) <= 1 and worst <= total
            error = np.sqrt(max(total * (1 - total), 1e-4) / max(count, 1)) if ratio else 0
            if (gap < max(0.1, 3.5 * error)) if ratio else (count < 30 or max(worst, total) < 2 * min(worst, total)):
                continue
            text = f"{name}/{metric} is {total:.4g} overall; if {by} is {names[at]} ({count:.0f} records), {worst:.4g}."
            steps = (
                f"look at the worst errors among the records with {by} {names[at]}",
                'source=mixture({"all": train, "slice": part}, size, weights={"all": 3, "slice": 1})',
                "collect more records of that slice, or augment other records to resemble it",
            )
            evidence = {str(title): float(x) for title, x in zip(names, table, strict=True)}
            return Finding("slice gap", bool(ratio), text, steps, evidence, result.step)
    return None


RULES = (overfitting, underfitting, label_noise, slice_gap)


def unstable_seeds(runs: Sequence[Run]) -> Finding | None:
    """Detect results that vary more between seeds than the size of the evaluation sets explains.

    The standard deviation of an accuracy is above 0.02 and above three times its sampling error, or that of a loss is
    above 30 % of its mean. Runs whose experiment or knobs differ from the first run are left out; three are needed.
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
                     "halve learning_rate", "average the weights: after=(ema(...),)")  # fmt: skip
            return Finding("unstable seeds", True, f"{text}.", steps, {"seed": seeds, f"{name}/{metric}": values})
    return None


def missed_claims(run: Run) -> list[Finding]:
    """Return a Finding for each claim that a finished run missed: worth a look, because one seed may miss by chance."""
    finished = run.status.get("status") == "finished"
    verdicts = [judge(claim, results(run)) for claim in run.about.get("claims", ()) if finished]
    return [
        Finding("claim", False, f"{v.metric} is {v.measured:.4g}; the claim is {v.bound}.", (
            "python -m research reproduce FILE --seeds 3  # the mean over seeds, with its error",
            "compare the knobs, the data and the versions with those of the reference: run.json",
        ), {"measured": v.measured})
        for v in verdicts if v.outcome == "missed"
    ]  # fmt: skip
