"""The table of structural attacks, and what defenses do to the attack on the head, on small real files."""

import jax
import pytest

from experiments import structural
from scripts import small

pytest.importorskip("sklearn")


def test_hyper_parameters_are_within_one_percent(data_dir, tmp_path):
    table = structural.run(small(structural.Config, data_dir, tmp_path, only=("hyperparameters",)))
    assert [row[1].split()[0].strip(",") for row in table.rows] == ["ridge", "lasso", "logistic", "SVM"]
    assert all(float(row[3].split()[0]) < 1e-2 for row in table.rows)


@pytest.mark.slow
def test_linear_models_and_trees_lose_every_label(data_dir, tmp_path):
    table = structural.run(small(structural.Config, data_dir, tmp_path, only=("linear", "trees")))
    assert [row[2] for row in table.rows[:3]] == ["31", "65", "106"]
    assert all(float(row[3].split()[0]) < 1e-6 and row[4:6] == ["100.00", "100.00"] for row in table.rows)


@pytest.mark.slow
def test_a_network_and_the_head_have_their_rows(data_dir, tmp_path):
    options = {"network_queries": (300,), "network_features": 7, "network_hidden": 2, "network_steps": 40}
    config = small(structural.Config, data_dir, tmp_path, only=("network", "head"), pool_size=60, **options)
    network, head = structural.run(config).rows
    assert (network[2], head[2]) == ("300", "60")
    assert float(network[4]) > 90
    assert float(head[5]) > 50


@pytest.mark.slow
def test_the_label_alone_leaves_less_than_clean_posteriors(data_dir, tmp_path):
    config = small(structural.Config, data_dir, tmp_path, pool_size=60, judges=40, fit_steps=50)
    rows = {row[0]: row for row in structural.defended(config, jax.random.key(0)).rows}
    assert float(rows["none"][1]) == 0 < float(rows["MAD, ε = 0.99"][1])
    assert float(rows["none"][3]) >= float(rows["label alone"][3])
