"""Repositories of the Hugging Face Hub: their weights and their config.json, through its library.

The library caches files where all that use it do (`HF_HOME`, `HF_HUB_CACHE`), continues broken
transfers, locks against other processes, and works offline afterwards (`HF_HUB_OFFLINE`). It does
not compare what came with the SHA-256 that the Hub states, so this is done here.
"""

import re
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from convert.published.downloads import Digest
from flaxmobile.errors import InputError, first_line, pip_install

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""Files of weights, the first of which a repository has is taken; timm writes both."""
CONFIG = "config.json"
_SHA256 = re.compile("[0-9a-f]{64}")


class UnreachableError(InputError):
    """The Hub cannot be reached, or must not be, and the file is not in the cache."""


class Repository(NamedTuple):
    """A repository at a revision: a branch, a tag or a commit; by default its main branch."""

    name: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Repository":
        """Read OWNER/REPOSITORY or OWNER/REPOSITORY@REVISION.

        Raises:
          InputError: it is neither.
        """
        name, at, revision = text.partition("@")
        owner, slash, own = name.partition("/")
        if not (owner and slash and own) or "/" in own or (at and not revision):
            raise InputError(
                f"hf:{text} is no repository; accepted: hf:OWNER/REPOSITORY[@REVISION]"
            )
        return cls(name, revision or None)

    def __str__(self) -> str:
        return f"hf:{self.name}@{self.revision}" if self.revision else f"hf:{self.name}"


def fetch_weights(repository: Repository) -> Path:
    """Fetch the weights of a repository into the library's cache, or find them there.

    Raises:
      InputError: huggingface_hub is not installed, there is no such repository, it has no weights,
        or they cannot be fetched.
    """
    path = fetch_file(repository, *WEIGHTS)
    if path is None:
        raise InputError(f"{repository} has no weights; accepted: {' or '.join(WEIGHTS)}")
    return path


def fetch_file(repository: Repository, *names: str) -> Path | None:
    """Fetch the first of these files that a repository has; None if it has none of them.

    Raises:
      UnreachableError: the Hub cannot be reached, and none is in the cache.
      InputError: as `fetch_weights`.
    """
    library, unreachable = import_hub(), None
    for name in names:
        try:
            found = library.hf_hub_download(
                repository.name,
                name,
                revision=repository.revision,
                library_name="flaxmobile",
                local_files_only=unreachable is not None,  # the library has tried for 20 s already
            )
        except library.errors.LocalEntryNotFoundError as error:  # unreachable, and not in the cache
            unreachable = unreachable or error
        except library.errors.EntryNotFoundError:
            continue
        except Exception as error:  # the libraries beneath raise anything, from OSError to theirs
            raise InputError(f"{repository} cannot be fetched: {explain(error)}") from None
        else:
            return _verified(repository, Path(found))
    if unreachable is not None:
        raise UnreachableError(f"{repository} cannot be fetched: {explain(unreachable)}") from None
    return None


def import_hub() -> ModuleType:
    """Import huggingface_hub.

    Raises:
      InputError: it is not installed.
    """
    try:
        import huggingface_hub.errors
    except ImportError:
        raise InputError(
            f"the Hugging Face Hub needs huggingface_hub: {pip_install('hub')}"
        ) from None
    return huggingface_hub


def _verified(repository: Repository, path: Path) -> Path:
    """Compare a file with the SHA-256 that the Hub states, by which the cache calls it."""
    stored = path.resolve()
    if _SHA256.fullmatch(stored.name) and not Digest("sha256", stored.name).fits(stored):
        path.unlink()
        stored.unlink(missing_ok=True)
        raise InputError(
            f"{repository} has a {path.name} that is damaged: its SHA-256 is not the one that "
            "the Hub states; it was removed from the cache, so the next try fetches it again"
        )
    return path


def explain(error: BaseException) -> str:
    """Say the reason of the library's error in one line; its own begins with what it tried."""
    errors = import_hub().errors
    known = {
        errors.GatedRepoError: "its owner asks to accept terms first, on its page",
        errors.RepositoryNotFoundError: "there is no such repository, or it is private and "
        "`hf auth login` would log in",
        errors.RevisionNotFoundError: "it has no such revision",
    }
    for kind, reason in known.items():
        if isinstance(error, kind):
            return reason
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return first_line(error if error.__cause__ is None else error.__cause__)
