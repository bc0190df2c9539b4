"""Photographs with boxes: the files of COCO, Pascal VOC, YOLO and WIDER FACE."""
