"""Several devices: the same call on 1, 2, 4 and 8 of them gives the same answers, whatever is divided how."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import children
from pp_jax import MAD, BlackBox, parallel, perturb
from support import linear_logits, linear_params

PARAMS = linear_params(jax.random.key(0), 16, 5)
PROBS, IMAGES = jnp.full((3, 5), 0.2), jnp.zeros((3, 4, 4, 1))
ROUNDING = 1e-6


def _eight(grid):
    """What eight devices found."""
    return children.results(children.start("devices.py", grid, devices=8), timeout=500)[0]


@pytest.fixture(scope="module")
def eight():
    """The corners of the grid."""
    return _eight("quick")


def _check(result):
    """Every case is on as many devices as it should be, and equal to one device."""
    for case in result["cases"]:
        assert case["apart"] <= ROUNDING, case
        assert case["spread"] == case["devices"], case
        assert case["cut"] == (case["model"] > 1), case
    for part in result["black_boxes"] + result["streams"]:
        assert all(distance <= ROUNDING for name, distance in part.items() if name.endswith("apart")), part


@pytest.mark.slow
def test_answers_are_those_of_one_device_up_to_rounding(eight):
    _check(eight)
    assert {case["devices"] for case in eight["cases"]} == {1, 2, 4, 8}
    assert {case["count"] for case in eight["cases"]} == {3, 13, 64}


@pytest.mark.slow
def test_answers_are_those_of_one_device_bit_for_bit_where_every_device_works_in_the_same_portions(eight):
    assert [case["apart"] for case in eight["cases"] if case["batch_size"]] == [0]


@pytest.mark.exhaustive
def test_answers_are_those_of_one_device_on_the_full_grid():
    result = _eight("full")
    _check(result)
    assert {case["devices"] for case in result["cases"]} == {1, 2, 4, 8}
    assert all(case["apart"] == 0 for case in result["cases"] if case["batch_size"])


@pytest.mark.slow
def test_a_batch_size_that_the_devices_cannot_share_is_refused(eight):
    assert eight["refused"] == "batch_size must be a positive multiple of the devices that share it, 8, not 12"


@pytest.mark.slow
def test_one_trace_serves_a_stream_on_eight_devices(eight):
    assert eight["traces"] == 1


@pytest.mark.parametrize("model", [0, -1, len(jax.devices()) + 1])
def test_devices_that_cannot_be_shared_out_are_refused(model):
    with pytest.raises(ValueError, match=f"divide the number of devices, {len(jax.devices())}, not {model}"):
        parallel.data_mesh(model=model)


def test_a_mesh_needs_devices():
    with pytest.raises(ValueError, match="divide the number of devices, 0, not 1"):
        parallel.data_mesh(devices=[])


@pytest.mark.parametrize(
    "use",
    [
        lambda mesh: perturb(MAD(linear_logits, PARAMS, 0.5), PROBS, IMAGES, mesh=mesh),
        lambda mesh: BlackBox(linear_logits, PARAMS, mesh=mesh),
    ],
    ids=["perturb", "BlackBox"],
)
def test_a_mesh_without_a_data_axis_is_refused(use):
    with pytest.raises(ValueError, match=r"an axis 'data' \(see parallel.data_mesh\), not only \('model',\)"):
        use(jax.sharding.Mesh(jax.devices()[:1], ("model",)))


def test_the_rule_over_model_needs_the_axis_model():
    with pytest.raises(ValueError, match=r"an axis 'model'"):
        parallel.over_model(jax.sharding.Mesh(jax.devices()[:1], ("data",)))


def test_bad_values_are_counted_among_the_questions_not_among_the_padding():
    with pytest.raises(ValueError, match="must sum to one: 3 of 3 rows"):
        perturb(MAD(linear_logits, PARAMS, 0.5), PROBS * 1.1, IMAGES, mesh=parallel.data_mesh())


def test_what_was_placed_by_a_rule_stays_where_it_is():
    mesh = parallel.data_mesh()
    placed = parallel.place(MAD(linear_logits, PARAMS, 0.5), mesh, rule=parallel.over_model(mesh, at_least=1))
    again = parallel.place(placed, mesh)
    kernel = again.surrogate["params"]["kernel"]
    assert kernel.sharding.spec == jax.sharding.PartitionSpec(None, "model")
    assert again.surrogate["params"]["bias"].sharding.spec == jax.sharding.PartitionSpec()


def test_perturb_on_a_mesh_works_under_jit_and_grad():
    mesh, defense = parallel.data_mesh(), MAD(linear_logits, PARAMS, 0.5)
    probs = jnp.asarray(np.random.default_rng(0).dirichlet(np.ones(5), 3), jnp.float32)
    answers = perturb(defense, probs, IMAGES)
    inside = jax.jit(lambda d, y, x: perturb(d, y, x, mesh=mesh))(defense, probs, IMAGES)
    np.testing.assert_allclose(inside, answers, atol=ROUNDING)
    gradients = [
        jax.grad(lambda y, mesh=mesh: perturb(defense, y, IMAGES, mesh=mesh)[:, 0].sum())(probs)
        for mesh in (None, mesh)
    ]
    np.testing.assert_allclose(*gradients, rtol=1e-5, atol=1e-5)


def test_one_process_has_all_rows():
    assert parallel.share(7) == slice(0, 7)
    rows = np.arange(8.0, dtype=np.float32).reshape(4, 2)
    np.testing.assert_array_equal(parallel.to_host(parallel.from_hosts(parallel.data_mesh(), rows)), rows)


def test_gathered_logits_are_the_logits():
    gathered = parallel.Gathered(linear_logits)
    np.testing.assert_array_equal(gathered(PARAMS, IMAGES[0] + 1), linear_logits(PARAMS, IMAGES[0] + 1))
    assert hash(gathered) == hash(parallel.Gathered(linear_logits))
