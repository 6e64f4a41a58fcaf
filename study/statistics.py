"""Means over seeds, their intervals, and how tables write them."""

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats


def half_width(sd: Any, n: Any) -> Any:
    """Give half the width of the 95 % interval of a mean by Student's t, of numbers or column by column.

    Parameters
    ----------
    sd : float or Series
        Standard deviation of a sample.
    n : int or Series
        Its size.

    Returns
    -------
    float or Series
        Not a number for a sample of one.
    """
    return stats.t.ppf(0.975, n - 1) * sd / np.sqrt(n)


def format_mean(shares: pd.Series) -> str:
    """Write mean and 95 % interval in percent, of a single share itself, and of none nothing.

    Examples
    --------
    >>> format_mean(pd.Series([0.8, 0.82]))
    '81.00 ± 12.71'
    >>> format_mean(pd.Series([0.8]))
    '80.00'
    """
    if shares.empty:
        return ""
    interval = f" ± {100 * half_width(shares.std(), len(shares)):.2f}" if len(shares) > 1 else ""
    return f"{100 * shares.mean():.2f}{interval}"


def format_share(share: float, sign: str = "") -> str:
    """Give a share in percent, or nothing where it is missing."""
    return f"{100 * share:{sign}.2f}" if pd.notna(share) else ""
