"""``python -m q8a8_conformance.worker``: see `q8a8_conformance.worker.serve`."""

import sys

from q8a8_conformance.worker.serve import main

sys.exit(main())
