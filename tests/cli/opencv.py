"""A stand-in for OpenCV: what `flaxmobile predict` calls, on frames in memory."""

import types

import numpy as np


class Capture:
    """A video of 8 frames at 4 a second, or a camera without end; frames are BGR."""

    def __init__(self, source):
        self.source, self.place, self.released = source, -1, False

    def isOpened(self):  # noqa: N802
        return self.source in ("clip.mp4", "empty.mp4", 0)

    def grab(self):
        self.place += 1
        return self.source == 0 or self.place < 8 * (self.source != "empty.mp4")

    def retrieve(self):
        return True, frame(self.place)[..., ::-1]

    def get(self, of):
        return {"fps": 4.0, "milliseconds": self.place * 250.0}[of]

    def release(self):
        self.released = True


def frame(number):
    """The pixels of a frame: RGB [32, 40, 3]."""
    return np.random.default_rng(number).integers(0, 256, (32, 40, 3), np.uint8)


def stand_in():
    """The module, which remembers what it has opened in `opened`."""
    module = types.SimpleNamespace(opened=[])

    def video_capture(source):
        module.opened.append(Capture(source))
        return module.opened[-1]

    module.VideoCapture = video_capture
    module.CAP_PROP_FPS, module.CAP_PROP_POS_MSEC, module.COLOR_BGR2RGB = "fps", "milliseconds", 4
    module.cvtColor = lambda pixels, code: np.ascontiguousarray(pixels[..., ::-1])
    return module
