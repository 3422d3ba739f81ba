"""Certificates: a kernel compared with the exact results on every input of a finite domain.

===========================================  ============================================================
`steps`                                      the exact results, as the inputs at which they change
`domains`, `products`, `quantizers`          the finite domains: their inputs and expected results
`catalogue`                                  the domains by name
`ranges`                                     intervals, shards and samples of a domain
`functions`, `runners`, `bulk_worker`        calls of a kernel in bulk, in its own process
`sweep`, `state`                             the sweep: progress, interruption, resumption
`certificate`, `page`                        the certificate as JSON, merged, as Markdown and HTML
===========================================  ============================================================

The expected bits come from integers and fractions alone (`q8a8_golden.oracle`), so the NumPy reference can be
certified like any other kernel, and a kernel that changes its process's floating-point environment affects
only its own results.
"""
