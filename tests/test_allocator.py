"""`keep_freed_memory`: large buffers that come back cause no page faults."""

import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, resource
from flaxmobile.allocator import keep_freed_memory

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    buffer = libc.malloc(ctypes.c_size_t(2**26))
    ctypes.memset(buffer, 1, 2**26)
    libc.free(buffer)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

{call}
faults()
print(faults())
"""


@pytest.mark.parametrize(("call", "expected"), [("", False), ("assert keep_freed_memory()", True)])
def test_a_buffer_that_comes_back_is_there_already(call, expected):
    words = [sys.executable, "-c", PROGRAM.format(call=call)]
    run = subprocess.run(words, capture_output=True, text=True, check=True)
    assert (int(run.stdout) < 100) == expected
