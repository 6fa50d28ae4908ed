"""Angles and entropies of responses on small real files."""

import numpy as np

from experiments import responses
from scripts import small


def test_a_larger_budget_turns_the_gradient_further_and_no_defense_not_at_all(data_dir, tmp_path):
    chosen = ("MAD(epsilon=0.5)", "MAD(epsilon=2.0)")
    config = small(responses.Config, data_dir, tmp_path, defense=chosen)
    found = responses.run(config)
    none, weak, strong = (each.result for each in found)
    angles = [each["query_angle_degrees"]["mean"] for each in (none, weak, strong)]
    assert angles[0] < 0.1 < angles[1] < angles[2]
    assert none["entropy_of_responses"] == none["entropy_of_pool"]
    assert weak["query_l1"]["max"] <= 0.5 + 1e-6
    assert strong["entropy_of_responses"]["max"] < 1e-3  # a vertex of the simplex
    for name, images in (("responses", 100), ("pool", 100), ("own", 100)):
        entropy = weak[f"entropy_of_{name}"]
        assert (sum(entropy["counts"]), len(entropy["counts"])) == (images, 30)
        assert 0 <= entropy["p1"] <= entropy["p10"] <= entropy["max"] <= np.log(4)
    again = responses.run(config)  # found again, not measured again
    assert [each.record.path for each in again] == [each.record.path for each in found]
    degrees, nats = responses.tables(config, found)
    assert [row[0] for row in degrees.rows] == ["no defense", "MAD, ε = 0.5", "MAD, ε = 2"]
    assert [row[0] for row in nats.rows] == ["clean, stripes (test)", "clean, stripes", "MAD, ε = 0.5", "MAD, ε = 2"]
    assert set(responses.figures(config, found)) == {"angles.png", "entropy.png"}
