"""The harness refuses invalid calls and exits on broken streams, and never crashes."""

from __future__ import annotations

import random
import struct
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.protocol.codec import encode_call, encode_frame
from q8a8_conformance.protocol.messages import Buffer, Call, Option
from q8a8_conformance.protocol.session import Session

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    Run = Callable[..., subprocess.CompletedProcess[bytes]]

BLOCK = bytes([0, 0x3C, *range(32)])
DOT = Call("ggml_vec_dot_q8_a8_q8_a8", 32, (Buffer(bytes(4)), Buffer(BLOCK), Buffer(BLOCK)))
SHIFTED = replace(
    DOT, buffers=(Buffer(bytes(4)), Buffer(BLOCK), Buffer(BLOCK, 2)), options=Option.SHARED_INPUTS
)
ROWS = Call("quantize_row_q8_a8", 32, (Buffer(bytes(256)), Buffer(bytes(68))), options=Option.ROWS, repeat=2)
QUIT = encode_frame(b"Q")
REPEAT_AT, REPEAT_END = 9, 13
"""The place of `repeat` in a call's payload, which random changes must not increase."""


def frames(data: bytes) -> list[bytes]:
    """Split a stream into payloads; every byte must belong to one."""
    found = []
    while data:
        (length,) = struct.unpack_from("<I", data)
        assert 1 <= length <= len(data) - 4
        found.append(data[4 : 4 + length])
        data = data[4 + length :]
    return found


def error_of(payload: bytes) -> tuple[int, str]:
    """Return the id and the text of an 'E' message."""
    assert payload[:1] == b"E"
    return struct.unpack_from("<I", payload, 1)[0], payload[5:].decode()


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (b"\x01", "input ends inside a frame's length"),
        (b"\x05\0\0\0Q", "input ends inside a frame of 5 bytes"),
        (b"\0\0\0\0", "a frame of 0 bytes"),
        (b"\xff\xff\xff\xff", "a frame of 4294967295 bytes"),
        (b"\x01\0\0\x10C", "a frame of 268435457 bytes"),
        (encode_frame(b"X"), "a frame of kind 0x58"),
        (encode_frame(b"\0" * 100), "a frame of kind 0x00"),
    ],
)
@pytest.mark.parametrize("preset", ["native", "asan"])
def test_broken_streams(
    stream: bytes, message: str, preset: str, harness: Callable[..., list[str]], run: Run
) -> None:
    """A broken stream is status 2 with a message, after earlier calls were answered."""
    done = run(harness("scalar", preset=preset), encode_frame(encode_call(DOT, 1)) + stream)
    assert done.returncode == 2
    assert done.stderr.startswith(b"q8a8-harness: broken stream: ")
    assert message in done.stderr.decode()
    assert [payload[:1] for payload in frames(done.stdout)] == [b"H", b"R"]


@pytest.mark.parametrize("stream", [b"", QUIT, QUIT + b"not read after quit"])
def test_ends(stream: bytes, harness: Callable[..., list[str]], run: Run) -> None:
    """End of input and quit are status 0; only the hello was sent."""
    done = run(harness("scalar"), stream)
    assert (done.returncode, done.stderr) == (0, b"")
    assert [payload[:1] for payload in frames(done.stdout)] == [b"H"]


def test_claimed_length_takes_no_memory(harness: Callable[..., list[str]], run: Run) -> None:
    """A frame that claims 256 MiB but is short is read in less memory than that."""
    limited = ["/bin/sh", "-c", 'ulimit -v 131072 && exec "$@"', "sh", *harness("scalar")]
    done = run(limited, struct.pack("<I", 2**28) + b"C" * 1000)
    assert done.returncode == 2
    assert b"input ends inside a frame" in done.stderr


def changed(at: int, layout: str, value: int) -> bytes:
    """Return DOT's payload with id 77 and one field changed."""
    payload = bytearray(encode_call(DOT, 77))
    struct.pack_into(layout, payload, at, value)
    return bytes(payload)


REFUSED = [
    (changed(5, "<B", 7), "no function has the number 7"),
    (changed(5, "<B", 255), "no function has the number 255"),
    (changed(6, "<B", 3), "GUARD_AFTER and GUARD_BEFORE exclude each other"),
    (encode_call(SHIFTED, 77), "SHARED_INPUTS: the inputs differ where they overlap"),
    (encode_call(replace(SHIFTED, threads=2), 77), "SHARED_INPUTS goes with one thread"),
    (changed(7, "<B", 0), "expected threads 1 to 16 and repeat at least 1"),
    (changed(7, "<B", 17), "expected threads 1 to 16 and repeat at least 1"),
    (changed(9, "<I", 0), "expected threads 1 to 16 and repeat at least 1"),
    (changed(13, "<q", -32), "n = -32: expected 0 to 2147483647 elements"),
    (changed(13, "<q", 2**31), "n = 2147483648: expected 0 to 2147483647 elements"),
    (changed(13, "<q", 33), "n = 33 is not a multiple of 32"),
    (changed(13, "<q", 64), "buffer vx has 34 bytes, the call needs 68"),
    (changed(45, "<q", 3), "nrc = 3: expected 1 or 2"),
    (changed(45, "<q", 2), "buffer s has 4 bytes, the call needs 8"),
    (changed(53, "<B", 2), "ggml_vec_dot_q8_a8_q8_a8 has 3 buffers, the call 2"),
    (changed(53, "<B", 255), "ggml_vec_dot_q8_a8_q8_a8 has 3 buffers, the call 255"),
    (changed(54, "<I", 2**32 - 1), "buffer s is truncated"),
    (changed(58, "<I", 2**32 - 1), "buffer s: expected an offset of at most 65536"),
    (changed(58, "<I", 2), "buffer s would not be aligned to 4 bytes"),
    (encode_call(replace(ROWS, threads=2), 77), "ROWS goes with one thread"),
    (encode_call(replace(ROWS, repeat=3), 77), "ROWS: a buffer does not hold equal, aligned parts"),
    (encode_call(replace(ROWS, repeat=68), 77), "ROWS: a buffer does not hold equal, aligned parts"),
    (encode_call(replace(ROWS, n=64), 77), "buffer x has 128 bytes, the call needs 256"),
    (encode_call(DOT, 77) + b"!", "1 bytes after the last buffer"),
    (encode_call(DOT, 77)[:-1], "buffer vy is truncated"),
    (encode_call(DOT, 77)[:53], "the call is truncated"),
]


@pytest.mark.parametrize(("payload", "message"), REFUSED, ids=[text for _, text in REFUSED])
@pytest.mark.parametrize("preset", ["native", "asan"])
def test_refusals(
    payload: bytes, message: str, preset: str, harness: Callable[..., list[str]], run: Run
) -> None:
    """An invalid call is refused with the reason and its id; the next one is made."""
    after = encode_frame(encode_call(DOT, 78))
    done = run(harness("scalar", preset=preset), encode_frame(payload) + after + QUIT)
    assert (done.returncode, done.stderr) == (0, b"")
    hello, refusal, result = frames(done.stdout)
    assert hello[:1] == b"H"
    assert error_of(refusal) == (77, message)
    assert result[:5] == b"R" + struct.pack("<I", 78)


@pytest.mark.parametrize("preset", ["native", "asan"])
def test_rows(preset: str, harness: Callable[..., list[str]]) -> None:
    """With ROWS a call is made on each part of the buffers; the results follow each other."""
    rng = random.Random(3)  # noqa: S311 -- repeatable, not secret
    parts = [struct.pack("<32f", *(rng.uniform(-9, 9) for _ in range(32))) for _ in range(3)]
    outputs = Buffer(b"\x77" * 102)
    with Session(harness("scalar", preset=preset)) as session:
        many = session.call(replace(ROWS, buffers=(Buffer(b"".join(parts)), outputs), repeat=3))
        blocks = [
            bytes(session.call(Call(ROWS.function, 32, (Buffer(part), Buffer(bytes(34))))).outputs[0])
            for part in parts
        ]
        assert bytes(many.outputs[0]) == b"".join(blocks)
        assert len(set(blocks)) == 3
        x, y = (Buffer(b"".join(bytes(blocks[i]) for i in order)) for order in ((0, 1, 2), (0, 0, 1)))
        dots = session.call(replace(DOT, buffers=(Buffer(bytes(12)), x, y), repeat=3, options=Option.ROWS))
        floats = [
            bytes(
                session.call(
                    replace(DOT, buffers=(DOT.buffers[0], Buffer(blocks[i]), Buffer(blocks[j])))
                ).outputs[0]
            )
            for i, j in ((0, 0), (1, 0), (2, 1))
        ]
        assert bytes(dots.outputs[0]) == b"".join(floats)
        assert not many.faults | dots.faults


@pytest.mark.parametrize("stride", ["bs", "bx", "by"])
@pytest.mark.parametrize("value", [-1, 2**32, 2**63 - 1, -(2**63)])
def test_invalid_strides(stride: str, value: int, harness: Callable[..., list[str]], run: Run) -> None:
    """With nrc = 2 a stride out of range is refused; with nrc = 1 it is ignored."""
    buffers = (Buffer(bytes(400)), Buffer(BLOCK * 2), Buffer(BLOCK * 2))
    strides = {"bs": 2, "bx": 34, "by": 34, stride: value}
    call = Call("ggml_vec_dot_q8_a8_q8_a8", 32, buffers, strides["bs"], strides["bx"], strides["by"], nrc=2)
    calls = [call, replace(call, nrc=1)]
    stream = b"".join(encode_frame(encode_call(call, i)) for i, call in enumerate(calls))
    done = run(harness("scalar", preset="ubsan"), stream)
    _, refusal, result = frames(done.stdout)
    assert error_of(refusal) == (0, f"stride {value}: out of range")
    assert result[:1] == b"R"


def test_missing_function(harness: Callable[..., list[str]], built: Callable[..., object], run: Run) -> None:
    """A function that the library lacks is refused."""
    library = f"{built('native')}/lib/libq8a8-broken.so"
    done = run(harness(f"--lib {library}"), encode_frame(encode_call(DOT, 5)))
    assert error_of(frames(done.stdout)[1]) == (5, "this kernel does not offer the function")


def test_memory_is_bounded(harness: Callable[..., list[str]], run: Run) -> None:
    """Sixteen copies of a large output are refused."""
    buffers = (Buffer(bytes(34)), Buffer(bytes(80 << 20)))
    call = Call("dequantize_row_q8_a8", 32, buffers, threads=16)
    done = run(harness("scalar"), encode_frame(encode_call(call, 5)))
    assert error_of(frames(done.stdout)[1]) == (
        5,
        "the buffers of all threads together are larger than 1 GiB",
    )


@pytest.mark.parametrize("preset", ["native", "asan", "ubsan"])
def test_mutated_calls(preset: str, harness: Callable[..., list[str]], run: Run) -> None:
    """Two thousand calls with random bytes changed are each answered, with their ids."""
    rng = random.Random(2)  # noqa: S311 -- repeatable, not secret
    row = BLOCK * 4
    originals = [
        DOT,
        Call("ggml_vec_dot_q8_a8_q8_a8", 64, (Buffer(bytes(40)), Buffer(row), Buffer(row)), 3, 68, 68, 2),
        Call("quantize_row_q8_a8", 64, (Buffer(bytes(256)), Buffer(bytes(68)))),
        Call("dequantize_row_q8_a8", 64, (Buffer(BLOCK * 2), Buffer(bytes(256))), options=Option.READONLY),
        Call("quantize_activation_q8_a8", 37, (Buffer(bytes(148)), Buffer(bytes(37)), Buffer(bytes(2)))),
    ]
    stream = b""
    count = 2000
    for i in range(count):
        payload = bytearray(encode_call(originals[i % len(originals)], i))
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(5, len(payload))
            if not REPEAT_AT <= at < REPEAT_END:
                payload[at] = rng.choice((0, 1, 2, 3, 255, rng.randrange(256)))
        stream += encode_frame(bytes(payload))
    done = run(harness("scalar", preset=preset), stream)
    assert done.returncode == 0, done.stderr.decode()
    answers = frames(done.stdout)[1:]
    assert [struct.unpack_from("<I", answer, 1)[0] for answer in answers] == list(range(count))
    kinds = [answer[:1] for answer in answers]
    assert set(kinds) == {b"R", b"E"}
    assert min(kinds.count(b"R"), kinds.count(b"E")) > 200
