"""S3 servers on loopback for every test that wants one, each a context manager that yields an `S3Server`.

    with moto_server() as server:          # in this process, 0.5 s; strict conditions, any key is let in
    with swift_server() as server:         # OpenStack Swift, four processes, 3 s; real signatures, racy conditions

    server.options                         # storage options: endpoint_url, key, secret
    bucket = server.make_bucket()          # a new bucket; f"s3://{bucket}/out" with server.options is a place to write
    server.pids                            # of its processes, to stop or kill (Swift; moto has none of its own)

In tests use the fixtures `moto_s3` and `swift_s3` of tests/conftest.py: one server per session, an `S3Server` each.
Outside of pytest load this file by its path, as tests/conftest.py does. Swift comes from a virtual environment of its
own (`pip install swift`), whose bin folder GSVNET_SWIFT_BIN names.
"""

from __future__ import annotations

import contextlib
import errno
import getpass
import logging
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SWIFT_BIN = "GSVNET_SWIFT_BIN"
START_TIMEOUT_S = 60.0


@dataclass(frozen=True, kw_only=True)
class S3Server:
    """A running server. reader: options of a user who may read what `let_read` opened and write nothing (Swift)."""

    endpoint_url: str
    key: str
    secret: str
    reader: tuple[str, str] | None = None
    pids: tuple[int, ...] = ()

    @property
    def options(self) -> dict[str, str]:
        return {"endpoint_url": self.endpoint_url, "key": self.key, "secret": self.secret}

    @property
    def reader_options(self) -> dict[str, str]:
        assert self.reader is not None
        return self.options | {"key": self.reader[0], "secret": self.reader[1]}

    def make_bucket(self, name: str = "") -> str:
        """Name of a new bucket; "": a name of its own."""
        name = name or f"b-{uuid.uuid4().hex[:16]}"
        self.client().create_bucket(Bucket=name)
        return name

    def let_read(self, bucket: str) -> None:
        """Let every user list and read the bucket, not write to it."""
        self.client().put_bucket_acl(Bucket=bucket, ACL="public-read")

    def client(self):
        """A boto3 client with all rights: what the program under test does not look through."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}),
        )


@contextlib.contextmanager
def moto_server() -> Iterator[S3Server]:
    """moto's server in this process. Conditions are strict; a wrong secret is let in."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line per request otherwise
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield S3Server(endpoint_url=f"http://{host}:{port}", key="moto-key", secret="moto-secret")
    finally:
        server.stop()


@contextlib.contextmanager
def swift_server(swift_bin: str | Path | None = None) -> Iterator[S3Server]:
    """OpenStack Swift with its S3 API on one disk. swift_bin: bin folder of its venv, else what GSVNET_SWIFT_BIN names.

    Its state lies in a temporary folder (with extended attributes) and is gone at the end, as are its processes.
    """
    swift_bin = Path(swift_bin or os.environ[SWIFT_BIN])
    folder = Path(tempfile.mkdtemp(prefix="swift-"))
    services = ("account", "container", "object", "proxy")
    ports = dict(zip(services, free_ports(len(services)), strict=True))
    processes: list[subprocess.Popen] = []
    try:
        _configure(folder, ports)
        _make_rings(swift_bin, folder, ports)
        for name in services:
            command = [swift_bin / f"swift-{name}-server", folder / f"{name}.conf"]
            with (folder / f"{name}.log").open("wb") as log:
                processes.append(
                    subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
                )
        endpoint = f"http://127.0.0.1:{ports['proxy']}"
        _wait_until_healthy([f"http://127.0.0.1:{port}/healthcheck" for port in ports.values()], processes, folder)
        yield S3Server(
            endpoint_url=endpoint,
            key="test:tester",
            secret="swift-secret",
            reader=("test:reader", "reader-secret"),
            pids=tuple(process.pid for process in processes),
        )
    finally:
        _end(processes)
        shutil.rmtree(folder, ignore_errors=True)


def free_ports(count: int, ip: str = "127.0.0.1") -> list[int]:
    """Ports nobody uses, drawn from those that no system gives to a client: they stay free until a server starts."""
    ports: list[int] = []
    with contextlib.ExitStack() as stack:
        while len(ports) < count:
            probe, port = stack.enter_context(socket.socket()), random.SystemRandom().randrange(20_000, 32_000)
            try:
                probe.bind((ip, port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                ports.append(port)
    return ports


_COMMON = """
[DEFAULT]
user = {user}
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
log_level = WARNING
log_address = {folder}/no-log
swift_dir = {folder}
devices = {folder}/node
mount_check = false
disable_fallocate = true
"""

_STORAGE = """
[pipeline:main]
pipeline = healthcheck {name}-server
[filter:healthcheck]
use = egg:swift#healthcheck
[app:{name}-server]
use = egg:swift#{name}
"""

_PROXY = """
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck cache listing_formats bulk s3api tempauth slo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:9
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:bulk]
use = egg:swift#bulk
[filter:slo]
use = egg:swift#slo
[filter:s3api]
use = egg:swift#s3api
s3_acl = false
location = us-east-1
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = swift-secret .admin
user_test_reader = reader-secret
"""

_HASH = """
[swift-hash]
swift_hash_path_suffix = tests
swift_hash_path_prefix = tests
[storage-policy:0]
name = default
default = yes
"""

_RINGS = """
import sys
from swift.common.ring import RingBuilder
folder, *ports = sys.argv[1:]
for name, port in zip(("account", "container", "object"), ports):
    builder = RingBuilder(4, 1, 0)
    builder.add_dev({"region": 1, "zone": 1, "ip": "127.0.0.1", "port": int(port), "device": "d1", "weight": 1.0})
    builder.rebalance()
    builder.get_ring().save(f"{folder}/{name}.ring.gz")
"""


def _configure(folder: Path, ports: dict[str, int]) -> None:
    (folder / "node" / "d1").mkdir(parents=True)
    (folder / "swift.conf").write_text(_HASH)
    for name, port in ports.items():
        common = _COMMON.format(user=getpass.getuser(), port=port, folder=folder)
        (folder / f"{name}.conf").write_text(common + (_PROXY if name == "proxy" else _STORAGE.format(name=name)))


def _make_rings(swift_bin: Path, folder: Path, ports: dict[str, int]) -> None:
    numbers = [str(ports[name]) for name in ("account", "container", "object")]
    subprocess.run([swift_bin / "python", "-W", "ignore", "-c", _RINGS, folder, *numbers], check=True, cwd=folder)


def _wait_until_healthy(urls: Sequence[str], processes: Sequence[subprocess.Popen], folder: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    for url in urls:
        while not _is_healthy(url):
            ended = [process.args[0].name for process in processes if process.poll() is not None]  # type: ignore[union-attr]
            if ended or time.monotonic() > deadline:
                logs = "\n".join(path.read_text()[-2000:] for path in folder.glob("*.log"))
                raise RuntimeError(f"Swift did not start ({', '.join(ended) or url} does not run):\n{logs}")
            time.sleep(0.05)


def _is_healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def _end(processes: Sequence[subprocess.Popen]) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)  # a test may have stopped it
            process.terminate()
    for process in processes:
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
