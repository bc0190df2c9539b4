"""Small checkpoints and frozen graphs of TensorFlow, by the description of their formats.

A checkpoint that TensorFlow 2.21 wrote with `SaveV2` (64 tensors, an index of one block whose keys
share their beginnings), and a graph that it froze, were read once, and equal to the bit; so were
checkpoints of TensorFlow 2.13 in both formats of all Inceptions that TF-slim has, whose logits then
differed from TF-slim's by at most 2e-6 of the largest.
"""

import struct

import numpy as np

TYPES = {"float32": 1, "float64": 2, "int64": 9, "complex64": 8, "float16": 19}


def varint(number):
    low, high = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(high) if high else bytes([low])


def field(number, value):
    """A number, or the bytes of a message."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def many(number, fields):
    """A field of a message, once for each of the values."""
    return b"".join(field(number, each) for each in fields)


def block(pairs, compression=0):
    """Pairs of key and value, with a checksum that is not looked at."""
    content, before = b"", b""
    for key, value in pairs:
        shared = next(n for n in range(len(key), -1, -1) if before.startswith(key[:n]))
        content += varint(shared) + varint(len(key) - shared) + varint(len(value))
        content += key[shared:] + value
        before = key
    return content + struct.pack("<II", 0, 1), bytes([compression]) + b"\0\0\0\0"


def write_checkpoint(path, tensors, compression=0):
    """Write tensors to `path`, the index, in two blocks, and to the one file of numbers."""
    place, entries, numbers = 0, [(b"", field(1, 1))], []
    for name, array in sorted(tensors.items()):
        array = np.asarray(array)
        entry = field(1, TYPES[array.dtype.name]) + field(2, shape_of(array))
        entry += field(4, place) + field(5, array.nbytes)
        entries.append((name.encode(), entry + b"\x35\0\0\0\0"))
        numbers.append(array.tobytes())
        place += array.nbytes
    path.with_name(f"{path.stem}.data-00000-of-00001").write_bytes(b"".join(numbers))
    return write_table(path, entries, compression)


def write_first_format(path, tensors, slices=1):
    """Write tensors to one file, as TensorFlow did before there was an index."""
    tensors = {name: np.asarray(array) for name, array in sorted(tensors.items())}
    facts = (
        field(1, name.encode()) + field(2, shape_of(array)) + field(3, TYPES[array.dtype.name])
        for name, array in tensors.items()
    )
    entries = [(b"", field(1, many(1, facts)))]
    for name, array in tensors.items():
        flat = array.ravel()[: array.size // slices]
        whole = array.dtype.kind == "i"
        numbers = b"".join(varint(int(each) % 2**64) for each in flat) if whole else flat.tobytes()
        data = field({"float32": 5, "float64": 6, "int64": 10}.get(array.dtype.name, 8), numbers)
        saved = field(1, name.encode()) + field(2, b"") + field(3, data)
        entries.append((b"\0" + name.encode(), field(2, saved)))
    return write_table(path, entries)


def write_table(path, entries, compression=0):
    """Write pairs of key and value in two blocks, and the index of these."""
    table, handles = b"", []
    for part in (entries[:2], entries[2:], []):
        content, end = block(part, compression)
        handles.append((part[-1][0] if part else b"", varint(len(table)) + varint(len(content))))
        table += content + end
    content, end = block(handles[:2])
    footer = handles[2][1] + varint(len(table)) + varint(len(content))
    table += content + end + footer.ljust(40, b"\0") + bytes.fromhex("57fb808b247547db")
    path.write_bytes(table)
    return path


def shape_of(array):
    return many(2, (field(1, size) for size in array.shape))


def node(name, operation, inputs=(), tensor=b""):
    message = field(1, name.encode()) + field(2, operation.encode())
    message += many(3, (given.encode() for given in inputs))
    kind = field(5, field(1, b"dtype") + field(2, field(6, 1)))
    value = field(5, field(1, b"value") + field(2, field(8, tensor)))
    return field(1, message + kind + value * bool(tensor))


def write_graph(path, tensors):
    """Write tensors as constants that are read, before one that is none of the variables."""
    nodes = [node("input", "Placeholder")]
    for name, array in tensors.items():
        array = np.asarray(array)
        numbers = field(4, array.tobytes())
        if array.dtype == np.float32 and array.min() == array.max():  # such numbers stand once
            numbers = field(5, array.tobytes()[: array.itemsize])
        message = field(1, TYPES[array.dtype.name]) + field(2, shape_of(array)) + numbers
        nodes += [node(name, "Const", (), message), node(f"{name}/read", "Identity", [name])]
    other = field(1, 1) + field(2, b"") + field(4, np.float32(2).tobytes())
    path.write_bytes(b"".join([*nodes, node("mul/y", "Const", (), other)]))
    return path
