"""The worker protocol: the messages with which the suite requests calls of a kernel and receives results.

The suite never loads a kernel into its own process. It starts a *worker* and exchanges messages over the
worker's standard input and output. Anything else that a worker prints must go to standard error.

Frames
------
All integers are little-endian. ``str`` and JSON are UTF-8. Every message is one frame::

    frame    u32 length, payload[length]          length is 1 .. 2^28; anything else breaks the stream
    payload  u8 kind, body

    'H'  worker → runner   hello; once, first
    'C'  runner → worker   call
    'R'  worker → runner   result of a call
    'E'  worker → runner   u32 id, text: the call was refused (function not offered, bad buffers, the kernel
                           raised an exception); the worker goes on
    'Q'  runner → worker   quit: exit with status 0. End of input means the same.

Calls and answers alternate: a worker sends nothing unrequested, and each answer has the call's ``id``.

Hello
-----
The body is one JSON object. ``protocol`` (1), ``name`` (str) and ``functions`` (the ABI names offered) are
required; ``version``, ``compiler`` and ``flags`` are strings or null; ``capabilities`` is a list of strings
(see below); ``cpu`` is ``{"arch": str, "features": [str]}``; ``emulated`` is true, false or null (not known);
``kernel`` is ``{"path": str, "sha256": str}`` or null. ``loading`` is a list of what loading the library
(``when``: ``load``) or its initializer (``init``) left changed in the process, each
``{"when": str, "what": str, "detail": str}``; it is missing or null where the worker does not look. Unknown
keys are kept in `Hello.extra`.

Call
----
::

    u32 id      u8 function   u8 options   u8 threads   u8 0   u32 repeat
    i64 n       i64 bs        i64 bx       i64 by       i64 nrc
    u8 nbuf     nbuf × { u32 length, u32 offset, bytes[length] }

``function`` is the index in `q8a8_conformance.spec.abi.FUNCTIONS`. ``n`` is ``k``, ``size`` or ``n``; of
`mul_mat_q8_a8` ``n`` is k, ``bs`` is m and ``bx`` is n. Integers that a function does not take are 0 (``nrc``
1) and ignored. Buffers are in the order of the
function's pointers, outputs included: their bytes are the contents before the call.

=====  =============  =================================================================================
bit    option         the worker
=====  =============  =================================================================================
1      GUARD_AFTER    puts each buffer so that the byte after it is on an inaccessible page
2      GUARD_BEFORE   puts each buffer so that the byte before it is on an inaccessible page
4      READONLY       maps the inputs read-only
8      FLUSH          calls with flush-to-zero and denormals-are-zero set; where it repeats the call, by turns
                      with both, with the first and with the second, and once more with another precision
                      of the x87 unit, whatever that gives
16     SHARED_INPUTS  places all inputs in one block of memory, where they may overlap or be the same
32     STATE          compares the process's state before and after the calls; errno is ERANGE before
64     ROWS           makes ``repeat`` calls, each on the next of as many equal parts of every buffer
128    WATCHED        watches the bytes next to the buffers, wherever these lie, with watchpoints
=====  =============  =================================================================================

At most one of the two guard options is set. Without one a buffer starts ``offset`` bytes after a 64-byte
boundary; with one the offset is ignored. Around every buffer, up to the page borders, lie canary bytes (0xA5)
that are checked after the call.

With SHARED_INPUTS the offsets of the inputs count from one and the same boundary, and where inputs overlap
their bytes are equal. Guards lie after the last, or before the first, byte of all inputs; with them only the
differences of the offsets count. It goes with ``threads`` 1 alone.

``threads`` > 1: that many threads call at once, with the same inputs and their own outputs. A worker may use
inputs of zeros in its odd-numbered threads, so that state shared between calls is detected; results are
compared among threads with the same inputs.
``repeat``: consecutive calls by each thread, with the outputs restored in between. The result is the output
of the first call of the first thread. With ROWS it is the output of all calls: each buffer holds ``repeat``
equal parts, one for each call, which follow each other without a gap. It goes with ``threads`` 1 alone.

To a worker with the capability ``overlap`` the runner may send more behind the buffers::

    u16 milliseconds   u8 fresh   u8 other   [the body of the other call, with the same id]

``milliseconds``: the threads go on calling for at least so long. Calls must be in progress at the same time,
whatever else the machine does: a thread is stopped in the middle of a call until each other one has made one.
``fresh`` > 0: the call is to be the first one of a process. The worker makes it in so many copies of itself
(`fork`) and answers with the result of the first copy in which something is wrong. ``other``: odd-numbered
threads make the other call instead of one with zeros.

Result
------
::

    u32 id      u32 faults    u32 length, detail (str)
    u8 nout     nout × { u32 length, bytes[length] }        the output buffers, in order

The answer to a call with the extension goes on with::

    u64 nanoseconds   u32 stops   u8 copies   u8 nout   nout × { u32 length, bytes[length] }

in which at least two calls were in progress; how many calls were stopped while each other thread made one; in
how many copies of the worker the call was made (0: in itself); the other call's outputs (``nout`` is 0
without one).

=====  =====================  ===========================================================================
bit    fault                  detected by the worker
=====  =====================  ===========================================================================
1      INPUT_WRITTEN          an input's bytes changed
2      WROTE_OUTSIDE          a canary changed
4      ROUNDING_MODE_CHANGED  the rounding mode (or x87 precision) differs after the call
8      FLUSH_MODE_CHANGED     a flush-to-zero or denormals-are-zero bit differs after the call
16     RESULT_VARIES          a repeated call gave other bytes (one thread)
32     THREAD_RESULT_VARIES   a call gave other bytes while several threads called
64     TRAP_MASK_CHANGED      the exception masks differ after the call
128    CONVENTION_BROKEN      a callee-saved register, the direction flag or the x87 tag word differs
256    PROCESS_CHANGED        signals, locale, working directory, umask, limits or affinity differ (STATE)
512    RESOURCES_KEPT         descriptors or memory are kept, more with each call (STATE)
1024   OUTPUT_OR_THREAD       standard output was written, or a thread was left running (STATE)
2048   STACK_EXCEEDED         the call used more stack than the budget (STATE)
4096   READ_OUTSIDE           a byte next to a buffer was read, where that crosses no page (WATCHED)
=====  =====================  ===========================================================================

``detail`` describes the faults in a line or two; it may be empty. A worker that can continue after a fault
does so (it restores the floating-point environment).

Capabilities
------------
``guard``, ``readonly``, ``offset`` (memory placement), ``fenv`` (faults 4, 8, 64), ``repeat``, ``threads``,
``flush``, ``registers`` (fault 128), ``stack`` (2048), ``state`` (256, 512, 1024), ``shared``, ``overlap``
(the extension for calls of several threads), ``rows`` and ``watch`` (the options ROWS and WATCHED): what the
worker supports. A worker ignores options for which it has no capability (the runner sends FLUSH,
SHARED_INPUTS, STATE, ROWS, WATCHED and the extension only to one that has it); a rule that needs a missing
capability is reported as not run. A minimal worker has none.

Exit status
-----------
0 after quit; 77 before the hello: this machine's CPU lacks what the kernel needs (the reason on standard
error); 2 before the hello: the command line cannot be served (no such library, symbol or object).

The messages are dataclasses here; `q8a8_conformance.protocol.codec` and `q8a8_conformance.protocol.hello`
encode and decode them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from q8a8_conformance.spec.abi import Function, get_function

if TYPE_CHECKING:
    from collections.abc import Mapping

PROTOCOL_VERSION = 1
MAX_FRAME = 2**28
"""The largest payload, in bytes."""
MAX_HELLO = 2**20
"""The largest hello that the runner accepts, in bytes."""
MAX_DETAIL = 2**16
"""The largest ``detail`` or refusal text that the runner accepts, in bytes."""
MAX_THREADS = 16
MAX_BUFFERS = 8

CAPABILITIES = (
    "guard",
    "readonly",
    "offset",
    "fenv",
    "repeat",
    "threads",
    "flush",
    "shared",
    "overlap",
    "registers",
    "stack",
    "state",
    "ahead",
    "rows",
    "own-thread",
    "turns",
    "watch",
)
"""All capabilities of the protocol."""

LOAD_FLUSHING = "Q8A8_LOAD_FLUSHING"
"""Variable of a worker's environment: if set, flush modes are set while it loads a library."""

EXIT_USAGE = 2
"""Exit status of a worker whose command line cannot be served."""
EXIT_UNSUPPORTED = 77
"""Exit status of a worker whose kernel needs a CPU feature that is missing."""

BytesLike: TypeAlias = bytes | bytearray | memoryview


class ProtocolError(Exception):
    """Bytes are not a legal message; the text describes the error."""


class Option(enum.IntFlag):
    """Options of a call."""

    GUARD_AFTER = 1
    GUARD_BEFORE = 2
    READONLY = 4
    FLUSH = 8
    SHARED_INPUTS = 16
    STATE = 32
    ROWS = 64
    WATCHED = 128
    OWN_THREAD = 256


NO_OPTIONS = Option(0)
"""A plain call."""


class Fault(enum.IntFlag):
    """Side effects of a call that the worker detected."""

    INPUT_WRITTEN = 1
    WROTE_OUTSIDE = 2
    ROUNDING_MODE_CHANGED = 4
    FLUSH_MODE_CHANGED = 8
    RESULT_VARIES = 16
    THREAD_RESULT_VARIES = 32
    TRAP_MASK_CHANGED = 64
    CONVENTION_BROKEN = 128
    PROCESS_CHANGED = 256
    RESOURCES_KEPT = 512
    OUTPUT_OR_THREAD = 1024
    STACK_EXCEEDED = 2048
    READ_OUTSIDE = 4096


NO_FAULTS = Fault(0)
"""A call without side effects. (To make a flag of a number costs more than most of what a call needs.)"""

STACK_BUDGET = 6 * 2**20
"""Bytes of stack that a call may use (Q8A8-ENV-8)."""


@dataclass(frozen=True)
class LoadChange:
    """What loading a library, or its initializer, left changed in the process.

    Parameters
    ----------
    when : str
        ``load`` or ``init``.
    what : str
        A slug: ``flush-mode``, ``signal-mask``; see `q8a8_conformance.suite.load_effects`.
    detail : str
        The values before and after.
    """

    when: str
    what: str
    detail: str


@dataclass(frozen=True)
class Kernel:
    """The file that holds the kernel: its path on the worker's machine, and its SHA-256 in hex."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Hello:
    """A worker's description of itself and its kernel.

    Parameters
    ----------
    name, version : str
        Of the kernel; the version may be empty.
    functions, capabilities : tuple of str
        The ABI names offered; the protocol capabilities supported.
    arch : str
        The machine's architecture as its kernel calls it (``x86_64``, ``aarch64``); empty if unknown.
    features : tuple of str
        CPU features as the operating system names them.
    compiler, flags : str or None
        The compiler of the kernel and its flags.
    emulated : bool or None
        Whether the CPU is emulated; None if unknown.
    kernel : Kernel or None
        The file under test.
    loading : tuple of LoadChange or None
        What loading the kernel left changed; None if the worker did not look.
    extra : mapping
        Keys of the hello that this version of the protocol does not know.
    """

    name: str
    version: str = ""
    functions: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    arch: str = ""
    features: tuple[str, ...] = ()
    compiler: str | None = None
    flags: str | None = None
    emulated: bool | None = None
    kernel: Kernel | None = None
    loading: tuple[LoadChange, ...] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True, unsafe_hash=True)
class Buffer:
    """A buffer of a call: its bytes before the call, and its offset from a 64-byte boundary.

    With `Option.SHARED_INPUTS` the offsets of all inputs count from the same boundary.
    """

    data: BytesLike
    offset: int = 0


@dataclass(slots=True, unsafe_hash=True)
class Together:
    """How several threads call at the same time, for workers with the capability ``overlap``.

    Parameters
    ----------
    milliseconds : int
        The least time for which they go on.
    fresh : int
        Processes in which the call is the first one; 0 for the worker's own process, as it is.
    other : Call or None
        The call of odd-numbered threads; the same one with inputs of zeros without it. With one thread, the
        call that comes before each of many.
    """

    milliseconds: int = 0
    fresh: int = 0
    other: Call | None = None


@dataclass(slots=True, unsafe_hash=True)
class Call:
    """One call of one function.

    Parameters
    ----------
    function : str
        ABI name.
    n : int
        Elements: ``k``, ``size`` or ``n``.
    buffers : tuple of Buffer
        In the order of the function's pointers, outputs included.
    bs, bx, by, nrc : int
        The other integers of `ggml_vec_dot_q8_a8_q8_a8`; of `mul_mat_q8_a8` m is ``bs``, n is ``bx``.
    options : Option
        Memory placement and flush mode.
    threads, repeat : int
        Threads that call at once (1 to 16), calls in a row by each (at least 1).
    together : Together or None
        More about calls of several threads; only for workers with the capability ``overlap``.
    """

    function: str
    n: int
    buffers: tuple[Buffer, ...]
    bs: int = 0
    bx: int = 0
    by: int = 0
    nrc: int = 1
    options: Option = NO_OPTIONS
    threads: int = 1
    repeat: int = 1
    together: Together | None = None

    @property
    def spec(self) -> Function:
        """The function's entry in the ABI table."""
        return get_function(self.function)


@dataclass(slots=True, unsafe_hash=True)
class Overlap:
    """How far the calls of several threads overlapped.

    Parameters
    ----------
    nanoseconds : int
        The time in which at least two calls were in progress.
    stops : int
        How many calls were stopped in the middle while each other thread made one.
    copies : int
        In how many copies of the worker the call was made; 0 if in the worker itself.
    others : tuple of bytes
        The output buffers of the other call, in order.
    """

    nanoseconds: int = 0
    stops: int = 0
    copies: int = 0
    others: tuple[bytes, ...] = ()


@dataclass(slots=True, unsafe_hash=True)
class Result:
    """A worker's answer.

    Parameters
    ----------
    faults, detail : Fault, str
        What was observed, and a text about it.
    outputs : tuple of bytes
        The output buffers after the call, in order.
    overlap : Overlap or None
        The answer to `Call.together`.
    """

    faults: Fault
    detail: str
    outputs: tuple[bytes, ...]
    overlap: Overlap | None = None


@dataclass(frozen=True)
class Error:
    """A worker's refusal of a call."""

    text: str
