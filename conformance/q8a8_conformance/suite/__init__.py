"""The checks that a kernel under test goes through: one module a concept, every check a pytest item.

Collected by ``pytest -p q8a8_conformance.plugin --pyargs q8a8_conformance --sut SUT``; ``q8a8 test`` wraps
that. A check carries the rules that it judges as ``@pytest.mark.rule``; its case id is the id of its
parameter, or ``module/function`` where it has none. What a kernel lacks is never passed: such a case is
``not-run``.
"""
