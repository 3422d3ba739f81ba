"""Laws of a product's terms in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from q8a8_conformance.diagnosis.products.rules import EVERYWHERE, FlatFormula, OutputRule
from q8a8_conformance.diagnosis.products.words import KINDS, LETTERS, WHOLE, counted_words
from q8a8_conformance.faults.catalogue import MUTANTS

if TYPE_CHECKING:
    from q8a8_conformance.diagnosis.products.terms import Law

_KINDS = {"recipe": "activations-in-part", "sum": "sums-of-codes"}
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
    part = {"block": "", "codes": "the codes of ", "scale": "the scale of "}[effect.part]
    letters = ("b", "nb") if effect.axis == "block" else LETTERS[effect.side]
    of = effect.formula.text(*letters) if effect.formula else ""
    if isinstance(effect.formula, FlatFormula):
        letter = LETTERS[effect.side][0]
        beyond = ", and 0 beyond the last" * effect.formula.is_zero
        verb = "take" if plural else "takes"
        return f"{verb} {part}block {of} of all blocks of {effect.side}, not {letter} * nb + b{beyond}"
    if effect.part == "scale" and effect.axis == "row" and is_whole:
        part = "the scales of "
    return f"{'take' if plural else 'takes'} {part}{effect.axis} {of} of {effect.side}"
