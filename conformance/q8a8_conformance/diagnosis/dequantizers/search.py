"""Finds the laws of a dequantizer: those that give every call that was made, and say least.

What the laws so far do not give is compared with every form. A form that gives some of it, and a condition
that takes in these elements and none that are right, are one law more. Of several the one that gives most is
followed first; what more laws say, or a list of values, is followed by what else there is.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from q8a8_conformance.diagnosis.dequantizers.cases import near_lengths
from q8a8_conformance.diagnosis.dequantizers.conditions import find_condition
from q8a8_conformance.diagnosis.dequantizers.forms import OTHER, bank
from q8a8_conformance.diagnosis.dequantizers.kept import of_same_bits
from q8a8_conformance.diagnosis.dequantizers.measured import measured, moved
from q8a8_conformance.diagnosis.dequantizers.model import Law
from q8a8_conformance.diagnosis.dequantizers.narrowed import narrow_forms
from q8a8_conformance.diagnosis.dequantizers.values import State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from q8a8_conformance.diagnosis.dequantizers.cases import Cases
    from q8a8_conformance.diagnosis.dequantizers.model import Blocks, Condition, Dequantizer, Form
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.deadline import Deadline

WIDTHS = (3, 2, 1)
"""Laws that are followed as the first one, as the second one, ..."""

ALIKE = 4
"""Forms of one stage with the same effect on a sample of which a condition is looked for."""

ROUNDS, MORE = 7, 2
"""Models of which another law is looked for, and after those that give everything: another may say less."""

TRIED, NARROW = 8, 3
"""Forms that get a condition, and such of fewer bits: of those that give all in a sample, and of others."""

SAMPLE, FEW = 5000, 300
"""Blocks of either kind, right and wrong, that conditions are found with, and on which forms are tried."""

DENSE = 16
"""Wrong blocks of which forms of fewer bits must give something."""

SHORT = 160
"""Blocks of the rows that are always among them."""

AGAIN = 3
"""Times that a condition is found again, with blocks that contradict it."""

CHANCE = 64
"""How many times as many elements are wrong with a form, and without, as are right without by chance."""


class _Found(NamedTuple):
    """A model with a law more: elements left wrong, and made right; its cost; if all it is about is right."""

    model: Dequantizer
    left: int
    gained: int
    cost: float
    is_clean: bool


class _View:
    """Some blocks, under a model.

    Where `is_coarse` is None, zeros are alike while more than their signs is wrong: a mistake about these
    hides others everywhere.
    """

    def __init__(
        self, model: Dequantizer, blocks: Blocks, at: Array, *, is_coarse: bool | None = None
    ) -> None:
        self.model, self.blocks, self.at = model, blocks, at
        self.read = model.read(blocks, at)
        self.bits = model.bits(blocks, at, self.read)
        self.usable = blocks.usable[at, np.newaxis]
        if is_coarse is None:
            is_coarse = bool(self._differ(self.bits, is_coarse=True).any())
        self.is_coarse = is_coarse
        self.wrong: Array = self._differ(self.bits, is_coarse=is_coarse)

    def _differ(self, bits: Array, *, is_coarse: bool) -> Array:
        """Return where bits are not those that were written; by the value alone, where that is coarse."""
        got = self.blocks.got[self.at]
        differ = bits != got
        if is_coarse:
            differ = differ & ((bits | got) & 0x7FFFFFFF != 0)
        return np.asarray(differ & self.usable)

    def state(self, new: Dequantizer) -> State:
        """Return what the blocks say about another model."""
        read = self.read if new.moving == self.model.moving else None
        bits = new.bits(self.blocks, self.at, read)
        given = ~self._differ(bits, is_coarse=self.is_coarse) & self.usable
        right = ~self.wrong & self.usable
        return State(self.read, given & self.wrong, right & ~given, self.wrong & ~given)


class Search:
    """Finds laws, until a deadline: what was found by then is kept.

    Attributes
    ----------
    model
        With the laws; those that a call contradicts are left out.
    """

    def __init__(self, cases: Cases, deadline: Deadline) -> None:
        self._cases = cases
        self._deadline = deadline
        self._moved: list[Form] | None = None
        self._rounds = 0
        self._extra = np.zeros(0, np.int64)
        self._best: tuple[float, float, Dequantizer] = np.inf, np.inf, cases.model
        self._follow(cases.model, 0, is_coarse=False)
        if self._best[0]:
            self._rounds, self._extra = 0, np.zeros(0, np.int64)
            self._follow(cases.model, 0, is_coarse=None)
        self.model = self._simplified(self._best[2])

    def _is_late(self) -> bool:
        return self._deadline.has_passed

    def _all(self, model: Dequantizer, *, is_coarse: bool | None = False) -> _View:
        blocks = self._cases.blocks()
        return _View(model, blocks, np.arange(len(blocks.n)), is_coarse=is_coarse)

    def _follow(self, model: Dequantizer, cost: float, *, is_coarse: bool | None) -> None:
        """Look for laws more, and keep the best model."""
        whole = self._all(model, is_coarse=is_coarse)
        checked = self._checked(model, whole, is_coarse=is_coarse)
        is_exact = checked is model and not whole.is_coarse
        left = float(whole.wrong.sum() if is_exact else self._all(checked).wrong.sum())
        self._best = min(self._best, (left, cost, checked), key=lambda one: one[:2])
        is_done = not left or len(model.laws) == len(WIDTHS) or self._rounds >= ROUNDS
        if is_done or self._is_late():
            return
        self._rounds += 1 if self._best[0] else ROUNDS // MORE
        for _ in range(AGAIN):
            found = self._more(model, whole)
            if self._is_late() or not any(self._is_spoilt(one, whole) for one in found):
                break
        for one in found:
            if self._best[0] or any(law.form.cost >= OTHER for law in self._best[2].laws):
                self._follow(one.model, cost + one.cost, is_coarse=is_coarse)

    def _is_spoilt(self, found: _Found, whole: _View) -> bool:
        """Return whether a law makes blocks wrong that were not looked at; they will be."""
        wrong = self._all(found.model, is_coarse=whole.is_coarse).wrong[: len(whole.wrong)]
        spoilt = (wrong & ~whole.wrong).any(axis=1)
        if not spoilt.any() or spoilt.sum() * CHANCE < wrong.any(axis=1).sum():
            return False
        self._extra = np.concatenate([self._extra, np.flatnonzero(spoilt)[:FEW]])
        return True

    def _simplified(self, model: Dequantizer) -> Dequantizer:
        """Return a model that says less and gives the same: beside a law another may need no condition."""
        wrong = self._all(model).wrong
        for number, law in enumerate(model.laws):
            for name in ("values", "lanes", "places"):
                if self._is_late():
                    return model
                bare = replace(law, where=replace(law.where, **{name: None}))
                new = replace(model, laws=(*model.laws[:number], bare, *model.laws[number + 1 :]))
                if bare != law and not (self._all(new).wrong & ~wrong).any():
                    return self._simplified(new)
        return model

    def _checked(self, model: Dequantizer, whole: _View, *, is_coarse: bool | None) -> Dequantizer:
        """Return a model without the laws that a call contradicts."""
        for law in reversed(model.laws):
            if (law.where.holds(whole.read) & whole.wrong).any():
                bare = model.without(law)
                return self._checked(bare, self._all(bare, is_coarse=is_coarse), is_coarse=is_coarse)
        return model

    def _more(self, model: Dequantizer, whole: _View) -> list[_Found]:
        """Return laws more that fit."""
        wrong = np.asarray(whole.wrong.any(axis=1))
        rng = np.random.default_rng(7)
        order = rng.permutation(len(wrong))
        order = order[np.argsort(whole.blocks.n[order] > SHORT, kind="stable")]
        is_right = ~wrong & whole.blocks.usable
        some = [order[kind[order]][:SAMPLE] for kind in (wrong, is_right)]
        sample = np.concatenate([rng.permutation(of)[:FEW] for of in some])
        few, view = (
            _View(model, whole.blocks, at, is_coarse=whole.is_coarse)
            for at in (sample, np.concatenate([*some, self._extra]))
        )
        found = []
        for form, front in self._promising(model, whole, few):
            if self._is_late():
                break
            law = self._law(model, form, view, front=front)
            if law is None:
                continue
            new = _with(model, law, front=front)
            state = view.state(new)
            left = int(state.bad.sum() + state.missed.sum())
            gained = int(state.hit.sum() - state.missed.sum())
            if gained <= 0 or (left and form.cost >= OTHER):
                continue
            held = law.where.holds(view.read)
            clean = not (held & (state.bad | state.missed)).any()
            found.append(_Found(new, left, gained, _cost(law), clean))
            if not left and found[-1].cost <= 1:
                break
        complete = sorted((one for one in found if not one.left), key=lambda one: one.cost)[:1]
        if complete and complete[0].cost < OTHER:
            return complete
        partial = [one for one in found if one.left]
        partial.sort(key=lambda one: (-one.gained * (2 if one.is_clean else 1), one.cost))
        return complete + partial[: WIDTHS[len(model.laws)]]

    def _law(self, model: Dequantizer, form: Form, view: _View, *, front: bool) -> Law | None:
        """Return the law that a form is, with its condition."""
        new = _with(model, Law(form), front=front)

        def ask(n: int) -> State:
            asked = self._cases.ask(n)
            return _View(model, asked, np.arange(n), is_coarse=view.is_coarse).state(new)

        state = view.state(new)
        if state.missed.sum() * CHANCE < state.bad.sum():
            state.missed[:] = False  # Beside another mistake a few are right by chance.
        condition = find_condition(state, ask)
        return None if condition is None else Law(form, condition)

    def _promising(self, model: Dequantizer, whole: _View, few: _View) -> Iterator[tuple[Form, bool]]:
        """Yield forms that give some of what is wrong, those that give all first, and whether in front."""
        wrong = np.nonzero(whole.wrong)
        h, q = np.broadcast_to(whole.read.h, whole.read.q.shape), whole.read.q
        some = measured(h[wrong], q[wrong], whole.blocks.got[wrong], whole.bits[wrong])
        if self._moved is None:
            same_bits = of_same_bits(whole.blocks, np.asarray(whole.wrong.any(axis=1)))
            self._moved = [*same_bits, *self._moves(whole.blocks.n[wrong[0]])]
        found = []
        alike: Counter[tuple[str, bytes]] = Counter()
        every = [(False, form) for form in (*self._moved, *bank(), *some)]
        every += [(True, form) for form in self._narrow(few)]
        for is_narrow, form in every:
            if self._is_late():
                break
            before = b""
            taken = any(law.form.stage == form.stage for law in model.laws)
            for front in (False, True) if taken else (False,):
                state = few.state(_with(model, Law(form), front=front))
                hits, bad = int(state.hit.sum()), int(state.bad.sum())
                # (Of forms that do the same here some are enough.)
                same = np.packbits([state.hit, state.missed]).tobytes()
                if front and same == before:
                    continue
                before = same
                alike[form.stage, same] += 1
                if hits and alike[form.stage, same] <= ALIKE:
                    found.append((bad > 0, is_narrow, -hits if bad else form.cost, form, front))
        for kind in itertools.product((False, True), repeat=2):
            kept = sorted((one for one in found if one[:2] == kind), key=lambda one: one[2])
            yield from ((form, front) for *_, form, front in kept[: NARROW if kind[1] else TRIED])

    def _narrow(self, few: _View) -> Iterator[Form]:
        """Yield forms of fewer bits that give a part of what is wrong in a few blocks."""
        at = few.at[few.wrong.any(axis=1)][:DENSE]
        view = _View(few.model, few.blocks, at, is_coarse=few.is_coarse)
        for form in narrow_forms():
            if self._is_late():
                return
            if view.state(_with(few.model, Law(form), front=False)).hit.sum() * CHANCE >= view.wrong.sum():
                yield form

    def _moves(self, lengths: Array) -> Iterator[Form]:
        """Yield where elements may come from, as is found in rows of a few lengths; each once."""
        seen: dict[str, Form] = {}
        for n in near_lengths(lengths):
            for form in moved(*self._cases.sources(n)):
                seen.setdefault(form.what, form)
        yield from seen.values()


def _with(model: Dequantizer, law: Law, *, front: bool) -> Dequantizer:
    """Return a model with one more law, behind the others of its stage or in front of them."""
    return replace(model, laws=(law, *model.laws) if front else (*model.laws, law))


def _cost(law: Law) -> float:
    """Return how much a law says; more where it is about scales by codes or elements, or the other way."""
    condition: Condition = law.where
    other = {"scale": {"codes", "product"}, "code": {"scales", "product"}}.get(law.form.stage, set())
    is_mixed = condition.values is not None and not other.isdisjoint(condition.values.data)
    is_mixed |= law.form.stage == "scale" and condition.lanes is not None
    return 1 + law.form.cost + condition.cost + 0.5 * is_mixed
