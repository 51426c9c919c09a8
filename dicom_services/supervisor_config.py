"""supervisord's configuration: Orthanc, Redis, workers, gateway, restarted whenever they die."""

from __future__ import annotations

import getpass
import hashlib
import importlib.util
import json
import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dicom_services.data_folder import DataFolder
from dicom_services.errors import ConfigError
from dicom_services.orthanc_config import BINARY
from dicom_services.plugin_site import plugin_site

# Carried by every process of a stack, so that strays can be told from other people's.
STACK_VARIABLE: Final = "RADLOOP_STACK"
DIGEST_VARIABLE: Final = "RADLOOP_CONFIG_DIGEST"
# One thread-pool policy: a worker is one thread's worth of arithmetic, more workers are more.
ONE_THREAD: Final = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1",
}
# Of the caller's environment, all that is passed on. Anything else may name a patient (a shell's
# `make demo STUDY=folder` does) or lead another interpreter astray.
_INHERITED: Final = frozenset(
    {
        "CUDA_VISIBLE_DEVICES",
        "HOME",
        "LANG",
        "LANGUAGE",
        "LD_LIBRARY_PATH",
        "LOGNAME",
        "PATH",
        "TMPDIR",
        "TZ",
        "USER",
        "XDG_RUNTIME_DIR",
    }
)


@dataclass(frozen=True, slots=True)
class Program:
    """One supervised program.

    Parameters
    ----------
    name : str
    command : tuple of str
    environment : dict
    depends_on : str
        Text of its configuration files; the program is restarted when that changed.
    count : int
    stop_s : int
        How long it may take to stop before it is killed.
    priority : int
        Lower starts first and stops last.
    start_s : int
        Ending sooner than this after its start counts as a failed start.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    depends_on: str
    count: int = 1
    stop_s: int = 10
    priority: int = 100
    start_s: int = 1


def orthanc_program(folder: DataFolder, depends_on: str) -> Program:
    """Orthanc with our plugin in its interpreter."""
    return Program(
        name="orthanc",
        command=(str(BINARY), str(folder.orthanc_json)),
        environment={
            # Ten to fifty times the C-STORE rate: Orthanc leaves Nagle's algorithm on.
            "TCP_NODELAY": "1",
            "PYTHONPATH": f"{plugin_site()}:{folder.plugin_path}",
            "RADLOOP_PLUGIN_CONFIG": str(folder.plugin_json),
            "LC_ALL": "C.UTF-8",
            # Fewer arenas: memory goes back after large studies.
            "MALLOC_ARENA_MAX": "2",
        },
        depends_on=depends_on,
        stop_s=20,
        priority=20,
    )


def redis_program(folder: DataFolder, depends_on: str) -> Program:
    """The queue's wake-up channel."""
    return Program(
        name="redis",
        command=("redis-server", str(folder.redis_conf)),
        environment={"LC_ALL": "C.UTF-8"},
        depends_on=depends_on,
        priority=10,
    )


def front_program(folder: DataFolder, depends_on: str) -> Program:
    """What modalities call: judges what they send before Orthanc sees it."""
    return Program(
        name="front",
        command=(sys.executable, "-m", "dicom_services.front"),
        environment={
            "RADLOOP_FRONT_CONFIG": str(folder.front_json),
            "LC_ALL": "C.UTF-8",
            "MALLOC_ARENA_MAX": "2",
        },
        depends_on=depends_on,
        priority=25,
    )


def gateway_program(folder: DataFolder, depends_on: str) -> Program:
    """What browsers call: login, viewer, DICOMweb and API on one origin."""
    return Program(
        name="gateway",
        command=(sys.executable, "-m", "dicom_services.api"),
        environment={
            "RADLOOP_GATEWAY_CONFIG": str(folder.gateway_json),
            "TMPDIR": str(folder.home / "scratch"),
            "LC_ALL": "C.UTF-8",
            "MALLOC_ARENA_MAX": "2",
            **ONE_THREAD,
        },
        depends_on=depends_on,
        # Its own limit for what is under way, and a little.
        stop_s=10,
        priority=40,
        start_s=2,
    )


def worker_program(folder: DataFolder, count: int, depends_on: str) -> Program:
    """The workers of this machine; a stopping one may finish a short job."""
    return Program(
        name="worker",
        command=(sys.executable, "-m", "dicom_services.cli", "worker"),
        environment={
            "RADLOOP_NODE_CONFIG": str(folder.node_json),
            "TMPDIR": str(folder.home / "scratch"),
            **_compiled(folder),
            "LC_ALL": "C.UTF-8",
            **ONE_THREAD,
        },
        depends_on=depends_on,
        count=count,
        stop_s=30,
        priority=30,
        # Longer than its imports take, so that one that cannot start is tried ever more slowly.
        start_s=3,
    )


def _compiled(folder: DataFolder) -> dict[str, str]:
    """Where compiled kernels are kept: beside their sources, where `make setup` left them."""
    nodes = importlib.util.find_spec("ai_nodes")
    beside = list(nodes.submodule_search_locations or []) if nodes else []
    if beside and os.access(beside[0], os.W_OK):
        return {}
    return {"NUMBA_CACHE_DIR": str(folder.home / "cache" / "numba")}


def supervisor_config(folder: DataFolder, programs: tuple[Program, ...]) -> str:
    """supervisord.conf; paths were checked to need no more than double quotes."""
    logs = folder.logs
    lines = [
        "; Written by `radloop up`; changes here are lost.",
        "[unix_http_server]",
        f"file={folder.socket}",
        "chmod=0700",
        "[supervisord]",
        f"logfile={logs / 'supervisord.log'}",
        "logfile_maxbytes=5MB",
        "logfile_backups=3",
        f"pidfile={folder.supervisord_pid}",
        f"childlogdir={logs}",
        f"directory={folder.home}",
        "umask=077",
        f'environment={STACK_VARIABLE}="{folder.home}"',
        *([f"user={getpass.getuser()}"] if os.getuid() == 0 else []),
        "[rpcinterface:supervisor]",
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
    ]
    for program in programs:
        if program.count:
            lines += _section(program, logs)
    return "\n".join(lines) + "\n"


def supervisor_environment() -> dict[str, str]:
    """Of the caller's environment, what every process of a stack may know."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in _INHERITED or name.startswith("LC_")
    }


def _section(program: Program, logs: Path) -> list[str]:
    environment = {**program.environment, DIGEST_VARIABLE: _digest(program)}
    if any(set('"%;#\n') & set(text) for text in (*program.command, *environment.values())):
        raise ConfigError("install_path")
    many = program.name == "worker"
    log = logs / (f"{program.name}_%(process_num)d.log" if many else f"{program.name}.log")
    return [
        f"[program:{program.name}]",
        f"command={shlex.join(program.command)}",
        f"process_name={'%(program_name)s_%(process_num)d' if many else '%(program_name)s'}",
        f"numprocs={program.count}",
        "environment=" + ",".join(f'{name}="{value}"' for name, value in environment.items()),
        f"priority={program.priority}",
        "autostart=true",
        "autorestart=true",
        f"startsecs={program.start_s}",
        # The pause grows by a second with each try; giving up would need a person.
        "startretries=100000",
        "stopsignal=TERM",
        f"stopwaitsecs={program.stop_s}",
        # TERM goes to the program alone, which ends its children its own way; KILL goes to all.
        "stopasgroup=false",
        "killasgroup=true",
        "redirect_stderr=true",
        f"stdout_logfile={log}",
        "stdout_logfile_maxbytes=10MB",
        "stdout_logfile_backups=5",
    ]


def _digest(program: Program) -> str:
    text = json.dumps([program.depends_on, sys.version, list(program.command)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
