"""scikit-learn's handwritten digits: 1797 greyscale images of 8 x 8 pixels."""

import numpy as np
import tensorflow_datasets as tfds


class Digits(tfds.core.GeneratorBasedBuilder):
    """One split, "train": {"image": u8 [8, 8, 1] of 0 to 16, "label": 0 to 9}, in scikit-learn's order.

    TFDS reserves the name "all" for the union of all splits; here it equals "train".
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "As in scikit-learn."}

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description="Optical recognition of handwritten digits (UCI), the test part, as shipped by scikit-learn.",
            homepage="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
            features=tfds.features.FeaturesDict(
                {
                    # A Tensor, because TFDS needs TensorFlow to encode an Image.
                    "image": tfds.features.Tensor(shape=(8, 8, 1), dtype=np.uint8, encoding="bytes"),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        from sklearn.datasets import load_digits

        digits = load_digits()
        for i, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
            yield i, {"image": image.astype(np.uint8)[..., None], "label": int(label)}
