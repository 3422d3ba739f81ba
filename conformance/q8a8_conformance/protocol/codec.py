"""Encode and decode messages of the worker protocol, without any input or output.

Decoding is strict: bytes that are not a legal message raise `ProtocolError`, and no other exception.
The layouts are described in `q8a8_conformance.protocol.messages`.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from functools import cache

from q8a8_conformance.protocol.messages import (
    MAX_BUFFERS,
    MAX_DETAIL,
    MAX_FRAME,
    MAX_THREADS,
    NO_FAULTS,
    Buffer,
    BytesLike,
    Call,
    Error,
    Fault,
    Option,
    Overlap,
    ProtocolError,
    Result,
    Together,
)
from q8a8_conformance.spec.abi import FUNCTIONS, get_function

LENGTH = struct.Struct("<I")
_CALL = struct.Struct("<IBBBBIqqqqqB")
_BUFFER = struct.Struct("<II")
_RESULT = struct.Struct("<III")
_TOGETHER = struct.Struct("<HBB")
_OVERLAP = struct.Struct("<QIB")
_OPTIONS = tuple(Option(bits) for bits in range(512))
"""Every set of options by its bits: to make a flag of a number takes microseconds."""
_ALL_FAULTS = 8191
_BUFFER_NAMES = tuple(f"buffer {index}" for index in range(MAX_BUFFERS))


class Reader:
    """Reads a payload from the front; every read is checked against the bytes left.

    Parameters
    ----------
    payload : bytes-like
        The bytes to read. Slices are views, not copies.
    """

    def __init__(self, payload: BytesLike) -> None:
        self.view = memoryview(payload)
        self.at = 0

    def take(self, count: int, what: str) -> memoryview:
        """Return the next ``count`` bytes; ``what`` names them in errors."""
        left = len(self.view) - self.at
        if count > left:
            raise ProtocolError(f"{what} needs {count} bytes, the payload has {left} left")
        self.at += count
        return self.view[self.at - count : self.at]

    def unpack(self, layout: struct.Struct, what: str) -> tuple[int, ...]:
        """Return the next integers."""
        end = self.at + layout.size
        if end > len(self.view):
            self.take(layout.size, what)  # raises
        values = layout.unpack_from(self.view, self.at)
        self.at = end
        return values

    def text(self, count: int, what: str) -> str:
        """Return the next ``count`` bytes as UTF-8."""
        if count > MAX_DETAIL:
            raise ProtocolError(f"{what} has {count} bytes, at most {MAX_DETAIL} are allowed")
        try:
            return str(self.take(count, what), "utf-8")
        except UnicodeDecodeError as error:
            raise ProtocolError(f"{what} is not UTF-8: {error}") from None

    def end(self, what: str) -> None:
        """Raise unless everything was taken."""
        if self.at != len(self.view):
            raise ProtocolError(f"{len(self.view) - self.at} bytes after the end of the {what}")


def encode_frame(payload: BytesLike) -> bytes:
    """Prefix a payload with its length.

    Raises
    ------
    ProtocolError
        The payload is empty or longer than `MAX_FRAME`.
    """
    return LENGTH.pack(check_length(len(payload))) + payload


def check_length(length: int, limit: int = MAX_FRAME) -> int:
    """Return a frame's length if it is legal and at most ``limit``; raise ProtocolError if not."""
    if not 1 <= length <= limit:
        raise ProtocolError(f"frame length {length} is not in 1 .. {limit}")
    return length


def kind_of(payload: BytesLike) -> str:
    """Return the kind of a payload, one character."""
    if not len(payload):
        raise ProtocolError("empty payload")
    return chr(payload[0])


def body_of(payload: BytesLike, kind: str) -> Reader:
    """Return a reader of the body of a payload that must be of ``kind``."""
    found = kind_of(payload)
    if found != kind:
        raise ProtocolError(f"message of kind {found!r}, expected {kind!r}")
    reader = Reader(payload)
    reader.take(1, "kind")
    return reader


def encode_call(call: Call, call_id: int) -> bytes:
    """Return the payload of a call."""
    parts: list[BytesLike] = [
        b"C",
        _CALL.pack(
            call_id,
            call.spec.number,
            call.options & 0xFF,
            call.threads,
            call.options >> 8,
            call.repeat,
            call.n,
            call.bs,
            call.bx,
            call.by,
            call.nrc,
            len(call.buffers),
        ),
    ]
    for buffer in call.buffers:
        parts += (_BUFFER.pack(len(buffer.data), buffer.offset), buffer.data)
    if call.together:
        other = call.together.other
        parts.append(_TOGETHER.pack(call.together.milliseconds, call.together.fresh, other is not None))
        if other:
            parts.append(encode_call(other, call_id)[1:])
    return b"".join(parts)


def decode_call(payload: BytesLike) -> tuple[int, Call]:
    """Decode a call and its id. The buffers' data are views of the payload.

    Raises
    ------
    ProtocolError
        The payload is truncated or too long; the function, an option or the thread count is unknown or out of
        range. Whether the buffers fit the function is checked by the worker.
    """
    reader = body_of(payload, "C")
    call_id, call = _read_call(reader)
    if reader.at < len(reader.view):
        milliseconds, fresh, has_other = reader.unpack(_TOGETHER, "extension")
        other = _read_call(reader)[1] if has_other else None
        call = replace(call, together=Together(milliseconds, fresh, other))
    reader.end("call")
    return call_id, call


def _read_call(reader: Reader) -> tuple[int, Call]:
    """Read a call's id, fields and buffers."""
    call_id, number, options, threads, more, repeat, n, bs, bx, by, nrc, count = reader.unpack(_CALL, "call")
    if number >= len(FUNCTIONS):
        raise ProtocolError(f"call: no function has the number {number}")
    options |= more << 8
    if options >= len(_OPTIONS):
        raise ProtocolError(f"call: unknown options {options:#x}")
    if not 1 <= threads <= MAX_THREADS or repeat < 1:
        raise ProtocolError(f"call: threads {threads} (1 .. {MAX_THREADS}) or repeat {repeat} (from 1)")
    if count > MAX_BUFFERS:
        raise ProtocolError(f"call: {count} buffers, at most {MAX_BUFFERS}")
    buffers = []
    for what in _BUFFER_NAMES[:count]:
        length, offset = reader.unpack(_BUFFER, what)
        buffers.append(Buffer(reader.take(length, what), offset))
    name = FUNCTIONS[number].name
    return call_id, Call(name, n, tuple(buffers), bs, bx, by, nrc, _OPTIONS[options], threads, repeat)


def encode_result(result: Result, call_id: int) -> bytes:
    """Return the payload of a result; a detail too long for the runner is truncated."""
    detail = _truncated(result.detail)
    parts = [
        b"R",
        _RESULT.pack(call_id, result.faults, len(detail)),
        detail,
        *_encode_outputs(result.outputs),
    ]
    if result.overlap:
        overlap = result.overlap
        parts += (
            _OVERLAP.pack(overlap.nanoseconds, overlap.stops, overlap.copies),
            *_encode_outputs(overlap.others),
        )
    return b"".join(parts)


def _encode_outputs(outputs: tuple[bytes, ...]) -> list[bytes]:
    """Encode output buffers: their number, then each with its length."""
    return [bytes([len(outputs)]), *(part for each in outputs for part in (LENGTH.pack(len(each)), each))]


def encode_error(error: Error, call_id: int) -> bytes:
    """Return the payload of a refusal; a text too long for the runner is truncated."""
    return b"E" + LENGTH.pack(call_id) + _truncated(error.text)


def _truncated(text: str) -> bytes:
    """Encode as UTF-8 in at most `MAX_DETAIL` bytes, without splitting a character."""
    return text.encode("utf-8", "replace")[:MAX_DETAIL].decode("utf-8", "ignore").encode()


def reply_limit(call: Call) -> int:
    """Return the length of the longest legal reply to a call, in bytes; nothing longer is read."""
    limit = 1 + _RESULT.size + MAX_DETAIL + _outputs_size(call)
    if call.together:
        limit += _OVERLAP.size + _outputs_size(call.together.other)
    return limit


def _outputs_size(call: Call | None) -> int:
    """Return how many bytes a call's outputs take in a result."""
    if call is None:
        return 1
    places = call.spec.outputs
    return 1 + LENGTH.size * len(places) + sum(len(call.buffers[place].data) for place in places)


def decode_reply(payload: BytesLike, call: Call, call_id: int) -> Result | Error:
    """Decode the reply to ``call``, which was sent as ``call_id``.

    Raises
    ------
    ProtocolError
        The payload is neither a result nor a refusal, has another id or unknown faults, or its outputs differ
        from the call's in number or length.
    """
    kind = kind_of(payload)
    if kind == "E":
        reader = body_of(payload, "E")
        (found,) = reader.unpack(LENGTH, "id")
        _check_id(found, call_id)
        return Error(reader.text(len(reader.view) - reader.at, "refusal"))
    reader = body_of(payload, "R")
    found, faults, length = reader.unpack(_RESULT, "result")
    _check_id(found, call_id)
    if faults & ~_ALL_FAULTS:
        raise ProtocolError(f"result: unknown fault bits {faults:#x}")
    detail = reader.text(length, "detail")
    outputs = _read_outputs(reader, call)
    overlap = None
    if call.together:
        nanoseconds, stops, copies = reader.unpack(_OVERLAP, "overlap")
        overlap = Overlap(nanoseconds, stops, copies, _read_outputs(reader, call.together.other))
    reader.end("result")
    return Result(Fault(faults) if faults else NO_FAULTS, detail, outputs, overlap)


def _read_outputs(reader: Reader, call: Call | None) -> tuple[bytes, ...]:
    """Read the outputs of a call; none for no call."""
    count = reader.take(1, "output count")[0]
    if call is None:
        if count:
            raise ProtocolError(f"result: {count} outputs, there is no other call")
        return ()
    places = _output_names(call.function)
    if count != len(places):
        raise ProtocolError(f"result: {count} outputs, {call.function} has {len(places)}")
    outputs = []
    for place, name in places:
        (length,) = reader.unpack(LENGTH, name)
        expected = len(call.buffers[place].data)
        if length != expected:
            raise ProtocolError(f"result: {name} has {length} bytes, expected {expected}")
        outputs.append(bytes(reader.take(length, name)))
    return tuple(outputs)


@cache
def _output_names(function: str) -> tuple[tuple[int, str], ...]:
    """Return which buffers of a function are outputs, and how errors call them."""
    spec = get_function(function)
    return tuple((place, f"output {spec.buffers[place].name}") for place in spec.outputs)


def _check_id(found: int, expected: int) -> None:
    if found != expected:
        raise ProtocolError(f"answer to call {found}, expected call {expected}")
