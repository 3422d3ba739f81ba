"""The golden vectors, their schema, and the exact oracle.

>>> from q8a8_golden import load_cases
>>> load_cases()[0].id
'dequantize/values/all-codes-scale-one'
"""

from __future__ import annotations

from q8a8_golden.cases import Bound, Case, DotResult, Exact, Unspecified, Written
from q8a8_golden.load import CorruptVectorsError, load_cases

__all__ = [
    "Bound",
    "Case",
    "CorruptVectorsError",
    "DotResult",
    "Exact",
    "Unspecified",
    "Written",
    "load_cases",
]
