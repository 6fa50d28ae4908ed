"""Clients that people have: curl, httpx, Prometheus' own parser, schemathesis."""

import json
import subprocess

import httpx
import jax
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

import peers
from pp_jax import models
from pp_jax.results import checkpoints

IMAGES = 6


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """The service with a victim and a defense."""
    folder = tmp_path_factory.mktemp("service")
    params = models.mlp(10).init(jax.random.key(0), (8, 8, 1))
    metadata = {"model": "mlp", "num_classes": 10, "image_shape": [8, 8, 1]}
    checkpoints.save(folder / "victim.safetensors", params, metadata=metadata)
    options = ["--model.weights", folder / "victim.safetensors", "--policy.actions", "RandomNoise(2.0)"]
    with peers.service(folder, *options) as served:
        yield served


def curl(service, path, content, *options):
    """What curl prints: the body, and the status after it."""
    key = f"Authorization: Bearer {service.keys['alice']}"
    command = ["curl", "-s", "-H", key, "-w", "\n%{http_code}", "--data-binary", "@-", *options, service.url + path]
    body, _, status = subprocess.run(command, input=content, capture_output=True, text=True).stdout.rpartition("\n")
    return int(status), json.loads(body)


def test_v1_and_invocations_answer_curl_and_httpx_alike(service):
    images, before = peers.digits()[0][:IMAGES], service.spent()
    bodies = {
        "/v1/models/model:predict": {"instances": images.tolist()},
        "/invocations": {"inputs": images.tolist()},
        "/invocations?": {"instances": images.tolist()},
    }
    answers = []
    for path, body in bodies.items():
        # curl says application/x-www-form-urlencoded where it is told nothing.
        for options in ([], ["-H", "Content-Type: application/json"]):
            status, content = curl(service, path, json.dumps(body), *options)
            assert status == 200, content
            answers.append(content)
        answers.append(service.post(path, json=body).json())
    assert all(answer == answers[0] for answer in answers)
    found = np.array(answers[0]["predictions"])
    assert found.shape == (IMAGES, 10)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    assert service.spent() - before == len(answers) * IMAGES
    assert curl(service, "/invocations", "{}")[0] == 400
    assert curl(service, "/invocations", "{")[0] == 400


def test_prometheus_reads_the_metrics_and_they_count_what_was_asked(service):
    def samples():
        response = httpx.get(f"{service.url}/metrics", headers=peers.bearer(service.keys["owner"]))
        assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
        families = list(text_string_to_metric_families(response.text))
        assert all(family.documentation and family.type != "unknown" for family in families)
        return {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}

    before = samples()
    for _ in range(3):
        service.ask(peers.digits()[0][:IMAGES])
    service.post("/invocations", content=b"{}")
    after = samples()
    rise = {key: value - before.get(key, 0) for key, value in after.items() if value != before.get(key, 0)}
    assert rise["pp_images_total", ()] == 3 * IMAGES
    assert rise["pp_requests_total", (("endpoint", "v1"), ("status", "200"))] == 3
    assert rise["pp_requests_total", (("endpoint", "invocations"), ("status", "400"))] == 1
    assert rise["pp_request_seconds_count", ()] == 4
    assert not any("alice" in str(key) for key in after)


def test_schemathesis_finds_no_server_error(service):
    python = peers.environment("schemathesis")
    command = [python.parent / "schemathesis", "run", f"{service.url}/openapi.json", "--seed", "1", "-n", "25"]
    command += ["-c", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"]
    command += ["-H", f"Authorization: Bearer {service.keys['owner']}", "--no-color", "--suppress-health-check", "all"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, cwd=service.folder)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    print(done.stdout[-1200:])
