"""Object stores: how one is reached, how patiently, and what is said when it cannot be.

Options are those of the object store (region, endpoint, keys), of the HTTP client (`allow_http`, `timeout`,
`connect_timeout`, `read_timeout`, ...) and of retrying (`max_retries`, `retry_timeout`, `backoff_config.init_backoff`,
`backoff_config.max_backoff`), in one flat dict, by the names that Delta tables take too. What an option does not say,
the environment does (`AWS_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID`, `AWS_ALLOW_HTTP`, ...). Clients are kept for as long as a
process lives, so that requests share connections.

Cost: a client takes 3 ms to make, a request on one that is there what the server takes and about 0.1 ms. A server that
is down is known to be so after a few seconds, a silent one after `retry_timeout`.
"""

import contextlib
import datetime as dt
import functools
import os
import re
from collections.abc import Generator, Mapping
from typing import Any, cast
from urllib.parse import urlsplit

from deltalake.exceptions import DeltaError
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import ObjectStore, from_url

from tamis.store.errors import StoreDenied, StoreNotFound, StoreUnreachable, TamisError

SCHEMES = ("s3", "gs", "az")

Options = Mapping[str, str]

_PREFIXES = ("aws_", "google_", "azure_")
_SWITCHES = {
    "allow_http",
    "allow_invalid_certificates",
    "http1_only",
    "http2_only",
    "randomize_addresses",
}
_CLIENT = _SWITCHES | {
    "connect_timeout",
    "default_content_type",
    "pool_idle_timeout",
    "pool_max_idle_per_host",
    "proxy_url",
    "proxy_ca_certificate",
    "proxy_excludes",
    "read_timeout",
    "root_certificate",
    "timeout",
    "user_agent",
}
_RETRY = {
    "max_retries",
    "retry_timeout",
    "backoff_config.init_backoff",
    "backoff_config.max_backoff",
    "backoff_config.base",
}
# A stalled connection is given up after 30 s, a whole request (a shard of some GB) after 10 minutes; a server that
# refuses is asked 9 times in about 5 s, which is also how a burst of 500 and 503 answers is sat out.
_DEFAULTS = {
    "connect_timeout": "5s", "read_timeout": "30s", "timeout": "600s", "max_retries": "8", "retry_timeout": "60s",
    "backoff_config.init_backoff": "100ms", "backoff_config.max_backoff": "2s", "backoff_config.base": "2",
}  # fmt: skip
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "": 1.0}

_used_before_fork = False
_used = False


def is_remote(uri: str) -> bool:
    """Whether a URI names an object, not a file."""
    return uri.partition("://")[0] in SCHEMES and "://" in uri


def split_url(url: str) -> tuple[str, str]:
    """("s3://bucket", "path/in/it"). Paths are taken as they stand: nothing in them is an escape."""
    scheme, _, rest = url.partition("://")
    bucket, _, path = rest.partition("/")
    if scheme not in SCHEMES or not bucket:
        raise TamisError(
            f"{url!r} names no bucket of an object store: {', '.join(s + '://BUCKET/PATH' for s in SCHEMES)} were "
            "expected."
        )
    return f"{scheme}://{bucket}", path


def client(url: str, options: Options | None = None) -> ObjectStore:
    """The object store of a bucket or of a prefix in it, the same one for the same options.

    Raises:
        TamisError: an option is unknown or senseless, or the process was forked from one that used an object store.
    """
    global _used
    if _used_before_fork:
        raise TamisError(
            f"{url} cannot be read in a process that was forked from one that has used a store: the threads that "
            "talk to object stores are not copied, and it would wait for ever. Start workers by 'forkserver' or "
            "'spawn' (DataLoader: multiprocessing_context='forkserver')."
        )
    _used = True
    environment = tuple(sorted((k, v) for k, v in os.environ.items() if k.lower().startswith(_PREFIXES)))
    return _client(url, tuple(sorted((options or {}).items())), environment)


def delta_options(url: str, options: Options) -> dict[str, str]:
    """The options that make Delta tables as patient, and their commits exclusive."""
    given = {k.lower(): v for k, v in options.items()}
    exclusive = {"aws_conditional_put": "etag"} if url.startswith("s3://") else {}
    return _DEFAULTS | exclusive | given


def patience(options: Options) -> dict[str, float]:
    """How long to wait and how often to try: `connect_timeout` and `read_timeout` in s, and `max_retries`."""
    asked = _DEFAULTS | {_bare(k.lower()): v for k, v in options.items()}
    waits = {name: _duration(name, asked).total_seconds() for name in ("connect_timeout", "read_timeout")}
    return waits | {"max_retries": int(asked["max_retries"])}


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
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).replace("↳", " ")
    head = " ".join(text.split("\n\nDebug source")[0].split()).rstrip(": ")
    deeper = re.findall(r'message: "([^"]+)"|(operation timed out|dns error)', text, re.IGNORECASE)
    causes = [c for pair in deeper for c in pair if c and c not in head]
    return (head if len(head) <= 400 else head[:400] + " ...") + "".join(f": {c}" for c in dict.fromkeys(causes))


@functools.lru_cache(maxsize=32)
def _client(url: str, options: tuple[tuple[str, str], ...], environment: tuple[tuple[str, str], ...]) -> ObjectStore:
    said = {k.lower(): v for k, v in options}
    # What is said of the client by hand replaces all that the environment says of it, so that is put in here.
    around = {_bare(k.lower()): v for k, v in environment}
    asked = _DEFAULTS | {k: v for k, v in around.items() if k in _CLIENT} | {_bare(k): v for k, v in said.items()}
    config = {k: v for k, v in said.items() if _bare(k) not in _CLIENT | _RETRY}
    if url.startswith("s3://"):
        config = {"aws_conditional_put": "etag"} | config
    try:
        return from_url(
            url,
            config=cast("Any", config),
            client_options=cast("Any", {k: _switch(k, v) for k, v in asked.items() if k in _CLIENT}),
            retry_config={
                "max_retries": int(asked["max_retries"]),
                "retry_timeout": _duration("retry_timeout", asked),
                "backoff": {
                    "init_backoff": _duration("backoff_config.init_backoff", asked),
                    "max_backoff": _duration("backoff_config.max_backoff", asked),
                    "base": float(asked["backoff_config.base"]),
                },
            },
        )
    except (BaseError, ValueError) as error:
        names = ", ".join(said) or "none"
        raise TamisError(f"{url} cannot be opened with these options ({names}): {reason(error)}") from error


def _bare(name: str) -> str:
    """A client's option without the prefix that the environment gives it."""
    bare = next((name[len(p) :] for p in _PREFIXES if name.startswith(p)), name)
    return bare if bare in _CLIENT else name


def _switch(name: str, value: str) -> str | bool:
    return value.strip().lower() in ("true", "1", "yes", "on") if name in _SWITCHES else value


def _duration(name: str, options: Options) -> dt.timedelta:
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|)\s*", options[name])
    if found is None:
        raise TamisError(f"Option {name}={options[name]!r}: a duration such as 500ms, 30s or 2m was expected.")
    return dt.timedelta(seconds=float(found[1]) * _UNITS[found[2]])


def _known(url: str, error: BaseException) -> TamisError | None:
    text = str(error)
    bucket = split_url(url)[0]
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
    if _says(
        text, "error sending request", "tcp connect error", "timed out", "dns error", "HTTP error", "response body",
        "non-2xx status code: 5", "Internal Server Error", "Service Unavailable", "connection closed", "SlowDown",
        "AWS Error NETWORK_CONNECTION", "AWS Error INTERNAL_FAILURE", "AWS Error SERVICE_UNAVAILABLE",
        "AWS Error SLOW_DOWN", "AWS Error THROTTLING", "HTTP status 5",
    ):  # fmt: skip
        where = urlsplit(os.environ.get("AWS_ENDPOINT_URL", "")).netloc if url.startswith("s3://") else ""
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
