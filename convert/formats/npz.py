"""NumPy's archives, `.npz`: arrays by name."""

import zipfile
from pathlib import Path

import numpy as np

from convert.formats.contents import Contents
from convert.formats.keras_names import count_from_0, names_of_weights
from flaxmobile.errors import InputError

_ACCEPTED = "accepted: arrays of float32 under the names of torch's or Keras's tensors"


def read_npz(path: Path) -> Contents:
    """Read an archive that `numpy.savez` wrote; Keras's names are made those of its other files.

    Raises:
      InputError: the file is damaged, or holds Python objects, no arrays, or arrays without names.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError):
        raise InputError(
            f"{path} is damaged, or not an archive of arrays of NumPy's; {_ACCEPTED}"
        ) from None
    if not arrays or any(name.startswith("arr_") for name in arrays):
        raise InputError(f"{path} holds no arrays with names; {_ACCEPTED}")
    unique = count_from_0(names_of_weights(name for name in arrays if "/" in name))
    return Contents({unique.get(name, name): array for name, array in arrays.items()})
