"""Lost actors. Ray knows of a lost node up to a minute later than of its actors, so the verdict waits."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from gsvnet.labeling.tasks import ShardTask


@dataclass(frozen=True, kw_only=True)
class Loss:
    """An actor that was lost on a node which may have died too. held: its shard, where that hangs on the verdict."""

    lost_s: float
    node_id: str
    reason: str
    held: ShardTask | None = None


class Losses:
    """How many actors were lost other than with their node, once that is known. verdict_s: when it is."""

    def __init__(self, verdict_s: float) -> None:
        self.num_counted = 0
        self._verdict_s = verdict_s
        self._open: deque[Loss] = deque()

    @property
    def next_verdict_s(self) -> float | None:
        """When the next loss can be judged, on the clock of `time.monotonic`."""
        return self._open[0].lost_s + self._verdict_s if self._open else None

    def put_off(self, node_id: str, reason: str, *, held: ShardTask | None) -> None:
        """An actor was lost and its node is said to be alive."""
        self._open.append(Loss(lost_s=time.monotonic(), node_id=node_id, reason=reason, held=held))

    def due(self) -> bool:
        """Whether some loss can be judged now."""
        return self.next_verdict_s is not None and self.next_verdict_s <= time.monotonic()

    def judge(self, alive_nodes: Collection[str]) -> Iterator[tuple[Loss, bool]]:
        """Losses that can be judged now, and whether the node was lost too. The others are counted."""
        while self.due():
            loss = self._open.popleft()
            with_its_node = loss.node_id not in alive_nodes
            self.num_counted += not with_its_node
            yield loss, with_its_node

    def release(self) -> list[ShardTask]:
        """The shards that were held, which are held no longer."""
        held = [loss.held for loss in self._open if loss.held is not None]
        self._open.clear()
        return held
