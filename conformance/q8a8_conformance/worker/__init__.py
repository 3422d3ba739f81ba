"""The worker's side: it holds the kernel under test, calls it as the runner asks, and watches what it does.

One process of its own for every kernel::

    serve ──── library, pyobject      what is under test: a shared library, or a Python object
      │
    invoke ─── memory                 guard pages, canaries and poison around every buffer
      │        fenv                   the floating-point environment, before and after
      │
    lane ───── together, preempt      calls from several threads at once
    crash, machine                    last words of a fault; what is known of the machine and the file

`python -m q8a8_conformance.worker` starts it: see `q8a8_conformance.worker.serve`.
"""
