"""The service as a proxy before KServe's and MLServer's own servers: their posteriors, defended, and nothing else."""

import contextlib
import functools
import json
import shutil

import httpx
import numpy as np
import pytest
import tritonclient.http

import peers

IMAGES = 24


@functools.cache
def images():
    """Some digits."""
    return peers.digits()[0][:IMAGES]


@contextlib.contextmanager
def kserve(folder):
    """KServe's ModelServer: it takes binary tensors."""
    python, port = peers.environment("kserve", below=(3, 13)), peers.port()
    peers.linear(folder / "weights.npy")
    command = [python, peers.PEERS / "kserve_server.py", folder / "weights.npy", port]
    url = f"http://127.0.0.1:{port}"
    with peers.running(command, folder / "kserve.log", f"{url}/v2/models/digits/ready", cwd=folder) as process:
        yield process, url, []


@contextlib.contextmanager
def mlserver(folder):
    """MLServer: it takes JSON, and the runtime of these tests wants UINT8 and channels first."""
    python, port = peers.environment("mlserver", below=(3, 13)), peers.port()
    peers.linear(folder / "weights.npy")
    shutil.copy(peers.PEERS / "mlserver_runtime.py", folder)
    ports = {"http_port": port, "grpc_port": peers.port(), "metrics_port": peers.port()}
    (folder / "settings.json").write_text(json.dumps({"parallel_workers": 0, "host": "127.0.0.1", **ports}))
    model = {"name": "digits", "implementation": "mlserver_runtime.Digits"}
    model["parameters"] = {"uri": str(folder / "weights.npy")}
    (folder / "model-settings.json").write_text(json.dumps(model))
    url = f"http://127.0.0.1:{port}"
    command = [python.parent / "mlserver", "start", folder]
    with peers.running(command, folder / "mlserver.log", f"{url}/v2/models/digits/ready", cwd=folder) as process:
        yield process, url, ["--model.upstream-datatype", "UINT8", "--model.upstream-channels-first"]


UPSTREAMS = {"kserve": kserve, "mlserver": mlserver}


def proxy(folder, url, *options):
    """The service before a server."""
    folder.mkdir()
    names = ["--model.upstream", url, "--model.upstream-model", "digits", "--model.upstream-input", "pixels"]
    names += ["--model.upstream-output", "scores", "--model.classes", 10, "--model.image-shape", 8, 8, 1]
    return peers.service(folder, *names, *options)


@pytest.fixture(scope="module", params=UPSTREAMS)
def upstream(request, tmp_path_factory):
    """A server with a model: process, address, and the options that the service needs for it."""
    with UPSTREAMS[request.param](tmp_path_factory.mktemp(request.param)) as started:
        yield started


@pytest.fixture(scope="module")
def passing(upstream, tmp_path_factory):
    """The service before it, without a defense."""
    _, url, options = upstream
    with proxy(tmp_path_factory.mktemp("passing") / "service", url, *options) as served:
        yield served


@functools.cache
def clean():
    """What the model answers, computed here."""
    found, labels = peers.digits()
    x = np.hstack([found.reshape(len(found), -1), np.ones((len(found), 1), np.float32)])
    weights = np.linalg.lstsq(x, 6 * np.eye(10)[labels], rcond=None)[0].astype(np.float32)
    return peers.posteriors(weights, images())


def test_posteriors_pass_as_they_are(passing):
    before = passing.spent()
    np.testing.assert_allclose(passing.ask(images()), clean(), atol=1e-5)
    bytes_ = np.rint(images() * 255).astype(np.uint8)
    client = tritonclient.http.InferenceServerClient(passing.url.removeprefix("http://"))
    try:
        for datatype, pixels in (("FP32", images()), ("UINT8", bytes_)):
            for binary in (True, False):
                tensor = tritonclient.http.InferInput("image", list(pixels.shape), datatype)
                tensor.set_data_from_numpy(pixels, binary_data=binary)
                wanted = [tritonclient.http.InferRequestedOutput("posterior", binary_data=binary)]
                result = client.infer("model", [tensor], outputs=wanted, headers=peers.bearer(passing.keys["alice"]))
                np.testing.assert_allclose(result.as_numpy("posterior"), clean(), atol=1e-5)
    finally:
        client.close()
    assert passing.spent() - before == 5 * IMAGES


def test_outputs_of_the_server_that_are_not_defended_stay_there(passing):
    body = request()
    response = passing.post("/v2/models/model/infer", json=body)
    assert [output["name"] for output in response.json()["outputs"]] == ["posterior"]
    before = passing.spent()
    for change in (
        {"outputs": [{"name": "logits"}]},
        {"outputs": [{"name": "scores"}]},
        {"outputs": [{"name": "posterior"}, {"name": "logits"}]},
        {"outputs": [{"name": "posterior", "parameters": {"classification": 3}}]},
        {"outputs": [{"name": "posterior", "parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 8}}]},
        {"parameters": {"classification": 3}},
    ):
        refused = passing.post("/v2/models/model/infer", json=body | change)
        assert refused.status_code == 400, refused.text
    shared = request(parameters={"shared_memory_region": "r", "shared_memory_byte_size": 256})
    del shared["inputs"][0]["data"]
    assert passing.post("/v2/models/model/infer", json=shared).status_code == 400
    for path in ("/v2/systemsharedmemory/region/r/register", "/v2/models/digits/infer", "/v1/models/digits:predict"):
        assert passing.post(path, json=body).status_code == 404
    assert passing.spent() == before


def request(**changes):
    """A request for one image."""
    tensor = {"name": "image", "shape": [1, 8, 8, 1], "datatype": "FP32", "data": images()[0].ravel().tolist()}
    return {"inputs": [tensor | changes]}


def test_a_policy_defends_what_the_server_answers_and_a_trusted_key_sees_it(upstream, tmp_path):
    _, url, options = upstream
    with proxy(tmp_path / "service", url, *options, "--policy.actions", "Top1") as served:
        responses, truth = served.ask(images()), served.ask(images(), "owner")
        np.testing.assert_allclose(truth, clean(), atol=1e-5)
        assert np.abs(responses - truth).sum(axis=1).max() > 0.1
        np.testing.assert_array_equal(responses.argmax(axis=1), truth.argmax(axis=1))
        assert (served.ask(images()) == responses).all()
        assert (served.spent(), served.spent("owner")) == (2 * IMAGES, 0)


@pytest.mark.parametrize("name", UPSTREAMS)
def test_a_server_that_is_killed_costs_nobody_anything(tmp_path, name):
    (tmp_path / "upstream").mkdir()
    with (
        UPSTREAMS[name](tmp_path / "upstream") as (process, url, options),
        proxy(tmp_path / "service", url, *options, "--limits.total", 100) as served,
    ):
        served.ask(images())
        process.kill()
        process.wait()
        for _ in range(20):  # more than the budget, were it not given back
            response = served.post("/v1/models/model:predict", json={"instances": images().tolist()})
            assert response.status_code == 502
            assert response.json() == {"error": "the model behind did not answer"}
        assert served.spent() == IMAGES
        assert httpx.get(f"{served.url}/v2/health/live").status_code == 200


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--model.upstream-input", "picture"], "check --model.upstream-input"),
        (["--model.upstream-output", "probabilities"], "must have one output 'probabilities'"),
        (["--model.upstream-output", "logits"], "its outputs are no posteriors"),
        (["--model.classes", 7], "must be floating point of shape"),
        (["--model.upstream-model", "letters"], "no Open Inference Protocol v2 server with a ready model 'letters'"),
    ],
)
def test_options_that_do_not_fit_the_server_are_said_at_the_start(upstream, tmp_path, wrong, message):
    _, url, options = upstream
    with (
        pytest.raises(AssertionError, match=message),
        proxy(tmp_path / "service", url, *options, *wrong),
    ):
        pass
    lines = (tmp_path / "service" / "service.log").read_text().splitlines()
    assert [line.startswith("error: ") for line in lines if "INFO" not in line] == [True]
