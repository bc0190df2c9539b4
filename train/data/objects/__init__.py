"""Photographs with boxes around their objects: COCO's, Pascal VOC's and YOLO's files."""

from train.data.objects.annotations import Annotations, ObjectSource
from train.data.objects.folders import Splits, open_annotated

__all__ = ["Annotations", "ObjectSource", "Splits", "open_annotated"]
