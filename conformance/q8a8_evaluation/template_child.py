"""Render a template of Jinja's in a process whose time and memory are limited.

Templates come with a model's file and are programs: Jinja's sandbox keeps them from Python's insides, not
from loops without end, nor from ``"x" * 10**12``. ``python -m q8a8_evaluation.template_child`` reads a JSON
object from standard input, the template and its variables, and writes `{"text"}` or `{"error"}`. It imports
neither NumPy nor the rest of this package: it starts in a fraction of a second.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys

SECONDS = 0.5
"""Processor time for one template; real ones take milliseconds."""

MEMORY = 128 << 20
"""Bytes that a template may take, beside what the process has by then."""

CHARACTERS = 1 << 20
"""Most that a template may write."""


def main() -> None:
    """Answer one request."""
    from jinja2 import TemplateError  # noqa: PLC0415 -- an extra
    from jinja2.sandbox import ImmutableSandboxedEnvironment  # noqa: PLC0415 -- as above

    request = json.load(sys.stdin)

    def refuse(message: str) -> None:
        """Do what templates call `raise_exception` for."""
        raise TemplateError(message)

    # Text for a language model is no HTML: nothing is escaped.
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = refuse
    _limit()
    try:
        answer = {"text": environment.from_string(request["template"]).render(**request["variables"])}
    except Exception as error:  # noqa: BLE001 -- a template is a program: it may raise anything
        answer = {"error": f"{type(error).__name__}: {error}"[:1000]}
    if len(answer.get("text", "")) > CHARACTERS:
        answer = {"error": f"it writes more than {CHARACTERS:,} characters"}
    json.dump(answer, sys.stdout)


def _limit() -> None:
    """Limit processor time and memory from here on, where the system can."""
    with contextlib.suppress(ImportError, OSError, ValueError, AttributeError):
        import resource  # noqa: PLC0415 -- not on every system

        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 -- an import less
            now = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, now + MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(AttributeError):
        # Its signal ends the process also in the middle of one operation of C.
        signal.setitimer(signal.ITIMER_PROF, SECONDS)


if __name__ == "__main__":
    main()
