"""What a server behind the service is sent: the tensors that it takes, found out before anybody is answered."""

import asyncio
import json

import httpx
import jax
import numpy as np
import pytest

from pp_jax.service import assembly
from pp_jax.service.config import Config
from pp_jax.service.config import Model as Served
from pp_jax.service.engine import Engine
from pp_jax.service.proxy import Upstream, UpstreamError
from pp_jax.serving import wire

MODEL = wire.Model("there", (2, 3, 3), 4, "pixels", "scores")
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 2, 3, 3)).astype(np.uint8)
PROBS = np.random.default_rng(1).dirichlet(np.ones(4), 5).astype(np.float32)


def behind(*, binary, image_shape, datatype):
    """A server that takes one kind of tensors, and what images it was sent."""
    model, seen = wire.Model("there", image_shape, 4, "pixels", "scores"), []

    def answer(request):
        if request.method == "GET":
            return httpx.Response(200, json={})
        length = request.headers.get(wire.HEADER)
        asked = wire.parse_v2(request.content, length, model)
        if (length is not None) != binary or asked.images.dtype != datatype:
            return httpx.Response(400, json={"error": "I do not take that"})
        seen.append(asked.images)
        body, headers = wire.render_v2(PROBS[: len(asked.images)], asked, model)
        return httpx.Response(200, content=body, headers=headers)

    return answer, seen


def asked(answer, images, **options):
    """What the service gets from a server, after it has looked at it."""

    async def run():
        upstream = Upstream("http://there", MODEL, timeout_s=1, **options)
        await upstream.close()
        upstream._client = httpx.AsyncClient(base_url="http://there", transport=httpx.MockTransport(answer))
        try:
            await upstream.check()
            return await upstream.ask(images)
        finally:
            await upstream.close()

    return asyncio.run(run())


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("sent", ["uint8", "float32"])
@pytest.mark.parametrize("datatype", ["UINT8", "FP32"])
@pytest.mark.parametrize("first", [False, True])
def test_a_server_gets_the_tensors_that_it_takes(binary, sent, datatype, first):
    shape = (3, 2, 3) if first else (2, 3, 3)
    answer, seen = behind(binary=binary, image_shape=shape, datatype=np.uint8 if datatype == "UINT8" else np.float32)
    images = IMAGES if sent == "uint8" else IMAGES.astype(np.float32) / 255
    probs = asked(answer, images, datatype=datatype, channels_first=first)
    np.testing.assert_array_equal(probs, PROBS)
    wanted = IMAGES if datatype == "UINT8" else IMAGES.astype(np.float32) / 255
    np.testing.assert_array_equal(seen[-1], wanted.transpose(0, 3, 1, 2) if first else wanted)
    assert seen[0].shape == (1, *shape)


def test_a_server_that_takes_neither_is_refused_with_both_reasons():
    def answer(request):
        return httpx.Response(200 if request.method == "GET" else 400, json={"error": "no such\ninput"})

    with pytest.raises(
        UpstreamError, match=r"as binary tensors, status 400.*as JSON, status 400.*check --model"
    ) as told:
        asked(answer, IMAGES)
    assert "\n" not in str(told.value)


def test_another_datatype_is_refused():
    with pytest.raises(ValueError, match="must be FP32 or UINT8"):
        Upstream("http://there", MODEL, timeout_s=1, datatype="INT64")


def test_the_engine_runs_without_a_network(tmp_path):
    there = Served(upstream="http://there", upstream_model="m", classes=4, image_shape=(2, 3, 3))
    config = Config(there, folder=tmp_path)
    served = assembly.victim(config)
    key = jax.random.key(0)
    engine = Engine(assembly.look(served), served.params, assembly.policy(config, served), key, (2, 3, 3), 4, (2, 4))
    engine.warm()
    images = IMAGES[:3].astype(np.float32) / 255
    np.testing.assert_array_equal(engine.answer(images, ["a"] * 3, probs=PROBS[:3]).responses, PROBS[:3])


@pytest.mark.parametrize("binary", [False, True])
def test_outputs_that_nobody_asked_for_are_left_out(binary):
    values = {"logits": PROBS * 3, "scores": PROBS, "features": np.ones((5, 7), np.float32)}
    tensors = []
    for name, array in values.items():
        tensor = {"name": name, "shape": list(array.shape), "datatype": "FP32"}
        tensor |= {"parameters": {"binary_data_size": array.nbytes}} if binary else {"data": array.ravel().tolist()}
        tensors.append(tensor)
    head = json.dumps({"outputs": tensors}).encode()
    rest = b"".join(array.tobytes() for array in values.values()) if binary else b""
    found = wire.read_v2(head + rest, str(len(head)) if binary else None, MODEL, 5)
    np.testing.assert_array_equal(found, PROBS)
    if binary:
        with pytest.raises(wire.WireError, match="another length"):
            wire.read_v2(head + rest[:-4], str(len(head)), MODEL, 5)
