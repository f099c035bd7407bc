"""Two systems on the same clips: does virtual adversarial training help here, and by how much?

    python examples/compare_runs.py

trains both once and pairs what they say of each clip; differences have 95 % intervals.
"""

from __future__ import annotations

from typing import Any

from orchestrator import Comparison, Options, compare, launch


def main(**options: Any) -> Comparison:
    """Train two systems with these options, and print what differs between them."""
    with_vat, without = (
        launch(Options(**{"purpose": "train", "system": system, "name": name, **options}))
        for system, name in (("gcrnn_vat", "with_vat"), ("gcrnn_vat/gcrnn", "without"))
    )
    found = compare(without, with_vat)
    for key, (first, second) in found.settings.items():
        print(f"{key:<28} {first} | {second}")
    print(found.rows.to_string(index=False))
    return found


if __name__ == "__main__":
    main()
