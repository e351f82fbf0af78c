"""What `build` refuses before a run begins: names that refer to nothing, a step or an evaluation that does not fit."""

import re

import jax

from research.core import Eval
from research.data.sampling.source import check_evaluation_source
from research.errors import UserError, nearest, unknown
from research.tree import described, shapes

TAKEN = ("train", "layers", "timing")  # the metrics of the steps, of `train --watch` and of the clock


def check_settings(ex):
    """Raises UserError for a name or a number that nothing would refer to until the run has trained for a while."""
    for name, ev in ex.evals.items():
        if not isinstance(ev, Eval):
            raise UserError(
                f"evals[{name!r}] is of type {type(ev).__name__}; expected an Eval, such as "
                "Eval(eval_batches(data, 500), measure)."
            )
        if name in TAKEN or not re.fullmatch(r"\w[\w .+-]*", name):
            raise UserError(
                f"an evaluation cannot be called {name!r}: its name is a file's and begins those of its metrics. "
                f"Expected letters, digits, spaces and . + - (no slash), and none of {', '.join(TAKEN)}."
            )
    if not isinstance(ex.keep, int) or ex.keep < 1:
        raise UserError(f"keep={ex.keep!r} checkpoints; expected 1 or more. The best is kept beside the newest ones.")
    if ex.best and ex.best.mode not in ("max", "min"):
        raise unknown("mode of the best checkpoint", ex.best.mode, ("max", "min"))
    named = [("best=", ex.best.metric)] if ex.best else []
    named += [("claims=", claim.metric) for claim in ex.claims]
    named += [(f"the technique {t.name!r}", t.metric) for t in ex.techniques if t.metric]
    for where, metric in named:
        evaluation, _, rest = metric.partition("/")
        if evaluation not in ex.evals or not rest:
            raise UserError(
                f"{where} names the metric {metric!r}; expected EVALUATION/METRIC, the evaluation one of "
                f"{', '.join(ex.evals) or 'none'}.{nearest(evaluation, ex.evals)}"
            )


def check_step(step, state, batch):
    """The abstract metrics of one step; raises UserError if it cannot be traced or changes the state's form."""
    try:
        new, metrics = jax.eval_shape(step, state, batch)
    except KeyError as error:
        name = error.args[0] if error.args else ""
        params = list(state.params) if isinstance(state.params, dict) else []
        kept, hint = ", ".join(sorted(state.stats)) or "nothing", nearest(name, [*state.stats, *batch, *params])
        raise UserError(
            f"the step does not fit a batch of {described(batch)}: it reads {name!r}, which is neither there nor in "
            f"stats ({kept}).{hint} If a technique keeps it, list the technique: Experiment(techniques=(...))."
        ) from error
    except (TypeError, ValueError) as error:
        what = str(error).strip().split("\n")[0]
        raise UserError(
            f"the step does not fit a batch of {described(batch)}: {type(error).__name__}: {what}"
        ) from error
    old, now = shapes(state), shapes(new)
    for path in sorted({**old, **now}):
        if old.get(path) != now.get(path):
            raise UserError(
                f"one step changes {path} from {old.get(path, 'absent')} to {now.get(path, 'absent')}; "
                "the tree, shapes and dtypes of a State may not change."
            )
    return metrics


def check_evaluations(evals, state):
    """Raises UserError for an evaluation of what is no EvaluationSource, or that sees weights which nothing keeps."""
    for name, ev in evals.items():
        check_evaluation_source(name, ev.source)
        try:
            jax.eval_shape(ev.view, state)
        except jax.errors.JAXTypeError:
            continue  # a view that computes on the host has no abstract form
        except KeyError as error:
            kept = ", ".join(sorted(state.stats)) or "none"
            raise UserError(
                f"the view of the evaluation {name!r} needs the stats entry {error.args[0]!r}; stats have {kept}. List "
                "the technique whose view it is: Experiment(techniques=(...))."
            ) from error
