"""Event files of TensorBoard, written in the calling thread.

tensorboardX's own writer has a thread, whose errors (a full disk) nobody can catch.
"""

import socket
import time
from pathlib import Path
from typing import Any


class EventFile:
    """A new event file in a directory."""

    def __init__(self, directory: Path, first_step: int) -> None:
        """Begin a file; TensorBoard hides what older ones have from `first_step` on."""
        from tensorboardX.record_writer import RecordWriter  # slow to import

        directory.mkdir(exist_ok=True)
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}"
        self._writer = RecordWriter(str(directory / name))
        self._write(file_version="brain.Event:2")
        if first_step > 1:
            self._write(step=first_step, session_log={"status": "START"})

    def add(self, step: int, scalars: dict[str, float]) -> None:
        """Write the values of a step by name."""
        values = [{"tag": name, "simple_value": value} for name, value in scalars.items()]
        self._write(step=step, summary={"value": values})

    def close(self) -> None:
        """Close the file."""
        self._writer.close()

    def _write(self, **fields: Any) -> None:
        from google.protobuf.json_format import ParseDict
        from tensorboardX.proto.event_pb2 import Event

        event = ParseDict({"wall_time": time.time(), **fields}, Event())
        self._writer.write(event.SerializeToString())
        self._writer.flush()
