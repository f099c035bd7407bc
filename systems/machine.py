"""What this process was given: cores, a home that can be written, a name.

A cluster's job gets a part of its machine; a container's user may have neither name nor home.
"""

from __future__ import annotations

import getpass
import os
import tempfile
from pathlib import Path

from systems.errors import UserError

# What third parties keep in a home, and where below a folder they may keep it instead.
CACHES = {
    "XDG_CACHE_HOME": "cache",
    "MPLCONFIGDIR": "matplotlib",
    "NUMBA_CACHE_DIR": "numba",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TRITON_CACHE_DIR": "triton",
}


def cores() -> int:
    """The CPU cores that this process may use, at least 1.

    The least of the machine's, the affinity (``taskset``, a cpuset), the quota of the control group
    (``docker --cpus``) and what SLURM gave the job.
    """
    import joblib  # not needed by commands that only list

    given = os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("SLURM_CPUS_ON_NODE") or ""
    usable = int(joblib.cpu_count())
    return max(1, min(usable, int(given))) if given.isdigit() else usable


def settle() -> None:
    """Set in the environment what third parties need and this user lacks; processes inherit it.

    A user without a name gets one of their number. Where the home cannot be written, caches get a
    folder of their own below the temporary one, and so does a home that is not there. What is set
    already is left alone.

    Raises:
        UserError: no folder can be made for that.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = f"user{os.getuid()}"
    home = os.environ.get("HOME") or os.path.expanduser("~")
    if _is_writable(home):
        os.environ["HOME"] = home
        return
    try:
        folder = _own_folder()
    except OSError as error:
        raise UserError(
            f"neither the home '{home}' nor a temporary folder can be written ({error}): name one "
            "that can with TMPDIR=/folder."
        ) from error
    if home == "/" or not os.path.isdir(home):
        os.environ["HOME"] = str(folder)
    for name, below in CACHES.items():
        os.environ.setdefault(name, str(folder / below))
        Path(os.environ[name]).mkdir(parents=True, exist_ok=True)


def _is_writable(folder: str) -> bool:
    return os.path.isabs(folder) and os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)


def _own_folder() -> Path:
    """A folder of this user's below the temporary one; the same each time, if nobody has it."""
    folder = Path(tempfile.gettempdir()) / f"soundsweep-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid() or not os.access(folder, os.W_OK):
        return Path(tempfile.mkdtemp(prefix="soundsweep-"))  # another user was there first
    return folder


def own_code() -> list[str]:
    """The folder of this code, where it is none of installed packages, which all processes have."""
    here = Path(__file__).resolve().parents[1]
    return [] if here.name in ("site-packages", "dist-packages") else [str(here)]
