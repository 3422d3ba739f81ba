"""``python -m q8a8``: the command ``q8a8``.

The command line stands above the reference, which it imports; so it is found by name here.
"""

import sys
from importlib import import_module

sys.exit(import_module("q8a8_conformance.cli").main())
