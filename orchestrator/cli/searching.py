"""``soundsweep search`` on the command line."""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Option

from orchestrator.cli.shared import Run, Storage


def search(
    run: Run,
    queries: Annotated[
        list[str], Argument(metavar="QUERY...", help="Audio files or folders; or words.")
    ],
    gallery: Annotated[
        str, Option(help="Folder of the recordings that are searched; words search the run's own.")
    ] = "",
    top: Annotated[int, Option(help="Recordings that are listed for each query.")] = 10,
    model: Annotated[str, Option(help="best, or trial:N.")] = "best",
    format_: Annotated[str, Option("--format", help="table, json or csv.")] = "table",
    output: Annotated[str | None, Option(help="File instead of the screen.")] = None,
    device: Annotated[str, Option(help="cpu or cuda.")] = "cpu",
    storage: Storage = "runs",
) -> None:
    """Rank the recordings of a folder by how well they answer each query."""
    from orchestrator.models.search import search_command
    from orchestrator.runs.storage import find_run

    text = search_command(
        find_run(run, storage), queries, gallery,
        top=top, model=model, format=format_, output=output, device=device,
    )  # fmt: skip
    print(text, end="")
