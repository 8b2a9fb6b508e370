"""The Ray that `gsvnet label` starts on this machine listens on its network; only who knows its token gets in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from functools import partialmethod

import pytest
import ray
from ray._private.parameter import RayParams

from gsvnet.labeling.ray import cluster

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def here():
    """(address, address of the agent that takes jobs) of a running local cluster.

    The agent takes any free port: while an earlier agent has the usual one, it would do without.
    """
    if ray.is_initialized() or os.environ.get("RAY_ADDRESS") or os.environ.get("RAY_AUTH_MODE"):
        pytest.skip("another Ray is in use, or its authentication is set from outside")
    any_port = partialmethod(RayParams.__init__, dashboard_agent_listen_port=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RayParams, "__init__", any_port)
        with cluster.connect():
            (node,) = ray.nodes()
            agent = f"http://{node['NodeManagerAddress']}:{node['DashboardAgentListenPort']}"
            yield ray.get_runtime_context().gcs_address, agent


def join(address: str, tmp_path, **variables: str) -> bool:
    """Whether a stranger's process gets in; HOME: it has no token of ours."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    code = f"import ray; ray.init(address={address!r}, log_to_driver=False)"
    command = [sys.executable, "-c", code]
    environment = own | {"HOME": str(tmp_path)} | variables
    return subprocess.run(command, env=environment, capture_output=True, timeout=120, check=False).returncode == 0


def test_a_stranger_does_not_join(here, tmp_path):
    assert not join(here[0], tmp_path, RAY_AUTH_MODE="disabled")
    assert not join(here[0], tmp_path, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="0" * 64)
    assert join(here[0], tmp_path, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=cluster._TOKEN)


@pytest.mark.parametrize(
    ("token", "status"), [(None, 401), ("0" * 64, 403), (cluster._TOKEN, 200)], ids=["none", "a wrong one", "its own"]
)
def test_a_stranger_submits_no_job(here, token, status):
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
    job = json.dumps({"entrypoint": "true"}).encode()
    request = urllib.request.Request(f"{here[1]}/api/job_agent/jobs/", data=job, headers=headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            found = answer.status
    except urllib.error.HTTPError as error:
        found = error.code
    assert found == status


def test_there_is_no_dashboard(here):
    from ray._private.worker import global_worker

    assert not global_worker.node.webui_url
