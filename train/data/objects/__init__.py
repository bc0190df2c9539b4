"""Photographs with boxes: the files of COCO, Pascal VOC, YOLO and WIDER FACE."""

from train.data.objects.annotations import Annotations, BoxedSource, ObjectSource
from train.data.objects.folders import Splits, open_annotated
from train.data.objects.opening import open_objects

__all__ = ["Annotations", "BoxedSource", "ObjectSource", "Splits", "open_annotated", "open_objects"]
