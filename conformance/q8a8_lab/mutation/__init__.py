"""Mutation testing of the suite: every wrong kernel must be caught, and no legal kernel called broken."""
