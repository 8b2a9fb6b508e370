"""cluster/rayjob.yaml: checked by schema, and what its parts must know of each other."""

from __future__ import annotations

import copy
import json
import os
import shlex
from pathlib import Path

import pytest
import ray

jsonschema = pytest.importorskip("jsonschema")


@pytest.fixture(scope="module")
def schema():
    return json.loads(Path(__file__).with_name("rayjob.schema.json").read_text())


@pytest.fixture
def head(rayjob):
    return rayjob["spec"]["rayClusterSpec"]["headGroupSpec"]


@pytest.fixture
def workers(rayjob):
    (group,) = rayjob["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    return group


def pod(group):
    return group["template"]["spec"]


def variables(group):
    return {item["name"]: item["value"] for item in pod(group)["containers"][0]["env"]}


def option(rayjob, flag):
    words = shlex.split(rayjob["spec"]["entrypoint"])
    return words[words.index(flag) + 1]


def test_the_file_keeps_the_schema(rayjob, schema):
    jsonschema.validate(rayjob, schema)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["spec", "entryPoint"], "gsvnet label"),
        (["spec", "submissionMode"], "K8sJob"),
        (["spec", "backoffLimit"], "3"),
        (["spec", "rayClusterSpec", "headGroupSpec", "rayStartParams", "num-cpus"], 0),
        (["spec", "rayClusterSpec", "workerGroupSpecs", 0, "template", "spec", "containers", 0, "volumemounts"], []),
        (["spec", "rayClusterSpec", "workerGroupSpecs", 0, "template", "spec", "tolerations", 0, "operator"], "exists"),
    ],
)
def test_the_schema_finds_a_slip(rayjob, schema, path, value):
    wrong = copy.deepcopy(rayjob)
    place = wrong
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, schema)


def test_kuberays_own_schema_agrees(rayjob):
    """Opt-in: GSVNET_RAYJOB_CRD names KubeRay's ray.io_rayjobs.yaml."""
    yaml = pytest.importorskip("yaml")
    if "GSVNET_RAYJOB_CRD" not in os.environ:
        pytest.skip("GSVNET_RAYJOB_CRD does not name KubeRay's definition of a RayJob")
    definition = yaml.safe_load(Path(os.environ["GSVNET_RAYJOB_CRD"]).read_text())
    versions = {version["name"]: version for version in definition["spec"]["versions"]}
    jsonschema.validate(rayjob, _strict(versions["v1"]["schema"]["openAPIV3Schema"]))


def _strict(schema):
    """Kubernetes' dialect as plain JSON schema that refuses unknown fields."""
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: _strict(value) for key, value in schema.items()}
    if schema.pop("x-kubernetes-int-or-string", False):
        schema.pop("type", None)
        schema["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        schema["additionalProperties"] = False
    return schema


def test_who_waits_for_something_waits_longer_than_it_takes(rayjob, head, workers):
    drain_s = int(option(rayjob, "--drain-seconds"))
    stop_s = int(variables(head)["RAY_JOB_STOP_WAIT_TIME_S"])
    node_drain_s = int(variables(workers)["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"])
    assert drain_s < stop_s < pod(head)["terminationGracePeriodSeconds"]
    assert drain_s < node_drain_s < pod(workers)["terminationGracePeriodSeconds"]


def test_the_head_drains_its_jobs_with_a_script_of_the_image(head, cluster_dir):
    command = pod(head)["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert command == ["python", "/opt/gsvnet/cluster/drain.py"]
    assert "WORKDIR /opt/gsvnet\n" in (cluster_dir / "Dockerfile").read_text()
    assert (cluster_dir / "drain.py").is_file()


def test_nothing_but_the_driver_runs_on_the_head(head):
    params = head["rayStartParams"]
    assert (params["num-cpus"], params["num-gpus"]) == ("0", "0")
    assert not any("gpu" in name for name in pod(head)["containers"][0]["resources"]["limits"])


def test_an_actor_fits_on_a_worker_and_all_actors_fit_on_the_most_workers(rayjob, workers):
    limits = pod(workers)["containers"][0]["resources"]["limits"]
    assert int(option(rayjob, "--cpus-per-actor")) <= int(limits["cpu"])
    gpus = int(limits["nvidia.com/gpu"])
    assert int(workers["rayStartParams"]["num-gpus"]) == gpus
    assert (
        int(option(rayjob, "--num-actors")) * float(option(rayjob, "--gpus-per-actor")) <= gpus * workers["maxReplicas"]
    )
    assert workers["minReplicas"] <= workers["replicas"] <= workers["maxReplicas"]


def test_a_cluster_that_grows_from_nothing_is_told_what_an_actor_needs(rayjob, workers):
    assert rayjob["spec"]["rayClusterSpec"]["enableInTreeAutoscaling"] is True
    assert workers["minReplicas"] == 0
    assert (option(rayjob, "--device"), option(rayjob, "--gpus-per-actor")) == ("cuda", "1")


def test_shards_that_were_given_up_do_not_start_another_cluster(rayjob):
    assert rayjob["spec"]["backoffLimit"] > 0
    assert "--partial-ok" in shlex.split(rayjob["spec"]["entrypoint"])


def test_workers_may_run_on_spot_nodes_with_gpus(workers):
    keys = {item["key"] for item in pod(workers)["tolerations"]}
    assert keys == {"nvidia.com/gpu", "cloud.google.com/gke-spot", "kubernetes.azure.com/scalesetpriority"}


def test_the_spool_lies_on_a_limited_volume_that_is_mounted(rayjob, workers):
    (volume,) = pod(workers)["volumes"]
    (mount,) = pod(workers)["containers"][0]["volumeMounts"]
    assert volume["emptyDir"]["sizeLimit"]
    assert mount == {"name": volume["name"], "mountPath": option(rayjob, "--spool-dir")}


def test_the_version_of_ray_is_the_one_that_is_tested(rayjob, cluster_dir):
    pinned = (cluster_dir.parent / "constraints.txt").read_text().splitlines()
    assert f"ray=={rayjob['spec']['rayClusterSpec']['rayVersion']}" in pinned
    assert ray.__version__ == rayjob["spec"]["rayClusterSpec"]["rayVersion"]


def test_nobody_is_root_and_no_secret_is_written_down(rayjob, head, workers):
    for group in (head, workers):
        assert pod(group)["securityContext"]["runAsNonRoot"] is True
        assert pod(group)["containers"][0]["securityContext"]["allowPrivilegeEscalation"] is False
    names = {name for group in (head, workers) for name in variables(group)}
    assert names == {"RAY_JOB_STOP_WAIT_TIME_S", "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"}
    assert rayjob["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}
