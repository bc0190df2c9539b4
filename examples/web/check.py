"""Classify an image on the page in a headless Chromium, and compare with JAX: `make web-check`."""

import functools
import http.server
import re
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import jax
import numpy as np
from PIL import Image

import flaxmobile

_FILES = ("index.html", "style.css", "page.js", "classifier.js", "node_modules")
_CHROMIUM = ("chromium", "--headless", "--no-sandbox", "--virtual-time-budget=20000")
_NAMES = ("daisy", "dandelion", "rose", "sunflower", "tulip")


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Print no requests."""


def main() -> None:
    """Export a small network beside a copy of the page, and see what the page answers."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for each in _FILES:
            (folder / each).symlink_to(Path(__file__).resolve().parent / each)
        expected = _write_model_and_image(folder)
        page = _open(folder, "index.html?image=image.png")
        found = {row[0]: float(row[1]) for row in re.findall(r"<td>(\w+)</td><td>([\d.]+)%", page)}
        print(f"JAX     {expected}\nbrowser {found}")
        same = list(found) == list(expected) and np.allclose(
            list(found.values()), list(expected.values()), atol=0.02
        )
        if not same:
            sys.exit(f"the page answers otherwise:\n{page}")


def _write_model_and_image(folder: Path) -> dict[str, float]:
    """Return the percentages of JAX, the best class first. Nothing is resized on the page."""
    model = flaxmobile.create_model("mobilenet_v1", alpha=0.25, num_classes=len(_NAMES))
    variables = flaxmobile.init(model, jax.random.key(0), image_size=64)
    preprocessing = flaxmobile.Preprocessing((64, 96), resize_size=64)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "image.png")
    logits = model.apply(variables, preprocessing.normalize(pixels[None]))
    variables["params"]["classifier"]["kernel"] *= 2 / logits.std()  # so that the classes differ
    metadata = flaxmobile.Metadata(preprocessing, _NAMES)
    path = folder / "model.onnx"
    flaxmobile.export(
        model, variables, path, "onnx", metadata=metadata, raw_images=True, probabilities=True
    )
    probabilities = jax.nn.softmax(logits[0] * 2 / logits.std())
    order = np.argsort(-probabilities)
    return {_NAMES[i]: round(100 * float(probabilities[i]), 2) for i in order}


def _open(folder: Path, page: str) -> str:
    """Return the document of a page once its scripts have run."""
    handler = functools.partial(_Handler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/{page}"
        words = [*_CHROMIUM, "--dump-dom", address]
        done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=120)
        server.shutdown()
    return done.stdout


if __name__ == "__main__":
    main()
