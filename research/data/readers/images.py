"""Read image files: a folder of class folders as a data set, and single files as arrays."""

import dataclasses
import os
import pathlib

import numpy as np

from research.data.fingerprint import WHOLE, combine, hasher, spaced
from research.data.readers import paths, records
from research.errors import UserError, unknown

WHOLE_FILES = 10_000  # more files are not read whole for a fingerprint: on a network disk, each takes a millisecond
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


@dataclasses.dataclass(frozen=True, eq=False)
class ImageFolder:
    """Records {"image": u8 [h, w, channels], "label": i32, "path": str}; created by `image_folder`.

    `labels` and `classes` are None, and the records have no label, if it was created by `image_files`.
    """

    files: tuple[pathlib.Path, ...]
    labels: np.ndarray | None
    classes: tuple[str, ...] | None
    size: tuple[int, int] | None
    channels: int

    def __len__(self):
        return len(self.files)

    def __getitem__(self, i):
        image = read_image(self.files[i], size=self.size, channels=self.channels)
        label = {} if self.labels is None else {"label": self.labels[i]}
        return {"image": image, **label, "path": str(self.files[i])}

    def column(self, name):
        """Return one field of all records; `label` and `path` do not read any image."""
        if name == "label" and self.labels is not None:
            return self.labels
        if name == "path":
            return records.objects([str(file) for file in self.files])
        return records.column([records.field(record, name) for record in self], name=name)

    def content_fingerprint(self):
        """Return the fingerprint of the files: all names, and the bytes of all files or, for many, of a sample."""
        few = len(self.files) <= WHOLE_FILES and sum(file.stat().st_size for file in self.files) <= 8 * WHOLE
        read = range(len(self.files)) if few else spaced(len(self.files))
        root = os.path.commonpath([file.parent for file in self.files])
        paths = [os.path.relpath(file, root) for file in self.files]
        contents = [hasher(self.files[i].read_bytes()).hexdigest() for i in read]
        fields = {"path": combine(paths), "image": combine(contents)}
        if self.labels is not None:
            fields["label"] = combine(self.labels.tolist())
        return {"records": len(self), "read": len(read), "fields": fields, "unordered": combine(sorted(contents))}


def image_folder(path, *, size=None, channels: int = 3, classes=None) -> ImageFolder:
    """Open a folder whose sub-folders are the classes, numbered in sorted order; `classes` has their names.

    With the argument `classes`, such as the `classes` of the training set, they are numbered in that order, and a class
    may be without a folder.
    `size` (one side, or (height, width), in pixels) resizes the image to cover that size and crops the centre. With
    None, images keep their sizes; give them one size before batching. `channels` is 3 (RGB) or 1 (greyscale).
    A file is read when its record is accessed. Nested and linked folders are included. Files without an image suffix
    are ignored.
    Raises UserError for a missing folder, a folder without sub-folders, a sub-folder that is not among `classes`, and a
    class folder without images. Reading a record raises UserError with the file name if the file is not an image.
    """
    size, channels = _checked(size, channels)
    root = paths.folder(path, what="image folder")
    folders = sorted(f for f in root.iterdir() if f.is_dir() and not f.name.startswith("."))
    if not folders:
        raise UserError(f"{str(root)!r} has no sub-folders; expected one sub-folder of images per class.")
    classes = tuple(f.name for f in folders) if classes is None else tuple(map(str, classes))
    files, labels = [], []
    for folder in folders:
        if folder.name not in classes:
            raise unknown(f"class of {str(root)!r}", folder.name, classes)
        images = _images(folder)
        files += images
        labels += [classes.index(folder.name)] * len(images)
    return ImageFolder(tuple(files), np.array(labels, np.int32), classes, size, channels)


def image_files(path, *, size=None, channels: int = 3) -> ImageFolder:
    """Open all images below a folder as records without labels, sorted by path; `size` and `channels` as above.

    Raises UserError for a missing folder and for a folder without images.
    """
    root = paths.folder(path, what="image folder")
    return ImageFolder(_images(root), None, None, *_checked(size, channels))


def _images(folder):
    images = [f for f in paths.below(folder) if f.suffix.lower() in SUFFIXES and not f.name.startswith(".")]
    if not images:
        raise UserError(f"the folder {str(folder)!r} has no images; expected files {', '.join(SUFFIXES)}.")
    return tuple(images)


def _checked(size, channels):
    if channels not in (1, 3):
        raise UserError(f"channels={channels}; expected 3 (RGB) or 1 (greyscale).")
    return ((size, size) if isinstance(size, int) else size), channels


def read_image(path, *, size=None, channels: int = 3) -> np.ndarray:
    """Read one image file as u8 [h, w, channels], rotated by its EXIF orientation, without transparency.

    `size` is (height, width) in pixels or None, as in `image_folder`. Raises UserError with the file name if the file
    cannot be read as an image, or contains floats or 32-bit integers, whose range is unknown.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            # Trap: PIL may read PNG and PGM files of 16 bits in the 32-bit mode "I"; these are valid.
            if image.mode == "F" or image.mode == "I" and image.format not in ("PNG", "PPM"):
                kind = "floats" if image.mode == "F" else "32-bit integers"
                raise ValueError(f"it contains {kind} of unknown range; expected 8 or 16 bits per channel")
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I"):
                # Trap: convert("L") would clip 16-bit grey at 255 instead of scaling it.
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
