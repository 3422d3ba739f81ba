"""Attribution of a wrong result to a rule, by further calls that change one thing at a time."""
