"""The one catalogue of wrong arithmetic: the steps of the specification, and what is wrong with them."""
