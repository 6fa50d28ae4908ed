"""`import pp_jax` costs next to nothing, its names resolve, and public functions have one shape."""

import inspect
import subprocess
import sys

import pytest

import pp_jax
from pp_jax import (
    attacks,
    augmentation,
    calibration,
    defenses,
    distance,
    gram,
    metrics,
    novelty,
    objective,
    oracle,
    parallel,
    recovery,
    simplex,
    stream,
    sweep,
    training,
)
from pp_jax.serving.perturbation import perturb, perturb_sequence

HEAVY = ("flax", "optax", "tensorflow", "tensorflow_datasets", "matplotlib", "orbax", "tyro", "rich", "scipy")
FUNCTIONS = [
    perturb, attacks.collect, defenses.chain, distance.check_budget, gram.jacobian, gram.last_layer, gram.identity,
    metrics.predict, metrics.accuracy, metrics.agreement, metrics.distances, metrics.angular_deviation, objective.value,
    objective.deviation, oracle.extreme, oracle.argmax_preserving, oracle.least_likely, oracle.random_vertex,
    simplex.check, simplex.feasible, training.fit, training.make_step, attacks.online, attacks.jbda, attacks.jb_self,
    attacks.jb_topk, metrics.entropy, augmentation.random_flip, augmentation.random_crop,
    augmentation.random_resized_crop, training.fit_many, training.fit_resumably, training.bytes_each, stream.perturb,
    stream.ask, stream.write, parallel.data_mesh, parallel.place, parallel.over_model, sweep.plan, sweep.run,
    calibration.calibrate, calibration.mean_l1, perturb_sequence, defenses.grad2.all_ones, defenses.grad2.watermark,
    defenses.diverse.coherence, defenses.misinformation.loss, recovery.partial_bayes, recovery.ddae, recovery.ddae_plus,
    recovery.invert_mad, recovery.invert_known_mad, recovery.smoothing, recovery.shadow_posteriors,
    novelty.fit, defenses.keyed_swap.random_partners,
]  # fmt: skip
DEFENSES = [
    defenses.MAD, defenses.RandomNoise, defenses.ReverseSigmoid, defenses.Rounding, defenses.Top1, defenses.TopK,
    defenses.GRAD2, defenses.ModelGuardW, defenses.AdaptiveMisinformation, defenses.EDM, defenses.BDPL, defenses.DCP,
    defenses.HighConfidence, defenses.KeyedSwap,
]  # fmt: skip


def _python(code):
    """What a fresh interpreter prints."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_import_loads_neither_a_network_library_nor_a_data_library():
    loaded = _python(f"import jax, sys; b = set(sys.modules); import pp_jax; print([m for m in {HEAVY} "
                     "if m in set(sys.modules) - b])")  # fmt: skip
    assert loaded.strip() == "[]"


def test_import_takes_less_than_a_second_and_a_half_more_than_jax():
    clock = "import time, jax; t = time.process_time(); import pp_jax; print(time.process_time() - t)"
    assert min(float(_python(clock)) for _ in range(2)) < 1.5


def test_the_core_does_not_need_flax():
    code = (
        "import sys; from pp_jax import MAD, BlackBox, attacks, defenses, metrics, oracle, perturb, training;"
        "print('flax' in sys.modules)"
    )
    assert _python(code).strip() == "False"


@pytest.mark.parametrize("name", pp_jax.__all__)
def test_every_public_name_resolves(name):
    assert getattr(pp_jax, name) is not None
    assert name in dir(pp_jax)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'mad'"):
        pp_jax.mad  # noqa: B018


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__qualname__)
def test_options_are_keyword_only_and_the_docstring_says_what_is_returned(function):
    parameters = inspect.signature(function).parameters.values()
    for parameter in parameters:
        if parameter.default is not inspect.Parameter.empty:
            assert parameter.kind is inspect.Parameter.KEYWORD_ONLY, parameter
    assert function.__doc__
    assert function.__doc__.splitlines()[0].strip()


KEYED = [
    attacks.collect, attacks.online, training.fit, training.start, attacks.Knockoff().init,
    attacks.AdaptiveKnockoff([0]).init, attacks.jbda(None).init, augmentation.random_flip, augmentation.random_crop,
    augmentation.random_resized_crop, recovery.partial_bayes, recovery.ddae, recovery.ddae_plus, recovery.smoothing,
    recovery.shadow_posteriors,
]  # fmt: skip


@pytest.mark.parametrize("function", KEYED)
def test_a_required_key_comes_first(function):
    assert next(iter(inspect.signature(function).parameters)) == "key"


@pytest.mark.parametrize("defense", DEFENSES, ids=lambda d: d.__name__)
def test_every_defense_states_its_guarantees(defense):
    text = defense.__doc__.lower()
    assert "guarantee" in text or "kept" in text
    assert list(inspect.signature(defense.__call__).parameters) == ["self", "probs", "query"]
