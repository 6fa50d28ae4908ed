"""The command line: keys, the example, every option; and whatever cannot be served is one line and exit status 2."""

import contextlib
import dataclasses
import fcntl
import io
import socket
import tomllib
import typing

import jax
import pytest

from pp_jax import models
from pp_jax.results import checkpoints
from pp_jax.service import __main__ as command
from pp_jax.service import config as options
from pp_jax.service import server
from pp_jax.service.config import Config
from pp_jax.service.keys import Keys
from scripts import prepare_stripes


def run(*words):
    """Exit status, and what is printed to either side."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = command.main([str(word) for word in words])
        except SystemExit as error:
            status = error.code
    return status, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with keys, a victim's weights, and prepared data."""
    folder = tmp_path_factory.mktemp("start")
    prepare_stripes(folder / "data")
    params = models.mlp(4).init(jax.random.key(0), (16, 16, 1))
    told = {"model": "mlp", "num_classes": 4, "image_shape": [16, 16, 1]}
    checkpoints.save(folder / "victim.safetensors", params, metadata=told)
    assert run("key", "alice", "--keys", folder / "run/keys.toml")[0] == 0
    return folder


def refused(place, *words, says):
    """What cannot be served is one line and exit status 2."""
    fixed = ["--folder", place / "run", "--port", "0", "--data-dir", place / "data"]
    status, _, err = run("serve", *fixed, *words)
    assert status == 2, err
    assert err.startswith("error: "), err
    assert err.count("\n") == 1
    assert says in err, err


def leaves(kind=Config, prefix=""):
    """Every option's name as the command line and the file have it."""
    for name, hint in typing.get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            yield from leaves(hint, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_keys_are_made_and_shown_once(tmp_path):
    path = tmp_path / "keys.toml"
    status, out, _ = run("key", "alice", "--keys", path, "--budget", 7, "--rate", 3)
    assert status == 0
    found = Keys(path).find(out.strip())
    assert (found.name, found.budget, found.rate, found.trusted) == ("alice", 7, 3, False)
    status, _, err = run("key", "alice", "--keys", path)
    assert (status, err.count("\n")) == (2, 1)
    assert run("key", "owner", "--trusted", "--keys", path)[0] == 0


def test_the_example_loads_and_says_what_it_is(tmp_path):
    status, out, _ = run("example")
    path = tmp_path / "service.toml"
    path.write_text(out)
    assert status == 0
    found = options.load(path)
    options.check(found)
    assert found.policy.actions == ("pass", "Resampled", "block")
    # What is commented out is an option too.
    lines = [line.removeprefix("# ") if " = " in line and line.startswith("# ") else line for line in out.splitlines()]
    path.write_text("\n".join(line for line in lines if not line.startswith("weights")))
    assert options.load(path).model.upstream_model == "mnist"


def test_help_needs_no_folder():
    for words in (("--help",), ("-h",)):
        status, out, _ = run(*words)
        assert status == 0
        assert "serve --config" in out
    assert run("serve", "--help")[0] == 0
    assert run("key", "--help")[0] == 0
    for words in ((), ("fly",)):
        assert run(*words)[0] == 2


def test_every_option_is_on_the_command_line_and_in_the_help():
    _, out, _ = run("serve", "--help")
    flags = "".join(out.split())
    for name in leaves():
        assert "--" + name.replace("_", "-") in flags, name


def test_every_option_is_taken_from_a_file(tmp_path):
    defaults = {"weights": "w", "keys": "k", "data_dir": "d"}

    def table(kind):
        for field in dataclasses.fields(kind):
            value = field.default
            if dataclasses.is_dataclass(field.type):
                continue
            value = defaults.get(field.name, value)
            text = {bool: lambda v: str(v).lower(), tuple: lambda v: str(list(v)), int: str, float: str}
            yield f"{field.name} = " + text.get(type(value), lambda v: f"'{v}'")(value)

    lines = list(table(Config))
    for name in ("model", "policy", "limits", "batches"):
        lines += [f"[{name}]", *table(typing.get_type_hints(Config)[name])]
    path = tmp_path / "all.toml"
    path.write_text("\n".join(lines))
    known = sum(1 for _ in leaves())
    assert sum(" = " in line for line in lines) == known
    assert options.load(path).limits == Config().limits
    assert len(list(tomllib.loads(path.read_text()))) > 10


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("speed = 3", "there is no option speed"),
        ("[limits]\ntotl = 3", "there is no option limits.totl"),
        ("[limits]\ntotal = 'x'", "limits.total must be int"),
        ("[limits]\ntotal = true", "limits.total must be int"),
        ("limits = 3", "limits must be a table"),
        ("[policy]\nrates = 3", "policy.rates must be a list"),
        ("[broken", "cannot be read"),
    ],
)
def test_a_file_that_is_wrong_is_refused(place, tmp_path, text, says):
    path = tmp_path / "service.toml"
    path.write_text(text)
    refused(place, "--config", path, says=says)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--port", "70000"), "port is 70000"),
        (("--limits.window-s", "0"), "limits.window_s is 0"),
        (("--limits.total", "-1"), "limits.total is -1"),
        (("--limits.waiting", "10"), "limits.waiting is 10: must be at least 1024"),
        (("--model.name", "a/b"), "model.name is 'a/b'"),
        (("--body-s", "nan"), "body_s is nan"),
        (("--model.upstream", "localhost:1"), "must be http://host:port"),
        (("--config", "nowhere.toml"), "nowhere.toml cannot be read"),
        (("--config",), "--config needs a file"),
        ((), "give --model.weights FILE, or --model.upstream URL"),
        (("--model.weights", "nowhere.safetensors"), "nowhere.safetensors"),
        (("--model.upstream", "http://127.0.0.1:9"), "an upstream server needs --model.classes"),
        (("--host", "256.1.1.1"), "cannot listen on 256.1.1.1"),
        (("--keys", "nowhere.toml"), "make one with python -m pp_jax.service key"),
        (("--store", "redis://127.0.0.1:9/0"), "does not answer"),
    ],
)
def test_what_cannot_be_served_is_refused(place, words, says):
    if words[:1] == ("--store",):
        words = (*words, "--model.weights", place / "victim.safetensors")
    refused(place, *words, says=says)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--policy.actions", "fly"), "fly"),
        (("--policy.actions", "throttle:x"), "must be throttle:SECONDS or work:BITS"),
        (("--policy.actions", "pass", "block"), "must be one action more than rates"),
        (("--policy.actions", "pass", "block", "--policy.rates", "0.1"), "rates need a detector"),
        (
            ("--policy.actions", "pass", "block", "--policy.rates", "0.1", "--policy.detector", "nose"),
            "there is no detector nose",
        ),
        (
            ("--policy.actions", "pass", "block", "--policy.rates", "0.1", "--policy.detector", "p_values"),
            "give --model.dataset",
        ),
        (("--model.dataset", "nothing"), "nothing"),
        (("--model.architecture", "nothing"), "give --model.architecture, one of lenet"),
        (("--model.architecture", "lenet"), "victim.safetensors"),
        (("--model.classes", "7"), "victim.safetensors"),
        (("--batches.sizes", "4", "6"), "sizes must be rising multiples"),
        (("--policy.actions", "MAD(epsilon=-1)"), "epsilon"),
        (("--policy.actions", "Resampled"), "training images"),
    ],
)
def test_what_the_victim_cannot_carry_is_refused(place, words, says):
    refused(place, "--model.weights", place / "victim.safetensors", *words, says=says)


def test_weights_that_are_no_victims_are_refused(place, tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"\x00" * 100)
    refused(place, "--model.weights", path, says="x.safetensors")


def test_an_upstream_that_is_not_there_is_refused(place):
    words = ("--model.upstream", "http://127.0.0.1:9", "--model.classes", 4, "--model.upstream-model", "m")
    refused(place, *words, "--model.image-shape", 8, 8, 1, says="does not answer")


def test_a_port_that_is_taken_is_refused(place):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        refused(place, "--port", taken.getsockname()[1], says="try --port")


def test_a_folder_that_is_in_use_is_refused(place):
    with (place / "run/service.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused(place, "--model.weights", place / "victim.safetensors", says="another service runs in")


def test_a_secret_that_is_none_is_refused(place):
    path = place / "run/secret"
    path.write_text("short")
    refused(place, "--model.weights", place / "victim.safetensors", says="must hold 64 hexadecimal digits")
    path.unlink()


def test_a_model_that_cannot_be_made_ready_ends_the_service(place, monkeypatch):
    def fails(self):
        raise RuntimeError("out of memory\nwhile compiling")

    monkeypatch.setattr(server.Engine, "warm", fails)
    refused_lines = run(
        "serve", "--folder", place / "run", "--port", 0, "--model.weights", place / "victim.safetensors"
    )
    assert refused_lines[0] == 2
    assert "the model cannot be made ready: out of memory while compiling" in refused_lines[2]
