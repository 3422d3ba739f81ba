"""Certificates: a kernel's arithmetic compared on every input, where the inputs are finite in number.

=====================  ==================================================================================
`steps`                what the exact oracle says of every input, as the places where the result changes
`domains`              the finite domains: how a kernel is asked, what must come out
`ranges`               which points of a domain a shard, a sample or a finished run covers
`ask`, `child`         the kernel's functions, called in large numbers in a process of their own
`run`, `state`         the sweep: progress, interruption, resumption
`certificate`          what was covered of which file, as JSON; joining the shards' certificates
`command`              ``q8a8 certify``
=====================  ==================================================================================

The expected bits come from integers and fractions alone (`q8a8_golden.oracle`), so the NumPy reference can be
certified like any other kernel, and a kernel that spoils its process's floating-point environment spoils
nothing but its own answers.
"""
