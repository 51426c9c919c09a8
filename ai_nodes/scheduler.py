"""RQ's scheduler, which queues a job for its next try; ours ends together with its worker."""

from __future__ import annotations

import os
from typing import Any

from rq.scheduler import RQScheduler


class BoundScheduler(RQScheduler):  # type: ignore[misc] # rq ships no usable types
    """A scheduler of one worker.

    RQ's own lives on when its worker is killed: a process that nobody supervises, one more with
    each time, and the lock it holds keeps every later worker from having one.
    """

    def start(self) -> Any:
        """Fork it, knowing from whom."""
        self._worker_pid = os.getpid()
        return super().start()

    def heartbeat(self) -> None:
        """As RQ's, each second; without its worker it gives its locks back and ends."""
        super().heartbeat()
        if os.getppid() != self._worker_pid:
            self.request_stop()
