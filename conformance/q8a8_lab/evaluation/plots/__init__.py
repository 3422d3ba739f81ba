"""The plots of the pages about methods: `python -m q8a8_lab.evaluation.plots.NAME` draws one again."""
