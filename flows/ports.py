"""Whether an address is free for the server, and what serves it where it is not."""

import errno
import socket
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from onestep.nightly.prefect_server import folders_served

NEARBY = 100  # ports after the wanted one among which a free one is looked for


def url_of(host: str, port: int) -> str:
    """The API of a server that serves `host`, as clients on this machine reach it."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}/api" if ":" in host else f"http://{host}:{port}/api"


def require_free(host: str, port: int, project: Path) -> None:
    """Return where a server can be started; raises `SystemExit` that names what is there, and changes nothing there."""
    trouble = _trouble(host, port)
    if trouble is None:
        return
    if trouble != errno.EADDRINUSE:
        raise SystemExit(f"{host}:{port} cannot be served: {_reason(trouble)}")
    free = next((near for near in range(port + 1, min(port + NEARBY, 65536)) if _trouble(host, near) is None), None)
    other = f"; for this one: make server ARGS='--port {free}'" if free else ""
    folders = folders_served(url_of(host, port))
    if folders is None:
        raise SystemExit(f"the port {port} is in use by {_program(port)}{other}")
    if project.resolve() in [folder.resolve() for folder in folders]:
        raise SystemExit(
            f"the server of this project runs already, at {url_of(host, port)}: end it where it was started"
        )
    whose = f"of {', '.join(map(str, folders))}" if folders else "without deployments"
    raise SystemExit(f"the port {port} is in use by another Prefect server, {whose}{other}")


def listens(pid: int, port: int) -> bool:
    """Whether this process or one that it started serves the port; true where the system does not tell."""
    import psutil

    try:
        top = psutil.Process(pid)
        family = [top, *top.children(recursive=True)]
        return any(_serves(process, port) for process in family)
    except psutil.AccessDenied:
        return True
    except psutil.NoSuchProcess:
        return False


def _serves(process: Any, port: int) -> bool:
    return any(c.status == "LISTEN" and c.laddr.port == port for c in process.net_connections(kind="tcp"))


def _trouble(host: str, port: int) -> int | None:
    """The system's reason for which `host:port` cannot be served, null where it can be."""
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror:
        return errno.EADDRNOTAVAIL
    for family, kind, protocol, _, address in addresses:
        with closing(socket.socket(family, kind, protocol)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
            except OSError as error:
                return error.errno
    # `localhost` leads to IPv6 first: another program there would answer in this one's place
    return errno.EADDRINUSE if any(_answers(family, port) for family in (socket.AF_INET, socket.AF_INET6)) else None


def _answers(family: socket.AddressFamily, port: int) -> bool:
    with suppress(OSError), closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        probe.settimeout(1)
        probe.connect(("127.0.0.1" if family == socket.AF_INET else "::1", port))
        return True
    return False


def _reason(number: int) -> str:
    return {
        errno.EACCES: "ports below 1024 are the system's; choose another",
        errno.EADDRNOTAVAIL: "it is no address of this machine",
    }.get(number, f"errno {number} of the system")


def _program(port: int) -> str:
    import psutil

    with suppress(psutil.Error):
        for process in psutil.process_iter(["name"]):
            with suppress(psutil.Error):
                if _serves(process, port):
                    return f"another program ({process.info['name']}, pid {process.pid})"
    return "another program"
