"""The undefended table on small real files."""

import numpy as np
import pytest

from experiments import common, undefended
from pp_jax import records
from pp_jax.evaluation import Images
from scripts import small


@pytest.mark.slow
def test_attacks_are_beside_one_another_and_what_lacks_data_is_not_run(data_dir, tmp_path):
    config = small(undefended.Config, data_dir, tmp_path, attacks=("knockoff", "adaptive", "jbda"), seed_size=40,
                   rounds_epochs=1)  # fmt: skip
    (row,) = undefended.run(config).rows
    assert row[:2] == ["stripes ← stripes", "100"]
    assert all(0 <= float(text) <= 100 for text in row[2:])
    found = records.load_all(tmp_path / "undefended", kind="tradeoff")
    assert {(record.config["attack"]["name"], record.config["attack"]["pool"]) for record in found} == {
        ("knockoff", "stripes"),
        ("adaptive", "stripes"),
        ("jbda", "stripes seeds"),
    }
    assert all(record.result["queries"] == 100 for record in found)


def test_a_preset_whose_data_are_missing_is_not_run(tmp_path, capsys):
    config = undefended.Config(presets=("cub200",), data_dir=tmp_path, runs=tmp_path)
    (row,) = undefended.run(config).rows
    assert row[2:] == ["not run (80.4)", "not run (65.1)", "not run", "not run (6.8)", "not run (3.9)",
                       "not run (21.5)"]  # fmt: skip
    assert "prepare caltech_birds2011 --from FOLDER --size 224" in capsys.readouterr().err


def test_seeds_are_the_last_test_images_and_nobody_is_judged_on_them():
    images = np.arange(5, dtype=np.uint8)[:, None, None, None]
    seeds, rest = undefended.seeds_apart(Images(images, np.arange(5), "five"))
    assert (seeds.images.ravel().tolist(), rest.labels.tolist()) == ([3, 4], [0, 1, 2])


def test_an_adaptive_attacker_knows_the_superclasses_of_cifar100():
    pool = Images(np.zeros((3, 32, 32, 3), np.uint8), np.array([0, 1, 4]), "cifar100")
    assert common.known_classes(pool).tolist() == [[4, 0], [1, 1], [0, 4]]
