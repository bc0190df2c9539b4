"""A stand-in for the package gcsfs: buckets are the directories in $BUCKETS.

As in a bucket a file is there once it is whole, and there are no empty directories. While
$BUCKETS/down exists every request fails.
"""

import io
import os
from pathlib import Path

from fsspec import AbstractFileSystem


class GCSFileSystem(AbstractFileSystem):
    protocol = ("gs", "gcs")
    cachable = False

    def ls(self, path, detail=True, **_):
        top = self._local(path)
        inside = [self._info(child) for child in top.rglob("*") if child.is_file()]
        depth = len(Path(self._strip_protocol(path)).parts)
        found = {}
        for entry in inside:
            name = "/".join(Path(entry["name"]).parts[: depth + 1])
            folder = {"name": name, "size": 0, "type": "directory"}
            found[name] = entry if entry["name"] == name else folder
        if not found:
            raise FileNotFoundError(path)
        return list(found.values()) if detail else list(found)

    def info(self, path, **_):
        local = self._local(path)
        if local.is_file():
            return self._info(local)
        self.ls(path)
        return {"name": self._strip_protocol(path), "size": 0, "type": "directory"}

    def rm(self, path, recursive=False, maxdepth=None):
        self._local(path).unlink()

    def _open(self, path, mode="rb", **_):
        local = self._local(path)
        return local.open("rb") if mode == "rb" else Upload(local)

    def _local(self, path):
        root = Path(os.environ["BUCKETS"])
        if (root / "down").exists():
            raise OSError("503 Service Unavailable")
        return root / self._strip_protocol(path)

    def _info(self, local):
        name = local.relative_to(os.environ["BUCKETS"]).as_posix()
        return {"name": name, "size": local.stat().st_size, "type": "file"}


class Upload(io.BytesIO):
    def __init__(self, path):
        super().__init__()
        self.path = path

    def close(self):
        if not self.closed:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            draft = self.path.with_name(f".{self.path.name}.{os.getpid()}")
            draft.write_bytes(self.getvalue())
            draft.replace(self.path)
        super().close()
