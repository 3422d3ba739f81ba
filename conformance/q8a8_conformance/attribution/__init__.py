"""Which rule a wrong result breaks, by further calls that change one thing at a time."""
