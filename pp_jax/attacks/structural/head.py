"""Grey-box extraction: a private head on a public, frozen encoder, from ordinary queries."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from pp_jax._checks import as_pixels, check_count
from pp_jax.attacks.spending import Ledger, keeping
from pp_jax.attacks.structural.asking import generator
from pp_jax.attacks.structural.equations import StolenLinear
from pp_jax.attacks.structural.linear import check_rank, fit_softmax, solve_softmax
from pp_jax.serving.blackbox import API


def steal_head(
    key: jax.Array,
    api: API,
    encode: Callable[[Any], Any],
    pool: Any,
    *,
    budget: int | None = None,
    minimum_norm: bool = False,
    fit_steps: int = 0,
) -> StolenLinear:
    """Steal the last layer of a victim whose other layers are public, from images that anybody would ask about.

    log y_i − log y_K = (w_i − w_K)·h(x) + b_i − b_K is linear in the features h(x), which the attacker computes itself:
    d + 1 queries determine the head, 2d (the published number) determine it well. The queries are images of the pool in
    random order; a detector of unusual queries has nothing to see. What is left as a defense is to perturb:
    rounding ends the least squares, though not a fit (docs/results/structural.md).

    Args:
        key: draws the queries from the pool.
        api: images (B, H, W, C) in, posteriors (B, K) out.
        encode: the public encoder, images (B, H, W, C) in, features (B, d) out: what the victim's last layer reads.
        pool: the attacker's images, (N, H, W, C).
        budget: queries; 2d by default.
        minimum_norm: where the encoder has features that are constant on the pool or repeat others, take the shortest
            of the heads that fit.
        fit_steps: above 0, maximum likelihood (`fit_softmax`) in so many steps in place of least squares
            (`solve_softmax`): for an attacker who knows that responses are perturbed.

    Returns:
        The head, `model.posteriors(encode(images))`, and the number of queries.

    Raises:
        ValueError: for a pool or a budget too small, features that do not determine a head; nothing is asked then.
        QueriesFailed: for an API that responds with labels, or with too many zeros to take logarithms of.

    Source: Zanella-Béguelin, Tople, Paverd, Köpf, "Grey-box extraction of natural language models", ICML 2021.
    """
    pool = as_pixels(pool, "pool")
    order = generator(key).permutation(len(pool))
    width = np.shape(encode(pool[:1]))[-1]
    budget = 2 * width if budget is None else budget
    check_count("the query budget", budget, low=1)
    check_count("fit_steps", fit_steps, low=0)
    if budget > len(pool):
        raise ValueError(f"the pool must hold an image a query, {budget}, not {len(pool)}; write budget={len(pool)}")
    images = np.asarray(pool)[order[:budget]]
    features = np.asarray(encode(images), np.float64)
    if not (minimum_norm or fit_steps):
        check_rank(features)
    ledger = Ledger(api, budget, images[0], None, None)
    with keeping(ledger, None, resumable=False):
        answers = ledger(images[:1])
        if answers.ndim != 2:
            raise ValueError("the API responds with class indices, but this attack needs posteriors, (B, K)")
        if budget > 1:
            answers = np.concatenate([answers, ledger(images[1:])])
        if fit_steps:
            return StolenLinear(fit_softmax(features, answers, steps=fit_steps), ledger.queries)
        return StolenLinear(solve_softmax(features, answers, minimum_norm=minimum_norm), ledger.queries)
