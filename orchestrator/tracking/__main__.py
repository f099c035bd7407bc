"""``python -m orchestrator.tracking RUN [--follow]``."""

import sys

from orchestrator.tracking.projector import main

sys.exit(main())
