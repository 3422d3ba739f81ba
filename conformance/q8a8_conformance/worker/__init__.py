"""The worker: a process that loads the kernel under test, makes the runner's calls and checks their effects.

::

    serve ──── library, pyobject           the target: a shared library or a Python object
      │        convention                  its calls through machine code that checks registers and the stack
      │
    answer ─── process_state               the process before and after loading and calls
      │
    invoke ─── placing, memory             guard pages and canaries around every buffer
      │    ╰── fresh                       first calls, in copies of the worker
      │
    threads ── together, stopping          calls that overlap: one stops in the middle until others are made
      │        native_calls                calls without the interpreter
      │
    caller ─── fenv                        the floating-point environment before and after each call
      │        many_calls                  many calls in a row, and the memory that they keep
      │
    crash, machine                         the report of a fault; facts about the machine and the file

`python -m q8a8_conformance.worker` starts a worker: see `q8a8_conformance.worker.serve`.
"""
