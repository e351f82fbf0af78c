"""A model together with the fixed transformation of its inputs."""

from research.model import Model


def preprocessed(model: Model, prepare) -> Model:
    """The Model that sees `prepare(inputs)` in place of its first input.

    What is part of the model (scaling pixels by the training set's mean) is so done alike in training,
    evaluation, prediction and export, which all go through `apply`.
    """

    def apply(params, stats, inputs, *others, key=None, train=False):
        return model.apply(params, stats, prepare(inputs), *others, key=key, train=train)

    return Model(model.init, apply)
