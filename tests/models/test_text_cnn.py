"""TextCNN against its equations in numpy, and on padding."""

import jax
import numpy as np

from research.model import from_nnx
from research.models.text_cnn import TextCNN
from tests.models.fresh import fresh


def test_logits_are_those_of_the_largest_output_of_each_filter():
    """Kim 2014, equations 2 to 4, with zeros beside the text; padding does not change them."""
    sizes = dict(vocabulary=7, num_classes=2, embedding=3, filters=4, widths=(2, 3))
    model = from_nnx(lambda rngs: TextCNN(**sizes, dropped=0.3, rngs=rngs))
    params, stats = fresh(model, scale=0.7)
    text = [3, 6, 1, 5]
    x = np.asarray(params["embed"]["embedding"])[text]
    pooled = []
    for number, width in enumerate(sizes["widths"]):
        kernel, bias = (np.asarray(params["filters"][str(number)][name]) for name in ("kernel", "bias"))
        padded = np.pad(x, (((width - 1) // 2, width // 2), (0, 0)))
        outputs = [np.einsum("wf,wfo->o", padded[i : i + width], kernel) + bias for i in range(len(text))]
        pooled.append(np.maximum(outputs, 0).max(0))
    expected = np.concatenate(pooled) @ params["head"]["kernel"] + params["head"]["bias"]
    apply = jax.jit(lambda tokens: model.apply(params, stats, tokens)[0])
    found = apply(np.array([[*text, 0, 0, 0], [0] * 7]))
    np.testing.assert_allclose(found[0], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[1], params["head"]["bias"], rtol=1e-5)  # a text without words
