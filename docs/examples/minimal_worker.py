"""A complete Q8_A8 worker: `dequantize_row_q8_a8` and `ggml_vec_dot_q8_a8_q8_a8` in plain Python.

Judge it with:  q8a8 test exec:"python minimal_worker.py"
"""  # noqa: INP001 -- a script, in no package

import json
import struct
import sys
from collections.abc import Iterator


def blocks(row: bytes, count: int) -> Iterator[tuple[float, list[int]]]:
    """Yield the scale and the 32 integers of each block of 34 bytes."""
    for at in range(0, 34 * count, 34):
        scale, *integers = struct.unpack_from("<e32b", row, at)
        yield scale, integers


def dequantize(n: int, x: bytes) -> bytes:
    """Return n floats."""
    return b"".join(struct.pack("<32f", *(h * q for q in qs)) for h, qs in blocks(x, n // 32))


def dot(n: int, x: bytes, y: bytes) -> bytes:
    """Return one float. Both roundings to float32 are right: Python's floats hold over twice its digits."""
    total = 0.0
    for (dx, qx), (dy, qy) in zip(blocks(x, n // 32), blocks(y, n // 32), strict=True):
        product = sum(a * b for a, b in zip(qx, qy, strict=True)) * (dx * dy)
        (rounded,) = struct.unpack("<f", struct.pack("<f", product))
        (total,) = struct.unpack("<f", struct.pack("<f", total + rounded))
    return struct.pack("<f", total)


def send(payload: bytes) -> None:
    """Send one frame: the length, then the payload."""
    sys.stdout.buffer.write(struct.pack("<I", len(payload)) + payload)
    sys.stdout.buffer.flush()


functions = ["dequantize_row_q8_a8", "ggml_vec_dot_q8_a8_q8_a8"]
send(b"H" + json.dumps({"protocol": 1, "name": "minimal", "functions": functions}).encode())
while head := sys.stdin.buffer.read(4):
    message = sys.stdin.buffer.read(*struct.unpack("<I", head))
    if message[:1] == b"Q":
        break
    call, function, n, nrc, count = struct.unpack_from("<IB7xq24xqB", message, 1)
    buffers, at = [], 54
    for _ in range(count):
        (length,) = struct.unpack_from("<I", message, at)  # then 4 bytes of offset, not for us
        buffers.append(message[at + 8 : at + 8 + length])
        at += 8 + length
    if (function, nrc) == (4, 1):
        output = dot(n, buffers[1], buffers[2]) + buffers[0][4:]
    elif function == 2:
        output = dequantize(n, buffers[0]) + buffers[1][4 * n :]
    else:
        send(b"E" + struct.pack("<I", call) + b"not offered")
        continue
    send(b"R" + struct.pack("<IIIBI", call, 0, 0, 1, len(output)) + output)
