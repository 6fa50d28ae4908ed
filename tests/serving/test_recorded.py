"""Recorded answers as a black box: exactly what was recorded, and nothing that was not."""

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from pp_jax import attacks
from pp_jax.serving import NotRecorded, Recorded
from pp_jax.types import TransferSet

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (20, 4, 4, 1), dtype=np.uint8)
ANSWERS = RNG.dirichlet(np.ones(3), 20).astype(np.float32)


def recorded(kind, folder):
    """The same answers from a source of every kind."""
    if kind == "a transfer set":
        return TransferSet(IMAGES, ANSWERS)
    if kind == "a pair":
        return IMAGES, ANSWERS
    if kind == "npz":
        np.savez(folder / "api.npz", images=IMAGES, responses=ANSWERS)
        return folder / "api.npz"
    if kind == "safetensors":
        save_file({"images": IMAGES, "answers": ANSWERS}, folder / "api.safetensors")
        return str(folder / "api.safetensors")
    attacks.collect(
        jax.random.key(0), attacks.Knockoff(7), IMAGES, Recorded((IMAGES, ANSWERS)), budget=20, folder=folder / "kept"
    )
    return folder / "kept"


@pytest.mark.parametrize("kind", ["a transfer set", "a pair", "npz", "safetensors", "a folder of collect"])
def test_it_answers_what_it_knows_in_any_order_and_number(kind, tmp_path):
    api = Recorded(recorded(kind, tmp_path))
    rows = RNG.integers(0, 20, 50)
    np.testing.assert_array_equal(api(IMAGES[rows]), ANSWERS[rows])


def test_it_is_the_api_of_an_attack():
    stolen = attacks.collect(jax.random.key(0), attacks.Knockoff(6), IMAGES, Recorded((IMAGES, ANSWERS)), budget=20)
    order = [int((image == IMAGES).all((1, 2, 3)).argmax()) for image in stolen.images]
    assert sorted(order) == list(range(20))
    np.testing.assert_array_equal(stolen.answers, ANSWERS[order])


def test_what_it_does_not_know_is_refused_in_one_line_with_the_number():
    api = Recorded((IMAGES[:15], ANSWERS[:15]))
    with pytest.raises(
        NotRecorded, match="5 of 8 images have no recorded answer; 15 images were recorded: "
    ) as refusal:
        api(IMAGES[12:])
    assert refusal.value.missing.tolist() == [3, 4, 5, 6, 7]
    changed = IMAGES[:1].copy()
    changed[0, 3, 3, 0] ^= 1
    with pytest.raises(NotRecorded, match="1 of 1 images have no recorded answer"):
        api(changed)
    with pytest.raises(NotRecorded, match=r"recorded, as uint8 of shape \(4, 4, 1\), not float32 of \(4, 4, 1\)"):
        api(IMAGES[:3].astype(np.float32) / 255)


def test_another_api_is_asked_about_the_rest_alone():
    asked = []

    def other(images):
        asked.append(images)
        return np.full((len(images), 3), 1 / 3)

    api = Recorded((IMAGES[:15], ANSWERS[:15]), otherwise=other)
    answers = api(IMAGES[13:17])
    np.testing.assert_array_equal(asked[0], IMAGES[15:17])
    np.testing.assert_array_equal(answers[:2], ANSWERS[13:15])
    np.testing.assert_allclose(answers[2:], 1 / 3)
    api(IMAGES[:15])
    assert len(asked) == 1


def test_an_image_recorded_twice_has_its_first_answer():
    api = Recorded((IMAGES[[0, 0]], ANSWERS[:2]))
    np.testing.assert_array_equal(api(IMAGES[:1]), ANSWERS[:1])


def test_files_that_are_something_else_are_one_line(tmp_path):
    np.savez(tmp_path / "x.npz", x=IMAGES)
    np.savez(tmp_path / "pickle.npz", images=IMAGES, answers=np.array([{}] * 20))
    (tmp_path / "torn.npz").write_bytes((tmp_path / "x.npz").read_bytes()[:50])
    (tmp_path / "torn.safetensors").write_bytes(b"\x10")
    (tmp_path / "answers.csv").write_text("a,b")
    (tmp_path / "empty").mkdir()
    for name, message in {
        "x.npz": "holds x: must hold the arrays images and answers or responses",
        "pickle.npz": "must be a whole .npz file of plain arrays",
        "torn.npz": "must be a whole .npz file of plain arrays",
        "torn.safetensors": "must be a whole safetensors file",
        "answers.csv": "must be an .npz or .safetensors file, or a folder",
        "empty": "has no answers: must be a folder that attacks.collect",
    }.items():
        with pytest.raises(ValueError, match=message):
            Recorded(tmp_path / name)
    with pytest.raises(ValueError, match="the API must answer every image: 20 asked, 19 answered"):
        Recorded((IMAGES, ANSWERS[:19]))
    with pytest.raises(ValueError, match=r"recorded images must have shape \(N, H, W, C\)"):
        Recorded((IMAGES[0], ANSWERS[0]))
