"""`gsvnet view` as a process: where it listens, what it says, how it ends."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from urllib.parse import quote

import pytest

from gsvnet.errors import ConfigError, GsvnetError
from gsvnet.viewing.commands import listen, view
from gsvnet.viewing.config import ReportConfig, ViewConfig

RUN = [sys.executable, "-m", "gsvnet.cli", "view"]
HEAVY = "(select count(*) from range(1000000000) a, range(1000) b where a.range + b.range < 0) = 0"


def start(out: str, *arguments: str) -> tuple[subprocess.Popen, str]:
    """A viewer that serves, and what it said until then."""
    command = [*RUN, out, "--port", "0", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = ""
    while "http://" not in said:
        line = process.stdout.readline()
        assert line, said
        said += line
    return process, said


@pytest.mark.parametrize("ending", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_the_viewer_serves_on_loopback_and_ends_cleanly_amid_a_query(output, ending):
    output.write()
    process, said = start(output.out)
    (address,) = re.findall(r"http://127\.0\.0\.1:\d+/", said)
    assert said == f"{output.out} at {address} (Ctrl-C ends)\n"
    with urllib.request.urlopen(address, timeout=10) as answer:
        assert answer.status == 200
    host, port = address.removeprefix("http://").removesuffix("/").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as asking:
        asking.sendall(f"GET /api/query?where={quote(HEAVY)} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        time.sleep(0.3)  # it runs
        process.send_signal(ending)
        assert process.wait(timeout=10) == 0  # its own limit is 20 s
    assert process.stdout.read() == ""


def test_all_addresses_are_warned_of_and_told_by_the_machine_s_name(output):
    output.write()
    process, said = start(output.out, "--host", "0.0.0.0")
    name = socket.gethostname()
    (port,) = re.findall(rf" at http://{re.escape(name)}:(\d+)/ \(Ctrl-C ends\)\n", said)
    for host in (name, f"{name}:{port}", "10.1.2.3"):
        request = urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"Host": host})
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 200
    process.terminate()
    assert process.wait(timeout=20) == 0
    assert said.startswith("warning: whoever reaches 0.0.0.0 sees all labels and videos of this output\n")


def test_all_addresses_of_the_newer_kind_are_all_of_the_older_one_too():
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    with listen("::", 0) as listener, socket.create_connection(("127.0.0.1", listener.getsockname()[1]), timeout=10):
        pass


def test_a_port_in_use_is_one_clear_line(output, make_console):
    output.write()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(GsvnetError) as refused:
            view(ViewConfig(out=output.out, port=port), make_console())
    assert str(refused.value) == (
        f"cannot listen on 127.0.0.1, port {port}: Address already in use; choose another --port (0: any free one)"
    )


@pytest.mark.slow
def test_the_command_says_that_line_alone_and_fails(output):
    output.write()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = subprocess.run([*RUN, output.out, "--port", str(port)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"gsvnet: cannot listen on 127.0.0.1, port {port}: Address already in use; "
        "choose another --port (0: any free one)\n"
    )


def test_an_address_of_another_machine_cannot_be_listened_on():
    with pytest.raises(GsvnetError, match=r"cannot listen on 192\.0\.2\.1, port 0"):
        listen("192.0.2.1", 0)


def test_bad_arguments_are_refused():
    with pytest.raises(ConfigError, match="--port 70000"):
        ViewConfig(out="o", port=70000)
    with pytest.raises(ConfigError, match="--max-videos -1"):
        ReportConfig(out="o", max_videos=-1)
