"""The application over a real port: every protocol, every refusal, and what no client may see."""

import json

import numpy as np
import pytest
import tritonclient.http as triton
from prometheus_client.parser import text_string_to_metric_families

import servers
from pp_jax import Top1
from pp_jax.detection import Blocked
from pp_jax.service.ledger import Limits
from pp_jax.serving import wire

KINDS = [(a, b) for a in (True, False) for b in (True, False)]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One service that only passes."""
    with servers.running(tmp_path_factory.mktemp("plain")) as found:
        yield found


def truth(pictures):
    """The clean posteriors, as the engine computes them."""
    victim = servers.smallworld.victim()
    engine = servers.Engine(
        servers._Look(victim.network), victim.params, servers.policy(), servers.KEY, (8, 8, 1), 4, (4,)
    )
    pixels = np.asarray(pictures).astype(np.float32) / 255
    return np.concatenate([engine.answer(pixels[i : i + 4], [None] * len(pixels[i : i + 4])).probs
                           for i in range(0, len(pixels), 4)])  # fmt: skip


@pytest.mark.parametrize(("sent", "returned"), KINDS)
def test_tritonclient_gets_posteriors_as_json_and_as_bytes(server, sent, returned):
    client = triton.InferenceServerClient(f"127.0.0.1:{server.port}")
    headers = {"Authorization": f"Bearer {server.keys['alice']}"}
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("stripes")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    assert client.get_model_metadata("stripes")["outputs"] == [
        {"name": "posterior", "datatype": "FP32", "shape": [-1, 4]}
    ]
    pixels = servers.images(5).astype(np.float32) / 255
    given = triton.InferInput("image", pixels.shape, "FP32")
    given.set_data_from_numpy(pixels, binary_data=sent)
    wanted = triton.InferRequestedOutput("posterior", binary_data=returned)
    found = client.infer("stripes", [given], outputs=[wanted], headers=headers, request_id="r1")
    np.testing.assert_array_equal(found.as_numpy("posterior"), truth(servers.images(5)))
    assert found.get_response()["id"] == "r1"
    client.close()


@pytest.mark.parametrize("path", ["/v1/models/stripes:predict", "/invocations"])
def test_nested_lists_get_the_same_posteriors(server, path):
    content = {"instances": (servers.images(3) / 255).tolist()}
    found = server.client().post(path, json=content)
    assert found.headers["content-type"] == "application/json"
    np.testing.assert_array_equal(np.float32(found.json()["predictions"]), truth(servers.images(3)))


def test_metadata_and_health_need_no_key(server):
    client = server.client(None)
    version = "/v2/models/stripes/versions/1"
    paths = ["/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/stripes", "/v2/models/stripes/ready"]
    for path in [*paths, "/ping", version, f"{version}/ready", "/v1/models/stripes"]:
        assert client.get(path).status_code == 200, path


def test_what_is_not_there_is_said_in_the_protocols_own_words(server):
    client = server.client()
    models = ["/v2/models/other", "/v2/models/other/infer", "/v2/models/stripes/versions/2/infer"]
    tricks = ["/v2/../etc", "/v1/models/..%2f..%2fkeys.toml", "/v2/models/stripes%00/infer", "//v2", "/x/../keys.toml"]
    for path in ["/", *models, *tricks]:
        for found in (client.get(path), client.post(path, content=b"{}")):
            assert found.status_code in (404, 405), path
            assert list(found.json()) == ["error"]
            assert "Traceback" not in found.text


@pytest.mark.parametrize("key", ["", "wrong", "pp_" + "x" * 43, "é", "*", "\x00".encode("latin-1").decode()])
def test_a_wrong_key_is_refused(server, key):
    client = server.client(None)
    header = f"Bearer {key}".encode("latin-1").replace(b"\x00", b"").strip()
    found = client.post("/invocations", content=b"{}", headers={b"Authorization": header})
    assert (found.status_code, found.headers["www-authenticate"]) == (401, "Bearer")
    assert found.json() == {"error": "a valid key is needed: Authorization: Bearer KEY"}


def test_pages_of_the_defender_need_a_trusted_key(server):
    for path in ("/metrics", "/status"):
        assert server.client(None).get(path).status_code == 401
        assert server.client("alice").get(path).status_code == 403
        assert server.client("owner").get(path).status_code == 200
    asked = server.client(None).get("/status", headers={"Accept": "text/html"})
    assert asked.headers["www-authenticate"].startswith("Basic")
    page = server.client(None).get("/status", auth=("anything", server.keys["owner"]))
    assert page.status_code == 200


def test_the_pages_take_nothing_from_elsewhere(server):
    for path in ("/docs", "/status"):
        page = server.client("owner").get(path).text
        assert "://" not in page
        assert "<script" not in page
    assert "/v2/models/stripes/infer" in server.client(None).get("/docs").text


def test_a_malformed_body_is_refused_in_one_line(server):
    client = server.client()
    for path in ("/invocations", "/v1/models/stripes:predict", "/v2/models/stripes/infer"):
        for content in (b"", b"{", b"[]", b"\xff\xfe", b'{"instances": NaN}', b'{"instances": [[1]]}', b"[" * 5000):
            found = client.post(path, content=content)
            assert found.status_code == 400, (path, content)
            assert "\n" not in found.json()["error"]
    nan = np.full((1, 8, 8, 1), np.nan, np.float32)
    content, headers = wire.write_v2(nan, servers.MODEL)
    assert client.post("/v2/models/stripes/infer", content=content, headers=headers).status_code == 400


def test_too_many_images_are_refused(server):
    found = server.ask(servers.images(65))
    assert (found.status_code, list(found.json())) == (413, ["error"])


def test_a_budget_is_exact_to_the_image(tmp_path):
    with servers.running(tmp_path, limits=Limits(total=10)) as server:
        assert server.ask(servers.images(7)).status_code == 200
        found = server.ask(servers.images(4))
        assert found.status_code == 429
        assert "retry-after" not in found.headers
        assert found.json()["error"] == "3 of the 10 images of the account's budget are left, and 4 were asked"
        assert server.ask(servers.images(3)).status_code == 200
        assert server.ask(servers.images(1)).status_code == 429
        assert server.ask(servers.images(1), "bob").status_code == 200
        # The owner's own evaluation counts nowhere.
        assert server.ask(servers.images(50), "owner").status_code == 200
        assert server.parts.ledger.spent("owner") == 0
        assert (server.parts.ledger.spent("alice"), server.parts.ledger.spent("bob")) == (10, 1)


def test_a_rate_says_when_it_is_free_again(tmp_path):
    with servers.running(tmp_path, limits=Limits(rate=4, window_s=3600)) as server:
        assert server.ask(servers.images(4)).status_code == 200
        found = server.ask(servers.images(1))
        assert found.status_code == 429
        assert 1 <= int(found.headers["retry-after"]) <= 3601


def test_images_of_a_batch_that_fails_are_given_back_and_the_service_goes_on(tmp_path, monkeypatch):
    with servers.running(tmp_path, limits=Limits(total=10)) as server:
        works = server.parts.engine.answer

        def fails(*args, **options):
            raise RuntimeError("out of memory: secret posterior 0.123")

        monkeypatch.setattr(server.parts.engine, "answer", fails)
        found = server.ask(servers.images(5))
        assert (found.status_code, found.json()) == (500, {"error": "the images could not be answered"})
        assert server.parts.ledger.spent("alice") == 0
        monkeypatch.setattr(server.parts.engine, "answer", works)
        assert server.ask(servers.images(10)).status_code == 200


def test_too_many_that_wait_are_refused_and_given_back(tmp_path):
    with servers.running(tmp_path, waiting=8) as server:
        found = server.ask(servers.images(9))
        assert (found.status_code, found.headers["retry-after"]) == (503, "1")
        assert server.parts.ledger.spent("alice") == 0


@pytest.fixture(scope="module")
def banded(tmp_path_factory):
    """A service that changes the posteriors of suspicious accounts, and blocks the worst; with an audit."""
    served = servers.policy(servers.chain(), Top1(), Blocked(), thresholds=(0.2, 0.7))
    with servers.running(tmp_path_factory.mktemp("banded"), served, audit=True) as found:
        yield found


def test_bands_pass_then_perturb_then_block(banded):
    answered = [banded.ask(servers.images(8, 4 * i), "alice") for i in range(2)]
    assert [a.status_code for a in answered] == [200, 200]
    assert banded.ask(servers.alike(8), "bob").status_code == 200
    blocked = banded.ask(servers.images(1), "bob")
    assert (blocked.status_code, blocked.json()["error"]) == (
        403, "this account is blocked: ask the owner of the service",
    )  # fmt: skip
    assert banded.parts.ledger.spent("bob") == 8


def test_an_alert_says_when_who_what_and_what_was_done(banded):
    banded.ask(servers.alike(8), "carol")
    lines = [json.loads(line) for line in (banded.folder / "alerts.jsonl").read_text().splitlines()]
    mine = [line for line in lines if line["principal"] == "carol"]
    assert mine[-1].keys() == {
        "time", "principal", "model", "endpoint", "detector", "score", "band", "action", "audit_only",
    }  # fmt: skip
    assert (mine[-1]["action"], mine[-1]["band"], mine[-1]["model"]) == ("Blocked", 2, "stripes")
    assert [line["band"] for line in mine] == sorted({line["band"] for line in mine})


def test_the_audit_has_the_clean_posteriors_for_the_owner_alone(banded):
    banded.ask(servers.images(3), "dave")
    path = banded.folder / "audit.jsonl"
    mine = [row for row in map(json.loads, path.read_text().splitlines()) if row["principal"] == "dave"]
    np.testing.assert_allclose([row["probs"] for row in mine], truth(servers.images(3)), atol=1e-6)
    assert path.stat().st_mode & 0o077 == 0


def test_a_trusted_key_gets_the_truth_and_is_not_watched(banded):
    pictures = servers.alike(16)
    for _ in range(3):
        found = banded.ask(pictures, "owner")
        np.testing.assert_array_equal(np.float32(found.json()["predictions"]), truth(pictures))
    assert "owner" not in banded.parts.engine.accounts


def test_neither_headers_nor_body_tell_a_flagged_account(banded):
    pictures = servers.images(2)
    plain = banded.ask(pictures, "erin")
    state = banded.parts.engine.state("erin")
    banded.parts.engine.restore("erin", state._replace(band=np.int32(1), score=np.float32(0.5)))
    flagged = banded.ask(pictures, "erin")
    assert flagged.status_code == plain.status_code == 200
    kept = [{k: v for k, v in r.headers.items() if k not in ("date", "content-length")} for r in (plain, flagged)]
    assert kept[0] == kept[1]
    assert list(flagged.json()) == list(plain.json()) == ["predictions"]
    assert np.max(flagged.json()["predictions"], axis=1).tolist() == [1, 1]
    assert np.max(plain.json()["predictions"], axis=1).max() < 1


def test_metrics_count_without_accounts_names(banded):
    banded.ask(servers.images(2), "alice")
    text = banded.client("owner").get("/metrics").text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    for name in ("requests", "images", "refused", "request_seconds", "batch_images", "batch_seconds", "l1",
                 "changed_labels", "band_images", "alerts", "score", "accounts"):  # fmt: skip
        assert f"pp_{name}" in families, name
    labels = {label for family in families.values() for sample in family.samples for label in sample.labels}
    assert labels == {"endpoint", "status", "reason", "band", "le"}
    assert not any(name in text for name in servers.NAMES)


def test_the_status_page_shows_accounts_and_escapes_their_names(banded):
    banded.ask(servers.alike(8), "carol")
    banded.parts.engine.restore("<b>&", banded.parts.engine.state("carol"))
    page = banded.client("owner").get("/status").text
    banded.parts.engine.forget("<b>&")
    assert "&lt;b&gt;&amp;" in page
    assert "<b>" not in page
    assert "carol" in page
    assert "blocked" in page


def test_the_openapi_description_says_how_keys_are_sent(server):
    told = server.client(None).get("/openapi.json").json()
    assert told["components"]["securitySchemes"] == {"key": {"type": "http", "scheme": "bearer"}}
    assert told["paths"]["/v2/models/stripes/infer"]["post"]["security"] == [{"key": []}]
    assert "429" in told["paths"]["/invocations"]["post"]["responses"]


def test_audit_only_answers_truly_and_writes_down_what_it_would_have_done(tmp_path):
    served = servers.policy(Top1(), Blocked(), thresholds=(0.2,), audit_only=True)
    pictures = servers.alike(8)
    with servers.running(tmp_path, served) as server:
        for _ in range(2):
            found = server.ask(pictures)
            np.testing.assert_array_equal(np.float32(found.json()["predictions"]), truth(pictures))
        (alert,) = map(json.loads, (tmp_path / "alerts.jsonl").read_text().splitlines())
        assert (alert["action"], alert["audit_only"]) == ("Blocked", True)


def test_a_broken_keys_file_leaves_the_keys_in_force(tmp_path):
    with servers.running(tmp_path) as server:
        (tmp_path / "keys.toml").write_text("[broken")
        assert server.ask(servers.images(1)).status_code == 200
        (tmp_path / "keys.toml").write_text("")
        assert server.ask(servers.images(1)).status_code == 401
