"""``python orchestrator/run.py ...`` is ``soundsweep ...``.

``ray submit`` copies this one file to the cluster, where it imports the installed package; the two
may be of different versions.
"""

import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

VERSION = "0.1.0"  # of the package: pyproject.toml reads it here
OURS = ("orchestrator", "search_spaces", "systems")

AS_FILE = __name__ == "__main__" and Path(sys.path[0]).resolve() == Path(__file__).resolve().parent
if AS_FILE:
    sys.path.pop(0)  # run as a file, its folder must not shadow other packages


def _refuse(why: str) -> None:
    print(
        f"error: {why}. On a cluster, `ray up CLUSTER.yaml` at the root of the checkout that this "
        f"run.py ({VERSION}) is of brings the nodes up to date; here, `make .venv/ready` does.",
        file=sys.stderr,
    )
    raise SystemExit(2)


if AS_FILE:
    with suppress(PackageNotFoundError):  # it is on the path, say
        if (installed := version("soundsweep")) != VERSION:
            _refuse(f"the installed soundsweep is {installed}, this run.py is of {VERSION}")

try:
    from orchestrator.cli.app import main
except ImportError as error:
    if not AS_FILE or (error.name or "").partition(".")[0] not in OURS:
        raise
    _refuse(f"this run.py fits no soundsweep that {sys.executable} has ({error})")

__all__ = ["main"]

if __name__ == "__main__":
    main()
