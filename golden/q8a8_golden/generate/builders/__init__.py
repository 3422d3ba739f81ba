"""The builders of drafts, one module a topic."""

from __future__ import annotations

from typing import TYPE_CHECKING

from q8a8_golden.generate.builders import (
    activation,
    dequantize,
    dot_blocks,
    dot_lanes,
    dot_pairs,
    dot_rounding,
    dot_v2,
    dot_values,
    mul_mat,
    mul_mat_rounding,
    quantize_amax,
    quantize_boundaries,
    quantize_half,
    quantize_recipes,
    quantize_ties,
    quantize_zero,
    unspecified,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from q8a8_golden.generate.draft import Draft

__all__ = ["TOPICS"]

_MODULES = (
    quantize_boundaries,
    quantize_ties,
    quantize_recipes,
    quantize_half,
    quantize_zero,
    quantize_amax,
    activation,
    unspecified,
    dequantize,
    dot_values,
    dot_lanes,
    dot_blocks,
    dot_pairs,
    dot_v2,
    dot_rounding,
    mul_mat,
    mul_mat_rounding,
)

TOPICS: Mapping[str, Callable[[], list[Draft]]] = {module.TOPIC: module.drafts for module in _MODULES}
"""For each topic, which is the path of its file, the function that builds its drafts."""
