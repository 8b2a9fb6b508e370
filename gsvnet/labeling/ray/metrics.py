"""What Prometheus sees of a job: the driver's events as Ray metrics.

Ray exports them on the driver's node with `ray_` before the name, within about ten seconds; every node names its
endpoint to Prometheus (`--metrics-export-port`, or the session's prom_metrics_service_discovery.json). They begin at 0
with each driver, so that `rate` and `increase` count a job over all its runs.
"""

from __future__ import annotations

from ray.util.metrics import Counter, Gauge

from gsvnet.labeling.ray.events import ActorLost, Event, FleetStatus, ShardRetried
from gsvnet.labeling.tasks import ShardFailure, ShardResult

_WHERE = ("fingerprint", "node", "gpu")
COUNTERS = {  # name -> (what it counts, labels)
    "gsvnet_frames_total": ("Frames labeled", _WHERE),
    "gsvnet_unsound_frames_total": ("Of these, frames lost or damaged in decoding", (*_WHERE, "status")),
    "gsvnet_shards_total": ("Shards labeled", _WHERE),
    "gsvnet_label_bytes_total": ("Bytes of Parquet written", _WHERE),
    "gsvnet_video_seconds_total": ("Seconds of video labeled", _WHERE),
    "gsvnet_stage_seconds_total": ("Seconds that a stage was busy, over all threads", (*_WHERE, "stage")),
    "gsvnet_chunks_measured_total": ("Chunks whose drift was measured", _WHERE),
    "gsvnet_drift_total": ("Drift of these chunks (0..1 each), added up", _WHERE),
    "gsvnet_chunks_below_total": ("Of these, chunks below --min-agreement", _WHERE),
    "gsvnet_retries_total": ("Attempts at a shard that went wrong and are tried again", ("fingerprint", "error")),
    "gsvnet_failures_total": ("Shards and videos given up", ("fingerprint", "error")),
    "gsvnet_actors_lost_total": ("Actors that died, hung or were given up", ("fingerprint", "node")),
}
GAUGES = {  # name -> (what it shows, the field of FleetStatus)
    "gsvnet_shards_waiting": ("Shards known and not begun", "num_waiting"),
    "gsvnet_shards_running": ("Shards in work", "num_running"),
    "gsvnet_actors_up": ("Actors that built their network", "num_up"),
    "gsvnet_actors_starting": ("Actors that were asked for and are not up", "num_starting"),
    "gsvnet_actors_resting": ("Actors that wait for storage or disk space", "num_resting"),
    "gsvnet_frames_running": ("Frames labeled of the shards in work", "frames_running"),
}


class JobMetrics:
    """Counters and gauges of one job, from every event of `run_shards`. fingerprint: the label that tells jobs of
    different settings apart (Prometheus has a label `job` of its own).
    """

    def __init__(self, *, fingerprint: str) -> None:
        self._fingerprint = fingerprint
        self._counters = {name: Counter(name, text, tag_keys=keys) for name, (text, keys) in COUNTERS.items()}
        self._gauges = {name: Gauge(name, text, tag_keys=("fingerprint",)) for name, (text, _) in GAUGES.items()}

    def observe(self, event: Event) -> None:
        """Hear of one event."""
        match event:
            case ShardResult() if event.published:
                self._count_result(event)
            case ShardRetried():
                self._add("gsvnet_retries_total", 1, error=event.error)
            case ShardFailure():
                self._add("gsvnet_failures_total", 1, error=event.error)
            case ActorLost():
                self._add("gsvnet_actors_lost_total", 1, node=event.report.node_ip if event.report else "")
            case FleetStatus():
                for name, (_, field) in GAUGES.items():
                    self._show(name, getattr(event, field))

    def end(self) -> None:
        """Hear that no event follows: nothing waits, runs or is up any more."""
        for name in GAUGES:
            self._show(name, 0)

    def _count_result(self, result: ShardResult) -> None:
        where = {"node": result.node, "gpu": result.gpu}
        self._add("gsvnet_frames_total", result.num_frames, **where)
        self._add("gsvnet_unsound_frames_total", result.num_lost, **where, status="decode_error")
        self._add("gsvnet_unsound_frames_total", result.num_damaged, **where, status="damaged")
        self._add("gsvnet_shards_total", 1, **where)
        self._add("gsvnet_label_bytes_total", result.num_bytes, **where)
        self._add("gsvnet_video_seconds_total", result.media_s, **where)
        self._add("gsvnet_chunks_measured_total", result.drift.num_chunks, **where)
        self._add("gsvnet_drift_total", result.drift.num_chunks - result.drift.sum_agreement, **where)
        self._add("gsvnet_chunks_below_total", result.drift.num_below, **where)
        for stage, seconds in result.seconds.items():
            if stage != "total":  # the stages run at once; their sum is of busy threads
                self._add("gsvnet_stage_seconds_total", seconds, **where, stage=stage)

    def _show(self, name: str, value: float) -> None:
        self._gauges[name].set(value, tags={"fingerprint": self._fingerprint})

    def _add(self, name: str, amount: float, **labels: str) -> None:
        if amount > 0:
            self._counters[name].inc(amount, tags={"fingerprint": self._fingerprint, **labels})
