"""Contracts state their traits, and what is somebody's own is held to them: one line says what is missing."""

import dataclasses
import functools
import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pp_jax import (
    MAD,
    BlackBox,
    RandomNoise,
    Rounding,
    TopK,
    calibration,
    chain,
    defenses,
    gram,
    oracle,
    perturb,
    stream,
)
from pp_jax.defenses import contrastive
from pp_jax.pytree import pytree
from pp_jax.recovery import ddae, invert_known_mad, partial_bayes
from pp_jax.serving.perturbation import perturb_sequence
from pp_jax.solvers import LineSearch, MaxAngle, MinInner, Projection
from pp_jax.types import StatefulDefense, SurrogateDefense
from support import broken_promises, hard_posteriors, linear_logits, linear_params

KEY = jax.random.key(0)
CLASSES, SIDE = 4, 3
PARAMS = linear_params(KEY, SIDE * SIDE, CLASSES)
RNG = np.random.default_rng(0)
PROBS = RNG.dirichlet(np.ones(CLASSES), 6).astype(np.float32)
IMAGES = RNG.random((6, SIDE, SIDE, 1), np.float32)
PARTNERS = jnp.array([1, 0, 3, 2])
STORED = jnp.eye(CLASSES)[:, None, :]

PLANE = contrastive.Plane(
    (jnp.ones((9, 2)), jnp.zeros(2), jnp.eye(2)), jnp.ones(9), jnp.ones(()), jnp.ones((4, 2)), jnp.ones(4)
)
WATCHED = (lambda params, image: image.ravel(), PARAMS, jnp.ones((10, 4)), jnp.ones((4, 9)), PLANE)
QUEEN = defenses.QUEEN(*WATCHED, linear_logits, jax.tree.map(lambda w: w[None], PARAMS))


def _mad(**options):
    return MAD(linear_logits, PARAMS, 0.5, **options)


def _own(respond, **traits):
    """An own defense: a registered class with the traits that are given, and `respond` as its call."""
    body = {
        "random": False,
        "reads_image": False,
        "__call__": lambda self, probs, query: respond(probs, query),
    } | traits
    body = {name: value for name, value in body.items() if value is not None}
    return pytree(dataclasses.dataclass(frozen=True)(type("Mine", (), body)))()


def _same(probs, query):
    return probs


# Defense: whether it draws, whether it looks at the image.
TRAITS = {
    "MAD": (_mad(), False, True),
    "MAD, identity": (_mad(gram=gram.identity), False, False),
    "MAD, random vertex": (_mad(solver=LineSearch(oracle.random_vertex)), True, True),
    "MAD, random projection": (_mad(solver=Projection(oracle.random_vertex), gram=gram.identity), True, False),
    "MAD, exact": (_mad(solver=MaxAngle()), False, True),
    "GRAD2": (defenses.GRAD2(linear_logits, PARAMS, 0.5), False, True),
    "EDM": (defenses.EDM(linear_logits, jax.tree.map(lambda w: jnp.stack([w, -w]), PARAMS)), True, True),
    "misinformation": (defenses.AdaptiveMisinformation(linear_logits, PARAMS, 0.7), False, True),
    "KeyedSwap": (defenses.KeyedSwap(None, PARTNERS), True, False),
    "DAWN": (defenses.DAWN(0.5), True, False),
    "Honeytrace": (
        defenses.Honeytrace(lambda params, image: image.ravel(), None, jnp.zeros((1, 9)), jnp.zeros(CLASSES), 1.0),
        True,
        True,
    ),
    "GatedResampled": (
        defenses.GatedResampled(None, STORED, None, None, closed="drawn"),
        True,
        False,
    ),
    "QUEEN": (QUEEN, False, True),
    "Retrained": (defenses.Retrained(linear_logits, PARAMS), False, True),
    "PATE": (defenses.PATE(linear_logits, jax.tree.map(lambda w: jnp.stack([w, -w]), PARAMS)), True, True),
    "APMSA": (defenses.APMSA(linear_logits, PARAMS, jnp.eye(CLASSES)), False, True),
    "EMMA": (defenses.EMMA(jnp.eye(CLASSES)), False, False),
    "Resampled": (defenses.Resampled(STORED), True, False),
    "ModelGuardW": (defenses.ModelGuardW(0.5), False, False),
    "ModelGuardS": (defenses.ModelGuardS(0.5, CLASSES), True, False),
    "BDPL": (defenses.BDPL(0.5, 0.1), True, False),
    "DCP": (defenses.DCP(0.5), False, False),
    "ReverseSigmoid": (defenses.ReverseSigmoid(0.5), False, False),
    "RandomNoise": (RandomNoise(1.0), True, False),
    "TopK": (TopK(2), False, False),
    "Rounding": (Rounding(1), False, False),
    "HighConfidence": (defenses.HighConfidence(0.1), False, False),
    "Top1": (defenses.Top1(), False, False),
    "no link": (chain(), False, False),
    "a link draws": (chain(TopK(2), chain(RandomNoise(1.0))), True, False),
    "a link looks": (chain(_mad(), TopK(2)), False, True),
}


@pytest.mark.parametrize("name", TRAITS)
def test_every_defense_states_whether_it_draws_and_whether_it_reads_the_image(name):
    defense, random, reads_image = TRAITS[name]
    assert (defense.random, defense.reads_image) == (random, reads_image)
    assert isinstance(defense, StatefulDefense) == (name in ("ModelGuardS", "QUEEN"))
    assert isinstance(defense, SurrogateDefense) == (name in ("GRAD2",) or name.startswith("MAD"))


def test_a_gated_swap_reads_the_image():
    gate = defenses.ood.Novelty(lambda params, image: image.ravel(), *[jnp.ones((2, 2))] * 7)
    assert defenses.KeyedSwap(gate, PARTNERS).reads_image


def test_no_defense_of_the_library_is_left_out():
    classes = {type(defense) for defense, *_ in TRAITS.values()}
    assert classes == {
        c for name in defenses.__all__ if isinstance(c := getattr(defenses, name), type) and "random" in vars(c)
    }


@pytest.mark.parametrize(
    ("defense", "message"),
    [
        (_own(_same, random=None), r"Mine must state `random`: True if its responses depend on query\.key, else False"),
        (_own(_same, reads_image=None), r"Mine must state `reads_image`: True if .* query\.image, else False"),
        (_own(_same, random="no"), r"Mine\.random must be True if .*, else False, not 'no'"),
        (lambda probs, query: probs, r"<lambda> must state `random`"),
        (functools.partial(_same, query=None), r"partial of _same must state `random`"),
        (defenses.Top1, r"the defense must be an instance, Top1\(…\), not the class Top1 itself"),
        (0.5, r"float must be callable as defense\(probs, query\) to be a defense"),
        (dataclasses.replace(_mad(), surrogate={"w": "weights"}), r"MAD must be a pytree of arrays, .* holds str"),
    ],
)
def test_what_is_no_defense_is_refused_in_one_line(defense, message):
    uses = [
        lambda: perturb(defense, PROBS, IMAGES),
        lambda: BlackBox(linear_logits, PARAMS, defense),
        lambda: next(stream.perturb(defense, (PROBS, IMAGES))),
        lambda: chain(defense),
        lambda: calibration.calibrate(lambda s: defense, PROBS, IMAGES, target=0.1, low=0, high=1),
        lambda: partial_bayes(KEY, PROBS, defense, images=IMAGES, samples=10),
        lambda: ddae(KEY, PROBS, defense, PROBS, images=IMAGES),
    ]
    for use in uses:
        with pytest.raises(ValueError, match=message) as caught:
            use()
        assert "\n" not in str(caught.value)


def test_a_defense_that_jax_does_not_know_or_cannot_hash_is_refused():
    @dataclasses.dataclass(frozen=True)
    class Unregistered:
        random = False
        reads_image = False

        def __call__(self, probs, query):
            return probs

    with pytest.raises(ValueError, match=r"Unregistered must be a pytree of arrays, .*pp_jax\.pytree\.pytree, but it"):
        perturb(Unregistered(), PROBS, IMAGES)

    @pytree
    @dataclasses.dataclass(frozen=True)
    class Listed(Unregistered):
        values: Any = dataclasses.field(metadata={"static": True})

    with pytest.raises(ValueError, match="Listed cannot be compiled: its static fields must be hashable"):
        perturb(Listed([1]), PROBS, IMAGES)


@pytest.mark.parametrize(
    ("respond", "message"),
    [
        (lambda y, query: y[:3], r"Mine returned shape \(3,\), must be \(4,\)"),
        (lambda y, query: (y, y), r"Mine returned tuple, must be an array of \(4,\)"),
        (lambda y, query: jnp.argmax(y)[None].repeat(4), r"Mine returned int32, must be floating point"),
        (lambda y, query: y / 0 * 0, r"responses of Mine must be finite: 6 of 6 rows do not"),
        (lambda y, query: y.at[0].set(-y[0]), r"responses of Mine must not be negative: 6 of 6 rows do not"),
        (lambda y, query: 2 * y, r"responses of Mine must sum to one: 6 of 6 rows do not"),
    ],
)
def test_a_response_that_is_no_posterior_is_refused_by_name(respond, message):
    defense = _own(respond)
    asks = [
        lambda: perturb(defense, PROBS, IMAGES),
        lambda: BlackBox(linear_logits, PARAMS, defense)(IMAGES),
        lambda: next(stream.perturb(defense, (PROBS, IMAGES), batch_size=6)),
    ]
    for ask in asks:
        with pytest.raises(ValueError, match=message):
            ask()


def test_values_are_not_looked_at_without_check_and_truncations_need_not_sum_to_one():
    assert (np.asarray(perturb(_own(lambda y, query: 2 * y), PROBS, IMAGES, check=False)) == 2 * PROBS).all()
    cut = perturb(chain(_mad(), TopK(1, renormalise=False)), PROBS, IMAGES)
    assert (np.asarray(cut).sum(1) < 0.99).any()
    with pytest.raises(ValueError, match="responses of Chain must sum to one"):
        perturb(chain(TopK(1, renormalise=False), _own(_same)), PROBS, IMAGES)


@pytree
@dataclasses.dataclass(frozen=True)
class Counting:
    """Counts the queries, in a memory of a type that may be the wrong one."""

    dtype: str = dataclasses.field(default="int32", metadata={"static": True})
    random = False
    reads_image = False

    def init(self):
        return jnp.int32(0)

    def __call__(self, probs, query, state):
        return probs, (state + 1).astype(self.dtype)


def test_a_memory_keeps_its_form():
    assert int(perturb_sequence(Counting(), Counting().init(), PROBS, IMAGES)[1]) == len(PROBS)
    with pytest.raises(ValueError, match="Counting returned a memory of another structure, shape or dtype"):
        perturb_sequence(Counting("float32"), Counting().init(), PROBS, IMAGES)


def test_a_memory_is_known_by_init_and_goes_into_no_chain_or_table():
    with pytest.raises(ValueError, match=r"Counting remembers its answers: ask it in a session\(\)"):
        perturb(Counting(), PROBS, IMAGES)
    with pytest.raises(ValueError, match="Counting has a memory: it must be asked by itself, not in a chain"):
        chain(TopK(2), Counting())
    with pytest.raises(ValueError, match="Counting remembers its responses: pairs can only be made"):
        partial_bayes(KEY, PROBS, Counting(), samples=10)
    with pytest.raises(ValueError, match="TopK has no memory: perturb answers for it"):
        perturb_sequence(TopK(2), None, PROBS, IMAGES)


@oracle.declare(keeps_argmax=False, random=True, vertex=True)
def some_class(probs, gram, *, objective, key):
    """A class by chance."""
    return jax.nn.one_hot(jax.random.randint(key, (), 0, len(probs)), len(probs), dtype=probs.dtype)


@oracle.declare(keeps_argmax=True, random=False)
def with_the_top(probs, gram, *, objective, key):
    """What the argmax-preserving oracle says, from a function around it."""
    return oracle.argmax_preserving(probs, gram, objective=objective, key=key)


@pytest.mark.parametrize("solver", [LineSearch(some_class), Projection(some_class)], ids=lambda s: type(s).__name__)
def test_an_own_random_oracle_is_refused_without_a_key(solver):
    defense = _mad(solver=solver)
    with pytest.raises(ValueError, match=r"MAD draws random numbers: it needs key=jax.random.key\(…\), not None"):
        perturb(defense, PROBS, IMAGES)
    one, other = (np.asarray(perturb(defense, PROBS, IMAGES, key=jax.random.key(k))) for k in (1, 2))
    assert (one != other).any()


@pytest.mark.parametrize("solver", [LineSearch, Projection])
def test_what_draws_without_saying_so_finds_no_key(solver):
    liar = oracle.declare(keeps_argmax=False, random=False)(some_class.function)
    with pytest.raises(TypeError):
        perturb(_mad(solver=solver(liar)), PROBS, IMAGES, key=KEY)
    with pytest.raises(TypeError):
        perturb(_own(lambda y, query: jax.random.permutation(query.key, y)), PROBS, IMAGES, key=KEY)


def test_an_own_top_keeping_oracle_keeps_the_guarantee():
    probs = hard_posteriors(np.random.default_rng(1), 300, CLASSES)
    images = np.random.default_rng(2).random((300, SIDE, SIDE, 1), np.float32)
    for epsilon in (0.3, 0.99, 2.0):
        defense = MAD(linear_logits, PARAMS, epsilon, solver=LineSearch(with_the_top))
        assert defense.solver.keeps_argmax
        answers = np.asarray(perturb(defense, probs, images))
        counts = broken_promises(probs, answers, np.float32([epsilon]), distance="L1", keep_argmax=True)
        assert not any(counts.values()), counts


def test_an_own_oracle_that_takes_a_step_is_judged_where_the_search_ends():
    wrapped = oracle.declare(keeps_argmax=False, random=False, takes_step=True)(oracle.extreme.function)
    ours, theirs = (_mad(solver=LineSearch(o, interpolate_first=True)) for o in (wrapped, oracle.extreme))
    np.testing.assert_array_equal(perturb(ours, PROBS, IMAGES), perturb(theirs, PROBS, IMAGES))


def _bare(probs, gram, *, objective, key):
    return probs


@pytest.mark.parametrize("solver", [LineSearch, Projection])
@pytest.mark.parametrize(
    ("own", "message"),
    [
        (_bare, r"_bare must state `keeps_argmax`: .*oracle\.declare\(keeps_argmax=…, random=…\)$"),
        (functools.partial(oracle.extreme, step=0.5), r"partial of extreme must state `keeps_argmax`: .*declare"),
        (oracle.declare(keeps_argmax=1, random=False)(_bare), r"_bare\.keeps_argmax must be True if .*, not 1"),
        ("extreme", r"str must be callable as oracle\(probs, gram, objective=…, key=…\)"),
    ],
)
def test_a_bare_function_is_no_oracle(solver, own, message):
    with pytest.raises(ValueError, match=message) as caught:
        solver(own)
    assert "\n" not in str(caught.value)


def test_a_bare_function_is_no_solver():
    with pytest.raises(ValueError, match="_bare must state `keeps_argmax`: True if the top class of y stays on top"):
        _mad(solver=_bare)


def test_oracles_are_values():
    assert oracle.extreme.__name__ == "extreme"
    assert "best one-hot" in oracle.extreme.__doc__
    for value in (oracle.extreme, some_class, oracle.declare(keeps_argmax=False, random=False)(_bare)):
        assert pickle.loads(pickle.dumps(LineSearch(value))) == LineSearch(value)
    assert pickle.loads(pickle.dumps(oracle.extreme)) is oracle.extreme
    assert {o.keeps_argmax for o in (oracle.extreme, oracle.least_likely, oracle.random_vertex)} == {False}
    assert [MinInner(k).keeps_argmax for k in (False, True)] == [MaxAngle(k).keeps_argmax for k in (False, True)]


@pytest.mark.parametrize("name", ["MAD", "GRAD2", "EDM", "misinformation", "a link looks"])
def test_a_recovery_needs_images_for_a_defense_that_reads_them(name):
    defense, *_ = TRAITS[name]
    for recover in (
        lambda: partial_bayes(KEY, PROBS, defense, samples=10),
        lambda: ddae(KEY, PROBS, defense, PROBS),
    ):
        with pytest.raises(
            ValueError, match=r"the responses of \w+ depend on the image: images must be given, not None"
        ):
            recover()


def test_a_recovery_needs_no_images_for_mad_without_a_surrogate():
    defense = _mad(solver=LineSearch(oracle.least_likely), gram=gram.identity)
    found = partial_bayes(KEY, perturb(defense, PROBS, IMAGES), defense, samples=100)
    assert found.shape == PROBS.shape


def test_the_inversion_is_of_mad_with_an_oracle_that_names_vertices():
    for defense, message in [
        (TopK(2), "the defense must be MAD for the inversion, not TopK"),
        (_mad(solver=LineSearch(with_the_top)), "the oracle must name a vertex .*, not with_the_top"),
        (_mad(solver=LineSearch(some_class)), "the oracle must name a vertex .*, not some_class"),
    ]:
        with pytest.raises(ValueError, match=message):
            invert_known_mad(PROBS, IMAGES, defense)
