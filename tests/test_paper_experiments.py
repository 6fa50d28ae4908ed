"""The paper's experiments end to end, on generated data of the shapes that their presets ask for."""

import sys
from pathlib import Path

import numpy as np
import pytest

from pp_jax import data, records
from pp_jax.data.spec import Spec
from pp_jax.data.types import Raw

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


@pytest.fixture(scope="module", autouse=True)
def scripts():
    """The scripts as modules, as they see one another."""
    sys.path.insert(0, str(EXPERIMENTS))
    yield
    sys.path.remove(str(EXPERIMENTS))


def bright_edges(count, shape, classes, seed):
    """Images with one bright edge; what edge and how bright is the class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    images = rng.integers(0, 90, (count, *shape))
    for image, label in zip(images, labels, strict=True):
        np.rot90(image, label % 4)[: shape[0] // 4] += 60 + 100 * (label // 4) // max(1, classes // 4)
    return images.astype(np.uint8), labels


def prepare(folder, name, shape, classes, *, train=240, test=220, splits=("train", "test")):
    """A generated set under a real one's name."""
    sizes = dict(zip(splits, (train, test), strict=False))
    raw = Raw(
        {split: bright_edges(size, shape, classes, seed) for seed, (split, size) in enumerate(sizes.items())},
        tuple(f"class {index}" for index in range(classes)),
    )
    data.prepare(Spec(name, "1.0.0", (None, None, shape[2]), "For tests.", make=lambda track: raw), data_dir=folder)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Small sets of 28×28 and 32×32 images under the names that presets look for."""
    folder = tmp_path_factory.mktemp("data")
    for name, classes in (("mnist", 10), ("fashion_mnist", 10), ("emnist/letters", 37), ("font_letters", 52)):
        prepare(folder, name, (28, 28, 1), classes)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Results that the tests of this module share: a victim is trained once."""
    return tmp_path_factory.mktemp("runs")


def small(**changes):
    """A size for seconds."""
    from presets import Size

    return Size(**{"budget": 120, "epochs": 2, "victim_epochs": 2, **changes})


@pytest.mark.slow
def test_the_undefended_table_has_published_beside_obtained_and_says_what_was_not_run(data_dir, runs, capsys):
    import undefended

    config = undefended.Config(
        presets=("mnist", "cub200"),
        attacks=("knockoff", "knockoff_adaptive", "jbda", "jb_topk"),
        size=small(budget=130),
        runs=runs,
        data_dir=data_dir,
    )
    table = undefended.run(config)
    (mnist, birds) = table.rows
    assert mnist[1] == "130"
    assert mnist[2].endswith("(99.4)")
    assert [text.split(" ")[1:] for text in mnist[3:]] == [["(99.0)"], [], ["(89.2)"], ["(87.3)"]]
    assert all(0 <= float(text.split()[0]) <= 100 for text in mnist[2:])
    assert birds[2:] == ["not run (80.4)", "not run (65.1)", "not run", "not run (6.8)", "not run (21.5)"]
    assert "python -m pp_jax.data prepare caltech_birds2011 --from FOLDER --size 224" in capsys.readouterr().err
    cells = records.load_all(runs / "undefended", kind="tradeoff")
    assert {cell.config["attack"]["name"] for cell in cells} == set(config.attacks)
    assert len(cells) == 4
    assert all(cell.result["queries"] == 130 for cell in cells)
    stamps = {cell.path: cell.path.stat().st_mtime_ns for cell in cells}
    assert undefended.run(config).rows == table.rows
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps  # found again, not computed again


def test_subversion_has_twelve_attackers_two_of_whom_need_mad(runs):
    import subversion

    config, attackers = subversion.Config(runs=runs), subversion.attackers_of("fashion_mnist")
    pairs = [(change, defense) for change in attackers.values() for defense in subversion.DEFENSES.values()]
    cells = [cell for pair in pairs if subversion.possible(*pair) for cell in config.cells(*pair)]
    assert len({records.key(cell.settings()) for cell in cells}) == len(cells) == 10 * 4 + 2 * 2


@pytest.mark.slow
def test_subversion_tries_attackers_of_every_kind_on_every_defense(data_dir, runs, monkeypatch):
    import subversion

    # One attacker of each kind: every program of a training that is left out takes long to compile.
    every = subversion.attackers_of("fashion_mnist")
    names = ["soft labels, SGD", "RMSprop", "MLP", "warm start from fashion_mnist", "adaptive queries"]
    kinds = {name: every[name] for name in (*names, "online, grey box (proxy)", "online, white box")}
    monkeypatch.setattr(subversion, "attackers_of", lambda other: kinds)
    config = subversion.Config(size=small(), runs=runs, data_dir=data_dir)
    table = subversion.run(config)
    assert [row[0] for row in table.rows] == list(kinds)
    assert [row.count("—") for row in table.rows] == [0] * 5 + [2, 2]
    cells = records.load_all(runs / "subversion", kind="tradeoff")
    assert len(cells) == 5 * 4 + 2 * 2
    mlp = next(cell for cell in cells if cell.config["attack"]["model"] == "mlp")
    assert mlp.config["surrogate"] == {"model": "lenet"}


@pytest.mark.slow
def test_ablations_change_one_part_of_mad_at_a_time(data_dir, runs):
    import ablations

    table = ablations.run(ablations.Config(size=small(), runs=runs, data_dir=data_dir))
    assert len(table.rows) == len(ablations.VARIANTS)
    numbers = {row[0]: row[1:] for row in table.rows}
    assert numbers["no defense"][3:] == ["0.00", "0.0"]
    assert numbers["oracle: argmax-preserving"][2] == "100.0"
    assert all(float(row[3]) <= 0.99 for name, row in numbers.items() if not name.startswith("distance"))
    assert len({tuple(row) for row in numbers.values()}) > 10  # the parts make a difference


@pytest.mark.slow
def test_amplification_is_the_ratio_of_errors_with_students_interval(data_dir, runs):
    import amplification
    from cells import tables

    assert amplification.factors([0.15, 0.5], [0.99, 1.0]) == pytest.approx([85, 5000])
    mean, half = tables.interval([1.0, 2.0, 3.0])
    assert (mean, half) == pytest.approx((2, 4.302653 / 3**0.5))  # t(.975; 2) = 4.302653
    with pytest.raises(ValueError, match="at least two values, not 1"):
        tables.interval([1.0])
    config = amplification.Config(size=small(), runs=runs, data_dir=data_dir)
    table = amplification.run(config)
    assert [row[0] for row in table.rows] == ["no defense", *amplification.DEFENSES]
    with pytest.raises(ValueError, match="must be at least three"):
        amplification.run(amplification.Config(seeds=(0, 1), size=small(), runs=runs, data_dir=data_dir))


@pytest.mark.slow
def test_private_victims_have_their_epsilon_beside_them(data_dir, runs):
    import private

    config = private.Config(noise=(1.0, 4.0), train_size=200, batch_size=50, size=small(), runs=runs, data_dir=data_dir)
    rows = private.run(config).rows
    assert [row[0] for row in rows] == ["no", "σ = 1", "σ = 4"]
    assert rows[0][1] == "∞"
    assert float(rows[1][1]) > float(rows[2][1]) > 0


def test_a_victims_weights_may_come_from_a_file_made_for_the_same_pixels(data_dir, runs, tmp_path):
    import train_victim
    from train_victim import Victim

    from pp_jax import checkpoints

    trained = train_victim.run(train_victim.Config(Victim("mnist", epochs=2), runs, data_dir))
    same = checkpoints.save(tmp_path / "same.safetensors", trained.params, metadata={"mean": [0.0], "std": [1.0]})
    again = train_victim.run(train_victim.Config(Victim("mnist", weights=same), tmp_path, data_dir))
    assert again.accuracy == trained.accuracy
    other = checkpoints.save(tmp_path / "other.safetensors", trained.params, metadata={"mean": [0.5], "std": [0.5]})
    with pytest.raises(ValueError, match=r"for images with mean \[0.5\]: must be \(0.0,\)"):
        train_victim.run(train_victim.Config(Victim("mnist", weights=other), tmp_path, data_dir))


# One step of a victim and of its thief each, on images of the published size.
LARGE = {
    "cifar10": (("cifar10", 10, (32, 32, 3)), ("cifar100", 100, (32, 32, 3))),
    "cifar100": (("cifar100", 100, (32, 32, 3)), ("cifar10", 10, (32, 32, 3))),
    "cifar10_tiny_imagenet": (("cifar10", 10, (32, 32, 3)), ("tiny_imagenet", 200, (64, 64, 3))),
    "cub200": (("caltech_birds2011", 200, (224, 224, 3)), ("imagenet2012", 1000, (224, 224, 3))),
    "caltech256": (("caltech256", 256, (224, 224, 3)), ("imagenet2012", 1000, (224, 224, 3))),
}


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", LARGE)
def test_presets_for_accelerators_run_on_generated_data_of_their_shape(name, tmp_path):
    import undefended

    (victim, classes, shape), (pool, pool_classes, pool_shape) = LARGE[name]
    count = 4 if shape[0] == 224 else 16
    prepare(tmp_path, victim, shape, classes, train=count, test=4)
    splits = ("validation", "extra") if pool == "tiny_imagenet" else ("train", "test")
    prepare(tmp_path, pool, pool_shape, pool_classes, train=count, test=4, splits=splits)
    config = undefended.Config(
        presets=(name,),
        attacks=("knockoff",),
        size=small(budget=count, epochs=1, victim_epochs=1),
        runs=tmp_path / "runs",
        data_dir=tmp_path,
    )
    (row,) = undefended.run(config).rows
    assert 0 <= float(row[3].split()[0]) <= 100
