"""The conformance suite: points at a kernel and says whether it conforms, which rule it breaks, and why."""
