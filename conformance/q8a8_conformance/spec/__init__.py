"""The specification as data: its numbered rules, and the functions of the C interface."""
