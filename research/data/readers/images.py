"""Image files: a folder of sub-folders as a data set, and one file as an array."""

import dataclasses
import pathlib

import numpy as np

from research.data.readers import paths, records
from research.errors import UserError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


@dataclasses.dataclass(frozen=True, eq=False)
class ImageFolder:
    """Records {"image": u8 [h, w, channels], "label": i32, "path": str}; made by `image_folder`."""

    files: tuple[pathlib.Path, ...]
    labels: np.ndarray
    classes: tuple[str, ...]
    size: tuple[int, int] | None
    channels: int

    def __len__(self):
        return len(self.files)

    def __getitem__(self, i):
        image = read_image(self.files[i], size=self.size, channels=self.channels)
        return {"image": image, "label": self.labels[i], "path": str(self.files[i])}

    def column(self, name):
        """One field of all records; `label` and `path` are known without reading an image."""
        if name == "label":
            return self.labels
        if name == "path":
            return records.objects([str(file) for file in self.files])
        return records.column([records.field(record, name) for record in self], name=name)


def image_folder(path, *, size=None, channels: int = 3) -> ImageFolder:
    """A folder whose sub-folders are the classes, numbered in sorted order; `classes` has their names.

    `size` (a side, or (height, width), in pixels) resizes the shorter side and crops the centre; None keeps the
    files' own sizes, which then must be made alike before they can be batched. `channels` is 3 (RGB) or 1 (grey).
    Files are read when a record is, those of sub-sub-folders and linked folders included; files with other endings than
    images' are left alone.
    Raises UserError for a missing folder, one without sub-folders or a class without images; and, when it is read,
    for a file that is not an image, by name.
    """
    if channels not in (1, 3):
        raise UserError(f"images of {channels} channels; expected 3 (RGB) or 1 (grey).")
    root = paths.folder(path, what="image folder")
    folders = sorted(f for f in root.iterdir() if f.is_dir() and not f.name.startswith("."))
    if not folders:
        raise UserError(f"{str(root)!r} has no sub-folders; expected one for each class, with its images.")
    files, labels = [], []
    for number, folder in enumerate(folders):
        found = [f for f in paths.below(folder) if f.suffix.lower() in SUFFIXES and not f.name.startswith(".")]
        if not found:
            raise UserError(f"the class folder {str(folder)!r} has no images ({', '.join(SUFFIXES)}).")
        files += found
        labels += [number] * len(found)
    size = (size, size) if isinstance(size, int) else size
    return ImageFolder(tuple(files), np.array(labels, np.int32), tuple(f.name for f in folders), size, channels)


def read_image(path, *, size=None, channels: int = 3) -> np.ndarray:
    """One image file as u8 [h, w, channels], turned as its camera noted, transparency dropped; `size` as above.

    Raises UserError, which names the file, if it cannot be read as an image, or if it holds floats or 32-bit integers:
    their range is not known.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            # PNG and PGM of 16 bits are read as 32 bits too.
            if image.mode == "F" or image.mode == "I" and image.format not in ("PNG", "PPM"):
                kind = "floats" if image.mode == "F" else "32-bit integers"
                raise ValueError(f"it holds {kind}, whose range is not known; expected 8 or 16 bits a channel")
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I"):
                # 16-bit grey: convert("L") would clip at 255 instead of scaling.
                image = Image.fromarray((np.asarray(image, np.float64) / 257).clip(0, 255).round().astype(np.uint8))
            if "transparency" in image.info:
                image = image.convert("RGBA")
            image = image.convert("RGB" if channels == 3 else "L")
            if size is not None:
                height, width = size
                image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
            pixels = np.array(image, np.uint8)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{str(path)!r} cannot be read as an image: {error}.") from error
    return pixels[..., None] if channels == 1 else pixels
