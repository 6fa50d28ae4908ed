"""`import pp_jax` costs next to nothing, its names resolve, and public functions have one shape."""

import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
import types

import pytest

import pp_jax
from pp_jax import defenses

HEAVY = ("flax", "optax", "tensorflow", "tensorflow_datasets", "matplotlib", "orbax", "tyro", "rich", "scipy")

# Every exception has a reason.
POSITIONAL = {
    "checkpoints.load": {"like"},
    "data.load": {"split"},  # the two names that TensorFlow Datasets takes in this order
    "models.conv": None,  # the signature of jax.lax.conv_general_dilated, which it stands in for
    **{f"models.{name}": {"num_classes"} for name in ("lenet", "mlp", "resnet18", "resnet34", "resnet50")},
    **{f"models.{name}": {"num_classes"} for name in ("vgg16_bn", "wrn_40_2")},  # what a network is made for
}
KEY_LATER = {"training.fit_resumably"}  # the folder comes first: what it holds says whether the key is used at all


def _modules():
    """Public modules by name: those that `pp_jax` names, and those inside its packages that say what is public."""
    found = {name: getattr(pp_jax, name) for name in pp_jax.__all__ if name in pp_jax._MODULES}
    for name, package in list(found.items()):
        for info in pkgutil.iter_modules(getattr(package, "__path__", ())):
            module = importlib.import_module(f"{package.__name__}.{info.name}") if info.name[0] != "_" else None
            if "__all__" in vars(module or pp_jax.types):
                found.setdefault(f"{name}.{info.name}", module)
    return found


def _public():
    """Everything public that is called, by module and name: functions, what wraps one, classes and their methods."""
    found = {}
    for place, module in _modules().items():
        own = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
        for name in getattr(module, "__all__", own):
            value = getattr(module, name)
            ours = str(getattr(value, "__module__", "")).startswith("pp_jax")
            if ours and callable(value) and not name.startswith("_"):
                found.setdefault(value if isinstance(value, type) else id(value), (f"{place}.{name}", value))
    return dict(found.values())


PUBLIC = _public()
CLASSES = {name: value for name, value in PUBLIC.items() if isinstance(value, type)}
METHODS = {
    f"{name}.{method}": value
    for name, cls in CLASSES.items()
    for method, value in vars(cls).items()
    if isinstance(value, types.FunctionType) and not method.startswith("_")
}
FUNCTIONS = {name: value for name, value in PUBLIC.items() if name not in CLASSES} | METHODS
DEFENSES = {name: cls for name, cls in CLASSES.items() if name.startswith("defenses.") and "random" in vars(cls)}


def _python(code):
    """What a fresh interpreter prints."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_import_loads_neither_a_network_library_nor_a_data_library():
    loaded = _python(f"import jax, sys; b = set(sys.modules); import pp_jax; print([m for m in {HEAVY} "
                     "if m in set(sys.modules) - b])")  # fmt: skip
    assert loaded.strip() == "[]"


def test_no_import_wakes_a_device():
    """A process that has one started must not be forked any more, and a script says what is wrong before that."""
    modules = ", ".join(f"pp_jax.{name}" for name in pp_jax.__all__ if inspect.ismodule(getattr(pp_jax, name)))
    code = (
        f"import os; os.environ['JAX_PLATFORMS'] = 'none';"  # waking this one is an error
        f"import pkgutil, importlib, pp_jax, {modules}, experiments.common;"
        "[importlib.import_module('experiments.' + each.name) for each in pkgutil.iter_modules(experiments.__path__)];"
        "print('done')"
    )
    assert _python(code).strip() == "done"


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


@pytest.mark.parametrize("name", pp_jax._MODULES)
def test_every_public_module_is_imported_by_its_name(name):
    module = importlib.import_module(f"pp_jax.{name}")
    assert module is getattr(pp_jax, name)
    assert module.__name__ == module.__spec__.name == f"pp_jax.{pp_jax._MODULES[name]}"


def test_a_module_that_there_is_not_is_an_import_error():
    with pytest.raises(ModuleNotFoundError, match=r"pp_jax\.metric"):
        importlib.import_module("pp_jax.metric")


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'mad'"):
        pp_jax.mad  # noqa: B018


def test_the_walk_finds_what_is_public():
    assert {"attacks.collect", "oracle.extreme", "perturbation.perturb", "training.fit"} <= {*FUNCTIONS}
    assert {"defenses.MAD", "defenses.KeyedSwap", "attacks.Knockoff", "blackbox.BlackBox"} <= {*CLASSES}
    assert len(FUNCTIONS) > 120


@pytest.mark.parametrize("name", FUNCTIONS)
def test_options_are_keyword_only_and_the_docstring_says_what_is_returned(name):
    function, allowed = FUNCTIONS[name], POSITIONAL.get(name, set())
    for parameter in inspect.signature(function).parameters.values():
        if parameter.default is not inspect.Parameter.empty and allowed is not None and parameter.name not in allowed:
            assert parameter.kind is inspect.Parameter.KEYWORD_ONLY, parameter
    assert function.__doc__
    assert function.__doc__.splitlines()[0].strip()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_required_key_comes_first(name):
    parameters = [p for p in inspect.signature(FUNCTIONS[name]).parameters.values() if p.name != "self"]
    required = [p.name for p in parameters if p.default is inspect.Parameter.empty and p.kind is not p.KEYWORD_ONLY]
    assert "key" not in required[1:] or name in KEY_LATER


def test_every_exception_is_needed():
    assert {*POSITIONAL, *KEY_LATER} <= {*FUNCTIONS}


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_says_what_it_is(name):
    text = CLASSES[name].__doc__
    assert text
    assert not re.match(rf"{CLASSES[name].__name__}\(\w*[:,)]", text)  # what a dataclass writes of itself


@pytest.mark.parametrize("name", DEFENSES)
def test_every_defense_states_its_guarantees_and_its_traits(name):
    cls = DEFENSES[name]
    if cls is not defenses.Chain:  # it promises what its links do
        text = cls.__doc__.lower()
        assert "guarantee" in text or "kept" in text
    memory = ["state"] if "init" in vars(cls) else []
    assert list(inspect.signature(cls.__call__).parameters) == ["self", "probs", "query", *memory]
    for trait in ("random", "reads_image"):
        assert isinstance(inspect.getattr_static(cls, trait), bool | property)
