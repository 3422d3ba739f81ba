"""A worker for the reference that lacks capabilities: ``lacking_worker.py CAPABILITY[,CAPABILITY...]``."""

import sys

from q8a8_conformance.worker import serve

LACKS = sys.argv[1].split(",")
for name in ("CAPABILITIES", "ENVIRONMENT_CAPABILITIES"):
    setattr(serve, name, tuple(word for word in getattr(serve, name) if word not in LACKS))

sys.exit(serve.main(["ref"]))
