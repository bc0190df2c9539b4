"""Image files whose pixels are decoded when they are used, as far as a crop needs them."""

import functools
import io
import math

from PIL import Image, ImageFile

from flaxmobile.images import orientation, read_errors, register_heif, to_rgb, upright_size
from train.data.restarts import Box, read_restarts

Place = tuple[float, float, float, float]
"""A box whose edges may lie between pixels."""

_REDUCTIONS = (8, 4, 2)
"""Divisors of both sides at which PIL decodes JPEG files."""

_MARGIN = 2.5
"""Least size of a part decoded at reduced scale, as a multiple of what it is then scaled to.

libjpeg-turbo then leaves out high frequencies that the scaling would leave out too. On 14
photographs in JPEG of quality 90, with and without chroma subsampling, scaled by PIL with
"bilinear" or "bicubic", the result differs from that of a full decode by 0.37 of 255 on average at
1/2, 0.45 at 1/4 and 0.60 at 1/8, and by 0.89 in the worst photograph. With a margin of 2 the worst
is 1.75, with 1.25 it is 2.94. Photographs of 4000×3000 pixels decode 2 to 3.5 times faster.
"""

_JPEG = b"\xff\xd8\xff"


class EncodedImage:
    """An image file, upright and in RGB.

    Attributes:
      size: (width, height) in pixels.
    """

    def __init__(self, encoded: bytes, name: str, divisible: bool = True) -> None:
        """Read the header.

        Args:
          encoded: content of the file.
          name: of the file, for messages.
          divisible: whether parts may be cut out at restart markers.

        Raises:
          UnreadableImageError: here and while decoding, not an image, or a truncated one.
        """
        self._encoded, self._name = encoded, name
        self._decoded: Image.Image | None = None
        self._restarts = read_restarts(encoded) if divisible else None
        self._is_turned = False
        if self._restarts is not None:
            self.size = self._restarts.size
            return
        with read_errors(name):
            self._is_turned = orientation(self._file) != 1
            self.size = upright_size(self._file)
        if self._file.format not in ("JPEG", "MPO"):  # others cannot be reduced; TIFF turns itself
            self.size = self.decode().size

    @functools.cached_property
    def _file(self) -> ImageFile.ImageFile:
        register_heif()
        formats = ["JPEG"] if self._encoded.startswith(_JPEG) else None  # None: try one by one
        return Image.open(io.BytesIO(self._encoded), formats=formats)

    def decode(self) -> Image.Image:
        """Decode all pixels."""
        if self._decoded is None:
            with read_errors(self._name):
                self._decoded = to_rgb(self._file)
        return self._decoded

    def decode_part(self, box: Box, side: int | None = None) -> tuple[Image.Image, Place]:
        """Decode a part, at reduced scale if it is scaled to much fewer pixels afterwards.

        Args:
          box: the part.
          side: pixels of each side that the part is scaled to with antialiasing; None: it is not.

        Returns:
          An image that contains the part, and the part's place in it. At full scale this is the
          whole image.
        """
        if self._restarts is not None:
            encoded, (x, y) = self._restarts.cut(self._encoded, box)
            part = EncodedImage(encoded, self._name, divisible=False)
            return part.decode_part((box[0] - x, box[1] - y, box[2] - x, box[3] - y), side)
        scale = 1.0
        if side is not None:
            scale = self._reduce(min(box[2] - box[0], box[3] - box[1]) / (_MARGIN * side))
        left, top, right, bottom = (edge / scale for edge in box)
        x, y = int(left), int(top)
        crop = self.decode().crop((x, y, math.ceil(right), math.ceil(bottom)))
        return crop, (left - x, top - y, right - x, bottom - y)

    def _reduce(self, most: float) -> float:
        """Choose the scale of decoding, 1/most or larger; return its divisor."""
        width, height = self._file.size
        for divisor in _REDUCTIONS:
            # The last pixel of a side that the divisor does not divide covers less than the
            # others: it has to stay the last.
            fits = not self._is_turned or width % divisor == height % divisor == 0
            if divisor <= most and fits:
                drafted = self._file.draft(None, (width // divisor, height // divisor))
                return 1.0 if drafted is None else width / drafted[1][2]
        return 1.0
