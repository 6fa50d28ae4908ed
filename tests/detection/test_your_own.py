"""The detector of docs/detection.md as it stands, imported from a file elsewhere."""

import re
from pathlib import Path

import numpy as np

import smallworld as small
from pp_jax import BlackBox, detection
from pp_jax.defenses import Defender
from pp_jax.evaluation import named

TEXT = (Path(__file__).parents[2] / "docs" / "detection.md").read_text("utf-8")


def test_a_detector_of_ones_own_becomes_a_policy(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(re.search(r"<!-- file: mine.py -->\n```python\n(.*?)```", TEXT, re.S)[1], "utf-8")
    entry = named.defense(f"{file}:ENTRY")
    assert entry.text() == "unsure → blocked at 1 %"
    victim = small.victim()
    parts = victim.network, victim.params, victim.images, victim.labels, victim.recipe, 4, (8, 8, 1), victim.network
    changed = type(entry)(entry.defense, **{**entry.parameters, "queries": 40, "accounts": 100})
    policy = changed.make(Defender(*parts, None))
    session = BlackBox(victim.network, victim.params, policy).session()
    session(small.test_images().images)
    assert session.state.answered.sum() == 128
    seen = detection.observe(victim.network, victim.params, small.test_images().images)
    scores = detection.watch(policy.detector, seen, np.arange(60)[None])[0]
    assert np.isneginf(scores[:19]).all()
    low = (np.asarray(seen.probs).max(axis=1) < 0.5)[:60]
    np.testing.assert_allclose(scores[19:], (low.cumsum() / np.arange(1, 61))[19:], rtol=1e-6)
