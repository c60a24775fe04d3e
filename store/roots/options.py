"""Storage options: their names, their defaults, and which of them may be shown.

Options are those of the object store (region, endpoint, keys), of the HTTP client (`allow_http`, `connect_timeout`,
`read_timeout`, `timeout`, ...), of retrying (`max_retries`, `retry_timeout`, `backoff_config.init_backoff`,
`backoff_config.max_backoff`), and `patience`, in one flat dict, by the names that Delta tables take too. What an option
does not say, the environment does: `AWS_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID`, `AWS_READ_TIMEOUT`, ..., `TAMIS_PATIENCE`.
"""

import datetime as dt
import os
import re
from collections.abc import Mapping
from typing import Any

from tamis.store.errors import TamisError
from tamis.store.roots.urls import refuse_credentials

Options = Mapping[str, str]

PREFIXES = ("aws_", "google_", "azure_")
SWITCHES = {
    "allow_http",
    "allow_invalid_certificates",
    "http1_only",
    "http2_only",
    "randomize_addresses",
}
CLIENT = SWITCHES | {
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
RETRY = {
    "max_retries",
    "retry_timeout",
    "backoff_config.init_backoff",
    "backoff_config.max_backoff",
    "backoff_config.base",
}
KNOWN = CLIENT | RETRY | {"patience"}
SLOWEST = 250_000  # bytes/s that a connection must carry where one request moves many
# Whatever is not known to be harmless is taken for a secret.
_SHOWN = (CLIENT - {"proxy_url"}) | RETRY | {
    "patience", "region", "default_region", "endpoint", "endpoint_url", "bucket", "bucket_name", "container_name",
    "virtual_hosted_style_request", "unsigned_payload", "checksum_algorithm", "imdsv1_fallback", "metadata_endpoint",
    "skip_signature", "s3_express", "request_payer", "conditional_put", "copy_if_not_exists", "disable_tagging",
}  # fmt: skip
_ADDRESSES = {"endpoint", "endpoint_url", "endpoint_url_s3", "proxy_url", "metadata_endpoint"}

# Silence is limited, not duration: a connection that gives nothing for `read_timeout` is given up and the request is
# sent again, for as long as `retry_timeout` says; a server that refuses is asked 9 times in about 5 s, which is also
# how a burst of 500 and 503 answers is sat out. `patience` is what all requests of an operation may wait together.
DEFAULTS = {
    "connect_timeout": "5s", "read_timeout": "15s", "timeout": "1440m", "max_retries": "8", "retry_timeout": "30s",
    "backoff_config.init_backoff": "100ms", "backoff_config.max_backoff": "2s", "backoff_config.base": "2",
    "patience": "60s",
}  # fmt: skip
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "": 1.0}


class StorageOptions(dict[str, str]):
    """Options of a store, the secret ones of which are neither shown nor pickled.

    A process that is handed a pickle takes its secrets from its own environment, or is handed `dict(options)`.
    """

    def __repr__(self) -> str:
        return repr({k: v if is_shown(k) else "***" for k, v in self.items()})

    def __reduce__(self) -> tuple[Any, ...]:
        return StorageOptions, ({k: v for k, v in self.items() if is_shown(k)},)


def checked(options: Options | None) -> StorageOptions:
    """Options as a store keeps them.

    Raises:
        InvalidName: an address with a user name or password in it.
        TamisError: something other than text.
    """
    for name, value in (options or {}).items():
        # They come from users: the annotation promises nothing.
        if not isinstance(name, str) or not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TamisError(f"Storage option {name!r} is not text: expected names and values to be strings.")
        if bare(name.lower()) in _ADDRESSES:
            refuse_credentials(value if "://" in value else f"http://{value}", f"Option {name}:")
    return StorageOptions(options or {})


def is_shown(name: str) -> bool:
    """Whether an option's value may be shown."""
    return bare(name.lower()) in _SHOWN


def bare(name: str) -> str:
    """An option's name, in lower case, without the prefix that the environment gives it."""
    return next((name[len(p) :] for p in PREFIXES if name.startswith(p)), name)


def environment() -> dict[str, str]:
    """What the environment says to object stores, in lower case.

    Raises:
        InvalidName: an address has a user name or password in it.
    """
    said = {k.lower(): v for k, v in os.environ.items() if k.lower().startswith(PREFIXES)}
    for name in said:
        if bare(name) in _ADDRESSES and said[name]:
            refuse_credentials(said[name] if "://" in said[name] else f"http://{said[name]}", f"{name.upper()}:")
    return said


def asked(options: Options) -> dict[str, str]:
    """What clients are told of time and transport: from the options, else the environment, else the defaults."""
    around = {bare(k): v for k, v in environment().items()}
    if patience := os.environ.get("TAMIS_PATIENCE"):
        around["patience"] = patience
    given = {bare(k.lower()): v for k, v in options.items()}
    return DEFAULTS | {k: v for k, v in (around | given).items() if k in KNOWN}


def switch(name: str, value: str) -> str | bool:
    """The value as a client takes it."""
    return value.strip().lower() in ("true", "1", "yes", "on") if name in SWITCHES else value


def duration(name: str, options: Options) -> dt.timedelta:
    """An option's value as a time.

    Raises:
        TamisError: it is none.
    """
    found = re.fullmatch(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*(ms|s|m|)\s*", options[name])
    if found is None:
        raise TamisError(f"Option {name}={options[name]!r}: expected a duration such as 500ms, 30s or 2m.")
    return dt.timedelta(seconds=float(found[1]) * _UNITS[found[2]])


def seconds(name: str, options: Options) -> float:
    """`duration` of an option, an environment variable or a default, in s."""
    return duration(name, asked(options)).total_seconds()
