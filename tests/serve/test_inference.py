"""The Open Inference Protocol, by a public client and by hand."""

import base64
import json
import struct

import numpy as np
import pytest

from oddsight.model.model import load
from served import png
from textures import texture

URL = "/v2/models/parts/infer"


@pytest.mark.slow
def test_the_client_of_triton(client, models):
    triton = pytest.importorskip("tritonclient.http", reason="needs tritonclient[http]")
    place = f"{client.base_url.host}:{client.base_url.port}"
    server = triton.InferenceServerClient(place)
    assert server.is_server_live()
    assert server.is_server_ready()
    assert server.is_model_ready("parts")
    described = server.get_model_metadata("parts")
    assert [entry["name"] for entry in described["inputs"]] == ["image", "encoded"]
    assert server.is_model_ready("parts", described["versions"][0])
    images = np.stack([texture(seed, 40, 24) for seed in range(3)])
    model = load(models / "parts.onnx")
    expected = [model.predict(image) for image in images]
    pixels = triton.InferInput("image", images.shape, "UINT8")
    contents = triton.InferInput("encoded", [3], "BYTES")
    contents.set_data_from_numpy(np.array([png(image) for image in images], np.object_))
    for binary in (True, False):
        pixels.set_data_from_numpy(images, binary_data=binary)
        for given in (pixels, contents):
            names = ("score", "p_value", "anomalous", "verdict", "anomaly_map")
            wanted = [triton.InferRequestedOutput(name, binary_data=binary) for name in names]
            answer = server.infer("parts", [given], outputs=wanted, model_version=described["versions"][0])
            np.testing.assert_array_equal(answer.as_numpy("score"), np.float32([r.score for r in expected]))
            np.testing.assert_array_equal(answer.as_numpy("anomaly_map"), np.array([r.map for r in expected]))
            assert [bool(flag) for flag in answer.as_numpy("anomalous")] == [r.anomalous for r in expected]
    assert server.infer("parts", [contents]).as_numpy("p_value").tolist() == pytest.approx(
        [r.p_value for r in expected]
    )
    server.close()


def test_a_request_by_hand(client):
    content = base64.b64encode(png(250)).decode()
    body = {"id": "7", "inputs": [{"name": "encoded", "datatype": "BYTES", "shape": [1], "data": [content]}]}
    answer = client.post(URL, json=body).json()
    values = {output["name"]: (output["datatype"], output["shape"], output["data"]) for output in answer["outputs"]}
    assert answer["id"] == "7"
    assert values["score"] == ("FP32", [1], [250.0])
    assert values["anomalous"] == ("BOOL", [1], [True])
    assert values["verdict"] == ("BYTES", [1], ["anomalous"])
    assert values["anomaly_map"][:2] == ("FP32", [1, 8, 8])


def test_binary_tensors_by_hand(client):
    pixels = bytes([9]) * 12
    text = json.dumps(
        {
            "inputs": [
                {"name": "image", "datatype": "UINT8", "shape": [1, 2, 2, 3], "parameters": {"binary_data_size": 12}}
            ],
            "outputs": [{"name": "score", "parameters": {"binary_data": True}}, {"name": "verdict"}],
        }
    ).encode()
    answer = client.post(URL, content=text + pixels, headers={"Inference-Header-Content-Length": str(len(text))})
    length = int(answer.headers["Inference-Header-Content-Length"])
    score, verdict = json.loads(answer.content[:length])["outputs"]
    assert struct.unpack("<f", answer.content[length:]) == (9.0,)
    assert (score["parameters"], verdict["data"]) == ({"binary_data_size": 4}, ["normal"])


def tensor(**changes):
    return {"name": "image", "datatype": "UINT8", "shape": [1, 1, 1, 3], "data": [1, 2, 3], **changes}


@pytest.mark.parametrize(
    "content",
    [
        [], {}, {"inputs": 3}, {"inputs": []}, {"inputs": [3]}, {"inputs": [tensor(), tensor(name="encoded")]},
        {"inputs": [tensor(name="other")]}, {"inputs": [tensor(shape=[1, 1, 3])]}, {"inputs": [tensor(shape="x")]},
        {"inputs": [tensor(shape=[2**40, 1, 1, 3])]}, {"inputs": [tensor(shape=[-1, 1, 1, 3])]},
        {"inputs": [tensor(data=[1, 2])]}, {"inputs": [tensor(data=[1, 2, 300])]},
        {"inputs": [tensor(data=[[1], 2, 3])]},
        {"inputs": [tensor(data=None)]}, {"inputs": [tensor(datatype="FP32")]}, {"inputs": [tensor(datatype="BYTES")]},
        {"inputs": [tensor(shape=[1, 1, 3, 1])]}, {"inputs": [tensor()], "outputs": [{"name": "other"}]},
        {"inputs": [tensor(parameters={"binary_data_size": 5})]}, {"inputs": [tensor()], "outputs": "x"},
        {"inputs": [tensor(data=[1, 2, 1e999])]}, {"inputs": [tensor(shape=[1000, 1, 1, 3], data=[1] * 3000)]},
        {"inputs": [{"name": "encoded", "datatype": "BYTES", "shape": [1], "data": ["%%%"]}]},
        {"inputs": [{"name": "encoded", "datatype": "BYTES", "shape": [2], "data": ["AAAA"]}]},
        {"inputs": [{"name": "encoded", "datatype": "BYTES", "shape": [1], "data": ["AAAA"]}]},
    ],
)  # fmt: skip
def test_requests_that_are_not_by_the_protocol(client, content):
    answer = client.post(URL, content=json.dumps(content))
    assert answer.status_code in (400, 413), answer.text
    assert list(answer.json()) == ["error"]


@pytest.mark.parametrize("length", ["x", "-1", "99999", "9" * 40, "1"])
def test_wrong_lengths_of_the_header(client, length):
    answer = client.post(URL, content=b'{"inputs": []}', headers={"Inference-Header-Content-Length": length})
    assert answer.status_code == 400


def test_models_that_are_not_there(client):
    assert client.get("/v2/models/other").status_code == 404
    assert client.get("/v2/models/parts/versions/1").status_code == 404
    assert client.post("/v2/models/parts/versions/1/infer", json={"inputs": [tensor()]}).status_code == 404
