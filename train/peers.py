"""Notice at once when another process of a run has died, and end too.

JAX notices by itself after a while, and then aborts with a trace of its C++ code.
"""

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator

_FAREWELL = b"."
_SECONDS = 10.0


@contextlib.contextmanager
def watching(
    index: int, count: int, hosts: list[str], exchange: Callable[[int], int], lost: str
) -> Iterator[None]:
    """Keep a connection between the first process and each other one, for the time of a block.

    A process that dies closes its connections. Where none can be opened, nothing is watched.

    Args:
      index: of this process.
      count: of all processes.
      hosts: names of the first process's host, to be tried.
      exchange: returns the first process's number in all of them.
      lost: what to say when a connection breaks; the process then ends with status 1.
    """
    connections: list[socket.socket] = []
    with contextlib.ExitStack() as stack:
        if index == 0:
            server = stack.enter_context(socket.create_server(("", 0)))
            server.settimeout(_SECONDS)
            exchange(server.getsockname()[1])
            with contextlib.suppress(TimeoutError):
                while len(connections) < count - 1:
                    connections.append(stack.enter_context(server.accept()[0]))
        else:
            port = exchange(0)
            for host in hosts:
                with contextlib.suppress(OSError):
                    connection = socket.create_connection((host, port), _SECONDS)
                    connections.append(stack.enter_context(connection))
                    break
        for connection in connections:
            connection.settimeout(None)
            threading.Thread(target=_watch, args=(connection, lost), daemon=True).start()
        yield
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.sendall(_FAREWELL)


def _watch(connection: socket.socket, lost: str) -> None:
    with contextlib.suppress(OSError):
        if connection.recv(1) == _FAREWELL:
            return
    leave(lost)


def leave(message: str) -> None:
    """End at once, without JAX's own farewell, which waits for all processes."""
    sys.stdout.flush()
    os.write(2, f"\n{message}\n".encode())
    os._exit(1)
