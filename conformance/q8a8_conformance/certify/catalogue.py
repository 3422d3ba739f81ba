"""The domains by name, and the default domains of a certificate."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from q8a8_conformance.certify import steps
from q8a8_conformance.certify.domains import Dequantize, Domain, Half, Widen
from q8a8_conformance.certify.products import Products, ProductsNrc2, ProductsV2
from q8a8_conformance.certify.quantizers import Codes, Scale
from q8a8_conformance.spec.suggest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

AMAXES: Mapping[int, str] = {
    0x367E0001: "the smallest whose scale is not zero",
    0x3F800000: "1",
    0x40490FDB: "π: an inverse that is rounded",
    0x42FE0000: "127: an inverse of 1, so that x itself is rounded to the code",
    steps.LIMIT - 1: "the largest",
}
"""Bit patterns of the amaxes under which all elements are tested, each with its reason."""

_CODES = re.compile(r"codes(-ref)?:([0-9a-f]{8})")


def default_domains() -> list[Domain]:
    """Return the default domains, small ones first."""
    small: list[Domain] = [Widen(), Dequantize(), Products(), ProductsNrc2(), ProductsV2()]
    return [*small, Half(), *(Codes(amax) for amax in AMAXES), Scale()]


def names() -> list[str]:
    """Return the names of the default domains."""
    return [domain.name for domain in default_domains()]


def get_domain(name: str) -> Domain:
    """Return a domain by its name.

    Raises
    ------
    KeyError
        There is no such domain; the message lists the names.
    """
    domains = {domain.name: domain for domain in (*default_domains(), Scale(ref=True))}
    if name in domains:
        return domains[name]
    found = _CODES.fullmatch(name.lower())
    if found is None:
        names = (*domains, "codes:AMAX", "codes-ref:AMAX")
        hint = did_you_mean(name, names)
        raise KeyError(f"there is no domain {name!r}; there are {', '.join(names)}{hint}")
    amax = int(found[2], 16)
    if amax >= steps.LIMIT:
        raise KeyError(f"{name}: an amax is a float32 pattern below {steps.LIMIT:08x}, 65520 · 127")
    return Codes(amax, ref=bool(found[1]))
