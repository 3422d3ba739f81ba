"""Every domain has each of its inputs exactly once, with the right expected results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from q8a8.abi import Reference
from q8a8_conformance.certify import products, steps
from q8a8_conformance.certify.bulk_worker import ReferenceFunctions
from q8a8_conformance.certify.catalogue import default_domains, get_domain
from q8a8_conformance.certify.domains import Dequantize, Domain
from q8a8_conformance.certify.quantizers import Codes, Scale
from q8a8_golden import oracle

if TYPE_CHECKING:
    from collections.abc import Callable

Array = np.ndarray[Any, Any]
REFERENCE = ReferenceFunctions(
    Reference(),
    [
        "quantize_row_q8_a8",
        "dequantize_row_q8_a8",
        "ggml_vec_dot_q8_a8_q8_a8",
        "ggml_vec_dot_q8_a8_q8_a8_real",
    ],
)


def test_dequantize_has_every_pair() -> None:
    """Every finite scale is paired with every code once, and every code occurs in every lane."""
    half, code = Dequantize._inputs(0, Dequantize.size)
    pairs = np.bincount(half * 256 + code + 128, minlength=1 << 24).reshape(1 << 16, 256)
    finite = (np.arange(1 << 16) & 0x7FFF) < 0x7C00
    assert (pairs[finite] == 1).all()
    assert (pairs[~finite] == 0).all()
    first = slice(0, 32 * 256)
    lanes = np.zeros((256, 32), bool)
    lanes[code[first] + 128, np.arange(32 * 256) % 32] = True
    assert lanes.all()


@pytest.mark.parametrize("codes", [products.codes, products.ProductsNrc2.codes], ids=["nrc1", "nrc2"])
def test_products_have_every_pair_in_every_lane(codes: Callable[[Array], tuple[Array, Array, Array]]) -> None:
    """Every pair of codes occurs once in each lane."""
    lane, qx, qy = codes(np.arange(32 << 16))
    seen = np.bincount(lane << 16 | (qx + 128) << 8 | (qy + 128), minlength=32 << 16)
    assert (seen == 1).all()


@pytest.mark.rule("Q8A8-DOT-4")
def test_products_are_exact_in_any_order() -> None:
    """Each block passed to a kernel has one product, whose bits do not depend on the order."""

    class OracleFunctions:
        """Dot products by the oracle, one row at a time."""

        def dots(self, function: str, x: Array, y: Array, nrc: int) -> Array:
            """Multiply every row of x with every row of y."""
            v2, size = function.endswith("_real"), x.shape[1] // nrc
            for row_x, row_y in zip(x, y, strict=True):
                assert oracle.order_independent(row_x.tobytes()[:size], row_y.tobytes()[:size], v2=v2)
            cut = [(r.reshape(nrc, size), s.reshape(nrc, size)) for r, s in zip(x, y, strict=True)]
            results = [oracle.dot(a.tobytes(), b.tobytes(), v2=v2) for r, s in cut for b in s for a in r]
            return np.array(results, np.uint32).reshape(len(x), nrc * nrc)

    for name in ("products", "products-v2", "products-nrc2"):
        domain = get_domain(name)
        for start in (0, 0x8080 & ~3, 0x1FFFF0, 0x0F7F00, 0x108000):
            answer = domain.evaluate(OracleFunctions(), start, start + 16)  # type: ignore[arg-type]  # one function is enough
            assert domain.check(start, start + 16, answer.tobytes()) is None


@pytest.mark.rule("Q8A8-QNT-1")
def test_scale_inputs() -> None:
    """A block has amax as its only element, in every lane with both signs; the domain ends at the limit."""
    domain = Scale()
    assert domain.size == steps.LIMIT
    x = domain.inputs(0x3F800000, 0x3F800000 + 64)
    amax = (x & 0x7FFFFFFF).max(axis=1)
    assert amax.tolist() == list(range(0x3F800000, 0x3F800040))
    assert ((x & 0x7FFFFFFF) != 0).sum(axis=1).tolist() == [1] * 64
    assert (x != 0).argmax(axis=1).tolist() == [*range(32), *range(32)]
    assert sorted({int(bits) >> 31 for bits in x.max(axis=1)}) == [0, 1]


@pytest.mark.rule("Q8A8-QNT-1")
@pytest.mark.parametrize("amax", [40, 1000])
def test_codes_inputs(amax: int) -> None:
    """Every pattern up to amax is an element once with each sign; amax occurs in every lane."""
    domain = Codes(amax)
    x = domain.inputs(0, domain.size)
    blocks = np.arange(len(x))
    assert (x[blocks, blocks % 32] == amax).all()
    others = np.delete(x.reshape(-1), blocks * 32 + blocks % 32)[: domain.size]
    assert others.tolist() == [*range(amax + 1), *(0x80000000 + bits for bits in range(amax + 1))]
    cut = domain.inputs(31 * 5, domain.size)
    assert (cut == x[5:]).all()


@pytest.mark.parametrize("domain", default_domains(), ids=lambda domain: domain.name)
def test_pieces_are_parts_of_the_whole(domain: Domain) -> None:
    """The reference is right in pieces at both ends and in the middle."""
    middle = domain.size // 2 // domain.grain * domain.grain
    length = 12 * domain.grain
    last = (domain.size - 1) // domain.grain * domain.grain
    for start, stop in ((0, length), (middle - length, middle + length), (last, domain.size)):
        answer = domain.evaluate(REFERENCE, start, stop)
        assert domain.check(start, stop, np.ascontiguousarray(answer).tobytes()) is None


@pytest.mark.parametrize("domain", default_domains(), ids=lambda domain: domain.name)
def test_any_flipped_bit_is_found(domain: Domain) -> None:
    """A flipped bit anywhere in the results is a mismatch with its point and a description."""
    start = 0x3F800000 // domain.grain * domain.grain if domain.size > 0x3F900000 else 32 * domain.grain
    stop = start + 8 * domain.grain
    right = domain.expected(start, stop).tobytes()
    for place in range(0, len(right), max(1, len(right) // 40)):
        changed = bytearray(right)
        changed[place] ^= 1
        found = domain.check(start, stop, bytes(changed))
        assert found is not None
        assert start <= found.point < stop
        assert found.expected != found.got
        assert found.given
    with pytest.raises(ValueError, match="bytes, expected"):
        domain.check(start, stop, right[:-1])


def test_names() -> None:
    """Domains are found by name; an unknown name raises with the names that exist."""
    assert get_domain("codes:42FE0000").name == "codes:42fe0000"
    assert get_domain("codes-ref:3f800000").functions == ("quantize_row_q8_a8_ref",)
    assert get_domain("scale-ref").functions == ("quantize_row_q8_a8_ref",)
    for name, text in (("codes", "there is no domain"), ("codes:7f800000", "below 4afdf020")):
        with pytest.raises(KeyError, match=text):
            get_domain(name)
