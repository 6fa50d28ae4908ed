"""What stolen models are good for, on small real files."""

import pytest

from experiments import transfer
from scripts import small

SMALL = {"judged": 40, "own_images": 40, "radii": (0.1, 0.4), "steps": 3}


@pytest.mark.slow
def test_examples_of_every_source_are_judged_on_the_victim(data_dir, tmp_path):
    changes = {"defense": ("none", "MAD(epsilon=0.99)"), "attackers": ("plain", "inversion"), **SMALL}
    config = small(transfer.Config, data_dir, tmp_path, **changes)
    table = transfer.run(config)
    assert table.headings[3:] == ("FGSM 0.1", "FGSM 0.4", "PGD 0.1", "PGD 0.4", "PGD 0.4 to a class")
    sources = [row[:2] for row in table.rows]
    mad = "MAD, ε = 0.99"
    assert sources == [
        ["—", transfer.NOISE],
        ["—", transfer.WHITE_BOX],
        ["—", transfer.OWN_DATA],
        *(["no defense", name] for name in ("**worst case**", "plain")),
        *([mad, name] for name in ("**worst case**", "plain", "inversion")),
    ]
    values = {tuple(row[:2]): [float(text) for text in row[3:]] for row in table.rows[1:]}
    assert values["—", transfer.WHITE_BOX][1] > 90
    for place, worst in enumerate(values[mad, "**worst case**"]):
        assert worst == max(values[mad, name][place] for name in ("plain", "inversion"))
    records = len(list((tmp_path / "transfer").glob("*.json")))
    again = small(transfer.Config, data_dir, tmp_path, **changes, measure="evades_source")
    assert transfer.run(again).rows[1][3:] == table.rows[1][3:]  # of the victim's own, both are one
    assert len(list((tmp_path / "transfer").glob("*.json"))) == records


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"judged": 90}, "judged is 90 and own_images 40: must be at least 1 each, and together at most 100"),
        ({"own_images": 0}, "own_images 0: must be at least 1 each"),
        ({"seeds": (0, 1)}, r"seeds is \(0, 1\): must be one seed"),
        ({"radii": (0.0,)}, "radius must be above 0"),
        ({"steps": 0}, "steps must be"),
        ({"radii": ()}, "radii is empty: must hold at least one"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_a_victim_is_trained(data_dir, tmp_path, changes, message):
    config = small(transfer.Config, data_dir, tmp_path, **{**SMALL, **changes})
    with pytest.raises(ValueError, match=message):
        transfer.run(config)
    assert not (tmp_path / "victims").exists()
