"""Label Studio's JSON export and import: a list of tasks, one per image, with regions in percent of the image.

Regions are rectangles, polygons and key points. The key points of an object are regions of their own, whose `parentID`
names its rectangle, and whose label is the name of the point.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from research.data.annotations import form
from research.data.annotations.form import Annotations, Instance, Picture, Skeleton
from research.errors import UserError

RECTANGLE, POLYGON, POINT = "rectanglelabels", "polygonlabels", "keypointlabels"
POINT_SIZE = 0.5  # percent of the width of the image at which a key point is drawn


def read_label_studio(
    path, *, classes: Sequence[str] | None = None, skeletons: Mapping[str, Skeleton] | None = None,
    image: str = "image", lossy: bool = False,
) -> Annotations:  # fmt: skip
    """Read the JSON export (not JSON-MIN).

    classes: the export does not list them; by default, all names of rectangles and polygons in sorted order
    skeletons: by class, for exports with key points
    image: the entry of a task's data that has the image: a path or an address, which becomes its name

    Predictions of models and cancelled annotations are not read. Raises UserError for a damaged file, several
    annotations of one task, and regions of other kinds, rotated ones and key points without a parent, which are left
    out with a LostAnnotation warning if `lossy`.
    """
    tasks, problems = form.read_annotation_json(path), []
    if not isinstance(tasks, list):
        raise UserError(f"{path} has {type(tasks).__name__}; expected a list of tasks.")
    regions = [_regions(task, f"{path}, task {at}") for at, task in enumerate(tasks)]
    if classes is None:
        found = (_label(region, f"{path}, a region") for task in regions for region in task
                 if region.get("type") in (RECTANGLE, POLYGON))  # fmt: skip
        classes = sorted(set(found))
    numbers, pictures = {name: number for number, name in enumerate(classes)}, []
    for at, (task, given) in enumerate(zip(tasks, regions, strict=True)):
        place = f"{path}, task {at}"
        name = task["data"].get(image) if isinstance(task.get("data"), dict) else None
        if not isinstance(name, str) or not name or ".." in PurePosixPath(name).parts or "\0" in name:
            raise UserError(f"{place}: the image {name!r} in data[{image!r}]; expected a path or an address.")
        sizes = {(region.get("original_width"), region.get("original_height")) for region in given}
        meta = task.get("meta") if isinstance(task.get("meta"), dict) else {}
        sizes = sizes or {(meta.get("width"), meta.get("height"))}
        if len(sizes) > 1:
            raise UserError(f"{place}: its regions have different sizes of the image: {sorted(sizes, key=str)}.")
        width, height = form.size(*sizes.pop(), place=place)
        instances = _instances(given, (width, height), numbers, skeletons or {}, place, problems)
        pictures.append(Picture(name, width, height, tuple(instances)))
    form.lost(problems, what="the form of annotations", lossy=lossy)
    form.check_unique(pictures)
    return Annotations(tuple(classes), tuple(pictures), dict(skeletons or {}))


def write_label_studio(annotations: Annotations, path, *, image: str = "image", lossy: bool = False) -> Path:
    """Write tasks that Label Studio imports; `image` is the entry of a task's data for the name of the image.

    Numbers and areas of COCO are not written. Raises UserError for a file that exists and for what the format cannot
    hold, unless `lossy`: masks, crowds, attributes, objects of several polygons or with a box that is not that of their
    polygon, and key points that are hidden or all missing. The lists of classes and of key points are not in the file:
    give them to `read_label_studio`.
    """
    form.check_unique(annotations.pictures)
    problems, tasks = [], []
    for number, picture in enumerate(annotations.pictures, 1):
        result = []
        for at, one in enumerate(picture.instances):
            problems += form.unheld(one, polygons=True, keypoints=True, attributes=())
            name = annotations.classes[one.label]
            points = annotations.skeletons[name].names if one.keypoints is not None else ()
            result += _written(one, picture, f"{number}-{at}", name, points, problems)
        meta = {"width": picture.width, "height": picture.height}
        tasks.append({"id": number, "data": {image: picture.name}, "meta": meta, "annotations": [{"result": result}]})
    form.lost(problems, what="Label Studio's format", lossy=lossy)
    form.write_new({Path(path): json.dumps(tasks, ensure_ascii=False, allow_nan=False, indent=1)})
    return Path(path)


def _regions(task, place) -> list[dict]:
    """Return the regions of the one annotation of a task."""
    given = task.get("annotations") if isinstance(task, dict) else None
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise UserError(f"{place} has no list of annotations; expected the export JSON, not JSON-MIN.")
    made = [one for one in given if not one.get("was_cancelled")]
    if len(made) > 1:
        raise UserError(f"{place} has {len(made)} annotations; expected one. Keep the one to read, and remove others.")
    regions = made[0].get("result") if made else []
    if not isinstance(regions, list) or not all(isinstance(one, dict) for one in regions):
        raise UserError(f"{place} has an annotation without a list `result`.")
    return regions


def _label(region, place) -> str:
    names = _value(region, place).get(region["type"])
    if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str):
        raise UserError(f"{place} has the labels {names!r}; expected one text.")
    return names[0]


def _value(region, place) -> Mapping:
    if not isinstance(value := region.get("value"), dict):
        raise UserError(f"{place} has no value; expected an object.")
    return value


def _instances(regions, side, numbers, skeletons, place, problems) -> list[Instance]:
    found: dict = {}
    for at, region in enumerate(regions):
        where, kind = f"{place}, region {at}", region.get("type")
        if kind not in (RECTANGLE, POLYGON):
            problems += [] if kind == POINT else [f"a region of type {kind!r}"]
            continue
        value, label = _value(region, where), form.class_of(_label(region, where), numbers, place=where)
        if value.get("rotation"):
            problems.append("a rotated region")
        elif kind == POLYGON:
            outline = form.polygon(_pixels(value.get("points", []), side, where), place=where)
            found[region.get("id", at)] = Instance(label, form.bounds(outline), (outline,))
        else:
            x, y, width, height = (value.get(key) for key in ("x", "y", "width", "height"))
            (x, y), (width, height) = _pixels([[x, y], [width, height]], side, where)
            found[region.get("id", at)] = Instance(label, form.box([x, y, x + width, y + height], place=where))
    classes = list(numbers)
    for at, region in enumerate(regions):
        where, parent = f"{place}, region {at}", region.get("parentID")
        if region.get("type") != POINT:
            continue
        if parent not in found:
            problems.append("a key point without a parent")
            continue
        one, name = found[parent], _label(region, where)
        if (owner := classes[one.label]) not in skeletons:
            raise UserError(f"{where}: the key point {name!r}; give skeletons={{{owner!r}: Skeleton((...))}}.")
        names = skeletons[owner].names
        row = form.class_of(name, {key: i for i, key in enumerate(names)}, place=f"the key point of {where}")
        keypoints = np.zeros((len(names), 3)) if one.keypoints is None else one.keypoints
        value = _value(region, where)
        keypoints[row] = [*_pixels([[value.get("x"), value.get("y")]], side, where)[0], 2]
        found[parent] = one._replace(keypoints=keypoints)
    return list(found.values())


def _pixels(percent, side, place):
    return form.points(percent, columns=2, place=place, scale=np.array(side) / 100)


def _written(one, picture, key, name, points, problems) -> list[dict]:
    """Return the regions of an instance: its rectangle or polygon, and its key points."""
    side = np.array([picture.width, picture.height], np.float64)
    common = {"from_name": "label", "to_name": "image", "original_width": picture.width,
              "original_height": picture.height, "image_rotation": 0}  # fmt: skip
    percent = lambda places: (100 * places / side).tolist()
    (x1, y1), (x2, y2) = percent(one.box.reshape(2, 2))
    whole = len(one.polygons) == 1 and np.array_equal(form.bounds(one.polygons[0]), one.box)
    if one.polygons and not whole:
        problems.append("an object that is not one polygon with its own bounds")
    if whole:
        value = {"points": percent(one.polygons[0]), "closed": True, POLYGON: [name]}
        regions = [{"id": key, "type": POLYGON, "value": value, **common}]
    else:
        value = {"x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1, "rotation": 0, RECTANGLE: [name]}
        regions = [{"id": key, "type": RECTANGLE, "value": value, **common}]
    if one.keypoints is not None and not one.keypoints[:, 2].any():
        problems.append("key points that are all missing")
    for at, point in enumerate(points):
        x, y, visible = one.keypoints[at]
        problems += ["a hidden key point"] if visible == 1 else []
        if visible:
            (x, y), value = percent(np.array([x, y])), {"width": POINT_SIZE, POINT: [point]}
            value |= {"x": x, "y": y}
            regions.append({"id": f"{key}-{at}", "parentID": key, "type": POINT, "value": value, **common})
    return regions
