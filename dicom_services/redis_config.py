"""Redis's configuration: a wake-up channel on loopback that keeps its queue over a restart."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

# What nothing of ours calls and what would destroy, spy on or reconfigure the queue.
_DENIED: Final = (
    "acl", "config", "debug", "failover", "flushall", "flushdb", "migrate", "module", "monitor",
    "replicaof", "restore", "shutdown", "slaveof", "swapdb",
)  # fmt: skip


def redis_config(port: int, folder: Path, password: str) -> str:
    """redis.conf; the password stands in it as its digest only."""
    digest = hashlib.sha256(password.encode()).hexdigest()
    denied = " ".join(f"-{command}" for command in _DENIED)
    return f"""# Written by `radloop up`; changes here are lost.
bind 127.0.0.1
port {port}
protected-mode yes
user default on #{digest} ~* &* +@all {denied}
dir "{folder}"
daemonize no
supervised no
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
# A title would overwrite the environment, by which processes of this stack are known.
set-proc-title no
tcp-keepalive 60
loglevel notice
logfile ""
"""
