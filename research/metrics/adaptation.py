"""Few-shot evaluation: accuracy on new tasks, after a few gradient steps or by prototypes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from research import losses
from research.axes import Array, Float, Integer, Scalar
from research.core import Ctx, Loss, Model, Rows, Trained, Tree, draw, weighted_mean
from research.data.sampling.few_shot import QUERY, SUPPORT
from research.fields import arguments, example_weights, field
from research.objectives.maml import adapted, part
from research.objectives.prototypes import flat, prototype_logits


def measure_adaptation(
    loss: Loss, model: Model | Callable, *, learning_rate: float, steps: int, begin: Callable | None = None,
    inputs: str = "image",
) -> Callable:  # fmt: skip
    """Return the measure of an Eval on few-shot tasks: `accuracy` and `accuracy_before` on the query examples.

    `accuracy` follows `steps` gradient descent steps of `loss` on the support examples; `accuracy_before` follows none.
    `begin(params)` returns the params at which descent starts (default: the trained params). `model` is a Model or its
    `apply`, and returns the logits.
    """
    apply_task = getattr(model, "apply", model)

    def measure(trained: Trained, batch: Mapping) -> dict:
        start = begin(trained.params) if begin else trained.params
        support, query = part(batch, SUPPORT), part(batch, QUERY)

        def task(number: Integer[Array, ""], support: Mapping, query: Mapping) -> tuple[Scalar, Scalar]:
            ctx = Ctx(support, trained.stats, draw(0, "adaptation", number), jnp.int32(0))
            after, _ = adapted(loss, start, ctx, learning_rate=learning_rate, steps=steps, first_order=True)

            def accuracy(params: Tree) -> Scalar:
                logits, _ = apply_task(params, trained.stats, query[inputs], train=False)
                return losses.hits(logits, query["label"]).mean()

            return accuracy(after), accuracy(start)

        count = len(query["label"])
        scores = jax.vmap(task)(jnp.arange(count), support, query)
        weights = example_weights(batch, count)
        return {key: weighted_mean(x, weights) for key, x in zip(("accuracy", "accuracy_before"), scores, strict=True)}

    return measure


def measure_prototypes(
    encoder: Model | Callable | None = None, *, ways: int, inputs: str | tuple[str, ...] = "image"
) -> Callable:  # fmt: skip
    """Return the measure of an Eval on few-shot tasks: `accuracy` of the nearest prototype, and the rows of each task.

    `encoder` is a Model or its `apply`, and returns the features (default: the experiment's own `apply`). Features are
    scaled to the Euclidean norm 1, and prototypes are the means of each class (`research.objectives.prototypes`). Rows:

        kernel                      f32 [support + query, support], the products of all features with those of the
                                    support examples, for `linear_shots`
        support_label query_label   the classes
    """
    encode = getattr(encoder, "apply", encoder)

    def measure(trained: Trained, batch: Mapping) -> dict:
        sides = part(batch, SUPPORT), part(batch, QUERY)

        def features(side: Mapping) -> Float[Array, "tasks batch features"]:
            x = arguments(side, inputs)
            found, _ = (encode or trained.apply)(trained.params, trained.stats, *map(flat, x), train=False)
            return losses.l2_normalize(found.reshape(*x[0].shape[:2], -1))

        support, query = map(features, sides)
        labels, truth = (field(side, "label") for side in sides)
        logits = jax.vmap(lambda s, y, q: prototype_logits(s, y, q, ways=ways))(support, labels, query)
        kernel = jnp.einsum("tnf,tmf->tnm", jnp.concatenate([support, query], 1), support)
        weights = example_weights(batch, len(truth))
        rows = {"kernel": kernel, "support_label": labels, "query_label": truth}
        return {"accuracy": weighted_mean(losses.hits(logits, truth).mean(1), weights), "rows": Rows(rows, weights)}

    return measure


def linear_shots(*, c: float = 1.0) -> Callable:
    """Return a `finish` of `measure_prototypes`: svm_accuracy, of linear support-vector machines on the same tasks.

    A machine is fitted to the support examples of each task, by scikit-learn's SVC with the inverse regularisation `c`.
    """

    def finish(results: Mapping) -> dict[str, float]:
        from sklearn.svm import SVC

        rows, scores = results["rows"], []
        for kernel, labels, truth in zip(rows["kernel"], rows["support_label"], rows["query_label"], strict=True):
            machine = SVC(C=c, kernel="precomputed").fit(kernel[: len(labels)], labels)
            scores.append(machine.score(kernel[len(labels) :], truth))
        return {"svm_accuracy": np.mean(scores)}

    return finish
