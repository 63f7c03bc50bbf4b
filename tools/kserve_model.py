"""Serves a SavedModel by KServe on loopback, in TensorFlow Serving's REST protocol.

    python tools/kserve_model.py --saved_model=runs/student/saved_model --name=digits

Runs where KServe and TensorFlow are installed (tools/serving_constraints.txt), without tas_tf. The
first line on stdout is the port. SIGTERM stops it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import kserve
import serving_protocol as protocol
import tensorflow as tf
from kserve.errors import InvalidInput
from kserve.model_server import app
from kserve.protocol.rest.server import RESTServer

_TOO_LONG = b'{"error": "the request is longer than %d bytes"}' % protocol.MAX_BODY


class SavedModel(kserve.Model):
    """A SavedModel of images: `:predict` in row format, by any of its signatures.

    Args:
        name: What clients call it.
        folder: The SavedModel.
    """

    def __init__(self, name: str, folder: str):
        super().__init__(name)
        self._folder = folder

    def load(self) -> bool:
        """Loads the SavedModel."""
        self._loaded = tf.saved_model.load(self._folder)
        self._signatures = {}
        for name, function in self._loaded.signatures.items():
            ((key, spec),) = function.structured_input_signature[1].items()
            shape = None if spec.dtype == tf.string else tuple(spec.shape[1:])
            self._signatures[name] = protocol.Signature(key, shape)
        self.ready = True
        return self.ready

    async def predict(self, payload: Any, headers=None, response_headers=None) -> dict[str, Any]:
        """Answers the JSON of a request; what is wrong with it becomes a status 400."""
        return await asyncio.to_thread(self._answer, payload)

    def validate(self, payload: Any) -> Any:
        """Leaves it to `predict` to say what is wrong."""
        return payload

    def _answer(self, payload: Any) -> dict[str, Any]:
        try:
            name, key, values = protocol.read_request(payload, self._signatures)
            outputs = self._loaded.signatures[name](**{key: tf.constant(values)})
        except protocol.BadRequest as error:
            raise InvalidInput(str(error)) from None
        except tf.errors.InvalidArgumentError:
            # All that is left to be wrong: a file whose head is an image's and whose rest is not.
            raise InvalidInput("an image cannot be decoded: its file is damaged") from None
        return protocol.predictions({name: value.numpy() for name, value in outputs.items()})


class BodyLimit:
    """Answers a request whose body is too long with status 413, without keeping the body.

    Args:
        application: The ASGI application behind it.
    """

    def __init__(self, application: Any):
        self._application = application

    async def __call__(self, scope, receive, send):
        """Handles a request."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        parts, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            size += len(message.get("body", b""))
            if size <= protocol.MAX_BODY:
                parts.append(message.get("body", b""))
            more = message.get("more_body", False)
        if size > protocol.MAX_BODY:
            headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
            await send({"type": "http.response.start", "status": 413, "headers": headers})
            await send({"type": "http.response.body", "body": _TOO_LONG})
            return
        body = {"type": "http.request", "body": b"".join(parts), "more_body": False}
        rest = iter([body])

        async def replay():
            return next(rest, None) or await receive()

        await self._application(scope, replay, send)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--saved_model", required=True)
    arguments.add_argument("--name", required=True)
    flags, _ = arguments.parse_known_args()
    model = SavedModel(flags.name, flags.saved_model)
    model.load()
    server = kserve.ModelServer(enable_grpc=False)
    server.register_model(model)
    app.add_middleware(BodyLimit)
    # ModelServer.start listens on all of the machine's addresses; only loopback is wanted here.
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(listening.getsockname()[1], flush=True)
        # Nobody reads more of it: a pipe that is full would stop the server in the middle.
        os.dup2(2, 1)
        rest = RESTServer(
            "kserve.model_server:app", server.dataplane, server.model_repository_extension, 0
        )
        rest.config.access_log = False
        rest.run(sockets=[listening])


if __name__ == "__main__":
    main()
