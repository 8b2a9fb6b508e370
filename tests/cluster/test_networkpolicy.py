"""cluster/networkpolicy.yaml: who reaches the pods of rayjob.yaml."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def policy(cluster_dir):
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load((cluster_dir / "networkpolicy.yaml").read_text())


def test_it_is_about_the_nodes_of_ray(policy):
    assert (policy["apiVersion"], policy["kind"]) == ("networking.k8s.io/v1", "NetworkPolicy")
    assert policy["spec"]["podSelector"] == {"matchLabels": {"ray.io/is-ray-node": "yes"}}
    assert policy["spec"]["policyTypes"] == ["Ingress"]


def test_nobody_outside_of_named_namespaces_gets_in(policy):
    for rule in policy["spec"]["ingress"]:
        (peer,) = rule["from"]  # an empty list, or none, would let in everybody
        if "namespaceSelector" not in peer:
            assert peer == {"podSelector": {}}
            continue
        assert set(peer["namespaceSelector"]["matchLabels"]) == {"kubernetes.io/metadata.name"}


def test_other_namespaces_reach_one_port_each_that_a_pod_has(policy, rayjob):
    head = rayjob["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in head["ports"]}
    opened = [rule["ports"] for rule in policy["spec"]["ingress"] if "namespaceSelector" in rule["from"][0]]
    assert opened == [[{"protocol": "TCP", "port": ports[name]}] for name in ("dashboard", "metrics")]
    assert ports["gcs"] not in {port["port"] for each in opened for port in each}
