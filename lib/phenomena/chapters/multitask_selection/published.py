"""Stored results of the official repository of Cao et al. 2024: means of ten repeats."""

import pandas as pd

RATIOS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]  # rows over features

MAIN = pd.concat(
    pd.DataFrame({"method": method, "ratio": RATIOS, "all": all_tasks, "selection": selection})
    for method, all_tasks, selection in (
        (
            "MTLComb",
            [0.269, 0.628, 0.756, 0.818, 0.850, 0.877, 0.887, 0.899],
            [0.624, 0.934, 0.988, 0.998, 1, 1, 1, 1],
        ),
        (
            "MTLBin",
            [0.184, 0.500, 0.661, 0.752, 0.802, 0.842, 0.863, 0.881],
            [0.544, 0.878, 0.976, 0.998, 0.998, 1, 1, 1],
        ),
    )
)

IMBALANCE = pd.DataFrame(
    [("MTLComb", 0.05, 0.408, 0.878), ("MTLComb", 0.5, 0.621, 0.932),
     ("MTLBin", 0.05, 0.0, 0.02), ("MTLBin", 0.5, 0.498, 0.868)],
    columns=["method", "minority", "all", "selection"],
)  # fmt: skip
