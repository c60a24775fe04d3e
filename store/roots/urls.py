"""URLs of stores and shards: which object they name, and that they hold no credentials.

A URL is written into tables, manifests, logs and messages. So one with a user name, a password or a signature in it is
refused where it is given, and is never repeated, not even by what refuses it: credentials come from the environment or
as options, which are kept nowhere.
"""

import re
from urllib.parse import unquote

from tamis.store.errors import InvalidName, TamisError

SCHEMES = ("s3", "gs", "az")

_URL = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]*):/+(.*)", re.DOTALL)
# What a bucket's name, or a host with its port, is made of; anything else could be the half of a credential.
_PLACE = re.compile(r"[A-Za-z0-9._-]*|[A-Za-z0-9._-]+:\d*|\[[0-9A-Fa-f:.]+\](:\d*)?")
# Parameters that sign a request: of S3, Google and Azure, by their ends.
_SIGNED = re.compile(
    r"[?&;#]([^=&]*(signature|credential|token|secret|password|passwd|accesskeyid|api-?key)|sig|se|pwd)=", re.IGNORECASE
)
_AT = re.compile(r"@|%(?:25)*40")


def is_remote(uri: str) -> bool:
    """Whether a URI names an object, not a file."""
    return uri.partition("://")[0] in SCHEMES and "://" in uri


def split_url(url: str) -> tuple[str, str]:
    """("s3://bucket", "path/in/it"). Paths are taken as they stand: nothing in them is an escape."""
    refuse_credentials(url)
    scheme, _, rest = url.partition("://")
    bucket, _, path = rest.partition("/")
    if scheme not in SCHEMES or not bucket:
        raise TamisError(
            f"{shown(url)!r} does not name a bucket: expected {', '.join(s + '://BUCKET/PATH' for s in SCHEMES)}."
        )
    return f"{scheme}://{bucket}", path


def refuse_credentials(url: str, what: str = "The URL") -> None:
    """Refuse a URL that says who asks. Whatever is not a URL passes.

    Raises:
        InvalidName: it has a user name or password before the host or bucket, or a signature behind the path.
    """
    found = _URL.match(url)
    if found is None:
        return
    place = re.split(r"[/?#]", found[2], maxsplit=1)[0]
    if not _is_bare(found[1], place):
        credentials = "@" in _decoded(found[2])
        wrong = "a user name or password" if credentials else "characters that no host or bucket has"
    elif _SIGNED.search(_decoded(found[2])):
        wrong = "a signature"
    else:
        return
    raise InvalidName(
        f"{what} {shown(url)} was given with {wrong} in it. URLs are stored and shown, so credentials do not "
        "belong there: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or pass them as options, and give the bare URL."
    )


def shown(url: str) -> str:
    """A URL as it may be repeated: without credentials and without its query."""
    found = _URL.match(url)
    if found is None:
        return url
    scheme, (rest, *_) = found[1], found[2].split("?", maxsplit=1)
    if _SIGNED.search(_decoded(found[2])):
        rest = re.split(r"[?&;#]|%(?:25)*(?:3F|26|3B|23)", rest, maxsplit=1, flags=re.IGNORECASE)[0]
    place, slash, path = rest.partition("/")
    if _is_bare(scheme, place):
        return f"{scheme}://{place}{slash}{path}"
    # A password with a slash in it ends what looks like the host: what is behind the last @ is none.
    return f"{scheme}://***@{re.split(_AT, rest)[-1]}" if "@" in _decoded(rest) else f"{scheme}://***{slash}{path}"


def without_credentials(text: str) -> str:
    """A text of somebody else's with every URL in it as it may be repeated, and only the code of answers in XML."""
    text = re.sub(r"<\?xml.*?<Code>([^<]*)</Code>.*?(</Error>|$)", r"\1", text, flags=re.DOTALL)
    return re.sub(r"[A-Za-z][A-Za-z0-9+.-]*:/+[^\s\"'<>)]+", lambda url: shown(url[0]), text)


def _is_bare(scheme: str, place: str) -> bool:
    return _PLACE.fullmatch(place) is not None and (":" not in place or scheme.lower() not in SCHEMES)


def _decoded(text: str) -> str:
    """Without escapes, and escapes of escapes."""
    for _ in range(4):
        text = unquote(text)
    return text
