"""Cost laws and their fits: a power law in one variable, and rates for several kinds of work at once.

Both are fitted to relative errors: a millisecond counts as much at two milliseconds as a second at two thousand.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

Numbers = Sequence[float] | npt.NDArray[np.float64]
Work = Mapping[str, float]

# Below this share of the smallest time, the fixed part of a power law is left out.
NEGLIGIBLE = 0.05
CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class PowerLaw:
    """t = a + b·xᵖ.

    Attributes:
        fixed: a, in seconds; 0 where it is negligible.
        factor: b, in seconds.
        exponent: p.
        low: lower end of the 95 % confidence interval of p.
        high: its upper end.
        smallest: the smallest x of the fit.
        largest: the largest.
        points: how many values of x there were.
        error: the largest relative residual.
    """

    fixed: float
    factor: float
    exponent: float
    low: float
    high: float
    smallest: float
    largest: float
    points: int
    error: float

    def __call__(self, x: float) -> float:
        """Seconds at x."""
        return float(_law(x, self.fixed, self.factor, self.exponent))


def _law(x: npt.ArrayLike, fixed: float, factor: float, exponent: float) -> npt.NDArray[np.float64]:
    """a + b·xᵖ."""
    return np.asarray(fixed + factor * np.asarray(x, np.float64) ** exponent)


def fit_power_law(x: Numbers, seconds: Numbers) -> PowerLaw:
    """Fit t = a + b·xᵖ with a ≥ 0, b > 0.

    Least squares of relative residuals (SciPy's `curve_fit`); where a comes out below 5 % of the smallest time, or
    there are too few points for three numbers, least squares of log t against log x with a = 0. The interval of p is
    Student's, from the scatter of the points about the law.

    Args:
        x: values of the variable, at least 3 different ones, positive.
        seconds: the times, positive.

    Returns:
        The law.

    Raises:
        ValueError: for numbers that do not fit together, are not positive, or are too few.
    """
    x, t = np.asarray(x, np.float64), np.asarray(seconds, np.float64)
    if x.shape != t.shape or x.ndim != 1 or len(np.unique(x)) < 3:
        raise ValueError(f"a power law needs at least 3 different x with a time each, not {len(x)} x, {len(t)} times")
    if not (np.isfinite(x) & np.isfinite(t) & (x > 0) & (t > 0)).all():
        raise ValueError("a power law needs finite positive numbers and times")
    found, error = _without_fixed(x, t)
    if len(x) > 3:
        full, full_error = _with_fixed(x, t, found)
        if full[0] > NEGLIGIBLE * t.min():
            found, error = full, full_error
    free = len(x) - (3 if found[0] else 2)
    margin = float(stats.t.ppf((1 + CONFIDENCE) / 2, free) * error)
    residual = float(np.abs(_law(x, *found) / t - 1).max())
    a, b, p = (float(value) for value in found)
    return PowerLaw(a, b, p, p - margin, p + margin, float(x.min()), float(x.max()), len(x), residual)


def _without_fixed(x: npt.NDArray[np.float64], t: npt.NDArray[np.float64]) -> tuple[tuple[float, float, float], float]:
    """(0, b, p) by a straight line through the logarithms, and the standard error of p."""
    line = stats.linregress(np.log(x), np.log(t))
    return (0.0, float(np.exp(line.intercept)), float(line.slope)), float(line.stderr)


def _with_fixed(
    x: npt.NDArray[np.float64], t: npt.NDArray[np.float64], start: tuple[float, float, float]
) -> tuple[tuple[float, float, float], float]:
    """(a, b, p) by nonlinear least squares, and the standard error of p."""
    # x in units of its largest value and b as the time there: numbers of one size, as the solver wants them.
    top, scale = x.max(), t.max()
    begin = (0.5 * t.min() / scale, 1.0, max(start[2], 0.5))
    (a, b, p), covariance = optimize.curve_fit(
        _law, x / top, t / scale, p0=begin, sigma=t / scale, bounds=([0, 0, -4], [np.inf, np.inf, 6]), max_nfev=20000
    )
    return (float(a * scale), float(b * scale / top**p), float(p)), float(np.sqrt(covariance[2, 2]))


@dataclasses.dataclass(frozen=True)
class Rates:
    """t = Σ_i c_i·w_i: seconds for each unit of each kind of work.

    Attributes:
        seconds: c_i ≥ 0, by kind of work.
        points: how many times it was fitted to.
        error: root mean square relative residual.
        held_out: the same of groups that the fit had not seen, one left out at a time.
    """

    seconds: Mapping[str, float]
    points: int
    error: float
    held_out: float

    def __call__(self, work: Work) -> float:
        """Seconds for this much work."""
        return sum(rate * work[kind] for kind, rate in self.seconds.items())


def fit_rates(works: Sequence[Work], seconds: Numbers, groups: Sequence[str]) -> Rates:
    """Fit t = Σ_i c_i·w_i with c ≥ 0 by least squares of relative residuals.

    Args:
        works: amounts of work, the same kinds everywhere.
        seconds: the times, positive.
        groups: to what each belongs (a network): the unit that is held out for the error of a prediction.

    Returns:
        The rates.

    Raises:
        ValueError: for numbers that do not fit together, times that are not positive, or fewer than two groups.
    """
    t = np.asarray(seconds, np.float64)
    if not len(works) == len(t) == len(groups) or len(set(groups)) < 2 or not (t > 0).all():
        raise ValueError(
            f"rates need positive times of at least two groups: {len(works)} works, {len(t)} times, "
            f"{len(set(groups))} groups"
        )
    kinds = list(works[0])
    amounts = np.array([[work[kind] for kind in kinds] for work in works], np.float64)
    names = np.asarray(groups)
    unseen = np.concatenate(
        [amounts[names == name] @ _solve(amounts[names != name], t[names != name]) for name in dict.fromkeys(groups)]
    )
    held = np.concatenate([t[names == name] for name in dict.fromkeys(groups)])
    rates = _solve(amounts, t)
    return Rates(
        dict(zip(kinds, rates.tolist(), strict=True)),
        len(t),
        _root_mean_square(amounts @ rates / t - 1),
        _root_mean_square(unseen / held - 1),
    )


def _solve(amounts: npt.NDArray[np.float64], t: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Non-negative rates; each kind of work in units of its largest amount."""
    largest = amounts.max(axis=0)
    scale = np.where(largest > 0, largest, 1)
    rates, _ = optimize.nnls(amounts / scale / t[:, None], np.ones(len(t)))
    return np.asarray(rates / scale)


def _root_mean_square(values: npt.NDArray[np.float64]) -> float:
    """√ of the mean square."""
    return float(np.sqrt(np.mean(values**2)))
