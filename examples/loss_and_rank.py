"""Does a loss follow the rank of what is searched? The test of qbv_siamese_triplet.

    python examples/loss_and_rank.py

trains its two systems once a seed, which draws the classes, the split and the first weights of
both; correlates each training's loss with the mean rank of the validation queries' targets over the
epochs; and tests the pairs of correlations (the paper: 28 pairs over 300 epochs, ranks of training
queries in its figure, p = 5.3e-6).
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from scipy.stats import pearsonr, wilcoxon

from orchestrator import Options, Run, launch

SYSTEMS = ("tliminet_triplet", "tliminet_pairwise")


def correlation(run: Run) -> float:
    """Pearson's correlation over the epochs of the loss and the mean rank."""
    curve = run.results.raw["trials"][0]["curve"]
    return float(pearsonr([e["loss"] for e in curve], [e["mean_rank"] for e in curve]).statistic)


def main(seeds: int = 28, **options: Any) -> pd.DataFrame:
    """Train both systems with these options for each seed; a row a seed, a column a system."""
    common = {"purpose": "train", "protocol": "paper", "metric": "mean_rank", **options}
    found = pd.DataFrame({
        name: [
            correlation(launch(Options(**{
                **common, "system": f"qbv_siamese_triplet/{name}", "seed": seed,
                "name": f"{name}-{seed}",
            })))
            for seed in range(seeds)
        ]
        for name in SYSTEMS
    })  # fmt: skip
    print(found.to_string(index=False))
    print(f"Wilcoxon signed-rank test: p = {wilcoxon(*(found[n] for n in SYSTEMS)).pvalue:.2g}")
    return found


if __name__ == "__main__":
    main()
