"""Models that are split over several files, as llama.cpp's gguf-split writes them.

A part is a GGUF file of its own: `split.no` says which one, `split.count` how many there are, and the names
end in `-00001-of-00002.gguf`. One part is not a model: most of its weights would be missing.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from q8a8.ggufio.errors import GgufError

if TYPE_CHECKING:
    from q8a8.ggufio.model import GgufModel

__all__ = ["require_whole"]

COUNT = "split.count"
NAME = re.compile(r"(.*-)(\d{5})-of-(\d{5})\.gguf", re.IGNORECASE | re.DOTALL)
SHOWN = 8
"""Parts that a message names."""


def require_whole(model: GgufModel) -> None:
    """Refuse a part of a split model.

    Raises
    ------
    GgufError
        naming the parts, those that are missing beside the file too, and how to merge them.
    """
    match = NAME.fullmatch(model.path.name)
    count = model.metadata.get(COUNT)
    parts = count if isinstance(count, int) else int(match[3]) if match else 1
    if parts <= 1:
        return
    message = f"is one of {parts} parts of a split model"
    if match:
        names = [f"{match[1]}{part:05}-of-{parts:05}.gguf" for part in range(1, min(parts, SHOWN) + 1)]
        missing = "" if parts > SHOWN else ", ".join(n for n in names if not model.path.with_name(n).exists())
        more = ", ..." if parts > SHOWN else ""
        message += f" ({', '.join(names)}{more}{f'; missing: {missing}' if missing else ''})"
    raise GgufError(
        model.path, f"{message}: merge them first, with llama-gguf-split --merge FIRST-PART MODEL.gguf"
    )
