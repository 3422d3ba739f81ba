"""The plots of the pages about methods: `python -m q8a8_conformance.evaluate.plots.NAME` draws one again."""
