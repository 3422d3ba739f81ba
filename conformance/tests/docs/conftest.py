"""Fixtures of the pages' tests: the pages, and their pseudocode over exact numbers.

The pseudocode computes with `Real`, a fraction with a signed zero. `f32` and `roundf` are implemented here
with integers; everything else, `f16` included, is defined on the pages.
"""

from __future__ import annotations

import fcntl
import functools
import importlib.util
import math
import os
import re
import struct
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from q8a8_lab.pages.site import build

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROOT = Path(__file__).resolve().parents[3]
# The pages with pseudocode, in the order in which it is run.
PAGES = (
    "half-precision",
    "layout",
    "quantization",
    "dequantization",
    "dot-product",
    "orders",
    "matrix-product",
    "operations",
)
BLOCK = re.compile(r'^```python title="pseudocode"\n(?P<code>.*?)^```$', re.MULTILINE | re.DOTALL)


@functools.total_ordering
class Real:
    """A real number with a signed zero: exact arithmetic with IEEE-754's signs."""

    __slots__ = ("negative", "value")

    def __init__(self, value: Fraction | int, *, negative_zero: bool = False) -> None:
        self.value = Fraction(value)
        self.negative = self.value < 0 or (self.value == 0 and negative_zero)

    @staticmethod
    def of(other: object) -> Real:
        """Return a number as a Real; Python's integer 0 is +0."""
        if isinstance(other, Real):
            return other
        assert isinstance(other, int | Fraction), f"the pseudocode uses {other!r}"
        return Real(other)

    def __add__(self, other: object) -> Real:
        """Add; a zero sum is -0 only if both are."""
        b = Real.of(other)
        return Real(self.value + b.value, negative_zero=self.negative and b.negative)

    def __mul__(self, other: object) -> Real:
        """Multiply, with the sign of a zero."""
        b = Real.of(other)
        return Real(self.value * b.value, negative_zero=self.negative != b.negative)

    def __truediv__(self, other: object) -> Real:
        """Divide, with the sign of a zero."""
        b = Real.of(other)
        return Real(self.value / b.value, negative_zero=self.negative != b.negative)

    def __rtruediv__(self, other: object) -> Real:
        """Divide a number by this."""
        return Real.of(other) / self

    def __neg__(self) -> Real:
        """Flip the sign, also of a zero."""
        return self * -1

    def __sub__(self, other: object) -> Real:
        """Subtract."""
        return self + -Real.of(other)

    def __pow__(self, exponent: int) -> Real:
        """Raise to an integer power."""
        return Real(self.value**exponent)

    def __abs__(self) -> Real:
        """Drop the sign, also of a zero."""
        return Real(abs(self.value))

    def __floor__(self) -> int:
        """Round down to an integer."""
        return math.floor(self.value)

    def __eq__(self, other: object) -> bool:
        """Compare values; the zeros are equal."""
        return self.value == Real.of(other).value

    def __lt__(self, other: object) -> bool:
        """Compare values."""
        return self.value < Real.of(other).value

    def __hash__(self) -> int:
        """Hash consistently with equality."""
        return hash(self.value)

    __radd__, __rmul__ = __add__, __mul__


def f32(x: object) -> Real:
    """Round to binary32, ties to even."""
    real = Real.of(x)
    size = abs(real.value)
    exponent = -126
    if size >= Fraction(1, 2**126):
        exponent = size.numerator.bit_length() - size.denominator.bit_length()
        exponent -= size < Fraction(2) ** exponent
    place = Fraction(2) ** (exponent - 23)
    # Python rounds a Fraction to an integer with ties to even.
    rounded = round(size / place) * place
    assert rounded < 2**128, "the pseudocode overflows"
    return Real(-rounded if real.negative else rounded, negative_zero=real.negative)


def roundf(x: Real) -> int:
    """Round to the nearest integer, halves away from zero, as C's roundf does."""
    size = math.floor(abs(x.value) + Fraction(1, 2))
    return -size if x.negative else size


def float_to_real(bits: int) -> Real:
    """Return the number of a finite float's bits."""
    number = struct.unpack("<f", struct.pack("<I", bits))[0]
    return Real(Fraction(number), negative_zero=math.copysign(1, number) < 0)


def real_to_float(real: Real) -> int:
    """Return the bits of a number that must be a float."""
    number = math.copysign(float(real.value), -1 if real.negative else 1)
    bits: int = struct.unpack("<I", struct.pack("<f", number))[0]
    assert float_to_real(bits).value == real.value, "not a float: a rounding is missing in the pseudocode"
    return bits


HELPERS: Mapping[str, Callable[..., Any]] = {
    "f32": f32,
    "floor": math.floor,
    "is_negative": lambda x: Real.of(x).negative,
    "power_of_two": lambda e: Real(Fraction(2) ** e),
    "real": Real,
    "roundf": roundf,
}


class Pseudocode:
    """The pages' functions, over the bits of floats and halves."""

    def __init__(self, names: Mapping[str, Any]) -> None:
        self.names = names

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 -- whatever a page defines
        """Return the page's definition of a name."""
        return self.names[name]

    float_to_real = staticmethod(float_to_real)
    real_to_float = staticmethod(real_to_float)
    real = Real


@pytest.fixture(scope="session")
def docs() -> Path:
    """Return the folder of the pages."""
    return ROOT / "docs"


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, need: Callable[[object, str], None]) -> Path:
    """Build the site, both languages, once for all workers of a run, and return its folder."""
    for module in ("mkdocs", "material", "mkdocstrings", "mathjax"):
        need(importlib.util.find_spec(module), f"{module} is not installed")
    base = tmp_path_factory.getbasetemp()
    # (A worker of pytest-xdist has a folder of its own in the run's folder.)
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    with (shared / "site.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "site" / "ko" / "index.html").is_file():
            build(shared / "site")
    return shared / "site"


@pytest.fixture(scope="session")
def pseudocode(docs: Path) -> Pseudocode:
    """Run every block of pseudocode, in the order of `PAGES` and in one namespace."""
    names: dict[str, Any] = dict(HELPERS)
    for page in PAGES:
        path = docs / "spec" / f"{page}.md"
        text = path.read_text(encoding="utf-8")
        for block in BLOCK.finditer(text):
            line = text.count("\n", 0, block.start()) + 1
            # Blank lines in front: a traceback names the line of the page.
            code = compile("\n" * line + block["code"], str(path), "exec")
            exec(code, names)  # noqa: S102 -- our own pages
    return Pseudocode(names)
