"""Redis as the stack sees it: whether it answers, keeps its queue, and how long the queue is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dicom_services.data_folder import DataFolder
from dicom_services.errors import UnavailableError
from dicom_services.settings import read_secret


@dataclass(frozen=True, slots=True)
class WakeUp:
    """Queue name to number of waiting jobs, and whether the queue outlives a restart."""

    waiting: dict[str, int]
    persistent: bool


def wake_up(folder: DataFolder, port: int, queues: Iterable[str]) -> WakeUp:
    """Ask the stack's Redis.

    Raises
    ------
    UnavailableError
        `redis_unreachable`, or `redis_missing` where its client is not installed.
    """
    try:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError:
        raise UnavailableError("redis_missing") from None
    password = read_secret(folder.secret("redis"))
    client = redis.Redis(
        host="127.0.0.1",
        port=port,
        password=password,
        socket_timeout=2.0,
        socket_connect_timeout=1.0,
        # Whoever asks wants to know now.
        retry=Retry(NoBackoff(), 0),
    )
    try:
        waiting = {name: _count(client.llen(f"rq:queue:{name}")) for name in queues}
        about = client.info("persistence")
    except redis.RedisError:
        raise UnavailableError("redis_unreachable") from None
    finally:
        client.close()
    return WakeUp(waiting, isinstance(about, dict) and about.get("aof_enabled") == 1)


def _count(answer: object) -> int:
    return answer if isinstance(answer, int) else 0
