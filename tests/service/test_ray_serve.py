"""What Ray Serve is given: a configuration that every replica reads the same; the replicas are in tests/peers."""

import pytest

from pp_jax.service import ray_serve


def test_a_secret_is_there_before_the_replicas(tmp_path):
    path = tmp_path / "service.toml"
    path.write_text(f'folder = "{tmp_path}/service"\n[model]\nweights = "{tmp_path}/victim.safetensors"\n')
    first = ray_serve._config({"config": str(path)})
    secret = (tmp_path / "service" / "secret").read_text()
    assert ray_serve._config({"config": str(path)}) == first
    assert (tmp_path / "service" / "secret").read_text() == secret


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "folder is runs/service: must be an absolute path"),
        ('folder = "/f"\nkeys = "keys.toml"', "keys is keys.toml: must be an absolute path"),
        ('folder = "/f"\nstore = "ledger.sqlite"', "store is ledger.sqlite: must be an absolute path"),
        ('folder = "/f"\n[model]\nweights = "v.safetensors"', "model.weights is v.safetensors: must be an absolute"),
        ("port = -1", "port is -1"),
    ],
)
def test_what_replicas_would_not_read_the_same_is_refused(tmp_path, text, message):
    path = tmp_path / "service.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        ray_serve.build({"config": str(path)})


@pytest.mark.parametrize("args", [{}, {"config": "a", "replicas": 2}])
def test_other_arguments_are_refused(args):
    with pytest.raises(ValueError, match="must be config alone"):
        ray_serve.build(args)
