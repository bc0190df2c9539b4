"""Reading any image file."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from flaxmobile import InputError
from flaxmobile.images import open_image

RED, GREEN, BLUE, WHITE = (200, 16, 32), (0, 160, 64), (16, 48, 240), (255, 255, 255)


def _quarters(height=20, width=30):
    """Four colours, no two corners alike: every turn and flip can be told."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = RED
    pixels[: height // 2, width // 2 :] = GREEN
    pixels[height // 2 :, : width // 2] = BLUE
    pixels[height // 2 :, width // 2 :] = WHITE
    return pixels


def _noise(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def _grey():
    return np.linspace(0, 255, 600).reshape(20, 30).astype(np.uint8)


def _save(path, image, **options):
    image.save(path, **options)
    return path


def _read(path):
    image = open_image(path)
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm", "gif", "webp"])
def test_rgb_is_read_as_it_is_whatever_the_format(tmp_path, suffix):
    lossless = {"lossless": True} if suffix == "webp" else {}
    path = _save(tmp_path / f"a.{suffix}", Image.fromarray(_quarters()), **lossless)
    assert (_read(path) == _quarters()).all()


def test_the_suffix_does_not_matter(tmp_path):
    path = _save(tmp_path / "photo", Image.fromarray(_quarters()), format="PNG")
    assert (_read(path) == _quarters()).all()


@pytest.mark.parametrize("mode", ["L", "1", "LA"])
def test_grey_becomes_three_equal_channels(tmp_path, mode):
    grey = np.where(_grey() > 99, 255, 0).astype(np.uint8) if mode == "1" else _grey()
    path = _save(tmp_path / "a.png", Image.fromarray(grey).convert(mode))
    assert (_read(path) == grey[..., None]).all()


def test_16_bit_grey_is_scaled_not_clipped(tmp_path):
    sixteen = _grey().astype(np.uint16) * 257
    for name, image in {
        "a.png": Image.fromarray(sixteen),
        "a.tif": Image.fromarray(sixteen),
        "b.tif": Image.fromarray(sixteen.astype(np.int32)),
    }.items():
        assert (_read(_save(tmp_path / name, image)) == _grey()[..., None]).all()


def test_a_dark_16_bit_image_stays_dark(tmp_path):
    path = _save(tmp_path / "a.png", Image.fromarray(np.full((8, 8), 200, np.uint16)))
    assert (_read(path) == 1).all()


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_wide_types_with_8_bit_values_keep_them(tmp_path, dtype):
    path = _save(tmp_path / "a.tif", Image.fromarray(_grey().astype(dtype)))
    assert (_read(path) == _grey()[..., None]).all()


def test_palette_becomes_its_colours(tmp_path):
    image = Image.fromarray(_quarters()).quantize(4)
    assert image.mode == "P"
    assert (_read(_save(tmp_path / "a.png", image)) == _quarters()).all()


def test_transparent_pixels_are_laid_on_white(tmp_path):
    alpha = np.full((20, 30, 1), 255, np.uint8)
    alpha[:10], alpha[10:, :15] = 0, 128
    path = _save(tmp_path / "a.png", Image.fromarray(np.concatenate([_quarters(), alpha], -1)))
    pixels = _read(path)
    assert (pixels[:10] == 255).all()
    assert (pixels[10:, 15:] == WHITE).all()
    half = (np.array(BLUE) * 128 + 255 * 127) / 255
    assert np.abs(pixels[10:, :15] - half).max() <= 1


@pytest.mark.parametrize("mode", ["P", "RGB", "L"])
def test_a_transparent_colour_is_laid_on_white(tmp_path, mode):
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:, 4:] = 96
    image = Image.fromarray(pixels)
    image = image.quantize(2) if mode == "P" else image.convert(mode)
    black = image.getpixel((0, 0))
    read = _read(_save(tmp_path / "a.png", image, transparency=black))
    assert (read[:, :4] == 255).all()
    assert (read[:, 4:] == 96).all()


def test_cmyk_jpeg_keeps_its_colours(tmp_path):
    image = Image.fromarray(_quarters(32, 32)).convert("CMYK")
    pixels = _read(_save(tmp_path / "a.jpg", image, quality=95)).astype(int)
    assert np.abs(pixels - _quarters(32, 32))[4:12, 4:12].max() < 12
    assert np.abs(pixels - _quarters(32, 32))[20:28, 20:28].max() < 12


def test_the_first_frame_of_an_animation_is_read(tmp_path):
    frames = [Image.fromarray(np.roll(_quarters(), 5 * i, axis=1)) for i in range(3)]
    path = _save(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    assert (_read(path) == _quarters()).all()


UPRIGHT = {  # EXIF orientation -> how the stored pixels are made from the upright ones
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: np.rot90(p, 1),
    7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
    8: lambda p: np.rot90(p, -1),
}


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_is_respected(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(UPRIGHT[orientation](_quarters(32, 48)))
    path = _save(tmp_path / f"a.{suffix}", Image.fromarray(stored), exif=exif)
    pixels = _read(path).astype(int)
    assert pixels.shape == (32, 48, 3)
    assert np.abs(pixels - _quarters(32, 48))[4:12, 4:20].max() < 24  # lossy formats
    assert np.abs(pixels - _quarters(32, 48))[20:28, 4:20].max() < 24


def test_16_bit_and_palette_are_turned_too(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    grey = _save(tmp_path / "a.png", Image.fromarray(_grey().astype(np.uint16) * 257), exif=exif)
    assert (_read(grey)[..., 0] == np.rot90(_grey(), -1)).all()
    palette = _save(tmp_path / "b.png", Image.fromarray(_quarters()).quantize(4), exif=exif)
    assert (_read(palette) == np.rot90(_quarters(), -1)).all()


def test_a_jpeg_with_malformed_exif_is_still_read(tmp_path):
    """An entry whose type does not fit its value: Pillow cannot write it again after turning."""
    entries = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0) + struct.pack(
        "<HHI4s", 0x0100, 2, 4, b"abc"
    )
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 2) + entries + b"\0\0\0\0"
    path = _save(tmp_path / "a.jpg", Image.fromarray(_quarters(32, 48)), exif=exif)
    assert _read(path).shape == (48, 32, 3)


def test_a_missing_file_is_refused_and_named(tmp_path):
    with pytest.raises(InputError, match=r"missing\.jpg cannot be read: No such file"):
        open_image(tmp_path / "missing.jpg")


def test_a_directory_is_refused_and_named(tmp_path):
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        open_image(tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello", b"%PDF-1.4", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image_is_refused_and_named(tmp_path, content):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.jpg (is not an image|cannot be read as an image)"):
        open_image(path)


def _encoded(kind, **options):
    file = io.BytesIO()
    Image.fromarray(_noise(60, 80)).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
def test_a_truncated_file_is_refused_and_named(tmp_path, kind, share):
    content = _encoded(kind)
    path = tmp_path / "a.img"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"a\.img (is not an image|cannot be read as an image)"):
        open_image(path)


@pytest.mark.filterwarnings("ignore")  # Pillow warns of some damage that it can live with
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "AVIF"])
def test_damaged_bytes_give_an_image_or_a_clear_error(tmp_path, kind):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    content = _encoded(kind, **({} if kind == "GIF" else {"exif": exif}))
    rng = np.random.default_rng(0)
    path = tmp_path / "a.img"
    for _ in range(300):
        damaged = bytearray(content)
        for place in rng.integers(0, min(len(content), 300), 8):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            open_image(path)
        except InputError as error:
            assert "a.img" in str(error)


def test_an_image_of_30000_pixels_a_side_is_named(tmp_path):
    """A bitmap's header alone: nothing is decoded."""
    info = struct.pack("<IiiHHIIiiII", 40, 30_000, 30_000, 1, 24, 0, 0, 2835, 2835, 0, 0)
    path = tmp_path / "huge.bmp"
    path.write_bytes(b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + info)
    with pytest.raises(InputError, match=r"huge\.bmp cannot be read .*900000000 pixels"):
        open_image(path)
