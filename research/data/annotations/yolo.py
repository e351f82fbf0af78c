"""YOLO's annotations: a text file per image, one object per line, and `data.yaml` with the names (Ultralytics' form).

    folder/data.yaml              names, and for key points kpt_shape and kpt_names
    folder/images/a.jpg           needed for the sizes of the images, or give `sizes`
    folder/labels/a.txt           class x_center y_center width height, then key points; or class x1 y1 x2 y2 x3 y3 ...

Numbers are fractions of the image's width or height. A line is a box, a box with key points (if `data.yaml` has
kpt_shape), or a polygon, whose box is implied.
"""

import reprlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np

from research.data.annotations import form
from research.data.annotations.form import Annotations, Instance, Picture, Skeleton
from research.data.readers import paths
from research.data.readers.images import SUFFIXES
from research.errors import UserError

MOST_YAML, MOST_LINES = 2**20, 16 * 2**20  # bytes


def read_yolo(folder, *, sizes: Mapping[str, tuple[int, int]] | None = None) -> Annotations:
    """Read the label files of a folder; an image without one has no objects.

    `sizes` is {name: (width, height)} of the images; by default, the images in `folder/images` are opened. Key points
    get names from kpt_names, or otherwise numbers.
    Raises UserError, with the line, for a file that is damaged, and for a label file without an image.
    """
    folder = paths.folder(folder, what="YOLO folder")
    classes, skeletons, columns = _described(folder / "data.yaml")
    sizes = _sizes(folder / "images") if sizes is None else sizes
    labels, pictures = {}, []
    for name in sizes:
        safe = form.safe_name(name, place="sizes")
        labels[folder / "labels" / PurePosixPath(safe).with_suffix(".txt")] = name
    if len(labels) < len(sizes):
        form.check_unique([Picture(name, 1, 1) for name in sizes], key=lambda name: str(Path(name).with_suffix("")))
    for file in sorted((folder / "labels").rglob("*.txt")):
        if file not in labels:
            raise UserError(f"{file} has no image; expected one of the same name in {folder / 'images'}, or in sizes=.")
    for file, name in labels.items():
        width, height = form.size(*sizes[name], place=name)
        lines = form.read_file(file, most=MOST_LINES).splitlines() if file.exists() else []
        instances = [
            _instance(line.split(), (width, height), len(classes), columns, f"{file}, line {number}")
            for number, line in enumerate(lines, 1)
            if line.strip()
        ]
        pictures.append(Picture(name, width, height, tuple(instances)))
    return Annotations(classes, tuple(pictures), skeletons)


def write_yolo(annotations: Annotations, folder, *, lossy: bool = False) -> Path:
    """Write `labels/` and `data.yaml`: key points if there are any, otherwise polygons if there are any, or boxes.

    Numbers and areas of COCO are not written, and images are not copied. Raises UserError for what YOLO cannot hold,
    unless `lossy`, and for a file that exists: masks, crowds, attributes, edges of skeletons, coordinates outside the
    image (with `lossy`, moved to its border); beside key points, polygons and objects without key points; among
    polygons, an object that is not one polygon with its own bounds (with `lossy`, its box is written as one).
    """
    import yaml

    everything = [one for picture in annotations.pictures for one in picture.instances]
    kind = "box"
    kind = "polygon" if any(one.polygons for one in everything) else kind
    kind = "pose" if any(one.keypoints is not None for one in everything) else kind
    form.check_unique(annotations.pictures, key=lambda name: str(PurePosixPath(name).with_suffix("")))
    about: dict = {"path": ".", "train": "images", "val": "images", "names": dict(enumerate(annotations.classes))}
    problems, texts, count = [], {}, 0
    if kind != "pose":
        problems += ["the skeleton of a class"] * len(annotations.skeletons)
    else:
        counts = {len(skeleton.names) for skeleton in annotations.skeletons.values()}
        if len(counts) != 1:
            raise UserError(f"YOLO has one number of key points; the classes have {sorted(counts)}.")
        count = counts.pop()
        named = {annotations.classes.index(name): list(s.names) for name, s in annotations.skeletons.items()}
        about |= {"kpt_shape": [count, 3], "kpt_names": named}
        problems += ["the edges of a skeleton" for skeleton in annotations.skeletons.values() if skeleton.edges]
    for picture in annotations.pictures:
        name, side = form.safe_name(picture.name, place="an image"), [picture.width, picture.height]
        lines = []
        for one in picture.instances:
            problems += form.unheld(one, polygons=kind == "polygon", keypoints=True, attributes=())
            values = _line(one, np.array(side, np.float64), kind, count, problems)
            lines.append(" ".join([str(one.label), *map(repr, values)]) + "\n")
        texts[Path(folder, "labels", name).with_suffix(".txt")] = "".join(lines)
    form.lost(problems, what="YOLO", lossy=lossy)
    form.write_new({Path(folder, "data.yaml"): yaml.safe_dump(about, sort_keys=False, allow_unicode=True), **texts})
    return Path(folder)


def _described(path):
    """Return (classes, skeletons, shape of the key points or None) of data.yaml."""
    import yaml

    try:
        about = yaml.safe_load(form.read_file(path, most=MOST_YAML, what="data.yaml of YOLO"))
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{path} is not YAML: {error}.") from error
    names = about.get("names") if isinstance(about, dict) else None
    names = dict(enumerate(names)) if isinstance(names, list) else names
    texts = isinstance(names, dict) and all(isinstance(name, str) for name in names.values())
    if not texts or set(names) != set(range(len(names))) or len(set(names.values())) < len(names):
        # Aliases of YAML can make a value that is endless as text.
        raise UserError(f"{path} has the names {reprlib.repr(names)}; expected texts, each once, numbered from 0.")
    classes = tuple(names[number] for number in range(len(names)))
    shape = about.get("kpt_shape")
    if shape is None:
        return classes, {}, None
    if not (isinstance(shape, list) and len(shape) == 2 and type(shape[0]) is int and 1 <= shape[0] <= 1000
            and shape[1] in (2, 3)):  # fmt: skip
        raise UserError(f"{path} has the kpt_shape {reprlib.repr(shape)}; expected [number of key points, 2 or 3].")
    named, skeletons = about.get("kpt_names"), {}
    if named is None:
        named = dict.fromkeys(range(len(classes)), [str(i) for i in range(shape[0])])
    for number, parts in named.items() if isinstance(named, dict) else [(None, named)]:
        texts = isinstance(parts, list) and all(isinstance(part, str) for part in parts)
        if number not in names or not texts or len(parts) != shape[0]:
            raise UserError(
                f"{path} has the kpt_names {reprlib.repr(named)}; expected {shape[0]} texts for numbers of classes."
            )
        skeletons[classes[number]] = Skeleton(tuple(parts))
    return classes, skeletons, tuple(shape)


def _sizes(folder) -> dict[str, tuple[int, int]]:
    """Return {name: (width, height)} of the images below a folder, as they are shown."""
    from PIL import Image

    sizes = {}
    for path in paths.below(paths.folder(folder, what="folder of images")):
        if path.suffix.lower() not in SUFFIXES:
            continue
        try:
            with Image.open(path) as image:
                turned = image.getexif().get(0x0112, 1) >= 5  # the camera was held on its side
                sizes[path.relative_to(folder).as_posix()] = image.size[::-1] if turned else image.size
        except Exception as error:  # PIL raises anything for a damaged file
            raise UserError(f"{path} cannot be read as an image: {error}.") from error
    return sizes


def _instance(words, side, classes, columns, place) -> Instance:
    try:
        label, values = int(words[0]), np.array(words[1:], np.float64)
    except ValueError as error:
        raise UserError(f"{place}: {error}; expected a class number and fractions.") from error
    if not 0 <= label < classes:
        raise UserError(f"{place}: the class {label}; data.yaml has the classes 0 to {classes - 1}.")
    outlined = columns is None and len(values) >= 6 and len(values) % 2 == 0
    expected = 4 + (columns[0] * columns[1] if columns else 0)
    if not outlined and len(values) != expected:
        raise UserError(f"{place} has {len(values)} numbers after the class; expected {expected}.")
    fractions = values if outlined else values[:4]
    if not ((fractions >= 0) & (fractions <= 1)).all():
        raise UserError(f"{place}: {fractions.tolist()}; expected fractions of the image, 0 to 1.")
    if outlined:
        polygon = form.polygon(values.reshape(-1, 2) * side, place=place)
        return Instance(label, form.bounds(polygon), (polygon,))
    center, sides = values[:2], values[2:4]
    box = form.box(np.concatenate([(center - sides / 2) * side, (center + sides / 2) * side]), place=place)
    if not columns:
        return Instance(label, box)
    given = values[4:].reshape(columns)
    visible = given[:, 2] if columns[1] == 3 else np.where((given > 0).any(-1), 2.0, 0.0)
    if not np.isin(visible, (0, 1, 2)).all():
        raise UserError(f"{place}: a visibility of {visible.tolist()}; expected 0, 1 or 2.")
    scaled = np.concatenate([given[:, :2] * side, visible[:, None]], 1)
    return Instance(label, box, keypoints=form.points(scaled, columns=3, place=place))


def _line(one, side, kind, count, problems) -> list[float]:
    """Return the numbers of an instance; what they cannot hold is added to `problems`."""

    def fractions(places):
        inside = np.clip(places / side, 0, 1)
        if (inside != places / side).any():
            problems.append("coordinates outside the image")
        return inside

    (x1, y1), (x2, y2) = corners = fractions(one.box.reshape(2, 2))
    if kind == "polygon":
        if len(one.polygons) == 1 and np.array_equal(form.bounds(one.polygons[0]), one.box):
            return fractions(one.polygons[0]).ravel().tolist()
        problems.append("an object that is not one polygon, among polygons")
        return [float(x) for x in (x1, y1, x2, y1, x2, y2, x1, y2)]
    numbers = [*((corners[0] + corners[1]) / 2).tolist(), *(corners[1] - corners[0]).tolist()]
    if kind == "box":
        return numbers
    if one.keypoints is None:
        problems.append("an object without key points, among those with")
        return numbers + [0.0] * (3 * count)
    return numbers + np.concatenate([fractions(one.keypoints[:, :2]), one.keypoints[:, 2:]], 1).ravel().tolist()
