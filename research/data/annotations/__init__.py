"""Annotation files of images: COCO, Pascal VOC, YOLO and Label Studio, read into one form and written from it.

    found = read_coco("instances.json")        an Annotations
    write_yolo(found, "yolo")       raises UserError for what YOLO cannot hold; lossy=True leaves it out

    form           Annotations, Picture, Instance, Mask, Skeleton: boxes, polygons, masks, key points, attributes
    coco           read_coco          write_coco
    voc            read_voc           write_voc
    yolo           read_yolo          write_yolo
    label_studio   read_label_studio  write_label_studio

Contents of each format:

                  box  polygons    mask  key points       crowd  attributes                       sizes  classes
    COCO          yes  yes         yes   with a skeleton  yes    yes (as CVAT writes them)        yes    yes
    Pascal VOC    yes  no          no    no               no     pose and three flags             yes    no
    YOLO          yes  one, alone  no    one skeleton     no     no                               no     yes
    Label Studio  yes  one, alone  no    with names       no     no                               yes    no

Files come from anyone. A reader runs nothing, expands no XML entities, and refuses names that leave the folder and
numbers that cannot be right. A writer does not replace a file. To add a format, copy `voc.py`.
"""

from research.data.annotations.coco import read_coco, write_coco
from research.data.annotations.form import Annotations, Instance, LostAnnotation, Mask, Picture, Skeleton
from research.data.annotations.label_studio import read_label_studio, write_label_studio
from research.data.annotations.voc import read_voc, write_voc
from research.data.annotations.yolo import read_yolo, write_yolo

__all__ = [
    "Annotations",
    "Instance",
    "LostAnnotation",
    "Mask",
    "Picture",
    "Skeleton",
    "read_coco",
    "read_label_studio",
    "read_voc",
    "read_yolo",
    "write_coco",
    "write_label_studio",
    "write_voc",
    "write_yolo",
]
