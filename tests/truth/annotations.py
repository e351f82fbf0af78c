"""Annotation files as pycocotools and supervision read them."""

import pathlib
import tempfile

import numpy as np

from tests.data.annotations import files

PACKAGES = ("pycocotools==2.0.11", "supervision==0.31.2", "pillow==13.0.0")


def values():
    import supervision
    from PIL import Image
    from pycocotools import mask as masks
    from pycocotools.coco import COCO

    stored = {}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "coco.json").write_text(files.COCO)
        coco = COCO(folder / "coco.json")
        for number in sorted(coco.anns):
            stored[f"mask_{number}"] = coco.annToMask(coco.anns[number])
        rng = np.random.default_rng(5)
        drawn = np.cumsum(rng.random((30, 70)) < 0.1, 1) % 2 > 0
        packed = masks.encode(np.asfortranarray(drawn.astype(np.uint8)))
        stored |= {"drawn": drawn, "packed": np.array(packed["counts"].decode()), "packed_area": masks.area(packed)}
        runs = masks.frPyObjects({"size": [10, 20], "counts": files.RUNS}, 10, 20)
        stored["packed_runs"] = np.array(runs["counts"].decode())

        images = folder / "images"
        images.mkdir()
        Image.new("RGB", files.YOLO_SIZE).save(images / "2007_000027.jpg")
        (folder / "voc").mkdir()
        (folder / "voc" / "2007_000027.xml").write_text(files.VOC)
        found = supervision.DetectionDataset.from_pascal_voc(str(images), str(folder / "voc"))
        (_, _, boxes) = next(iter(found))
        stored["voc_boxes"] = boxes.xyxy
        stored["voc_names"] = np.array([found.classes[i] for i in boxes.class_id])
        (folder / "data.yaml").write_text(files.YOLO_NAMES)
        for name, text in (("boxes", files.YOLO_BOXES), ("polygons", files.YOLO_POLYGONS)):
            (folder / name).mkdir()
            (folder / name / "2007_000027.txt").write_text(text)
            found = supervision.DetectionDataset.from_yolo(str(images), str(folder / name), str(folder / "data.yaml"))
            (_, _, boxes) = next(iter(found))
            stored |= {f"yolo_{name}": boxes.xyxy, f"yolo_{name}_classes": boxes.class_id}
    return stored
