"""Small annotation files that third-party readers and ours read; a generator in tests/truth imports this alone."""

import json

CATEGORIES = [
    {"id": 3, "name": "cat", "supercategory": "animal"},
    {"id": 7, "name": "person", "keypoints": ["nose", "left hand", "right hand"], "skeleton": [[1, 2], [1, 3]]},
]
IMAGES = [
    {"id": 11, "file_name": "train/a.jpg", "width": 20, "height": 10},
    {"id": 5, "file_name": "b.png", "width": 640, "height": 427},
]
POLYGON = [1.5, 2, 18.25, 2, 18.25, 9, 6, 9.75]
OTHER = [510.66, 23.1, 511.2, 30.05, 500.5, 31.33]
RUNS = [23, 4, 6, 5, 30, 1, 60, 70, 1]  # 200 pixels


def coco(packed=None) -> dict:
    """The content of an instances file; `packed` is the text of the run lengths, in place of their list."""
    annotations = [
        {"id": 1, "image_id": 11, "category_id": 3, "bbox": [1.5, 2, 16.75, 7.75], "area": 101.5, "iscrowd": 0,
         "segmentation": [POLYGON]},
        {"id": 9, "image_id": 11, "category_id": 7, "bbox": [2, 0, 18, 10], "area": 80, "iscrowd": 1,
         "segmentation": {"size": [10, 20], "counts": packed or RUNS}},
        {"id": 4, "image_id": 5, "category_id": 7, "bbox": [473.07, 395.93, 38.65, 28.67], "area": 702.1, "iscrowd": 0,
         "segmentation": [OTHER, [1, 1, 5, 1, 5, 5]], "keypoints": [480, 400.5, 2, 0, 0, 0, 500.25, 410, 1],
         "num_keypoints": 2, "attributes": {"occluded": True, "age": 41}},
    ]  # fmt: skip
    return {"info": {}, "images": IMAGES, "annotations": annotations, "categories": CATEGORIES}


COCO = json.dumps(coco())

VOC = """<annotation>
  <folder>VOC2012</folder>
  <filename>2007_000027.jpg</filename>
  <source><database>The VOC2007 Database</database></source>
  <size><width>486</width><height>500</height><depth>3</depth></size>
  <segmented>0</segmented>
  <object>
    <name>person</name><pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult>
    <bndbox><xmin>174</xmin><ymin>101</ymin><xmax>349</xmax><ymax>351</ymax></bndbox>
  </object>
  <object>
    <name>dog</name><pose>Left</pose><truncated>1</truncated><difficult>1</difficult>
    <bndbox><xmin>1</xmin><ymin>2.5</ymin><xmax>486</xmax><ymax>500</ymax></bndbox>
  </object>
</annotation>
"""

YOLO_NAMES = "names:\n  0: person\n  1: dog\n"
YOLO_BOXES = "0 0.5380658436213992 0.452 0.36213991769547327 0.502\n1 0.5 0.503 1 0.994\n"
YOLO_POLYGONS = "1 0.1 0.2 0.5 0.2 0.5 0.9\n0 0.25 0.25 0.75 0.3 0.7 0.8 0.2 0.9\n"
YOLO_SIZE = (486, 500)
