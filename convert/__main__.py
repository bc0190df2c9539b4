"""`python -m convert`: from reference weights to a weights directory, or back to torch or Keras."""

import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__" and sys.path[0] == str(Path.cwd()) != str(Path(__file__).parents[1]):
    del sys.path[0]  # the user's folder, which may have a train.py or convert.py

from convert.back import convert_back, write_back
from convert.config import Config
from convert.problems import FillError
from convert.published.fetching import Fetched, fetch, scheme_of
from convert.published.loading import convert_fetched
from convert.verification import find_images
from flaxmobile.command import flags, streams
from flaxmobile.errors import InputError
from flaxmobile.files import written_at_once
from flaxmobile.tasks import resolve_name
from flaxmobile.weights import save_weights

PROG = "python -m convert"


def main(argv: Sequence[str] | None = None, prog: str = PROG) -> int:
    """Run the command and return its exit status."""

    def run() -> None:
        config = flags.parse(Config, sys.argv[1:] if argv is None else argv, prog)
        with flags.reading_arguments(prog):
            config.check()
        if config.output.exists():
            raise InputError(
                f"{config.output} exists already; remove it or choose another --output"
            )
        if config.library:
            write_file(config, config.library)
        else:
            write_directory(config)

    return streams.run(prog, run)


def write_directory(config: Config) -> None:
    """Write a weights directory from a file of reference weights."""
    model = None if config.model is None else resolve_name(config.model)
    images = find_images(config.verify)
    if scheme_of(config.weights):
        fetched = fetch(str(config.weights), model, config.chosen.get("alpha"))
    else:
        fetched = Fetched(config.weights, str(model))
    try:
        found = convert_fetched(
            fetched,
            source=config.source,
            chosen=config.chosen,
            stated=config.stated,
            images=images,
            selection=config.selection,
        )
    except FillError as error:
        write_report(config.report, error.report())
        raise
    write_report(config.report, found.report())
    filled = found.filled
    save_weights(config.output, found.model_name, filled.options, filled.variables, found.metadata)
    print("\n".join([*found.describe(), f"wrote {config.output}"]))


def write_report(path: Path | None, text: str) -> None:
    """Write the user's report, if there is to be one."""
    if path is not None:
        with written_at_once(path) as draft:
            draft.write_text(f"{text}\n", encoding="utf-8")


def write_file(config: Config, library: str) -> None:
    """Write a file of a library from a weights directory."""
    found = convert_back(config.weights, config.source, library)
    write_back(config.output, found)
    print(f"found {found.model_name} with {found.model.size_text()}")
    print(f"wrote {config.output}: {len(found.tensors)} tensors under {found.origin}'s names")


if __name__ == "__main__":
    sys.exit(main())
