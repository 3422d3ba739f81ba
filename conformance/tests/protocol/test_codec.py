"""Messages are decoded to what was encoded, and other bytes are refused."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from q8a8_conformance.protocol.codec import (
    check_length,
    decode_call,
    decode_reply,
    encode_call,
    encode_error,
    encode_frame,
    encode_result,
    reply_limit,
)
from q8a8_conformance.protocol.hello import decode_hello, encode_hello
from q8a8_conformance.protocol.messages import (
    MAX_DETAIL,
    MAX_FRAME,
    Buffer,
    Call,
    Error,
    Fault,
    Hello,
    Kernel,
    LoadChange,
    Option,
    Overlap,
    ProtocolError,
    Result,
    Together,
)
from q8a8_conformance.spec.abi import NAMES

I64 = st.integers(-(2**63), 2**63 - 1)
IDS = st.integers(0, 2**32 - 1)


@st.composite
def calls(draw: st.DrawFn, *, nested: bool = True) -> Call:
    """Generate calls with the right number of buffers, some with the extension."""
    call = Call(draw(st.sampled_from(NAMES)), draw(I64), ())
    buffers = draw(
        st.tuples(*[st.builds(Buffer, st.binary(max_size=80), IDS) for _ in call.spec.buffers]),
    )
    return Call(
        call.function,
        call.n,
        buffers,
        bs=draw(I64),
        bx=draw(I64),
        by=draw(I64),
        nrc=draw(I64),
        options=Option(draw(st.integers(0, 127))),
        threads=draw(st.integers(1, 16)),
        repeat=draw(st.integers(1, 2**32 - 1)),
        together=draw(TOGETHER) if nested else None,
    )


TOGETHER = st.none() | st.builds(
    Together, st.integers(0, 2**16 - 1), st.integers(0, 255), st.none() | calls(nested=False)
)


TEXT = st.text(max_size=30)
OPTIONAL_TEXT = st.none() | TEXT
HELLOS = st.builds(
    Hello,
    name=TEXT,
    version=TEXT,
    functions=st.sets(st.sampled_from(NAMES)).map(lambda some: tuple(n for n in NAMES if n in some)),
    capabilities=st.lists(TEXT, max_size=3).map(tuple),
    arch=TEXT,
    features=st.lists(TEXT, max_size=3).map(tuple),
    compiler=OPTIONAL_TEXT,
    flags=OPTIONAL_TEXT,
    emulated=st.none() | st.booleans(),
    kernel=st.none() | st.builds(Kernel, TEXT, TEXT),
    loading=st.none() | st.lists(st.builds(LoadChange, TEXT, TEXT, TEXT), max_size=2).map(tuple),
    extra=st.dictionaries(st.text("abc", min_size=1, max_size=3), st.integers(), max_size=2),
)


@given(calls(), IDS)
def test_call_round_trip(call: Call, call_id: int) -> None:
    """A decoded call equals the encoded one, with its id."""
    assert decode_call(encode_call(call, call_id)) == (call_id, call)


@given(calls(), IDS, st.data())
def test_result_round_trip(call: Call, call_id: int, data: st.DataObject) -> None:
    """A decoded result equals the encoded one, and is within the runner's limit."""
    sizes = [len(call.buffers[place].data) for place in call.spec.outputs]
    outputs = tuple(data.draw(st.binary(min_size=size, max_size=size)) for size in sizes)
    overlap = None
    if call.together:
        other = call.together.other
        lengths = [len(other.buffers[place].data) for place in other.spec.outputs] if other else []
        overlap = Overlap(
            data.draw(st.integers(0, 2**64 - 1)),
            data.draw(IDS),
            data.draw(st.integers(0, 255)),
            tuple(map(bytes, lengths)),
        )
    result = Result(Fault(data.draw(st.integers(0, 4095))), data.draw(TEXT), outputs, overlap)
    payload = encode_result(result, call_id)
    assert len(payload) <= reply_limit(call)
    assert decode_reply(payload, call, call_id) == result


@given(calls(), IDS, TEXT)
def test_error_round_trip(call: Call, call_id: int, text: str) -> None:
    """A decoded refusal equals the encoded one."""
    payload = encode_error(Error(text), call_id)
    assert len(payload) <= reply_limit(call)
    assert decode_reply(payload, call, call_id) == Error(text)


@given(HELLOS)
def test_hello_round_trip(hello: Hello) -> None:
    """A decoded hello equals the encoded one."""
    assert decode_hello(encode_hello(hello)) == hello


CALL = Call("dequantize_row_q8_a8", 32, (Buffer(bytes(34)), Buffer(bytes(128), 4)))
RESULT = encode_result(Result(Fault(0), "", (bytes(128),)), 7)
MESSAGES = [encode_call(CALL, 7), RESULT, encode_error(Error("no"), 7), encode_hello(Hello("x"))]


def decode_as_every_kind(payload: bytes) -> None:
    """Decode bytes as every kind of message; ProtocolError is the only exception allowed."""
    for read in (decode_call, decode_hello, lambda bytes_: decode_reply(bytes_, CALL, 7)):
        try:
            read(payload)
        except ProtocolError as error:
            assert str(error)  # noqa: PT017 -- the bytes may be a legal message


@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_else(payload: bytes) -> None:
    """Random bytes are a message or a ProtocolError."""
    decode_as_every_kind(payload)


@given(st.sampled_from([b"C", b"R", b"E", b"H", b"H{"]), st.binary(max_size=200))
def test_random_bodies_raise_nothing_else(kind: bytes, body: bytes) -> None:
    """Random bytes after a valid kind are a message or a ProtocolError."""
    decode_as_every_kind(kind + body)


@given(st.sampled_from(MESSAGES), st.data())
def test_damaged_messages_raise_nothing_else(message: bytes, data: st.DataObject) -> None:
    """A message with one byte changed, truncated or extended is a message or a ProtocolError."""
    place = data.draw(st.integers(0, len(message) - 1))
    byte = data.draw(st.integers(0, 255))
    decode_as_every_kind(message[:place] + bytes([byte]) + message[place + 1 :])
    decode_as_every_kind(message[:place])
    decode_as_every_kind(message + bytes([byte]))


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
KEYS = (
    "protocol",
    "name",
    "functions",
    "version",
    "capabilities",
    "cpu",
    "compiler",
    "emulated",
    "kernel",
    "loading",
)


@given(st.dictionaries(st.sampled_from(KEYS), JSON), st.booleans())
def test_random_hellos_raise_nothing_else(body: dict[str, Any], usual: bool) -> None:
    """A hello with values of any JSON type is decoded or is a ProtocolError."""
    if usual:
        body = {**body, "protocol": 1, "name": "x", "functions": []}
    decode_as_every_kind(b"H" + json.dumps(body).encode())


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (b"", "empty payload"),
        (b"R", "kind 'R', expected 'C'"),
        (MESSAGES[0][:20], "call needs"),
        (MESSAGES[0][:-1], "buffer 1 needs 128 bytes, the payload has 127"),
        (MESSAGES[0] + b"x", "extension needs 4 bytes, the payload has 1"),
        (MESSAGES[0] + bytes(5), "1 bytes after the end of the call"),
        (MESSAGES[0][:5] + b"\7" + MESSAGES[0][6:], "no function has the number 7"),
        (MESSAGES[0][:8] + b"\200" + MESSAGES[0][9:], "unknown options 0x8000"),
        (MESSAGES[0][:7] + b"\0" + MESSAGES[0][8:], "threads 0"),
        (MESSAGES[0][:7] + b"\21" + MESSAGES[0][8:], "threads 17"),
        (MESSAGES[0][:53] + b"\11" + MESSAGES[0][54:], "9 buffers"),
    ],
)
def test_bad_calls_are_refused(payload: bytes, said: str) -> None:
    """An invalid call is refused with the reason."""
    with pytest.raises(ProtocolError, match=said):
        decode_call(payload)


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (encode_error(Error("no"), 8), "answer to call 8, expected call 7"),
        (encode_result(Result(Fault(0), "", (bytes(128),)), 6), "answer to call 6, expected call 7"),
        (b"R" + struct.pack("<III", 7, 8192, 0) + RESULT[13:], "unknown fault bits 0x2000"),
        (b"R" + struct.pack("<III", 7, 0, 2**31), "at most 65536"),
        (b"R" + struct.pack("<III", 7, 0, 1) + b"\xff" + RESULT[13:], "not UTF-8"),
        (encode_result(Result(Fault(0), "", ()), 7), "0 outputs, dequantize_row_q8_a8 has 1"),
        (encode_result(Result(Fault(0), "", (bytes(127),)), 7), "y has 127 bytes, expected 128"),
        (RESULT + b"x", "1 bytes after the end of the result"),
        (b"H{}", "kind 'H', expected 'R'"),
    ],
)
def test_bad_replies_are_refused(payload: bytes, said: str) -> None:
    """An invalid answer is refused with the reason."""
    with pytest.raises(ProtocolError, match=said):
        decode_reply(payload, CALL, 7)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"[]", "not a JSON object"),
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"\xff", "not JSON"),
        (b'{"protocol": 2, "name": "x", "functions": []}', "protocol 2, this runner supports 1"),
        (b'{"protocol": true, "name": "x", "functions": []}', "protocol True"),
        (b'{"protocol": 1, "functions": []}', "are required"),
        (b'{"protocol": 1, "name": "x", "functions": ["dequantise"]}', "unknown function 'dequantise'"),
        (b'{"protocol": 1, "name": "x", "functions": [1]}', "not a string"),
        (b'{"protocol": 1, "name": "x", "functions": [], "cpu": "arm"}', "'cpu' is 'arm'"),
        (b'{"protocol": 1, "name": "x", "functions": [], "emulated": 1}', "'emulated' is 1"),
        (b'{"protocol": 1, "name": "x", "functions": [], "loading": [1]}', "not an object"),
        (b'{"protocol": 1, "name": "x", "functions": [], "loading": [{"what": 1}]}', "'what' is 1"),
    ],
)
def test_bad_hellos_are_refused(body: bytes, said: str) -> None:
    """An invalid hello is refused with the reason."""
    with pytest.raises(ProtocolError, match=said):
        decode_hello(b"H" + body)


def test_frame_lengths() -> None:
    """A frame's length is that of its payload, 1 to 2^28."""
    assert encode_frame(b"Q") == b"\1\0\0\0Q"
    assert check_length(MAX_FRAME) == MAX_FRAME
    for length in (0, MAX_FRAME + 1, 2**32 - 1):
        with pytest.raises(ProtocolError, match="frame length"):
            check_length(length)
    with pytest.raises(ProtocolError, match="frame length"):
        encode_frame(b"")


def test_long_texts_are_truncated_between_characters() -> None:
    """A text too long for the runner is truncated between characters."""
    payload = encode_error(Error("x" + "é" * MAX_DETAIL), 7)
    reply = decode_reply(payload, CALL, 7)
    assert isinstance(reply, Error)
    assert set(reply.text) == {"x", "é"}
    assert MAX_DETAIL - 1 <= len(reply.text.encode()) <= MAX_DETAIL
