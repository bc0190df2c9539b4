"""`flaxmobile pack`: a data set in a few large files, which are faster to read and to copy."""

import dataclasses
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import grain
import tyro
from PIL import Image
from tqdm.auto import tqdm

from flaxmobile.command.flags import check_writable, parse, reading_arguments
from flaxmobile.cores import usable_cores
from flaxmobile.errors import InputError
from flaxmobile.files import written_at_once
from flaxmobile.images import UnreadableImageError
from train.data import open_dataset
from train.data.decoding import EncodedImage
from train.data.packed import write_packed
from train.data.records import Record, Source
from train.data.restarts import restart_interval
from train.data.settings import DataSelection


@dataclasses.dataclass(frozen=True)
class Config(DataSelection):
    """Pack a data set into ArrayRecord files, which `--dataset packed:DIR` reads.

    Without --max-side the images are copied as they are, and training on them gives the same
    batches as on the data set itself.
    """

    dataset: tyro.conf.Positional[str] = dataclasses.field()
    """Data set: folder:PATH, idx:DIR, hf:OWNER/DATASET, digits, or the name of any TFDS dataset."""
    output: Annotated[Path, tyro.conf.arg(metavar="DIR")] = dataclasses.field(kw_only=True)
    """Folder to write; it must not exist."""
    max_side: int | None = None
    """Largest shorter side: larger images are scaled down to it and encoded as JPEG. Twice the
    size of the training images loses little."""
    quality: int = 90
    """Quality of that JPEG, 1 to 95."""
    on_bad_image: Literal["stop", "skip"] = "stop"
    """What to do with a file that cannot be read. Without --max-side images are not decoded, so
    that a damaged one is found in training."""
    seed: int = 0
    """Decides which images --val-split holds out."""

    def check(self) -> None:
        """Raise InputError for values that are not accepted."""
        self.check_selection()
        if self.max_side is not None and self.max_side < 1:
            raise InputError(f"--max-side is {self.max_side}; accepted: 1 and more")
        if not 1 <= self.quality <= 95:
            raise InputError(f"--quality is {self.quality}; accepted: 1 to 95")
        if self.output.exists():
            raise InputError(f"--output {self.output} exists: remove it, or take another name")
        check_writable("--output", self.output)


def main(prog: str, argv: Sequence[str]) -> None:
    """Pack a data set."""
    config = parse(Config, argv, prog)
    with reading_arguments(prog):
        config.check()
    dataset = open_dataset(config.dataset, config.data_dir, config.select(config.seed))
    for note in dataset.notes:
        print(note)
    sources = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    splits = {split: source for split, source in sources.items() if source is not None}
    with written_at_once(config.output, new=True) as draft:
        records = {split: _read(split, source, config) for split, source in splits.items()}
        counts = write_packed(draft, dataset, records)
    size = sum(file.stat().st_size for file in config.output.iterdir())
    images = ", ".join(f"{count} {split}" for split, count in counts.items())
    print(f"wrote {images} images to {config.output} ({size / 1e6:.1f} MB)")
    if skipped := sum(map(len, splits.values())) - sum(counts.values()):
        print(f"{skipped} unreadable images are left out")


def _read(split: str, source: Source, config: Config) -> Iterable[Record]:
    """Read the records of a split in order; images are encoded by several threads."""
    prepare = _Prepare(source, config.max_side, config.quality, config.on_bad_image == "skip")
    threads = usable_cores()
    ahead = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=4 * threads)
    records = grain.MapDataset.range(len(source)).map(prepare).to_iter_dataset(ahead)
    return tqdm(records, split, len(source), unit="image", disable=None)  # None: off in logs


@dataclasses.dataclass(frozen=True)
class _Prepare:
    """Read the record of an index as it is to be packed; None to leave it out."""

    source: Source
    max_side: int | None
    quality: int
    skip_unreadable: bool

    def __call__(self, index: int) -> Record | None:
        try:
            record = self.source[index]
            if self.max_side is None:
                return record
            return record._replace(encoded=_shrink(record, self.max_side, self.quality))
        except UnreadableImageError:
            if not self.skip_unreadable:
                raise
            return None


def _shrink(record: Record, max_side: int, quality: int) -> bytes:
    """Scale an image down until its shorter side is at most max_side pixels."""
    image = EncodedImage(record.encoded, record.name)
    shorter = min(image.size)
    if shorter <= max_side:
        return record.encoded
    whole, place = image.decode_part((0, 0, *image.size), max_side)
    width, height = (round(side * max_side / shorter) for side in image.size)
    file = io.BytesIO()
    resized = whole.resize((width, height), Image.Resampling.BICUBIC, place)
    interval = restart_interval(width)  # so that training decodes crops alone
    resized.save(file, "jpeg", quality=quality, restart_marker_blocks=interval)
    return file.getvalue()
