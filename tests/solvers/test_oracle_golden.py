"""Oracles and line searches against the numbers of the published code (tests/golden/mad_last_layer.npz)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pp_jax import distance, objective, oracle
from pp_jax.gram import Dense, Identity, LastLayer, jacobian
from pp_jax.solvers.heuristic import LineSearch
from support import golden, quick

FILE = golden("mad_last_layer")
CLASSES = [int(k) for k in FILE["Ks"]]
SURROGATES = [str(s) for s in FILE["surrogates"]]
ORACLES = {
    "extreme_obj1": LineSearch(oracle.extreme),
    "extreme_obj0": LineSearch(oracle.extreme, objective=objective.inner),
    "argmax_obj1": LineSearch(oracle.argmax_preserving),
    "argmax_obj0": LineSearch(oracle.argmax_preserving, objective=objective.inner),
    "argmin": LineSearch(oracle.least_likely),
}
DISTANCES = {"l1": distance.L1(), "l2": distance.L2(), "kl": distance.KL()}
# Per precision: gap below which the choice is decided by rounding, and how near a point and an objective must be.
GAP = {"float64": 1e-8, "float32": 1e-4}
POINT = {"float64": 1e-7, "float32": 1e-5}
VALUE = {"float64": 1e-6, "float32": 2e-4}
# The published bisection in α ends 2⁻¹⁵ from the boundary.
KL_POINT = 7e-5
CASES = [
    (k, s, o) for k in CLASSES for s in SURROGATES for o in ORACLES if f"K{k}/{s}/{o}/y_star" in FILE
]  # fmt: skip
BOTH = [(*case, dtype) for case in CASES for dtype in ("float64", "float32")]


@functools.cache
def _run(classes, dtype, dense):
    """Everything the library says for one K: {(surrogate, oracle): {quantity: array}}, from one compilation."""
    cases = [(s, o) for k, s, o in CASES if k == classes]
    inputs = {s: (FILE[f"K{classes}/{s}/p"], (FILE[f"K{classes}/{s}/h"] ** 2).sum(1)) for s in SURROGATES}
    names = {o for _, o in cases}

    def one(y, p, scale):
        gram = LastLayer(p, scale)
        gram = Dense(gram.matrix()) if dense else gram
        chosen = {name: _choice(name, y, gram) for name in names}
        # What follows the choice does not depend on how the matrix is stored.
        return chosen if dense else {n: c | _answers(n, y, gram, classes) for n, c in chosen.items()}

    with jax.enable_x64(dtype == "float64"):
        y = jnp.concatenate([jnp.asarray(FILE[f"K{classes}/y"], dtype)] * len(SURROGATES))
        p = jnp.concatenate([jnp.asarray(inputs[s][0], dtype) for s in SURROGATES])
        scale = jnp.concatenate([jnp.asarray(inputs[s][1], dtype) for s in SURROGATES])
        found = jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(y, p, scale))
    rows = len(FILE[f"K{classes}/y"])
    place = {s: slice(i * rows, (i + 1) * rows) for i, s in enumerate(SURROGATES)}
    return {(s, o): jax.tree.map(lambda a, s=s: a[place[s]], found[o]) for s, o in cases}


def _choice(name, y, gram):
    """The target and its value."""
    solver = ORACLES[name]
    target = solver.oracle(y, gram, objective=solver.objective)
    value = solver.objective(gram.inner(target, y), gram.quadratic(target), gram.quadratic(y))
    return {"y_star": target, "oracle_val": value}


def _answers(name, y, gram, classes):
    """Per distance the answers, (E, K)."""
    out = {}
    for d, ball in DISTANCES.items():
        eps = jnp.asarray(FILE[f"K{classes}/{SURROGATES[0]}/{name}/{d}/eps"], y.dtype)
        answer = jax.vmap(lambda e, ball=ball: ORACLES[name](y, gram, epsilon=e, distance=ball, key=None))(eps)
        out[d] = {"y_tilde": answer}
    return out


def _decided(classes, surrogate, name, dtype, dense):
    """Rows whose choice is not a matter of rounding."""
    decided = FILE[f"K{classes}/{surrogate}/{name}/gap"] > GAP[dtype]
    if dtype == "float32" and "obj1" in name and dense:
        # A stored float32 matrix cancels where p is almost y or almost a candidate.
        decided &= _far(classes, surrogate, FILE[f"K{classes}/y"])
        decided &= _far(classes, surrogate, FILE[f"K{classes}/{surrogate}/{name}/y_star"])
    return decided


def _far(classes, surrogate, points):
    """Rows with ‖p − point‖₂ > 1e-2: nearer, the angle seen from p is ill-conditioned."""
    return np.linalg.norm(FILE[f"K{classes}/{surrogate}/p"] - points, axis=-1) > 1e-2


@pytest.mark.parametrize("dense", quick([False, True], 0), ids=["LastLayer", "Dense"])
@pytest.mark.parametrize("dtype", quick(["float64", "float32"], 0))
@pytest.mark.parametrize(("classes", "surrogate", "name"), CASES)
def test_oracle_chooses_the_published_point(classes, surrogate, name, dtype, dense):
    found, key = _run(classes, dtype, dense)[surrogate, name], f"K{classes}/{surrogate}/{name}"
    rows = _decided(classes, surrogate, name, dtype, dense)
    np.testing.assert_allclose(found["y_star"][rows], FILE[f"{key}/y_star"][rows], rtol=0, atol=POINT[dtype])
    if name == "argmin":
        return
    value, expected = found["oracle_val"], FILE[f"{key}/oracle_val"]
    sure = np.ones(len(value), bool)
    if dtype == "float32" and name.endswith("obj1"):
        sure = _far(classes, surrogate, FILE[f"K{classes}/y"])
        sure &= (not dense) | _far(classes, surrogate, FILE[f"{key}/y_star"])
    unit = 1 if name.endswith("obj1") else np.maximum(expected[sure], 1)
    np.testing.assert_allclose(value[sure] / unit, expected[sure] / unit, rtol=0, atol=VALUE[dtype])


@pytest.mark.parametrize(
    ("classes", "surrogate", "name", "dtype"),
    quick(BOTH, *(i for i, (classes, *_, dtype) in enumerate(BOTH) if dtype == "float64" or classes == 10)),
)
def test_line_search_ends_at_the_published_answer(classes, surrogate, name, dtype):
    found, rows = _run(classes, dtype, False)[surrogate, name], _decided(classes, surrogate, name, dtype, False)
    for d in DISTANCES:
        key = f"K{classes}/{surrogate}/{name}/{d}"
        answered = FILE[f"{key}/crash"] == 0 if d == "kl" else np.ones(FILE[f"{key}/objective"].shape, bool)
        near = KL_POINT if d == "kl" else POINT[dtype]
        error = np.abs(found[d]["y_tilde"].swapaxes(0, 1) - FILE[f"{key}/y_tilde"]).max(-1)
        assert error[answered & rows].max(initial=0) <= near, d


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("classes", CLASSES)
def test_objective_of_the_published_answers(classes, dtype):
    y = FILE[f"K{classes}/y"]
    for surrogate, name in [(s, o) for k, s, o in CASES if k == classes]:
        # The published ablation judges with G = I.
        p = np.zeros_like(y) if name == "argmin" else FILE[f"K{classes}/{surrogate}/p"]
        values = _values_without_surrogate if name == "argmin" else _values
        for d in DISTANCES:
            key = f"K{classes}/{surrogate}/{name}/{d}"
            answers, expected = FILE[f"{key}/y_tilde"], FILE[f"{key}/objective"]
            with jax.enable_x64(dtype == "float64"):
                found = values(*(jnp.asarray(a, dtype) for a in (y, answers, p)))
            sure = np.isfinite(expected)
            if dtype == "float32":
                sure &= np.linalg.norm(p - y, axis=-1) > 1e-2
            assert np.abs(np.asarray(found) - expected)[sure].max(initial=0) <= VALUE[dtype], key


@jax.jit
def _values(y, answers, p):
    """H of answers (E, N, K), (E, N)."""
    one = lambda y, z, p: objective.value(y, z, LastLayer(p))  # noqa: E731
    return jax.vmap(jax.vmap(one), (None, 0, None))(y, answers, p)


@jax.jit
def _values_without_surrogate(y, answers, p):
    """H with G = I."""
    one = lambda y, z, p: objective.value(y, z, Identity(jnp.ones_like(p)))  # noqa: E731
    return jax.vmap(jax.vmap(one), (None, 0, None))(y, answers, p)


@pytest.mark.parametrize(("classes", "surrogate", "name"), CASES)
def test_kl_line_search_is_exact_also_where_the_published_one_crashes(classes, surrogate, name):
    found, key = _run(classes, "float64", False)[surrogate, name], f"K{classes}/{surrogate}/{name}"
    rows = _decided(classes, surrogate, name, "float64", False)
    y, target, alpha = FILE[f"K{classes}/y"], FILE[f"{key}/y_star"], FILE[f"{key}/kl/alpha_exact"][..., None]
    expected = y + alpha * (target - y)
    answers = found["kl"]["y_tilde"].swapaxes(0, 1)
    np.testing.assert_allclose(answers[:, rows], expected[:, rows], rtol=0, atol=1e-7)


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("name", ["extreme_obj1", "argmax_obj1"])
def test_float32_answers_are_those_of_the_code_as_shipped(name, surrogate):
    key = f"K10/{surrogate}/{name}/l1"
    expected = FILE[f"{key}/y_tilde_f32_eps1"]
    rows = FILE[f"K10/{surrogate}/{name}/gap"] > GAP["float32"]
    index = int(np.argmin(np.abs(FILE[f"{key}/eps"] - 1)))
    found = _run(10, "float32", False)[surrogate, name]["l1"]["y_tilde"][:, index]
    np.testing.assert_allclose(found[rows], expected[rows], rtol=0, atol=5e-7)


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("classes", [k for k in CLASSES if k <= 10])
def test_last_layer_and_jacobian_agree_with_the_published_jacobian(classes, surrogate):
    key = f"K{classes}/{surrogate}"
    expected = np.einsum("nkjf,nljf->nkl", FILE[f"{key}/G"], FILE[f"{key}/G"])
    weights = {"kernel": FILE[f"{key}/w_last"], "bias": FILE[f"{key}/b_last"]}
    with jax.enable_x64(True):
        h = jnp.asarray(FILE[f"{key}/h"])
        closed = jax.jit(jax.vmap(lambda p, h: LastLayer(p, h @ h).matrix()))(FILE[f"{key}/p"], h)
        last = lambda w, x: x @ w["kernel"] + w["bias"]  # noqa: E731
        reference = jax.jit(jax.vmap(lambda h: jacobian(last, weights, h, where=lambda n: n == "kernel")))(h)
    np.testing.assert_allclose(closed, expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(reference, expected, rtol=1e-10, atol=1e-12)


def test_the_degenerate_row_of_the_published_code_has_an_answer_here():
    y = jnp.asarray(FILE["degenerate/y"], jnp.float32).reshape(-1)
    answer = LineSearch()(y, LastLayer(y), epsilon=0.5, distance=distance.L1(), key=None)
    np.testing.assert_allclose(answer, [0.75, 0.25], atol=1e-7)
