"""Pictures whose range nobody knows are refused, and those behind linked folders are found."""

import os

import numpy as np
import pytest
from PIL import Image

from research.data import image_folder, prepare
from research.data.readers.images import read_image
from research.errors import UserError

RAMP = np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)


@pytest.mark.parametrize("pixels", [RAMP, 255 * RAMP, (255 * RAMP).astype(np.int32)], ids=["f01", "f255", "i32"])
def test_pictures_of_an_unknown_range_are_refused(tmp_path, pixels):
    Image.fromarray(pixels).save(tmp_path / "x.tiff")
    with pytest.raises(UserError, match="x.tiff.*of unknown range; expected 8 or 16 bits"):
        read_image(tmp_path / "x.tiff", channels=1)


@pytest.mark.parametrize("ending", ["png", "tiff", "pgm"])
def test_pictures_of_16_bits_are_scaled(tmp_path, ending):
    Image.fromarray((65535 * RAMP).astype(np.uint16)).save(tmp_path / f"x.{ending}")
    found = read_image(tmp_path / f"x.{ending}", channels=1)[..., 0]
    np.testing.assert_allclose(found, 255 * RAMP, atol=0.51)


def test_linked_folders_are_followed_once(tmp_path):
    for name in ("store/a.png", "store/b.png", "photos/cats/own.png", "photos/dogs/own.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    os.symlink(tmp_path / "store", tmp_path / "photos" / "cats" / "more")
    os.symlink(tmp_path / "photos" / "cats", tmp_path / "store" / "ring")
    data = image_folder(tmp_path / "photos")
    assert [f"{f.parent.name}/{f.name}" for f in data.files] == [
        "more/a.png",
        "more/b.png",
        "cats/own.png",
        "dogs/own.png",
    ]
    assert data.labels.tolist() == [0, 0, 0, 1]
    prepare(str(tmp_path / "photos"))
    Image.new("RGB", (4, 4)).save(tmp_path / "store" / "c.png")
    with pytest.raises(UserError, match="made of other data"):
        prepare(str(tmp_path / "photos"))


def test_a_broken_link_is_named_when_it_is_read(tmp_path):
    (tmp_path / "cats").mkdir()
    os.symlink(tmp_path / "nowhere.png", tmp_path / "cats" / "lost.png")
    data = image_folder(tmp_path)
    with pytest.raises(UserError, match="lost.png"):
        data[0]
