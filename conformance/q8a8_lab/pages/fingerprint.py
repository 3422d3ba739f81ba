"""The page with one row for each device and kernel: the hash of the fixed product, the same on all."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from q8a8.atomic import write_text
from q8a8_conformance.commands.fingerprint import take
from q8a8_conformance.inputs import fixed_product
from q8a8_conformance.protocol.session import SessionError
from q8a8_conformance.protocol.sut import parse_sut
from q8a8_lab.devices import LEGS, RVV_BITS, vector_loads_resume
from q8a8_lab.native_build import NativeError, find_tool, run_tool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from q8a8_lab.devices import Leg

COMMAND = "python -m q8a8_lab.pages.fingerprint --markdown docs/one-result.md"
TIMEOUT = 300.0

HEAD = f"""# One result on every device

<!-- Made by {COMMAND}; not to be edited by hand. -->

The sum of a block is an integer, exact in any order, and only one multiplication and one addition a block
are rounded. A kernel that adds the blocks of each output in the specification's order has the
specification's bits: on any processor, with any length of vectors, any number of threads. `q8a8
fingerprint SUT` shows it with one number: the SHA-256 of the outputs of one fixed matrix product.

```console
$ q8a8 fingerprint lib:libkernel.so
$ q8a8 fingerprint "exec:ssh board ./q8a8-harness neon"
```

## The table

Each row is a kernel of this project that was run by the command above. *All functions*: the hashes of the
product, of dot products, of quantized and of dequantized rows, as `q8a8 fingerprint` prints them, are
those of the specification. Processors other than x86-64 are emulated, which shows bits and says nothing
about speed.

| kernel | where it ran | SHA-256 of the product | all functions |
| --- | --- | --- | --- |
"""

QEMU_FAULT = """\
`qemu-riscv64` {version}, which ran the rows of RISC-V, goes on wrongly after a vector load that a page fault
has stopped (vectors of {lengths} bits were tried): it calls the reduction behind it
illegal, where `vstart` is 0, as no processor may. `native_check/tests/vstart.c` shows it without a kernel.
The suite stops threads by such faults (Q8A8-ENV-4): a call of `rvv` that crashes there shows nothing about
the kernel. QEMU 10.0.2 goes on rightly.
"""

TAIL = f"""
## The product

W has {fixed_product.M} rows and X has {fixed_product.N}, each of {fixed_product.NB} blocks (k =
{fixed_product.K}): odd numbers, so that every tile, vector and loop has a remainder. Rows are of eight
kinds by their number, so that every kind of weights meets every kind of activations.

All numbers come from a counter: word *i* of stream *s* is output *i* of SplitMix64 with the seed
*s*·2^32, in arithmetic modulo 2^64:

```text
z = (s·2^32 + i + 1) · 0x9E3779B97F4A7C15
z = (z ^ z >> 30) · 0xBF58476D1CE4E5B9
z = (z ^ z >> 27) · 0x94D049BB133111EB
word(s, i) = z ^ z >> 31
```

**Weights.** Block b of row j is number t = {fixed_product.NB}·j + b. Its codes are the bytes of word(0,
4t) to word(0, 4t + 3), little-endian; its scale is made of the low 16 bits v of word(1, t), with the sign
v & 0x8000:

| j mod 8 | scale, without its sign | codes |
| --- | --- | --- |
| 0 | 0x2000 + (v & 0x1fff) | as above |
| 1 | v & 0x7fff; if that is no finite half, without bit 14 | as above |
| 2 | (v & 0x3ff) + 1: subnormal, or the smallest normal | as above |
| 3 | 0x7bff: the largest | as above |
| 4 | as 0 | all -128 where b mod 3 is 0, all 127 where it is 1 |
| 5 | 0 where b mod 3 is 0, else as 0 | as above |
| 6 | as 0 | all 0 where b mod 3 is 0 |
| 7 | 0x2000 + (v & 0x1c00): powers of two, never negative | as above |

**Activations.** Element e of block b of row i is number u = 32·({fixed_product.NB}·i + b) + e. Let w =
word(2, u), h = w >> 32 (modulo 2^32), f = w & 0x7fffff, and p = word(3, {fixed_product.NB}·i + b) mod 20
- 10. The sign of each is bit 31 of w; its other bits are, as a binary32:

| i mod 8 | exponent field, fraction; or value |
| --- | --- |
| 0 | 120 + h mod 16, f |
| 1 | the value (h mod 127 + 1/2)·2^p, and 127·2^p where e is 0: ties |
| 2 | as 1, and its bits + 1 or - 1 where h's top bit is 1 or 0; where e is 0, + b mod 2 |
| 3 | where b is even 107 + h mod 6, f: scales that vanish or are subnormal; where b is odd 0, f: subnormal |
| 4 | 140 + h mod 10, f & 0x3fffff; where e is 0, +8321039.5, just below the end of the domain |
| 5 | a zero where h is even or b mod 3 is 0, else as 0 |
| 6 | 100 + h mod 50, f & 0x3fffff |
| 7 | as 0, the low 16 bits zero: bfloat16 |

**Hashed** are float32 [n, m] of the product, little-endian, row after row; the blocks of X; the floats of
W; and the floats of W_j · X_(j mod n) for every j, then of W_j · W_(j + 8 mod m).

The expected hashes are constants of `q8a8_conformance.inputs.fixed_product`. NumPy computes the whole; a
test compares outputs of each of the 64 pairs of kinds, whole rows of blocks and of floats with the exact
oracle in integers and fractions, from inputs that the test makes for itself from this definition. """


def row(leg: Leg) -> str:
    """Run a leg and return its row.

    Raises
    ------
    NativeError, SessionError
        It cannot be built or run here.
    """
    with parse_sut(leg.sut()).session(TIMEOUT, start_timeout=60) as session:
        found = list(take(session, session.hello.functions))
    same = "yes" if all(each.same for each in found) else "**no**"
    product = f"`{str(found[0].sha256)[:16]}…` {'same' if found[0].same else '**differs**'}"
    return f"| {leg.kernel} | {leg.where} | {product} | {same} ({len(found)}) |"


def emulator() -> str:
    """Return a paragraph on QEMU's fault in RISC-V's vector loads; nothing where it has none.

    Raises
    ------
    NativeError
        That cannot be tried here.
    """
    wrong = [bits for bits in RVV_BITS if not vector_loads_resume(bits)]
    if not wrong:
        return ""
    version = run_tool([find_tool("qemu-riscv64"), "--version"]).split()[2]
    return "\n" + QEMU_FAULT.format(version=version, lengths=", ".join(map(str, wrong)))


def render() -> Iterator[str]:
    """Yield the page; a leg that does not run here is named on standard error and left out."""
    yield HEAD
    for leg in LEGS:
        try:
            yield f"{row(leg)}\n"
        except (NativeError, SessionError) as error:
            sys.stderr.write(f"not run: {leg.kernel} {leg.where}: {error}\n")
    yield emulator()
    yield TAIL


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--markdown", type=Path, required=True, metavar="FILE")
    options = parser.parse_args()
    write_text("".join(render()), options.markdown)


if __name__ == "__main__":
    main()
