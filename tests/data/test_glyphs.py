"""The fonts hold what the builder names, and its pictures are those that Pillow draws, moved a little."""

import pathlib

import matplotlib
import numpy as np
from fontTools.ttLib import TTFont
from PIL import Image, ImageDraw, ImageFont

from research.data.builders.glyphs import CHARACTERS, COPIES, FINE, FONTS, SIZE, Glyphs, render

FOLDER = pathlib.Path(matplotlib.get_data_path(), "fonts", "ttf")


def test_every_font_has_every_character_and_none_comes_twice():
    assert len(set(CHARACTERS)) == len(CHARACTERS) == 371 and len(set(FONTS)) == 12
    for name in FONTS:
        assert {ord(c) for c in CHARACTERS} <= set(TTFont(FOLDER / name).getBestCmap())


def test_without_distortion_it_is_the_character_in_the_middle():
    class Still:
        def uniform(self, low, high, size=None):
            return np.ones(size) if low > 0 else np.zeros(size or ())

    font = ImageFont.truetype(str(FOLDER / FONTS[0]), 22 * FINE)
    drawn = Image.new("L", (SIZE * FINE, SIZE * FINE))
    ImageDraw.Draw(drawn).text((SIZE * FINE / 2, SIZE * FINE / 2), "H", font=font, fill=255, anchor="mm")
    found = render("H", font, rng=Still())
    theirs = np.asarray(drawn.reduce(FINE))
    assert found.shape == (28, 28) and np.abs(found.astype(float) - theirs).mean() < 4


def test_distortions_move_it_but_are_those_of_the_seed():
    font = ImageFont.truetype(str(FOLDER / FONTS[4]), 22 * FINE)
    one, again, other = (render("g", font, rng=np.random.default_rng(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert 5 < np.abs(one.astype(float) - other).mean() < 80


def test_the_order_of_the_records(data_dir):
    builder = Glyphs(data_dir=data_dir)
    examples = builder._generate_examples()
    found = [next(examples) for _ in range(30)]
    assert [key for key, _ in found] == list(range(30))
    assert [record["font"] for _, record in found[:13]] == [*range(12), 0]
    assert [record["label"] for _, record in found] == [0] * 12 * COPIES + [1] * 6
