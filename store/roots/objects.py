"""Object stores: how one is reached, and what is said when it cannot be.

Clients are kept for as long as a process lives, so that requests share connections. Their options and limits stand in
`tamis.store.roots.options`, the limit of an operation in `tamis.store.roots.waiting`.

Cost: a client takes 3 ms to make, a request on one that is there what the server takes and about 0.1 ms. A server that
is down is known to be so after a few seconds, a silent one after `retry_timeout`.
"""

import contextlib
import functools
import math
import os
import re
from collections.abc import Generator
from typing import Any, cast
from urllib.parse import urlsplit

from deltalake.exceptions import DeltaError
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    GenericError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import ObjectStore, from_url

from tamis.store.errors import StoreDenied, StoreNotFound, StoreUnreachable, TamisError
from tamis.store.roots.options import (
    CLIENT,
    DEFAULTS,
    KNOWN,
    RETRY,
    SLOWEST,
    Options,
    asked,
    bare,
    checked,
    duration,
    environment,
    is_shown,
    seconds,
    switch,
)
from tamis.store.roots.urls import is_remote, shown, split_url, without_credentials

# What says, in the words of one client or another, that a server is not there or does not do what it should.
_TROUBLE = (
    "error sending request", "tcp connect error", "timed out", "dns error", "HTTP error", "response body",
    "non-2xx status code", "Internal Server Error", "Service Unavailable", "connection closed", "SlowDown",
    "Generic S3 error", "Generic GCS error", "Generic MicrosoftAzure error", "HTTP status 5", "AWS Error",
)  # fmt: skip
_DELTA_TIMEOUT = "20s"
_ARROW_ATTEMPTS = 5  # its waits between them grow to 20 s

_used_before_fork = False
_used = False


def client(url: str, options: Options | None = None, *, sending: int = 0) -> ObjectStore:
    """The object store of a bucket or of a prefix in it, the same one for the same options.

    Args:
        url: of the bucket or prefix.
        options: storage options.
        sending: bytes of the largest request to be made: a client hears nothing of a server while it sends.

    Raises:
        TamisError: an option is unknown or senseless, or the process was forked from one that used an object store.
        InvalidName: the URL, an option or the environment has a user name or password in an address.
    """
    global _used
    split_url(url)
    if _used_before_fork:
        raise TamisError(
            f"{url} cannot be read in a process that was forked from one that has used a store: the threads that "
            "talk to object stores are not copied, and it would hang. Start workers with 'forkserver' or "
            "'spawn' (DataLoader: multiprocessing_context='forkserver')."
        )
    _used = True
    said = dict(checked(options))
    if sending > SLOWEST:
        # Rounded up to powers of two, so that clients are few.
        more = 2 ** math.ceil(math.log2(sending / SLOWEST))
        said = {k: v for k, v in said.items() if bare(k.lower()) != "read_timeout"}
        said["read_timeout"] = f"{math.ceil(seconds('read_timeout', options or {})) + more}s"
    return _client(url, tuple(sorted(said.items())), tuple(sorted(environment().items())))


def delta_options(url: str, options: Options) -> dict[str, str]:
    """The options that make Delta tables as patient, and their commits exclusive."""
    said = asked(options)
    if said["timeout"] == DEFAULTS["timeout"]:
        # That client knows no `read_timeout`, and is asked for logs and checkpoints only: none takes so long.
        said["timeout"] = _DELTA_TIMEOUT
    given = {k.lower(): v for k, v in checked(options).items() if bare(k.lower()) not in KNOWN}
    exclusive = {"aws_conditional_put": "etag"} if url.startswith("s3://") else {}
    return {k: v for k, v in said.items() if k in CLIENT | RETRY} | exclusive | given


def arrow_limits(options: Options) -> dict[str, float]:
    """The limits of Arrow's client of S3: `connect_timeout` and `request_timeout` (of silence) in s, and `attempts`."""
    attempts = min(1 + int(asked(options)["max_retries"]), _ARROW_ATTEMPTS)
    # It tries once more than it is told to, each time for the whole timeout.
    share = seconds("patience", options) / (attempts + 1)
    return {
        "connect_timeout": seconds("connect_timeout", options),
        "request_timeout": max(1.0, min(seconds("read_timeout", options), share)),
        "attempts": attempts,
    }


@contextlib.contextmanager
def reaching(url: str) -> Generator[None]:
    """Turn what libraries say about a server, a bucket or credentials into one clear error; let all else pass.

    Raises:
        StoreUnreachable: no server, no answer in time, or answers that are errors, after every retry.
        StoreDenied: the server does not let us in.
        StoreNotFound: there is no such bucket.
    """
    try:
        yield
    except TamisError:
        raise
    except (BaseError, OSError, DeltaError) as error:
        known = explained(url, error)
        if known is None:
            raise
        raise known from error


def explained(url: str, error: BaseException) -> TamisError | None:
    """What `reaching` raises for an error of any library, or None where it is none of a server's."""
    return _known(url, error) if is_remote(url) else None


def reason(error: BaseException) -> str:
    """What a Rust library says, in one line: without colours, arrows and the debugging part."""
    text = without_credentials(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).replace("↳", " "))
    head = " ".join(text.split("\n\nDebug source")[0].split()).rstrip(": ")
    deeper = re.findall(r'message: "([^"]+)"|(operation timed out|dns error)', text, re.IGNORECASE)
    causes = [c for pair in deeper for c in pair if c and c not in head]
    return (head if len(head) <= 400 else head[:400] + " ...") + "".join(f": {c}" for c in dict.fromkeys(causes))


@functools.lru_cache(maxsize=64)
def _client(url: str, options: tuple[tuple[str, str], ...], environment: tuple[tuple[str, str], ...]) -> ObjectStore:
    del environment  # it is part of what the client is kept under
    given = {k.lower(): v for k, v in options}
    # What is said of the client by hand replaces all that the environment says of it, so `asked` has that in it.
    said = asked(given)
    config = {k: v for k, v in given.items() if bare(k) not in KNOWN}
    if url.startswith("s3://"):
        config = {"aws_conditional_put": "etag"} | config
    try:
        return from_url(
            url,
            config=cast("Any", config),
            client_options=cast("Any", {k: switch(k, v) for k, v in said.items() if k in CLIENT}),
            retry_config={
                "max_retries": int(said["max_retries"]),
                "retry_timeout": duration("retry_timeout", said),
                "backoff": {
                    "init_backoff": duration("backoff_config.init_backoff", said),
                    "max_backoff": duration("backoff_config.max_backoff", said),
                    "base": float(said["backoff_config.base"]),
                },
            },
        )
    except (BaseError, ValueError) as error:
        names, why = ", ".join(given) or "none", reason(error)
        for name, value in given.items():
            why = why if is_shown(name) or not value else why.replace(value, "***")
        raise TamisError(f"{url} cannot be opened with these options ({names}): {why}") from None


def _known(url: str, error: BaseException) -> TamisError | None:
    text = str(error)
    bucket, url = split_url(url)[0], shown(url)
    if _says(text, "NoSuchBucket", "NO_SUCH_BUCKET", "ContainerNotFound"):
        return StoreNotFound(f"There is no bucket {bucket} on the server. Make it first, or correct the URL {url}.")
    if isinstance(error, PermissionDeniedError | UnauthenticatedError) or _says(
        text, "403 Forbidden", "401 Unauthorized", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch",
        "AWS Error ACCESS_DENIED", "AWS Error INVALID_ACCESS_KEY_ID", "AWS Error SIGNATURE_DOES_NOT_MATCH",
    ):  # fmt: skip
        return StoreDenied(
            f"{url}: the server does not let us in ({reason(error)}). Check the credentials "
            "(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), their rights on the bucket, and AWS_REGION."
        )
    if "169.254.169.254" in text or "metadata.google.internal" in text:
        return StoreDenied(
            f"{url}: no credentials were found. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_ENDPOINT_URL "
            "for a server of your own), or hand them to Store.open as options."
        )
    if "builder error" in text or "URL scheme is not allowed" in text:
        return StoreUnreachable(
            f"{url}: the endpoint was refused before anything was sent ({reason(error)}). An http:// endpoint needs "
            "AWS_ALLOW_HTTP=true."
        )
    if isinstance(error, FileNotFoundError | AlreadyExistsError | PreconditionError):
        return None
    if isinstance(error, GenericError) or _says(text, *_TROUBLE):
        endpoint = os.environ.get("AWS_ENDPOINT_URL", "") if url.startswith("s3://") else ""
        where = urlsplit(shown(endpoint)).netloc
        return StoreUnreachable(
            f"{url} cannot be reached: {reason(error)}. Check that the server{f' {where}' if where else ''} runs and "
            "that AWS_ENDPOINT_URL, the region and the network are right, then run the same command again: what was "
            "published before is whole."
        )
    return None


def _says(text: str, *marks: str) -> bool:
    return any(mark in text for mark in marks)


def _forked() -> None:
    global _used_before_fork
    _used_before_fork = _used


os.register_at_fork(after_in_child=_forked)
