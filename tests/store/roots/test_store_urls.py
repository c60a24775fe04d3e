"""URLs that hold credentials are refused where they are given, and never repeated."""

import pickle
from pathlib import Path

import pytest

from tamis.store import Store
from tamis.store.errors import InvalidName, TamisError
from tamis.store.roots.options import checked
from tamis.store.roots.roots import Root, open_objects
from tamis.store.roots.urls import refuse_credentials, shown, split_url, without_credentials
from tamis.store.shards.shards import matching, shard_uri

SECRET = "hunter2"
HOLDING = [
    f"s3://AKIA:{SECRET}@bucket/x",
    f"s3://{SECRET}@bucket/x",
    f"s3://AKIA%3A{SECRET}%40bucket/x",
    f"s3://AKIA:{SECRET}/more/of+it@bucket/x",
    f"s3://AKIA:12/{SECRET}@bucket/x",
    f"s3:/AKIA:{SECRET}@bucket/x",
    f"S3://AKIA:{SECRET}@bucket/x",
    f"s3://bucket/x?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature={SECRET}",
    f"s3://bucket/x%3FX-Amz-Security-Token={SECRET}",
    f"s3://AKIA%253A{SECRET}%2540bucket/x",
    f"s3://bucket/x%253FX-Amz-Security-Token={SECRET}",
    f"s3://bucket/x#access_token={SECRET}",
    f"gs://bucket/x?X-Goog-Signature={SECRET}",
    f"az://container/x?sv=2024&sig={SECRET}",
    f"http://me:{SECRET}@host:9000",
    f"https://{SECRET}@host/path",
    f"http://me:{SECRET}@[::1]:9000/",
    f"ftp://me:{SECRET}@host/a.tar",
]


@pytest.mark.parametrize("url", HOLDING)
def test_credentials_in_urls_are_refused_and_not_repeated(url: str) -> None:
    for take in (Root, Store.open, Store.create, open_objects, shard_uri, matching, split_url, refuse_credentials):
        with pytest.raises(InvalidName, match="credentials do not belong there") as caught:
            take(url)
        assert SECRET not in str(caught.value)
        assert SECRET not in repr(caught.value)
    assert SECRET not in shown(url)
    assert SECRET not in without_credentials(f"error sending request for url ({url}): refused")


@pytest.mark.parametrize(
    "url",
    [
        "s3://bucket/a@b/c?d=e:f", "s3://my.bucket-1/x", "http://127.0.0.1:9000", "http://[::1]:9000",
        "/a/user:pass@host", "https://minio.example/base", "s3://bucket", "file@home", "s3://bucket/a b%20c",
    ],
)  # fmt: skip
def test_urls_without_credentials_pass(url: str) -> None:
    refuse_credentials(url)
    assert shown(url) == url.partition("?")[0]


@pytest.mark.parametrize("name", ["aws_endpoint_url", "AWS_ENDPOINT", "endpoint", "proxy_url"])
@pytest.mark.parametrize("address", ["http://me:hunter2@host", "me:hunter2@host:80", "http://me%3Ahunter2%40host"])
def test_credentials_in_addresses_of_options_are_refused(name: str, address: str) -> None:
    with pytest.raises(InvalidName, match=rf"Option {name}: .*credentials do not belong there") as caught:
        Root("s3://bucket/x", {name: address})
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT"])
def test_credentials_in_addresses_of_the_environment_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, f"http://me:{SECRET}@127.0.0.1:1")
    with pytest.raises(InvalidName, match=f"{name}: http://.*credentials do not belong there") as caught:
        Store.open("s3://bucket/x")
    assert SECRET not in str(caught.value)


def test_secret_options_are_neither_shown_nor_pickled(tmp_path: Path) -> None:
    options = {"aws_access_key_id": SECRET, "AWS_SECRET_ACCESS_KEY": SECRET, "token": SECRET, "unheard_of": SECRET}
    harmless = {"aws_region": "eu-1", "AWS_ENDPOINT_URL": "http://h:1", "read_timeout": "3s", "max_retries": "1"}
    store = Store(Root("s3://bucket/x", options | harmless))
    assert store.root.options == options | harmless
    for thing in (store, store.root, store.tables, store.datasets, store.blobs, store.root.options):
        assert SECRET not in f"{thing!r} {thing}"
        kept = pickle.dumps(thing)
        assert SECRET.encode() not in kept
        assert type(pickle.loads(kept)) is type(thing)  # noqa: S301  # our own
    again = pickle.loads(pickle.dumps(store.root))  # noqa: S301  # our own
    assert (again.url, again.options) == ("s3://bucket/x", harmless)
    assert checked(dict(store.root.options)) == options | harmless  # handed over by hand


def test_what_a_client_says_of_an_option_does_not_repeat_it() -> None:
    with pytest.raises(TamisError, match="cannot be opened with these options") as caught:
        Root("s3://bucket/x", {"aws_secret_access_key": SECRET, "colour": SECRET}).get("x")
    assert SECRET not in str(caught.value)
    with pytest.raises(TamisError, match="expected names and values to be strings"):
        Root("s3://bucket/x", {"max_retries": 3})  # pyright: ignore[reportArgumentType]  users do
