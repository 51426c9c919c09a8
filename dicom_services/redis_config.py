"""Redis's configuration: a wake-up channel on loopback that keeps its queue over a restart."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

# All that RQ 3.0 and we call, by `INFO commandstats` over whole lives of jobs and by RQ's source.
# Its Lua scripts run by EVALSHA under these same rules, so they can do no more. Nobody of ours
# publishes: RQ's workers would obey whoever does.
_ALLOWED: Final = (
    *("auth", "hello", "ping", "select", "reset", "quit", "info"),
    *("client|setname", "client|list", "client|info", "client|id"),
    *("multi", "exec", "discard", "watch", "unwatch"),
    *("del", "exists", "expire", "persist", "rename", "scan", "ttl", "type"),
    *("get", "set"),
    *("hdel", "hexists", "hget", "hgetall", "hincrby", "hincrbyfloat", "hmget", "hset", "hsetnx"),
    *("blmove", "blpop", "brpop", "llen", "lmove", "lpop", "lpos", "lpush", "lrange", "lrem"),
    *("rpop", "rpush"),
    *("sadd", "scard", "sismember", "smembers", "srem"),
    *("zadd", "zcard", "zcount", "zpopmin", "zrange", "zrangebyscore", "zrem", "zremrangebyrank"),
    *("zremrangebyscore", "zrevrange", "zscore"),
    *("xadd", "xdel", "xlen", "xrange", "xread", "xrevrange", "xtrim"),
    *("evalsha", "script|exists", "script|load"),
    *("subscribe", "unsubscribe"),
)


def redis_config(port: int, folder: Path, password: str) -> str:
    """redis.conf; the password stands in it as its digest only, and opens nothing but RQ's keys."""
    digest = hashlib.sha256(password.encode()).hexdigest()
    allowed = " ".join(f"+{command}" for command in _ALLOWED)
    return f"""# Written by `radloop up`; changes here are lost.
bind 127.0.0.1
port {port}
protected-mode yes
user default on #{digest} resetkeys ~rq:* resetchannels &rq:pubsub:* -@all {allowed}
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
