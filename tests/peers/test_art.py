"""The extraction attacks of the Adversarial Robustness Toolbox, through the service's own address."""

import json
import subprocess

import jax
import numpy as np
import pytest

import peers
from pp_jax import models, training
from pp_jax.results import checkpoints
from pp_jax.service.keys import Principal

BUDGET, TRAIN, POOL = 300, 700, 1300
ATTACKS = ("KnockoffNets-random", "KnockoffNets-adaptive", "CopycatCNN")
DEFENSES = ("pass", "RandomNoise(40.0, 'l2')")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A victim trained on the first digits; an attacker has the next ones, and the last ones judge."""
    folder = tmp_path_factory.mktemp("art")
    images, labels = peers.digits()
    network = models.mlp(10)
    params = training.fit(jax.random.key(0), network, images[:TRAIN], labels[:TRAIN], training.Recipe(30, 32, 0.05))
    metadata = {"model": "mlp", "num_classes": 10, "image_shape": [8, 8, 1]}
    checkpoints.save(folder / "victim.safetensors", params, metadata=metadata)
    np.savez(
        folder / "data.npz", pool=images[TRAIN:POOL], pool_labels=labels[TRAIN:POOL], test=images[POOL:],
        labels=labels[POOL:], budget=BUDGET,
    )  # fmt: skip
    return folder


def steal(python, service, attack, path):
    """Run an attack with its own account's key."""
    command = [python, peers.PEERS / "art_attacker.py", attack, service.url, service.keys[attack], path]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_extraction_attacks_run_end_to_end_and_spend_their_budget_exactly(folder, tmp_path):
    python, found = peers.environment("art"), {}
    accounts = [Principal(attack, budget=BUDGET) for attack in ATTACKS]
    for defense in DEFENSES:
        own = tmp_path / defense.partition("(")[0]
        own.mkdir()
        (own / "secret").write_text("5" * 64)  # what the noise is drawn from
        options = ["--model.weights", folder / "victim.safetensors", "--policy.actions", defense]
        with peers.service(own, *options, accounts=accounts) as service:
            for attack in ATTACKS:
                done = steal(python, service, attack, folder / "data.npz")
                assert done.returncode == 0, done.stderr
                found[defense, attack] = json.loads(done.stdout.splitlines()[-1])["accuracy"]
                assert service.spent(attack) == BUDGET
            again = steal(python, service, ATTACKS[0], folder / "data.npz")
            assert "429 Too Many Requests" in again.stderr
            assert service.spent("*") == BUDGET * len(ATTACKS)
    for attack in ATTACKS:
        clean, defended = found["pass", attack], found[DEFENSES[1], attack]
        print(f"{attack}: the stolen model's accuracy is {clean:.3f}, and {defended:.3f} behind {DEFENSES[1]}")
        assert clean > 0.8
        assert defended < clean - 0.1
