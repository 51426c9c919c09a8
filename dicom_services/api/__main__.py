"""The gateway's entry: `python -m dicom_services.api`, started by the supervisor."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import sys
from pathlib import Path
from typing import Final

from dicom_services import log
from dicom_services.errors import RadloopError

CONFIG_VARIABLE: Final = "RADLOOP_GATEWAY_CONFIG"
_BACKLOG: Final = 1024


def main() -> None:
    """Listen, then load what answers: callers of a restarting gateway wait and lose nothing."""
    log.start("gateway")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        from dicom_services.api.config import read_config

        config = read_config(Path(os.environ[CONFIG_VARIABLE]))
        family = socket.AF_INET6 if ":" in config.listen else socket.AF_INET
        with socket.create_server(
            (config.listen, config.port), family=family, backlog=_BACKLOG
        ) as listener:
            # Seconds of imports on a busy machine.
            import uvloop

            from dicom_services.api.server import serve

            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(serve(config, listener))
    except (RadloopError, KeyError, OSError) as error:
        log.event("gateway.not_started", level=40, error=error)
        sys.exit(1)


main()
