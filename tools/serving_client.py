"""A client of TensorFlow Serving's REST protocol, written with nothing but the standard library."""

from __future__ import annotations

import base64
import http.client
import json
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any


class Client:
    """A connection to a server.

    Args:
        port: Its port on this machine.
        model: The model's name.
        timeout: Seconds to wait for an answer.
    """

    def __init__(self, port: int, model: str, timeout: float = 60.0):
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
        self._path = f"/v1/models/{model}"

    def status(self) -> tuple[int, Any]:
        """Returns status code and JSON of the model's status."""
        return self._answer("GET", self._path)

    def predict(self, instances: list[Any], signature: str | None = None) -> tuple[int, Any]:
        """Returns status code and JSON of the answer for instances, in row format."""
        request = {"instances": instances}
        if signature is not None:
            request["signature_name"] = signature
        return self.post(json.dumps(request).encode())

    def post(self, body: bytes) -> tuple[int, Any]:
        """Sends bytes as they are to `:predict`."""
        return self._answer("POST", f"{self._path}:predict", body)

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def _answer(self, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
        try:
            self._connection.request(method, path, body, {"Content-Type": "application/json"})
            response = self._connection.getresponse()
            text = response.read()
        except BaseException:
            self.close()  # the next request opens another connection
            raise
        return response.status, json.loads(text)


def encoded(content: bytes) -> dict[str, str]:
    """Returns the instance of an image file's content."""
    return {"b64": base64.b64encode(content).decode()}


def many(
    port: int,
    model: str,
    bodies: Sequence[bytes],
    right: Callable[[int, Any], bool],
    requests: int,
    clients: int,
) -> tuple[list[float], list[str], float]:
    """Sends many requests from several clients at once, each with its own connection.

    Args:
        port: The server's port on this machine.
        model: The model's name.
        bodies: Bodies of requests, sent in turn.
        right: Whether an answer, JSON, is right for the body of that index.
        requests: Number of requests in all.
        clients: Number of clients.

    Returns:
        Seconds of every request that was answered rightly, what went wrong with the others, and
        the seconds that all of them took together.
    """
    seconds, failures = [], []

    def work(first: int) -> None:
        client = Client(port, model)
        for index in range(first, requests, clients):
            place = index % len(bodies)
            start = time.perf_counter()
            try:
                status, answer = client.post(bodies[place])
            except (OSError, http.client.HTTPException, ValueError) as error:
                failures.append(f"request {index}: {error!r}")
                continue
            taken = time.perf_counter() - start
            if status == 200 and right(place, answer):
                seconds.append(taken)
            else:
                failures.append(f"request {index}: status {status}, {str(answer)[:200]}")
        client.close()

    start = time.perf_counter()
    threads = [threading.Thread(target=work, args=(first,)) for first in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seconds, failures, time.perf_counter() - start
