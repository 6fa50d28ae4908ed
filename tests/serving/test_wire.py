"""Wire formats: every form of a request means the same images, and nothing that is not understood passes."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pp_jax.serving import wire
from pp_jax.serving.wire import HEADER, Model, WireError

MODEL = Model("m", (2, 3, 1), 4, most=8)
IMAGES = np.random.default_rng(0).random((3, 2, 3, 1)).astype(np.float32)


def request(**changes):
    tensor = {"name": "image", "shape": [3, 2, 3, 1], "datatype": "FP32", "data": IMAGES.ravel().tolist()}
    tensor |= changes.pop("tensor", {})
    return json.dumps({"inputs": [{k: v for k, v in tensor.items() if v is not None}], **changes}).encode()


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64"])
@pytest.mark.parametrize("binary", [False, True])
def test_what_a_client_writes_is_what_the_server_reads(dtype, binary):
    images = (IMAGES * 255).astype(np.uint8) if dtype == "uint8" else IMAGES.astype(dtype)
    body, headers = wire.write_v2(images, MODEL, binary=binary)
    found = wire.parse_v2(body, headers.get(HEADER), MODEL)
    np.testing.assert_allclose(found.images, images, atol=1e-7)
    assert found.binary is binary


@pytest.mark.parametrize("binary", [False, True])
def test_what_the_server_writes_is_what_a_client_reads_bit_for_bit(binary):
    responses = np.random.default_rng(1).dirichlet(np.ones(4), 3).astype(np.float32)
    body, headers = wire.render_v2(responses, wire.Request(IMAGES, "7", binary), MODEL)
    np.testing.assert_array_equal(wire.read_v2(body, headers.get(HEADER), MODEL, 3), responses)
    assert headers["Content-Type"] == ("application/octet-stream" if binary else "application/json")


def test_numbers_as_sent_are_those_of_the_posterior():
    responses = np.random.default_rng(1).dirichlet(np.ones(4), 100).astype(np.float32)
    sent = json.loads(wire.render_v1(responses)[0])["predictions"]
    np.testing.assert_array_equal(np.asarray(sent, np.float32), responses)


@pytest.mark.parametrize(("parse", "name"), [(wire.parse_v1, "instances"), (wire.parse_invocations, "inputs")])
def test_nested_lists_are_images(parse, name):
    found = parse(json.dumps({name: IMAGES.tolist()}).encode(), MODEL)
    np.testing.assert_allclose(found.images, IMAGES, atol=1e-7)


def said(parse):
    """The refusal, or nothing."""
    try:
        parse()
    except WireError as error:
        return str(error)
    return ""


REFUSED = {
    "classification": ({"outputs": [{"name": "posterior", "parameters": {"classification": 2}}]}, "not offered"),
    "shared memory": (
        {"outputs": [{"name": "posterior", "parameters": {"shared_memory_region": "r"}}]},
        "not offered",
    ),
    "input in shared memory": ({"tensor": {"parameters": {"shared_memory_region": "r"}}}, "not offered"),
    "another output": ({"outputs": [{"name": "logits"}]}, "there is no output but 'posterior'"),
    "two outputs": ({"outputs": [{"name": "posterior"}] * 2}, "outputs must be one tensor"),
    "unknown parameter": ({"parameters": {"clean": True}}, "not offered"),
    "another input": ({"tensor": {"name": "x"}}, "the input must be named 'image'"),
    "no input": ({"inputs": []}, "inputs must be one tensor"),
    "another shape": ({"tensor": {"shape": [3, 3, 2, 1]}}, r"images must have shape \(B, 2, 3, 1\)"),
    "an empty batch": ({"tensor": {"shape": [0, 2, 3, 1], "data": []}}, r"with B ≥ 1"),
    "a shape that multiplies past memory": ({"tensor": {"shape": [2**31 - 1, 2, 3, 1]}}, "at most 8"),
    "a shape of texts": ({"tensor": {"shape": ["3", 2, 3, 1]}}, "shape must be a list of whole numbers"),
    "a negative shape": ({"tensor": {"shape": [-3, 2, 3, 1]}}, "shape must be a list of whole numbers"),
    "another type": ({"tensor": {"datatype": "BYTES"}}, "datatype must be one of UINT8"),
    "too little data": ({"tensor": {"data": [0.5]}}, "data holds 1 numbers, but shape"),
    "texts": ({"tensor": {"data": ["a"] * 18}}, "data must be numbers"),
    "holes": ({"tensor": {"data": [None] * 18}}, "data must be numbers"),
    "uneven lists": ({"tensor": {"data": [[1], [1, 2]]}}, "nested evenly"),
    "pixels out of range": ({"tensor": {"data": [1.5] * 18}}, r"must be in \[0, 1\]"),
    "bytes out of range": ({"tensor": {"datatype": "UINT8", "data": [256] * 18}}, "from 0 to 255"),
    "numbers past half precision": ({"tensor": {"datatype": "FP16", "data": [1e9] * 18}}, r"must be in \[0, 1\]"),
    "an id that is no text": ({"id": 7}, "id must be a text"),
    "binary length without bytes": (
        {"tensor": {"data": None, "parameters": {"binary_data_size": 72}}},
        "binary_data_size must be 72, and that many bytes must follow",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_a_request_for_the_posterior_is_refused(case):
    changes, message = REFUSED[case]
    with pytest.raises(WireError, match=message) as caught:
        wire.parse_v2(request(**changes), None, MODEL)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("header", ["", "-1", "1e3", "99999", "9" * 30, "9" * 5000, "٣"])
def test_a_header_length_that_does_not_fit_is_refused(header):
    with pytest.raises(WireError, match=HEADER):
        wire.parse_v2(request(), header, MODEL)
    with pytest.raises(WireError, match=HEADER):
        wire.read_v2(b"{}", header, MODEL, 3)


def test_bytes_beyond_the_tensor_are_refused():
    body, headers = wire.write_v2(IMAGES, MODEL)
    with pytest.raises(WireError, match="80 bytes follow the JSON, but 72 belong to the input"):
        wire.parse_v2(body + bytes(8), headers[HEADER], MODEL)


def test_nan_pixels_are_refused_as_bytes_too():
    body, headers = wire.write_v2(np.full_like(IMAGES, np.nan), MODEL)
    with pytest.raises(WireError, match=r"must be in \[0, 1\]"):
        wire.parse_v2(body, headers[HEADER], MODEL)


@pytest.mark.parametrize(
    "responses", [np.full((3, 4), np.nan), np.full((3, 4), np.inf), np.ones((3, 5)), np.ones((2, 4))]
)
def test_a_response_that_is_not_the_posterior_is_refused(responses):
    body, headers = wire.render_v2(responses.astype(np.float32), wire.Request(IMAGES, binary=True), MODEL)
    with pytest.raises(WireError) as caught:
        wire.read_v2(body, headers[HEADER], MODEL, 3)
    assert caught.value.status == 502


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.none() | st.integers(-5, 300).map(str) | st.text(max_size=5))
def test_any_bytes_end_in_a_request_or_one_line(body, header):
    for parse in (
        lambda: wire.parse_v2(body, header, MODEL),
        lambda: wire.parse_v1(body, MODEL),
        lambda: wire.parse_invocations(body, MODEL),
        lambda: wire.read_v2(body, header, MODEL, 3),
    ):
        assert "\n" not in said(parse)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["data", "shape", "name"]), inner),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "name": st.just("image") | _JSON,
            "shape": st.just([3, 2, 3, 1]) | _JSON,
            "datatype": st.sampled_from(["FP32", "UINT8", "FP16"]) | _JSON,
            "data": st.just(IMAGES.ravel().tolist()) | _JSON,
            "parameters": _JSON,
        },
    ),
    _JSON,
    _JSON,
)
def test_any_tensor_ends_in_a_request_or_one_line(tensor, outputs, parameters):
    body = json.dumps({"inputs": [tensor], "outputs": outputs, "parameters": parameters}).encode("utf-8", "replace")
    assert "\n" not in said(lambda: wire.parse_v2(body, None, MODEL))
