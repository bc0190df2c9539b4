"""Large buffers that are reused cause no page faults, and threads have heaps of their own."""

import subprocess
import sys

BEGIN = """
import ctypes, resource, threading
import jax, jax.numpy as jnp
from flaxmobile.allocator import keep_freed_memory, run_in_calling_thread

libc = ctypes.CDLL(None)
libc.prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: a huge page would be one fault for 512
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def faults_of(call):
    # The fewest over many calls: a small block may split a large one that was freed. In one process
    # of 14 with 8 devices, each of the first 8 calls or more allocates a new one for that reason.
    found = []
    for _ in range(32):
        before = faults()
        call()
        found.append(faults() - before)
    return min(found)
"""

BUFFER = """
def reuse_buffer():
    buffer = libc.malloc(ctypes.c_size_t(2**26))
    ctypes.memset(buffer, 1, 2**26)
    libc.free(buffer)

print(faults_of(reuse_buffer))
assert keep_freed_memory()
print(faults_of(reuse_buffer))
"""

XLA = """
@jax.jit
def with_large_buffer(x):
    return jnp.dot(jnp.dot(x, x.T), x)  # the inner product takes 100 MB

x = jnp.ones((5000, 2))
with_large_buffer(x).block_until_ready()
print(all(with_large_buffer(x).is_ready() for _ in range(8)))
print(faults_of(lambda: with_large_buffer(x).block_until_ready()))
"""

HEAPS = """
thread = threading.Thread(target=lambda: libc.malloc(64))
thread.start()
thread.join()
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""

TRAIN = """
import train.loop

def stop(config):
    raise InterruptedError

train.loop.open_mirror = stop
try:
    train.loop.train(None)
except InterruptedError:
    pass
"""


def run(*parts):
    words = [sys.executable, "-c", "\n".join((BEGIN, *parts))]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()


def test_a_buffer_that_is_reused_causes_no_page_faults():
    before, after = map(int, run(BUFFER))
    assert before > 1000
    assert after < 100


def test_training_reuses_the_large_buffers_of_its_programs():
    """It runs them in its own thread, and has thousands of page faults fewer than by default."""
    synchronous, faults = run(XLA)
    assert (synchronous, int(faults) > 1000) == ("False", True)
    synchronous, faults = run(TRAIN, XLA)
    assert (synchronous, int(faults) < 1000) == ("True", True)


def test_threads_have_heaps_of_their_own():
    assert 'nr="1">' in run("keep_freed_memory()", HEAPS)
