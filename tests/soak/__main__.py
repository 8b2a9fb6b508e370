"""`python -m tests.soak --seconds 600 --seed 0`: many faults, then the labels against those of an undisturbed run.

Several Ray nodes here, videos and labels on an S3 server (Swift where GSVNET_SWIFT_BIN names its bin folder, else moto)
behind a proxy that misbehaves, and `gsvnet label` on one output after the other, started again until it is done. Ends
with one JSON line; exit code 1 if any frame is missing, doubled or has other labels.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.clusters import Node, ray_nodes
from tests.disks import small_disk
from tests.material import save_tiny_model, write_clips
from tests.namespaces import Network, can_partition
from tests.s3_servers import SWIFT_BIN, S3Server, moto_server, swift_server
from tests.soak.check import Findings, compare, dangling_uploads, read_local, read_objects
from tests.soak.faults import CHECKS, Chaos
from tests.soak.job import LABEL, RepeatedJob, SpoolWatch
from tests.soak.proxy import faulty_proxy

CLIPS = {"a.mp4": 360, "b.mkv": 300, "c.ts": 240}
OPTIONS = ("--cpus-per-actor", "1", "--batch-chunks", "1", "--shard-frames", "5")
LIMITS = ("--shard-timeout-s", "30", "--drain-seconds", "10", "--outage-timeout-s", "120")
# 2 would say that the arguments are bad, which they are not. SIGTERM ends a process that does not hear signals yet.
EXITS = {0, 1, 3, -signal.SIGKILL, -signal.SIGTERM}
GRACE_S = 300.0  # for the last output, without faults


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where the soak happens. expected: label files of an undisturbed run. spool_disk: may be filled, or None."""

    folder: Path
    server: S3Server
    model: Path
    spool: Path
    spool_disk: Path | None
    expected: dict[str, bytes]

    def arguments(self, out: str) -> list[str]:
        """Of `gsvnet label`."""
        return ["s3://videos/", "--out", out, "--model", str(self.model), *OPTIONS, "--spool-dir", str(self.spool)]


def main() -> int:
    """The exit code of the soak."""
    options = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # unwinds: nothing stays behind
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gsv-soak-")))
        server = stack.enter_context(swift_server() if SWIFT_BIN in os.environ else moto_server())
        disk = stack.enter_context(small_disk(folder / "spool", megabytes=32))
        site = prepare(folder, server, disk)
        say(f"{len(site.expected)} shards an output; faults for {options.seconds:g} s, seed {options.seed}")
        report, is_good = soak(site, options)
        if options.keep_logs:
            keep_logs(folder, options.keep_logs)
    print(json.dumps(report))
    return 0 if is_good else 1


def parse_arguments() -> argparse.Namespace:
    """What the soak is told."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="how long faults come")
    parser.add_argument("--seed", type=int, default=0, help="of the die that chooses them")
    parser.add_argument("--nodes", type=int, default=3, help="Ray nodes, the head included")
    parser.add_argument("--pause", type=float, nargs=2, default=(1.0, 5.0), metavar="S", help="between two faults")
    parser.add_argument("--keep-logs", type=Path, help="folder for the logs of all drivers")
    options = parser.parse_args()
    if options.nodes < 2:
        parser.error("--nodes: at least 2, the head and one that may die")
    return options


def prepare(folder: Path, server: S3Server, disk: Path | None) -> Site:
    """Videos on the server, a model, and the labels as an undisturbed run writes them."""
    for name in ("clips", "logs", "spool"):
        (folder / name).mkdir(exist_ok=True)
    client = server.client()
    for bucket in ("videos", "labels"):
        server.make_bucket(bucket)
    for path in write_clips(folder / "clips", CLIPS):
        client.put_object(Bucket="videos", Key=path.name, Body=path.read_bytes())
    site = Site(
        folder=folder,
        server=server,
        model=save_tiny_model(folder / "tiny.safetensors"),
        spool=folder / "spool",
        spool_disk=disk,
        expected={},
    )
    out = folder / "undisturbed"
    command = [*LABEL, *site.arguments(str(out)), "--no-ray"]
    subprocess.run(command, env=dict(os.environ) | access(server, server.endpoint_url), check=True, stdout=sys.stderr)
    site.expected.update(read_local(out))
    return site


def soak(site: Site, options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    """The report, and whether all is well: outputs one after the other while faults come, the last one without."""
    began_s, can_cut = time.monotonic(), can_partition()
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(Network()) if can_cut else None
        ip = network.ip if network else "127.0.0.1"
        proxy = stack.enter_context(faulty_proxy(site.server.endpoint_url, ip=ip, seed=options.seed))
        variables = access(site.server, proxy.url)
        workers = [Node(cpus=1, apart=can_cut, environment=variables)] * (options.nodes - 1)
        nodes = [Node(cpus=0, environment=variables), *workers]
        cluster = stack.enter_context(ray_nodes(nodes, checks=CHECKS, network=network))
        job = RepeatedJob(environment=cluster.environment | variables, log_folder=site.folder / "logs")
        chaos = Chaos(
            cluster=cluster,
            proxy=proxy,
            job=job,
            spool_disk=site.spool_disk,
            can_cut=can_cut,
            seed=options.seed,
            pause_s=tuple(options.pause),
        )
        say(f"left out here: {', '.join(chaos.left_out) or 'nothing'}")
        watch = stack.enter_context(SpoolWatch(site.spool))
        outs = label_under_faults(site, job, chaos, seconds=options.seconds)
    findings = check(site, outs)
    num_labeled, num_needed = len(watch.names), len(outs) * len(site.expected)
    num_allowed = chaos.num_hit + job.num_said(" again: ", but_not="actor")  # those stand among the hit ones
    findings.problems += chaos.errors
    findings.problems += [f"a driver ended with {code}" for code in job.exits.keys() - EXITS]
    if (num_redone := num_labeled - num_needed) > num_allowed:
        findings.problems.append(
            f"{num_redone} shards were labeled again, {num_allowed} were in flight on what was hit"
        )
    report = {
        "faults": dict(sorted(chaos.counts.items())),
        "num_faults": chaos.counts.total(),
        "requests": dict(sorted(proxy.counts.items())),
        "frames_expected": findings.frames_expected,
        "frames_found": findings.frames_found,
        "doubled": findings.doubled,
        "labels_differing": findings.labels_differing,
        "problems": findings.problems[:20],
        "outputs": len(outs),
        "shards": num_needed,
        "shards_redone": num_redone,
        "shards_in_flight_on_what_was_hit": num_allowed,
        "exits": {str(code): count for code, count in sorted(job.exits.items())},
        "seconds": round(time.monotonic() - began_s),
    }
    return report, findings.is_good


def label_under_faults(site: Site, job: RepeatedJob, chaos: Chaos, *, seconds: float) -> list[str]:
    """Names of the outputs that were begun. Faults end with the time; what runs then is finished without."""
    outs: list[str] = []
    until_s = time.monotonic() + seconds
    calm = threading.Timer(seconds, chaos.stop)
    chaos.start()
    calm.start()
    while time.monotonic() < until_s:
        outs.append(f"out{len(outs):02d}")
        arguments = site.arguments(f"s3://labels/{outs[-1]}")
        is_done = job.finish([*arguments, *LIMITS], limit_s=until_s + GRACE_S)
        say(f"{outs[-1]} {'done' if is_done else 'NOT done'}; so far {chaos.counts.total()} faults")
    calm.join()
    return outs


def check(site: Site, outs: list[str]) -> Findings:
    """What all outputs hold."""
    client, findings = site.server.client(), Findings()
    for out in outs:
        findings.add(compare(read_objects(client, "labels", out), site.expected))
    findings.problems += [f"dangling upload of {key}" for key in dangling_uploads(client, "labels")]
    return findings


def access(server: S3Server, url: str) -> dict[str, str]:
    """Environment variables of a process that uses the store at `url`."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": server.key,
        "AWS_SECRET_ACCESS_KEY": server.secret,
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def keep_logs(folder: Path, kept: Path) -> None:
    """Copy the drivers' logs."""
    shutil.copytree(folder / "logs", kept, dirs_exist_ok=True)


def say(text: str) -> None:
    """A line for who watches."""
    print(f"soak: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
