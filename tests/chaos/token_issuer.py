"""An issuer of tokens on 127.0.0.1: real keys, a real JWKS endpoint whose keys and health a test may change."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
KEY_SET_PATH = "/jwks.json"


class Issuer:
    """``paths``: everything that was ever asked for. It answers while ``answers`` is set; ``body``: another answer."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = [jwk(EC_KEY, "ec"), jwk(RSA_KEY, "rsa")]
        self.healthy = True
        self.paths: list[str] = []
        self.answers = threading.Event()
        self.answers.set()
        self.body: bytes | None = None
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.paths.append(self.path)
                issuer.answers.wait()
                body = issuer.body or json.dumps({"keys": issuer.keys}).encode()
                self.send_response(200 if issuer.healthy else 500)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self.server.server_port}"
        self.url = self.origin + KEY_SET_PATH

    @property
    def fetches(self) -> int:
        """Number of requests for the key set."""
        return self.paths.count(KEY_SET_PATH)

    @contextmanager
    def running(self) -> Iterator["Issuer"]:
        """The endpoint answers meanwhile."""
        thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            self.server.shutdown()
            self.server.server_close()
            thread.join()


def jwk(key: Any, kid: str, **more: str) -> dict[str, Any]:
    """The public half of a key as a key set has it."""
    algorithm = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig", **more}
