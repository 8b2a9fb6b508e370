"""`gsvnet view` as a process: where it listens, what it says, how it ends."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from gsvnet.errors import ConfigError, GsvnetError
from gsvnet.viewing.commands import listen
from gsvnet.viewing.config import ReportConfig, ViewConfig

RUN = [sys.executable, "-m", "gsvnet.cli", "view"]


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
def test_the_viewer_serves_on_loopback_and_ends_cleanly(output, ending):
    output.write()
    process, said = start(output.out)
    (address,) = re.findall(r"http://127\.0\.0\.1:\d+/", said)
    assert said == f"{output.out} at {address} (Ctrl-C ends)\n"
    with urllib.request.urlopen(address, timeout=10) as answer:
        assert answer.status == 200
    process.send_signal(ending)
    assert process.wait(timeout=20) == 0
    assert process.stdout.read() == ""


def test_another_address_than_loopback_is_warned_of(output):
    output.write()
    process, said = start(output.out, "--host", "0.0.0.0")
    process.terminate()
    assert process.wait(timeout=20) == 0
    assert said.startswith("warning: whoever reaches 0.0.0.0 sees all labels and videos of this output\n")


def test_a_port_in_use_is_one_clear_line(output):
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
