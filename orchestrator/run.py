"""``python orchestrator/run.py ...`` is ``soundsweep ...``.

``ray submit`` copies this one file to the cluster: it imports the installed package.
"""

import sys
from pathlib import Path

if __name__ == "__main__" and Path(sys.path[0]).resolve() == Path(__file__).resolve().parent:
    sys.path.pop(0)  # run as a file, its folder must not shadow other packages

from orchestrator.cli.app import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
