"""Checks that `build` makes before a run starts: names of metrics and evaluations, and the shapes of the step."""

import functools
import re

import jax

from research.core import Eval, Trained
from research.data.preparation import Preparation
from research.data.readers.arrays import class_names
from research.data.sampling.batches import Batches, EvalBatches
from research.data.sampling.source import check_evaluation_source
from research.data.text.preparation import TextPreparation
from research.errors import UserError, format_names, nearest, unknown
from research.evaluate import trace_measure
from research.tree import differences, format_shapes, shapes
from research.weights.layout import Layout

MAX_NAME_BYTES = 200  # file systems allow 255, and a file name has a prefix and suffixes
RESERVED = ("train", "layers", "timing")  # prefixes of the metrics of training, `train --watch` and the clock


class EvaluationError(UserError):
    """The evaluation `name` cannot be computed, for the reason `text`."""

    def __init__(self, name: str, text: str):
        super().__init__(f"the evaluation {name!r}: {text}")
        self.name, self.text = name, text


def check_settings(ex):
    """Raise UserError for an invalid entry of an Experiment that would otherwise fail later, or without its name."""
    functions = {f"{name}=": getattr(ex, name) for name in ("init", "apply", "loss", "grad_fn", "init_from", "predict")}
    for name, ev in ex.evals.items():
        if not isinstance(ev, Eval):
            raise UserError(
                f"evals[{name!r}] is of type {type(ev).__name__}; expected an Eval, such as "
                "Eval(eval_batches(data, 500), measure)."
            )
        if name in RESERVED or not re.fullmatch(r"\w[\w .+-]*", name) or len(name.encode()) > MAX_NAME_BYTES:
            raise UserError(
                f"invalid evaluation name {name!r}: it is used as a file name and as the prefix of metric names. "
                f"Use letters, digits, spaces and . + - (no slash), at most {MAX_NAME_BYTES} bytes, and none of "
                f"{', '.join(RESERVED)}."
            )
        functions |= {f"evals[{name!r}], {part}=": getattr(ev, part) for part in ("measure", "view", "finish")}
    for name, function in functions.items():
        if function is not None and not callable(function):
            part = name.split()[-1].removesuffix("=")
            hint = f", such as its .{part}" if callable(getattr(function, part, None)) else ""
            raise UserError(f"{name} is of type {type(function).__name__}; expected a function{hint}.")
    if ex.preparation is not None and not isinstance(ex.preparation, Preparation | TextPreparation):
        raise UserError(
            f"preparation= is {ex.preparation!r}; expected the result of research.data.fit(train, steps) or fit_text()."
        )
    if ex.published is not None and not isinstance(ex.published, Layout):
        raise UserError(f"published= is {ex.published!r}; expected a Layout, such as gpt.transformers(**arguments).")
    if not isinstance(ex.keep, int) or ex.keep < 1:
        raise UserError(f"keep={ex.keep!r}; expected 1 or more newest checkpoints, in addition to the best.")
    if ex.best and ex.best.mode not in ("max", "min"):
        raise unknown("mode of the best checkpoint", ex.best.mode, ("max", "min"))
    for source, metric in _named_metrics(ex):
        evaluation, _, rest = metric.partition("/")
        if evaluation not in ex.evals or not rest:
            raise UserError(
                f"{source} names the metric {metric!r}; expected EVALUATION/METRIC. "
                f"Evaluations: {', '.join(ex.evals) or 'none'}.{nearest(evaluation, ex.evals)}"
            )


def _named_metrics(ex):
    """Return (what names it, EVALUATION/METRIC) for every metric that the experiment names."""
    named = [("best=", ex.best.metric)] if ex.best else []
    named += [("claims=", claim.metric) for claim in ex.claims]
    return named + [(f"the technique {t.name!r}", t.metric) for t in ex.techniques if t.metric]


def check_classes(source, evals):
    """Raise UserError if the data of an evaluation and of the training number different classes."""
    known = class_names(source.data) if isinstance(source, Batches) else None
    for name, ev in evals.items():
        classes = class_names(ev.source.data) if isinstance(ev.source, EvalBatches) else None
        if known and classes and classes != known:
            raise UserError(
                f"the evaluation {name!r} numbers the classes {format_names(classes)}; the training data number "
                f"{format_names(known)}. Open both with the same classes=, for example "
                "image_folder(path, classes=train.classes)."
            )


def uniform(source):
    """Wrap a training source: it raises UserError for a batch of other fields, shapes or dtypes than its first one.

    The compiled step would accept such a batch and be compiled again. Dtypes are those on the device: float64 and
    float32 are the same there. A source whose batches have several shapes states their number as `forms`.
    """
    first, known = None, set()  # `known` are the accepted forms of batches

    def of_seed(seed):
        batch_at = source(seed)

        def at(step, rows=slice(None)):
            nonlocal first
            batch = batch_at(step, rows=rows)
            leaves, tree = jax.tree.flatten(batch)
            form = (tree, *((getattr(x, "shape", None), getattr(x, "dtype", None)) for x in leaves))
            if form not in known:
                try:
                    abstract = jax.eval_shape(lambda batch: batch, batch)
                except TypeError:
                    return batch  # such as strings, which the step refuses
                first = first or abstract
                if not (isinstance(rows, slice) and rows == slice(None)):  # the rows of one process of several
                    abstract = _with_rows_of(first, abstract)
                if (changes := differences(first, abstract)) and len(known) >= getattr(source, "forms", 1):
                    raise UserError(
                        f"the batch of step {step} differs from the first batch of the source: {changes}. All batches "
                        "of a run need the same fields, shapes and dtypes: pad or drop a smaller last batch."
                    )
                known.add(form)
            return batch

        return at

    return of_seed


def _with_rows_of(first, batch):
    """Return the abstract `batch` with as many rows as `first`, if both have the same fields."""
    if jax.tree.structure(first) != jax.tree.structure(batch):
        return batch
    return jax.tree.map(lambda x, like: _rows_of(x, like.shape[:1]), batch, first)


def _rows_of(x, count):
    """Return the abstract array with `(count,)` rows like those of `x`."""
    return jax.ShapeDtypeStruct(count + x.shape[1:], x.dtype)


def check_step(step, state, batch):
    """Trace one step and return its abstract metrics.

    Raises UserError if the step cannot be traced, or if it changes the tree, a shape or a dtype of the state.
    """
    try:
        new, metrics = jax.eval_shape(step, state, batch)
    except KeyError as error:
        name = error.args[0] if error.args else ""
        params = list(state.params) if isinstance(state.params, dict) else []
        entries, hint = ", ".join(sorted(state.stats)) or "none", nearest(name, [*state.stats, *batch, *params])
        raise UserError(
            f"the step fails for a batch of {format_shapes(batch)}: it reads {name!r}, which is neither a batch field "
            f"nor a stats entry ({entries}).{hint} If a technique provides it, add Experiment(techniques=(...))."
        ) from error
    except (TypeError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"the step fails for a batch of {format_shapes(batch)}: {type(error).__name__}: {reason}"
        ) from error
    before, after = shapes(state), shapes(new)
    for path in sorted({**before, **after}):
        if before.get(path) != after.get(path):
            raise UserError(
                f"one step changes {path} from {before.get(path, 'absent')} to {after.get(path, 'absent')}; "
                "the tree, shapes and dtypes of a State must not change."
            )
    return metrics


def check_evaluations(ex, state, mesh):
    """Trace every evaluation for its first record, so that a mistake is found before the training.

    Raises UserError if an evaluation has no EvaluationSource, if its view reads a missing stats entry, and if the
    experiment names a metric that its measure does not return; EvaluationError if the measure fails. The metrics of an
    evaluation with a `finish`, which runs on the host, are unknown here.
    """
    traced = {}
    for name, ev in ex.evals.items():
        check_evaluation_source(name, ev.source)
        try:
            trained = Trained(ex.apply, *jax.eval_shape(ev.view, state))
        except jax.errors.JAXTypeError:
            continue  # a view that computes on the host cannot be traced
        except KeyError as error:
            entries = ", ".join(sorted(state.stats)) or "none"
            raise UserError(
                f"the view of the evaluation {name!r} needs the stats entry {error.args[0]!r}; entries: {entries}. Add "
                "the technique that provides the view: Experiment(techniques=(...))."
            ) from error
        # One record suffices: all rows of a batch have the same form, and the last batch is padded.
        record, rows = dict(ev.source(0, rows=slice(0, 1))), ev.source.size + -ev.source.size % mesh.size
        batch = jax.tree.map(functools.partial(_rows_of, count=(rows,)), record)
        key = id(ev.measure), id(ev.view), format_shapes(batch)  # sets of records of one form are traced once
        try:
            metrics = traced[key] = traced.get(key) or trace_measure(ev.measure, trained, batch, mesh=mesh)
        except UserError as error:
            raise EvaluationError(name, str(error)) from error.__cause__
        for source, metric in _named_metrics(ex) if ev.finish is None else ():
            evaluation, _, rest = metric.partition("/")
            if evaluation == name and rest not in metrics:
                raise UserError(f"{source} names the metric {metric!r}: {unknown('metric', rest, metrics)}")
