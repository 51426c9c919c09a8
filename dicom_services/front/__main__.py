"""The front's entry: `python -m dicom_services.front`, started by the supervisor."""

from __future__ import annotations

import os
import resource
import sys
import threading
from pathlib import Path

from dicom_services import log
from dicom_services.errors import ConfigError
from dicom_services.front.config import ConfigFile
from dicom_services.front.outbound import Outbound
from dicom_services.front.server import Server

CONFIG_VARIABLE = "RADLOOP_FRONT_CONFIG"


def main() -> None:
    """Listen until the supervisor ends the process."""
    log.start("front")
    # Many connections, each with a small need.
    threading.stack_size(512 << 10)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        file = ConfigFile(Path(os.environ[CONFIG_VARIABLE]))
        server = Server(file)
    except (ConfigError, KeyError, OSError) as error:
        log.event("front.not_started", error=error)
        sys.exit(1)
    threading.Thread(target=Outbound(file).serve, name="outbound", daemon=True).start()
    server.serve()


main()
