"""Laws of a product's terms in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from q8a8_conformance.diagnosis.products.effects import OFFSET
from q8a8_conformance.diagnosis.products.rules import EVERYWHERE, FlatFormula, OutputRule
from q8a8_conformance.diagnosis.products.words import KINDS, LETTERS, WHOLE, counted_words
from q8a8_conformance.faults.catalogue import MUTANTS

if TYPE_CHECKING:
    from q8a8_conformance.diagnosis.products.terms import Law

_KINDS = {"recipe": "activations-in-part", "sum": "sums-of-codes", "correction": "correction-wrong"}
_EFFECTS = {"kept": "outputs-not-written", "added": "outputs-added"}
_SOURCES = {
    ("block", "x"): "outputs-of-other-rows",
    ("block", "w"): "outputs-of-other-rows",
    ("scale", "x"): "scales-of-other-rows",
    ("scale", "w"): "weight-scales-of-other-rows",
}
"""The facts that laws are: by effect, and for rows that are taken by the part and the side."""


def law_kind(law: Law) -> str:
    """Return the fact that a law is."""
    effect, is_whole = law.effect, law.blocks.is_any
    if effect.kind in _KINDS:
        return _KINDS[effect.kind]
    if effect.kind == "times":
        return "outputs-miscounted" if is_whole else "blocks-miscounted"
    if effect.axis == "matrix":
        return "rows-begin-elsewhere"
    if effect.axis == "row" and is_whole:
        return _SOURCES.get((effect.part, effect.side), "terms-of-others")
    return _EFFECTS.get(effect.kind, "terms-of-others")


def law_words(law: Law) -> tuple[str, str, str, str]:
    """Return a law's rule, sentence and fix, and a mistake of the catalogue that it may be."""
    rule, first = KINDS[law_kind(law)]
    is_whole = law.blocks.is_any
    fix = MUTANTS[first].fix
    if law_kind(law) == "outputs-miscounted":
        fix = "Compute each output once, and store it."
    if law_kind(law) == "sums-of-codes":
        fix = "Sum 32 products of two int8 codes in an int32, whatever the codes are."
    if law_kind(law) == "rows-begin-elsewhere":
        fix = "Let row i begin at block i * nb of its matrix, whatever nb is, and its scales likewise."
    if law_kind(law) == "terms-of-others":
        fix = "Multiply block b of row j of w by block b of row i of x."
    if law_kind(law) == "correction-wrong":
        fix = "Take what an offset of the codes adds off each block's sum, before the scales are multiplied."
    if law.effect.side == "wx":
        fix = "Multiply the sum of each block by its own scales, and then add."
    outputs = OutputRule(law.columns, law.rows, law.blocks if is_whole else EVERYWHERE).text
    if of := law.effect.kept or law.effect.sums:
        sides = [] if outputs == "All outputs" else [f"in {outputs[0].lower()}{outputs[1:]}"]
        sides += [] if is_whole else [f"in {law.blocks.text('block', 'nb')}"]
        where = ", ".join(sides)
        sentence = f"{where}, {of.words}." if where else f"{of.words}."
        sentence = f"{sentence[0].upper()}{sentence[1:]}"
        return rule, sentence, fix, first
    if is_whole:
        return rule, f"{outputs} {_what(law, is_whole=True, plural=True)}.", fix, first
    blocks = law.blocks.text("block", "nb")
    what = _what(law, is_whole=False, plural=law.blocks.is_plural)
    if outputs == "All outputs":
        return rule, f"{blocks[0].upper()}{blocks[1:]} {what}.", fix, first
    return rule, f"In {outputs[0].lower()}{outputs[1:]}, {blocks} {what}.", fix, first


def law_json(law: Law) -> dict[str, Any]:
    """Return a law as JSON data."""
    effect = law.effect
    what: dict[str, Any] = {"times": effect.times} if effect.kind == "times" else {}
    if effect.formula is not None:
        i, n = {"row": ("j", "m") if effect.side == "w" else ("i", "n")}.get(effect.axis, ("b", "nb"))
        what = {"side": effect.side, "part": effect.part, "of": f"{effect.axis} {effect.formula.text(i, n)}"}
    if effect.kept is not None:
        what = {"activations": effect.kept.words}
    if effect.sums is not None:
        what = {"sums": effect.sums.words}
    rules = {"columns": law.columns, "rows": law.rows, "blocks": law.blocks}
    return {**what, **{name: rule.to_json() for name, rule in rules.items()}}


def _what(law: Law, *, is_whole: bool, plural: bool) -> str:
    """Return what becomes of terms, as a clause without its subject."""
    effect, be = law.effect, "are" if plural else "is"
    if effect.kind == "kept":
        return f"{be} not written"
    if effect.kind == "added":
        return f"{be} added to what was there"
    if effect.kind == "times":
        whole = WHOLE.get(effect.times) if is_whole else ""
        return f"are {whole}" if whole else counted_words(effect.times, plural=plural)
    part = {"block": "", "codes": "the codes of ", "scale": "the scale of "}.get(effect.part, "")
    letters = ("b", "nb") if effect.axis == "block" else LETTERS[effect.side]
    of = effect.formula.text(*letters) if effect.formula else ""
    of += "," * (" with " in of and effect.kind != "correction")
    if effect.kind == "correction":
        taken = f"{OFFSET} times the sum of w's codes taken off under the scales of block {of}"
        return (
            f"{'have' if plural else 'has'} {OFFSET} added to the codes of x, and {taken}, not of their own"
        )
    if isinstance(effect.formula, FlatFormula):
        letter = LETTERS[effect.side][0]
        beyond = ", and 0 beyond the last" * effect.formula.is_zero
        verb = "take" if plural else "takes"
        return f"{verb} {part}block {of} of all blocks of {effect.side}, not {letter} * nb + b{beyond}"
    side = effect.side
    if effect.part == "scale" and (side == "wx" or (effect.axis == "row" and is_whole)):
        part, side = "the scales of ", side.replace("wx", "w and x")
    return f"{'take' if plural else 'takes'} {part}{effect.axis} {of} of {side}"
