"""The proxy passes everything through in fair weather, and each trouble is what clients see of a real one."""

from __future__ import annotations

import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.soak.proxy import FAIR, Weather, faulty_proxy

pytestmark = pytest.mark.s3


@pytest.fixture
def proxied(moto_s3):
    with faulty_proxy(moto_s3.endpoint_url) as proxy:
        yield proxy, moto_s3


@pytest.fixture
def client(proxied):
    import boto3

    proxy, server = proxied
    return boto3.client(
        "s3",
        endpoint_url=proxy.url,
        aws_access_key_id=server.key,
        aws_secret_access_key=server.secret,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )


def test_fair_weather_changes_nothing(client, proxied):
    bucket = proxied[1].make_bucket()
    client.put_object(Bucket=bucket, Key="a b/ü+%.bin", Body=b"0123456789", IfNoneMatch="*")
    with pytest.raises(ClientError, match="PreconditionFailed"):
        client.put_object(Bucket=bucket, Key="a b/ü+%.bin", Body=b"other", IfNoneMatch="*")
    assert client.get_object(Bucket=bucket, Key="a b/ü+%.bin", Range="bytes=2-4")["Body"].read() == b"234"
    assert client.head_object(Bucket=bucket, Key="a b/ü+%.bin")["ContentLength"] == 10
    assert [found["Key"] for found in client.list_objects_v2(Bucket=bucket)["Contents"]] == ["a b/ü+%.bin"]
    assert not proxied[0].counts


@pytest.mark.parametrize(
    ("weather", "sign"),
    [
        (Weather(throttled=1), "SlowDown"),
        (Weather(failing=1), "InternalError"),
        (Weather(cut=1), "Connection broken|IncompleteRead|connection"),
        (Weather(answer_lost=1), "[Cc]onnection"),
        (Weather(is_down=True), "[Cc]onnection"),
    ],
    ids=str,
)
def test_trouble_looks_as_it_does_elsewhere(client, proxied, weather, sign):
    proxy, server = proxied
    bucket = server.make_bucket()
    server.client().put_object(Bucket=bucket, Key="a", Body=bytes(10_000))
    proxy.weather = weather
    with pytest.raises((ClientError, BotoCoreError), match=sign):
        client.get_object(Bucket=bucket, Key="a")["Body"].read()
    assert sum(proxy.counts.values()) == 1
    proxy.weather = FAIR
    assert len(client.get_object(Bucket=bucket, Key="a")["Body"].read()) == 10_000


def test_an_answer_that_is_lost_leaves_the_object(client, proxied):
    proxy, server = proxied
    bucket = server.make_bucket()
    proxy.weather = Weather(answer_lost=1)
    with pytest.raises(BotoCoreError):
        client.put_object(Bucket=bucket, Key="a", Body=b"1")
    assert server.client().get_object(Bucket=bucket, Key="a")["Body"].read() == b"1"
