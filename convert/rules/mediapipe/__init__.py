"""MediaPipe: the names of the tensors in its TFLite files, one module per network."""

from convert.rules.mediapipe import blazeface

RULES = {"blazeface": blazeface.RULE}
