"""The wire format of protocol buffers: fields by number, without a schema.

Source: protobuf.dev, "Encoding".
"""

from collections.abc import Iterator

Fields = dict[int, int | bytes]
"""The fields of a message by number, the last of each."""

_FIXED = {1: 8, 5: 4}
"""Kind of a field of fixed size -> its bytes."""


def read_varint(content: bytes, place: int) -> tuple[int, int]:
    """Read a whole number of 7 bits a byte.

    Returns:
      The number, and the place after it.

    Raises:
      ValueError: it has more than 64 bits.
      IndexError: the content ends in it.
    """
    number, shift = 0, 0
    while True:
        byte = content[place]
        number |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return number, place
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def read_varints(content: bytes) -> list[int]:
    """Read all whole numbers of a packed field; those of 64 bits are read as signed.

    Raises:
      ValueError, IndexError: the field is damaged.
    """
    numbers, place = [], 0
    while place < len(content):
        number, place = read_varint(content, place)
        numbers.append(number - (number >> 63 << 64))
    return numbers


def read_fields(content: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the fields of a message in their order: the number of each, and its value.

    Numbers of fixed size are yielded as bytes.

    Raises:
      ValueError, IndexError: the message is damaged.
    """
    place = 0
    while place < len(content):
        tag, place = read_varint(content, place)
        kind = tag & 7
        if kind == 0:
            number, place = read_varint(content, place)
            yield tag >> 3, number
            continue
        size = _FIXED.get(kind, 0)
        if kind == 2:
            size, place = read_varint(content, place)
        if kind not in (1, 2, 5) or place + size > len(content):
            raise ValueError("a field of an unknown kind, or one that goes beyond its message")
        yield tag >> 3, content[place : place + size]
        place += size


def number_of(fields: Fields, place: int) -> int:
    """Return a number of a message; absent ones are 0.

    Raises:
      ValueError: it is no number.
    """
    number = fields.get(place, 0)
    if not isinstance(number, int):
        raise ValueError("bytes in the place of a number")
    return number


def bytes_of(fields: Fields, place: int) -> bytes:
    """Return the bytes of a text, or of a message, in a message; absent ones are empty.

    Raises:
      ValueError: they are a number.
    """
    return as_bytes(fields.get(place, b""))


def as_bytes(value: int | bytes) -> bytes:
    """Return the value of a field that is a text or a message.

    Raises:
      ValueError: it is a number.
    """
    if isinstance(value, int):
        raise ValueError("a number in the place of bytes")
    return value
