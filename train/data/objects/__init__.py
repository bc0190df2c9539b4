"""Photographs with boxes: the files of COCO, Pascal VOC, YOLO and WIDER FACE."""

from train.data.objects.annotations import Annotations, ObjectSource
from train.data.objects.folders import Splits, open_annotated

__all__ = ["Annotations", "ObjectSource", "Splits", "open_annotated"]
