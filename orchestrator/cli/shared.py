"""What commands of several modules are asked for."""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Option

Run = Annotated[
    str, Argument(metavar="RUN", help="A run's folder or address, or its name under --storage.")
]
Storage = Annotated[
    str,
    Option(
        envvar="SOUNDSWEEP_STORAGE",
        help="Root of runs, waveform stores and MLflow: a folder, or s3://bucket/prefix.",
    ),
]
