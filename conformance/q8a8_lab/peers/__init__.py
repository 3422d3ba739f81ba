"""Real quantizers and kernels that this project did not write, compared with the reference bit for bit.

============  ==========================================================================================
`store`       fetches distributions with pip, checks their SHA-256, unpacks them in a cache
`ggml`        where the prebuilt ggml of ``pywhispercpp`` is, and what its functions are called
`kernels`     one interface to a peer: a loaded library, gguf-py, or a worker process (QEMU, say)
`families`    the blocks that are quantized: seeded generators, six families
`rows`        the rows that are multiplied, and what the sign error of ggml's x86 kernel makes of them
`cpu`         what this machine's CPU can do
`compare`     counts bytes and bits that differ
`legs`        which peer is compared with which recipe and order, and runs it
`results`     what was found, as data
`verdicts`    what ``q8a8 test`` says of each peer
`page`        the page of results, ``docs/peers.md``
`variants`    the ways in which `make peers` builds ggml
`build`       builds them and compares each
============  ==========================================================================================

``python -m q8a8_lab.peers`` compares the prebuilt ones and writes the page; ``python -m
q8a8_lab.peers.build`` is the release check that comes before it.
"""
