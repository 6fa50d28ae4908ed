"""White-box evaluation: one compiled step a batch, no query uncounted, and who sees the thief poisons it better."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pp_jax import MAD, BlackBox, RandomNoise, ReverseSigmoid, metrics, models
from pp_jax.attacks import Knockoff, collect, online
from pp_jax.training import Recipe, fit, make_step
from support import Linear, blobs, linear_logits

SHAPE = (6, 6, 1)
IMAGES = blobs(2, 300)[0]
SGD = optax.sgd(0.1)


@dataclasses.dataclass(frozen=True)
class Dense(Linear):
    """`Linear` that is its own logits function and counts how often it is traced."""

    classes: int = 4
    traces: list = dataclasses.field(default_factory=list, compare=False)

    def __call__(self, params, image):
        """Logits of one image."""
        return linear_logits(params, image)

    def train(self, params, images):
        """Logits of a batch."""
        self.traces.append(images.shape)
        return super().train(params, images)


@functools.cache
def _victim():
    """A linear victim of four noisy classes."""
    images, labels = blobs(1, 400)
    return fit(jax.random.key(0), Linear(4), images, labels, Recipe(epochs=10, batch_size=32, learning_rate=0.1))


def _box(network=None, *, epsilon=1.0):
    """The victim behind MAD with an untrained surrogate of that network."""
    network = network or Dense()
    return BlackBox(linear_logits, _victim(), MAD(network, network.init(jax.random.key(9), SHAPE), epsilon))


def _online(box=None, *, images=IMAGES, seed=5, network=None, **options):
    """`online` with defaults."""
    options = {"optimizer": SGD, "batch_size": 4} | options
    return online(jax.random.key(seed), network or Dense(), images, box or _box(), **options)


def _assert_close(one, other, **tolerance):
    jax.tree.map(functools.partial(np.testing.assert_allclose, **tolerance), one, other)


@pytest.mark.parametrize(
    "optimizer",
    [
        pytest.param(optax.sgd(0.1), marks=pytest.mark.slow),
        optax.sgd(0.1, momentum=0.5),
        pytest.param(optax.adam(0.001), marks=pytest.mark.slow),
    ],
    ids=["sgd", "momentum", "adam"],
)
def test_fixed_is_collecting_and_then_training_in_the_same_order(optimizer):
    box, images = _box(), IMAGES[:22]
    theft = _online(box, images=images, optimizer=optimizer, sees="fixed")
    answers, audit = box(images)
    np.testing.assert_allclose(theft.transfer.answers, answers, atol=1e-6)
    np.testing.assert_allclose(theft.audit.probs, audit.probs, atol=1e-6)
    network = Dense()
    params = network.init(jax.random.split(jax.random.key(5))[0], SHAPE)
    carry, step = (params, optimizer.init(params["params"])), make_step(network, optimizer)
    for i in range(0, 22, 4):
        carry, _ = step(carry, jnp.asarray(images[i : i + 4]), answers[i : i + 4])
    _assert_close(theft.params, carry[0], atol=1e-5)


def test_fixed_is_what_the_driver_collects():
    box = _box()
    stolen = collect(jax.random.key(0), Knockoff(4), IMAGES, box.api(), budget=50)
    theft = _online(box, images=stolen.images, sees="fixed")
    np.testing.assert_array_equal(theft.transfer.images, stolen.images)
    np.testing.assert_allclose(theft.transfer.answers, stolen.answers, atol=1e-6)


@pytest.mark.parametrize("sees", ["attacker", "proxy"])
def test_the_defense_sees_the_weights_of_now(sees):
    network, box = Dense(), _box()
    theft = _online(box, images=IMAGES[:10], sees=sees, batch_size=1, proxy=network if sees == "proxy" else None)
    thief_key, proxy_key = jax.random.split(jax.random.key(5))
    params = network.init(thief_key if sees == "attacker" else proxy_key, SHAPE)
    carry, step = (params, SGD.init(params["params"])), make_step(network, SGD)
    for i in range(10):
        now = dataclasses.replace(box, defense=dataclasses.replace(box.defense, surrogate=carry[0]))
        answer, _ = now(IMAGES[i : i + 1])
        np.testing.assert_allclose(theft.transfer.answers[i : i + 1], answer, atol=1e-4)
        carry, _ = step(carry, jnp.asarray(IMAGES[i : i + 1]), answer)


@dataclasses.dataclass(frozen=True)
class Warm(Dense):
    """A thief that starts from weights half-way to the victim's."""

    def init(self, key, image_shape):
        """Every time the same arrays."""
        return _halfway()


@functools.cache
def _halfway():
    return jax.tree.map(lambda w: w / 2, _victim())


def test_at_the_same_weights_perfect_knowledge_turns_the_thiefs_own_gradient_further_than_a_fixed_surrogate():
    # So slow a thief has the same weights at every query, whatever it is told.
    network, slow = Warm(), optax.sgd(1e-7)
    box = _box()
    box = dataclasses.replace(box, defense=dataclasses.replace(box.defense, logits_fn=network))
    thief, fixed = (_online(box, network=network, sees=sees, optimizer=slow) for sees in ("attacker", "fixed"))
    _assert_close(thief.params, fixed.params, atol=1e-5)
    assert thief.deviations.mean() > fixed.deviations.mean() + 5


def test_perfect_knowledge_leaves_the_thief_with_less_than_a_fixed_surrogate_does():
    images, labels = blobs(3, 500)
    thief, fixed = (
        metrics.accuracy(
            metrics.predict(linear_logits, _online(images=blobs(2, 1000)[0], sees=sees, batch_size=1).params, images),
            labels,
        )
        for sees in ("attacker", "fixed")
    )
    assert thief < fixed - 0.2


def test_the_deviation_is_the_angle_at_the_thiefs_weights():
    box, network = _box(), Dense()
    theft = _online(box, images=IMAGES[:8], batch_size=8)
    params = network.init(jax.random.split(jax.random.key(5))[0], SHAPE)
    angles = metrics.angular_deviation(
        theft.audit.probs, theft.transfer.answers, IMAGES[:8], logits_fn=network, params=params
    )
    np.testing.assert_allclose(theft.deviations, angles, atol=0.05)
    assert angles.mean() > 10


def test_an_undefended_victim_is_stolen_online_and_mad_makes_that_worse():
    images, labels = blobs(3, 500)

    def accuracy(box, sees):
        params = _online(box, sees=sees).params
        return metrics.accuracy(metrics.predict(linear_logits, params, images), labels)

    open_, defended = accuracy(BlackBox(linear_logits, _victim()), "fixed"), accuracy(_box(epsilon=1.5), "attacker")
    assert open_ > 0.9
    assert defended < open_ - 0.2


@pytest.mark.parametrize(("sees", "networks"), [("fixed", 1), ("attacker", 1), ("proxy", 2)])
def test_one_trace_for_all_batches_of_one_size_and_one_more_for_the_rest(sees, networks):
    network, optimizer = Dense(), optax.sgd(0.1)
    options = {"network": network, "optimizer": optimizer, "sees": sees, "proxy": network if networks == 2 else None}
    box = _box(network)
    _online(box, images=IMAGES[:4], **options)
    per_trace = network.traces.count((4, *SHAPE))
    network.traces.clear()
    _online(box, images=IMAGES[:40], **options)
    _online(box, images=IMAGES[:40], seed=6, **options)
    _online(dataclasses.replace(box, defense=dataclasses.replace(box.defense, epsilon=0.3)), images=IMAGES, **options)
    assert network.traces.count((4, *SHAPE)) == 0
    _online(box, images=IMAGES[:7], **options)
    assert network.traces.count((3, *SHAPE)) == per_trace > 0


@pytest.mark.parametrize("count", [1, 4, 7])
@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_every_image_is_one_query(count, batch_size):
    progress = []
    theft = _online(images=IMAGES[:count], batch_size=batch_size, progress=progress.append)
    assert theft.transfer.queries == len(theft.audit.probs) == len(theft.deviations) == sum(progress) == count
    np.testing.assert_array_equal(theft.transfer.images, IMAGES[:count])


def test_the_same_key_gives_the_same_theft_and_leaves_the_box_usable():
    box = _box()
    first, again, other = (_online(box, images=IMAGES[:20], seed=seed) for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert (first.transfer.answers != other.transfer.answers).any()
    assert np.isfinite(box(IMAGES[:2])[0]).all()


def test_a_warm_start_keeps_its_weights():
    before = jax.tree.map(np.array, _halfway())
    _online(images=IMAGES[:8], network=Warm(), sees="fixed")
    jax.tree.map(np.testing.assert_array_equal, _halfway(), before)


def test_noise_is_that_of_the_black_box():
    box = BlackBox(linear_logits, _victim(), RandomNoise(1.0), key=jax.random.key(3))
    theft = _online(box, images=IMAGES[:6], sees="fixed")
    np.testing.assert_allclose(theft.transfer.answers, box(IMAGES[:6])[0], atol=1e-6)
    with pytest.raises(ValueError, match="RandomNoise draws random numbers"):
        _online(dataclasses.replace(box, key=None), images=IMAGES[:6], sees="fixed")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float16, np.uint8])
def test_other_dtypes_and_float64_mode_are_served(dtype):
    images = np.asarray(IMAGES[:6] * (255 if dtype == np.uint8 else 1)).astype(dtype)
    for wide in (False, True):
        with jax.enable_x64(wide):
            theft = _online(images=images)
        assert theft.transfer.images.dtype == dtype
        np.testing.assert_allclose(theft.transfer.answers.sum(1), 1, atol=1e-5)
        assert np.isfinite(theft.deviations).all()


@pytest.mark.slow
def test_networks_with_batch_statistics_learn_and_are_seen():
    network = models.Network(models.WRN(num_classes=4, depth=10, width=1))
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), np.uint8)
    victim, surrogate = (network.init(jax.random.key(i), (8, 8, 3)) for i in (0, 1))
    box = BlackBox(network, victim, MAD(network, surrogate, 0.5))
    theft = online(jax.random.key(2), network, images, box, optimizer=SGD, batch_size=4)
    assert theft.transfer.queries == 12
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(theft.params))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, not 0"),
        ({"images": IMAGES[0]}, r"images must have shape \(B, H, W, C\)"),
        ({"images": IMAGES * 3}, r"floating-point images must be in \[0, 1\]: 300 of 300 are not"),
        ({"sees": "everything"}, "sees must be one of attacker, proxy, fixed, not 'everything'"),
        ({"sees": "proxy"}, "a proxy network is needed for sees='proxy' and for nothing else"),
        ({"proxy": Dense()}, "a proxy network is needed for sees='proxy' and for nothing else: sees='attacker'"),
        ({"network": Dense(5)}, "the attacker must be the network whose weights MAD takes"),
        ({"proxy": Dense(5), "sees": "proxy"}, "the proxy must be the network whose weights MAD takes"),
        ({"network": Dense(5), "sees": "fixed"}, "the thief knows 5 classes, the victim 4"),
        (
            {"box": BlackBox(linear_logits, None, ReverseSigmoid(0.5, 0.2))},
            "sees='attacker' needs a defense with a surrogate, such as MAD, not ReverseSigmoid",
        ),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        _online(**options)
