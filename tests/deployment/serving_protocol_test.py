"""The REST protocol between JSON and arrays, and the whole served by KServe."""

import base64
import http.server
import json
import pathlib
import subprocess
import threading

import numpy as np
import pytest
import serve_check
import serving_client
import serving_protocol as protocol
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

ROOT = pathlib.Path(__file__).parents[2]
SIGNATURES = {
    "serving_default": protocol.Signature("images", (8, 6, 3)),
    "encoded": protocol.Signature("image_bytes", None),
}
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 8, 6, 3)).astype(np.uint8)
FILES = [tf.io.encode_png(IMAGES[0]).numpy(), tf.io.encode_jpeg(IMAGES[1]).numpy()]
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["instances", "signature_name", "images", "b64"]), inner, max_size=3
        )
    ),
)


@pytest.mark.parametrize("named", [False, True])
def test_images_are_read(named):
    rows = [{"images": row} if named else row for row in IMAGES.tolist()]
    name, key, value = protocol.read_request({"instances": rows}, SIGNATURES)
    assert (name, key, value.dtype) == ("serving_default", "images", np.uint8)
    np.testing.assert_array_equal(value, IMAGES)


@pytest.mark.parametrize("named", [False, True])
def test_files_are_read(named):
    rows = [serving_client.encoded(file) for file in FILES]
    rows = [{"image_bytes": row} if named else row for row in rows]
    request = {"signature_name": "encoded", "instances": rows}
    assert protocol.read_request(request, SIGNATURES) == ("encoded", "image_bytes", FILES)


@pytest.mark.parametrize("encode", [tf.io.encode_png, tf.io.encode_jpeg])
def test_the_size_of_an_image_is_read_from_its_head(encode):
    content = encode(np.zeros((300, 1000, 3), np.uint8)).numpy()
    assert protocol.image_size(content) == (1000, 300)
    assert protocol.image_size(content[:15]) is None
    assert protocol.image_size(b"GIF89a" + content) is None


@given(st.binary(max_size=60))
def test_any_bytes_have_a_size_or_none(tail):
    for head in (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"):
        size = protocol.image_size(head + tail)
        assert size is None or min(size) >= 0


@given(JSON_VALUES)
def test_other_json_is_refused_plainly(payload):
    with pytest.raises(protocol.BadRequest) as caught:
        protocol.read_request(payload, SIGNATURES)
    assert len(str(caught.value)) < 300


def test_what_the_check_sends_is_refused_before_the_model():
    wanted = serve_check.Expected(IMAGES, FILES, np.zeros((2, 10)))
    left = {"cut-off image", "malformed JSON", "not JSON", "huge body"}
    for name, body in serve_check.bad_requests(wanted).items():
        if name not in left:
            with pytest.raises(protocol.BadRequest):
                protocol.read_request(json.loads(body), SIGNATURES)


def test_predictions_have_a_row_for_each_image():
    outputs = {"logits": np.float32([[1, 2], [4, 3]]), "classes": np.int32([1, 0])}
    assert protocol.predictions(outputs) == {
        "predictions": [{"logits": [1, 2], "classes": 1}, {"logits": [4, 3], "classes": 0}]
    }


def test_answers_that_differ_are_seen():
    wanted = serve_check.Expected(IMAGES, FILES, np.float32([[1, 2], [4, 3]]))
    rows = [{"logits": [1, 2], "classes": 1}, {"logits": [4, 3.04], "classes": 0}]
    assert wanted.difference(rows) == pytest.approx(0.01, rel=1e-3)
    assert wanted.difference(rows[:1]) == 0
    rows[1]["classes"] = 1
    with pytest.raises(serve_check.Failed, match="classes"):
        wanted.difference(rows)


class Handler(http.server.BaseHTTPRequestHandler):
    """A server that loses every fourth request."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        number = int(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        content = json.dumps({"number": number}).encode()
        self.send_response(500 if number == 3 else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


def test_many_requests_are_counted():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        bodies = [str(number).encode() for number in range(4)]
        seconds, failures, taken = serving_client.many(
            server.server_port, "m", bodies, lambda place, answer: answer["number"] == place, 40, 3
        )
        server.shutdown()
        thread.join()
    assert (len(seconds), len(failures)) == (30, 10)
    assert 0 < max(seconds) < taken
    assert all("status 500" in failure for failure in failures)


def test_base64_as_clients_write_it():
    assert base64.b64decode(serving_client.encoded(b"\0\xff")["b64"]) == b"\0\xff"


@pytest.mark.slow  # installs KServe, trains and serves
def test_a_network_is_served():
    command = [ROOT / "tools" / "serve_check", "--requests=200", "--clients=3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "200 requests from 3 clients: 0 failed" in done.stdout
    assert "KServe has stopped" in done.stdout
    assert "OpenVINO" in done.stdout and "Warm-up requests answered" in done.stdout
