"""A real S3 server for tests, as a process of its own, and buckets made through the protocol."""

import contextlib
import json
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class S3Server:
    """A server that runs.

    Attributes:
        endpoint: "http://127.0.0.1:PORT".
    """

    endpoint: str

    @property
    def environment(self) -> dict[str, str]:
        """What every client has to know."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
        }

    def bucket(self) -> str:
        """A new bucket's URL."""
        name = f"b{uuid.uuid4().hex[:12]}"
        self._ask("PUT", f"/{name}")
        return f"s3://{name}"

    def upload(self, source: Path, url: str) -> str:
        """Put a file where a URL says, by one request; returns the URL."""
        self._ask("PUT", f"/{url.removeprefix('s3://')}", source.read_bytes())
        return url

    def fault(self, **faults: Any) -> None:
        """From now on: see `s3server`. Nothing given: all is well again."""
        self._ask("POST", "/-/faults", json.dumps(faults).encode())

    def counts(self, *, reset: bool = False) -> dict[str, dict[str, int]]:
        """{"requests": {method: n}, "bytes": {method: n}} answered so far; `reset` also begins to count anew."""
        found = json.loads(self._ask("GET", "/-/counts"))
        if reset:
            self._ask("POST", "/-/counts")
        return found

    def _ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        # moto looks at who asks, not at whether the signature is right.
        scope = f"{self.environment['AWS_ACCESS_KEY_ID']}/20260101/us-east-1/s3/aws4_request"
        who = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=x"
        headers = {"Content-Type": "application/octet-stream", "Authorization": who}
        request = urllib.request.Request(self.endpoint + path, method=method, data=body or None, headers=headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read()


@contextlib.contextmanager
def running() -> Iterator[S3Server]:
    """A server on a free port of loopback, for as long as the block lasts."""
    program = Path(__file__).with_name("s3server.py")
    with subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        try:
            assert child.stdout is not None
            port = child.stdout.readline()  # printed once it listens
            assert port.strip().isdigit(), "moto's server did not start: pip install 'moto[server]'"
            yield S3Server(f"http://127.0.0.1:{int(port)}")
        finally:
            child.kill()
