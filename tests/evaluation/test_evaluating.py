"""`evaluate`: the worst case of each defense, computed once, found again by content, resumed, and checked first."""

import dataclasses
import json

import jax
import numpy as np
import pytest

import pp_jax
import smallworld as small
from pp_jax import evaluation, records
from pp_jax.defenses import MAD, KeyedSwap, ReverseSigmoid, Top1
from pp_jax.evaluation import Attacker, Entry, Images, attackers, computing, runs
from pp_jax.recovery.selecting import AsGiven

TRIED = (attackers.PLAIN, attackers.HARD_LABEL, attackers.INVERSION)
ROWS = (Entry(MAD, epsilon=0.99), Entry(Top1), small.Flatten(0.5))


def evaluate(folder, rows=ROWS, tried=TRIED, **options):
    """With the small world's victim."""
    common = {"pool": small.pool(), "test": small.test_images(), "budget": 128, "seeds": (0,), "recipe": small.RECIPE}
    return pp_jax.evaluate(small.victim(), rows, attackers=tried, runs_folder=folder, **{**common, **options})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Records of the evaluation."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def report(folder):
    """MAD, top-1 and an own defense against three attackers."""
    return evaluate(folder)


def test_undefended_is_the_first_row_unasked(report):
    assert [row.name for row in report.rows] == ["no defense", "MAD, ε = 0.99", "top-1", "Flatten, weight = 0.5"]


def test_attackers_that_do_not_apply_are_named_and_not_run(report):
    assert "inversion" in report.rows[1].attacks
    assert all("inversion" not in row.attacks for row in (report.rows[0], *report.rows[2:]))
    table = report.table()
    assert table.rows[2][table.headings.index("inversion")] == "does not apply"


def test_the_worst_case_is_the_largest_of_all_attackers(report):
    for row in report.rows:
        name, values = report.worst(row)
        assert np.mean(values) == max(np.mean(several) for several in row.attacks.values())
        assert values == row.attacks[name]
    table = report.table()
    assert table.headings[:3] == ["defense", "worst case %", "by"]


def test_top_1_leaves_the_hard_label_attacker_what_it_has_without_a_defense(report):
    assert report.rows[2].attacks["plain"] == report.rows[0].attacks["hard label"]


def test_every_run_is_computed_once(report, folder, monkeypatch):
    monkeypatch.setattr(runs, "compute", lambda *_: pytest.fail("computed again"))
    again = evaluate(folder)
    assert [row.attacks for row in again.rows] == [row.attacks for row in report.rows]


def test_records_are_named_by_content_not_by_object(folder, monkeypatch):
    monkeypatch.setattr(runs, "compute", lambda *_: pytest.fail("computed again"))
    victim = dataclasses.replace(small.victim(), params=jax.tree.map(np.array, small.victim().params))
    pool = Images(np.array(small.pool().images), small.pool().labels, "pool")
    pp_jax.evaluate(
        victim, [Entry(Top1)], attackers=TRIED, pool=pool, test=small.test_images(), budget=128, seeds=(0,),
        recipe=small.RECIPE, runs_folder=folder,
    )  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [{"budget": 127}, {"network": "deeper"}, {"recipe": pp_jax.training.Recipe(1)}, {"pool": "other"}],
    ids=lambda changes: next(iter(changes)),
)
def test_whatever_changes_the_result_changes_the_name(changes):
    values = {
        "other": Images(small.pool().images[::-1], small.pool().labels[::-1], "pool"),
        "deeper": pp_jax.models.mlp(4, hidden=(8,)),
    }
    changes = {name: values.get(value, value) if isinstance(value, str) else value for name, value in changes.items()}
    run = evaluation.Run(Entry(Top1), attackers.PLAIN, 0)
    assert records.key(run.config(small.setup())) != records.key(run.config(small.setup(**changes)))
    assert records.key(run.config(small.setup())) == records.key(run.config(small.setup()))


def test_a_killed_evaluation_goes_on_from_its_records(tmp_path, report, monkeypatch):
    real, done = runs.compute, []

    def dies(*args):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(real(*args))

    monkeypatch.setattr(runs, "compute", dies)
    with pytest.raises(KeyboardInterrupt):
        evaluate(tmp_path)
    assert len(list(tmp_path.glob("*.json"))) == 2
    monkeypatch.setattr(runs, "compute", real)
    assert [row.attacks for row in evaluate(tmp_path).rows] == [row.attacks for row in report.rows]


@pytest.mark.slow
def test_trained_together_is_trained_alone_up_to_rounding(tmp_path, report):
    together = evaluate(tmp_path, machines=evaluation.Machines(batching="vmap"))
    for alone, batched in zip(report.rows, together.rows, strict=True):
        for name in alone.attacks:
            np.testing.assert_allclose(batched.attacks[name], alone.attacks[name], atol=2)


def test_responses_of_an_own_defense_are_what_it_returns(folder, report):
    row = report.rows[3]
    record = row.records[0]
    assert record.config["defense"]["weight"] == 0.5
    clean, answer = (np.array(record.result["examples"][0][name]) for name in ("clean", "answer"))
    np.testing.assert_allclose(answer, 0.5 * clean + 0.125, atol=1e-6)


def test_equal_accuracy_brings_defenses_to_the_same_loss(tmp_path):
    rows = [Entry(MAD), Entry(ReverseSigmoid)]
    report = evaluate(tmp_path, rows, (attackers.PLAIN,), equal="l1", at=0.4)
    assert abs(np.mean(report.rows[1].l1) - 0.4) < 0.05
    assert report.rows[1].entry.met


def test_self_checks_doubt_a_defender_that_answers_at_random(tmp_path):
    report = evaluate(tmp_path, [small.Nothing()], (attackers.PLAIN,))
    text = " ".join(report.doubts())
    assert "no better than at random" in text
    assert "no informed attacker was tried" in text


def test_a_report_is_written_and_leads_with_the_worst_case(report, tmp_path):
    table, figure, page = report.write(tmp_path)
    assert table.read_text("utf-8").splitlines()[2].startswith("| defense | worst case %")
    assert figure.read_bytes().startswith(b"\x89PNG")
    html = page.read_text("utf-8")
    assert html.index("The lowest worst case") < html.index("<table>")
    assert 'src="data:image/png' in html


BAD = {
    "no seeds": ({"seeds": ()}, "seeds is empty"),
    "no attackers": ({"tried": ()}, "attackers is empty"),
    "budget": ({"budget": 1000}, "budget is 1000: must be at least 1 and at most 256"),
    "twice": ({"rows": [Entry(Top1), Entry(Top1)]}, "'top-1' twice"),
    "equal alone": ({"equal": "l1"}, "equal is 'l1' and at is None"),
    "amount": ({"equal": "l1", "at": 3.0}, "at is 3: must be above 0 and at most 2"),
    "name taken": ({"tried": (attackers.PLAIN, Attacker("plain"))}, "'plain' twice"),
    "exposure": ({"rows": [Entry(pp_jax.defenses.AdaptiveMisinformation)]}, "outlier exposure"),
    "parameters": ({"rows": [Entry(Top1, epsilon=3)]}, "cannot be made"),
    "own attacker": ({"tried": (Attacker("mine", recovery=object()),)}, "has no method applies_to"),
}


@pytest.mark.parametrize(("options", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_before_anything_is_computed(options, message, tmp_path, monkeypatch):
    monkeypatch.setattr(computing, "in_turn", lambda *_: pytest.fail("computed"))
    with pytest.raises(ValueError, match=message) as caught:
        evaluate(tmp_path, **{"rows": ROWS, "tried": TRIED, **options})
    assert "\n" not in str(caught.value)


class NoCall:
    random = False
    reads_image = False


def test_what_is_no_defense_is_refused_by_name():
    with pytest.raises(ValueError, match="NoCall"):
        Entry(NoCall())


def test_a_privileged_attacker_is_no_worst_case(tmp_path):
    insider = Attacker("insider", AsGiven(), privileged=True)
    report = evaluate(tmp_path, [Entry(Top1)], (attackers.HARD_LABEL, insider))
    assert report.worst(report.rows[0])[0] == "hard label"


def test_records_are_json_that_says_what_was_done(folder, report):
    config = json.loads(next(folder.glob("*.json")).read_text())["config"]
    assert config["victim"]["dataset"] == "stripes"
    assert config["attack"]["pool"] == "pool"
    assert {"defense", "setting", "seed"} <= set(config)


def test_secrets_of_a_keyed_swap_are_not_the_attackers():
    at = runs.deploy(small.setup(), Entry(KeyedSwap), 0)
    guess = pp_jax.defenses.cards.presumed(at.box.defense, jax.random.key(0), small.network(), (8, 8, 1))
    assert guess.novelty is None
    assert (guess.partners == at.box.defense.partners).all()
