"""Checks at the library's edges: one ValueError in one line: what was found, what is needed, what to write.

Every public function hands what it is given to these, and goes on with what they return: a list as an array, a column
of labels without its axis. Geometry has its own next to the formula (`distance.check_budget`). Values on the host are
looked at by NumPy; those of a compiled program are counted in it; what is being traced is known by shape and dtype
alone.
"""

from pp_jax._checks.arrays import as_array, is_whole, seen
from pp_jax._checks.contracts import (
    check_classes,
    check_defense,
    check_forgetful,
    check_key,
    check_memory,
    check_oracle,
    check_recovery,
    check_response,
    check_solver,
    name_of,
    normalises,
    remembers,
    response_violations,
)
from pp_jax._checks.images import as_images, as_inputs, as_pixels, check_finite, images_outside, report_outside
from pp_jax._checks.keys import check_random_key, is_key
from pp_jax._checks.labels import as_labels
from pp_jax._checks.posteriors import (
    as_posteriors,
    as_targets,
    as_transfer,
    check_alike,
    check_answers,
    check_posteriors,
    check_rows,
    report_violations,
    sums_to_one,
    violations,
)
from pp_jax._checks.scalars import check_count, check_range

__all__ = [
    "as_array",
    "as_images",
    "as_inputs",
    "as_labels",
    "as_pixels",
    "as_posteriors",
    "as_targets",
    "as_transfer",
    "check_alike",
    "check_answers",
    "check_classes",
    "check_count",
    "check_defense",
    "check_finite",
    "check_forgetful",
    "check_key",
    "check_memory",
    "check_oracle",
    "check_posteriors",
    "check_random_key",
    "check_range",
    "check_recovery",
    "check_response",
    "check_rows",
    "check_solver",
    "images_outside",
    "is_key",
    "is_whole",
    "name_of",
    "normalises",
    "remembers",
    "report_outside",
    "report_violations",
    "response_violations",
    "seen",
    "sums_to_one",
    "violations",
]
