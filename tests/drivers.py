"""`gsvnet label` in a process of its own, for tests that kill it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile

import psutil

LABEL = (sys.executable, "-m", "gsvnet.cli", "label")


def label_command(config):
    """The command line of a job whose configuration is like the `label_config` fixture's."""
    flags = {
        "--out": config.out,
        "--model": config.model,
        "--cpus-per-actor": config.cpus_per_actor,
        "--batch-chunks": config.batch_chunks,
        "--shard-frames": config.shard_frames,
        "--num-actors": config.num_actors,
        "--spool-dir": config.spool_dir,
    }
    words = [str(word) for flag, value in flags.items() if value is not None for word in (flag, value)]
    return [*LABEL, *config.videos, *words, *(["--no-ray"] if config.no_ray else [])]


class Driver:
    """A driver with a Ray of its own. environment: further variables of all its processes."""

    def __init__(self, config, environment):
        self.folder = tempfile.mkdtemp(prefix="gsv-", dir="/tmp")
        clean = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        self.process = subprocess.Popen(
            label_command(config),
            env=clean | environment | {"RAY_TMPDIR": self.folder},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.family, self.agents = [], []

    def __enter__(self):
        return self

    def kill(self):
        """SIGKILL to the driver alone; its Ray has to notice by itself."""
        self.process.send_signal(signal.SIGSTOP)  # it hands out nothing more while its family is counted
        family = psutil.Process(self.process.pid).children(recursive=True)
        self.agents = [p for p in family if _name(p).endswith("Agent")]
        self.family = [p for p in family if p not in self.agents]
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.kill()
        _, alive = psutil.wait_procs(self.family, timeout=120)
        for agent in self.agents:  # Ray's own would notice after a minute that their cluster is gone
            agent.kill()
        psutil.wait_procs(self.agents, timeout=30)
        shutil.rmtree(self.folder, ignore_errors=True)
        assert alive == []


def _name(process):
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""
