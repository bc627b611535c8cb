"""oko-controller: runs os-ken applications.

    oko-controller my_app.py examples/apps/ddos_guard.py --ofp-listen-host 127.0.0.1

os-ken 4 has no launcher of its own (osken-manager went with eventlet). This one loads applications
by module name or by path, listens for switches, and ends on SIGTERM or Ctrl-C: applications are
closed first. It runs os-ken's hub as it finds it, threads (os-ken 4) or eventlet (os-ken 3, or
OSKEN_HUB_TYPE=eventlet).

Threads of os-ken's hub cannot be ended, so all of them descend from a daemon thread and go with the
process; the main thread only waits for a signal. With eventlet everything is in the main thread.
For the same reason os-ken 4 does not notice that a connection ended: its receiving thread waits for
the sending one, which waits for something to send. Here the receiving one says so first.

Fails before anything runs, with one line: an application that cannot be imported or is none, an
address that is taken. Exit status: 0 ended as asked, 1 something is wrong, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import logging
import signal
import socket
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from oko.errors import OkoError

from . import framework

logger = logging.getLogger("oko-controller")

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 6653
LISTEN_SECONDS = 10.0
CLOSE_SECONDS = 3.0
LISTENER = "controller.ofp_handler"


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = argparse.ArgumentParser(
        prog="oko-controller",
        description="Runs os-ken applications, with oko's extension known to them.",
        epilog="What follows -- goes to os-ken and to the applications' own options.",
    )
    made.add_argument(
        "apps",
        nargs="+",
        metavar="APP",
        help="a module (package.app) or a file (app.py) with a subclass of OSKenApp",
    )
    made.add_argument(
        "--ofp-listen-host",
        default=DEFAULT_HOST,
        metavar="HOST",
        help="address at which switches connect (default %(default)s; 0.0.0.0: all)",
    )
    made.add_argument(
        "--ofp-listen-port",
        "--ofp-tcp-listen-port",
        type=_port,
        default=DEFAULT_PORT,
        metavar="PORT",
        help="TCP port there (default %(default)s)",
    )
    made.add_argument("--verbose", action="store_true", help="log what os-ken does, too")
    return made


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 1 to 65535")
    return int(text)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    cut = words.index("--") if "--" in words else len(words)
    arguments = parser().parse_args(words[:cut])
    _start_log(arguments.verbose)
    try:
        return _run(arguments, words[cut + 1 :])
    except (OkoError, ImportError) as exc:
        print(f"oko-controller: {exc}", file=sys.stderr)
        return 1


def _start_log(verbose: bool) -> None:
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    if not verbose:
        logging.getLogger(framework.package()).setLevel(logging.WARNING)


def _run(arguments: argparse.Namespace, rest: list[str]) -> int:
    warnings.filterwarnings("ignore", message="\\s*Eventlet is deprecated")
    hub = framework.module("lib.hub")
    hub.patch(thread=True)
    if _has_threads(hub):
        _notice_ends(framework.module("controller.controller").Datapath)
    listening = _notice_listening(framework.module("controller.controller"))
    manager = framework.module("base.app_manager").AppManager.get_instance()
    for name in arguments.apps:
        _load(manager, name)
    manager.load_apps([f"{framework.package()}.{LISTENER}"])
    host, port = arguments.ofp_listen_host, arguments.ofp_listen_port
    _check_address(host, port)
    # Which of the two ports counts depends on whether there is a key.
    options = ["--ofp-tcp-listen-port", str(port), "--ofp-ssl-listen-port", str(port)]
    options += ["--ofp-listen-host", host, *rest]
    # Whatever applications registered as options at import is known by now.
    framework.module("cfg").CONF(
        args=options,
        prog="oko-controller ... --",
        project=framework.package(),
        default_config_files=[],
    )

    ended: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda what, _frame: ended.append(what))
    failed: list[BaseException] = []
    services: list[Any] = []

    def start() -> None:
        try:
            services.extend(manager.instantiate_apps(**manager.create_contexts()))
            if not _wait_for(hub, listening, LISTEN_SECONDS):
                raise OkoError("os-ken does not listen")
        except BaseException as exc:
            failed.append(exc)
            return
        logger.info("listening at %s:%d; applications: %s", host, port, _names(arguments.apps))
        hub.joinall(services)
        failed.append(OkoError("os-ken's listener ended"))

    _spawn(hub, start)
    while not ended and not failed:
        hub.sleep(0.05)
    if failed:
        _report(failed[0])
        return 1
    logger.info("ended by %s", signal.Signals(ended[0]).name)
    _close(hub, manager)
    return 0


def _names(apps: Sequence[str]) -> str:
    return ", ".join(Path(app).stem if app.endswith(".py") else app for app in apps)


def _load(manager: Any, name: str) -> None:
    """Imports an application; OkoError: it cannot be, or there is none in it."""
    if name.endswith(".py"):
        _check_source(name)
    try:
        manager.load_apps([name])
    except ModuleNotFoundError as exc:
        if exc.name and name.startswith(exc.name):
            raise OkoError(f"{name}: there is no such module") from None
        raise OkoError(f"{name}: {exc}") from None
    except Exception as exc:
        at = traceback.extract_tb(exc.__traceback__)[-1]
        raise OkoError(f"{name}: {type(exc).__name__}: {exc} ({at.filename}:{at.lineno})") from None
    if name not in manager.applications_cls:
        raise OkoError(f"{name}: there is no subclass of OSKenApp in it")


def _check_source(name: str) -> None:
    """os-ken takes a file with a syntax error for the name of a module."""
    try:
        compile(Path(name).read_bytes(), name, "exec")
    except OSError as exc:
        raise OkoError(f"{name}: {(exc.strerror or str(exc)).lower()}") from None
    except (SyntaxError, ValueError) as exc:
        line = getattr(exc, "lineno", None)
        where = f"{name}:{line}" if line else name
        raise OkoError(f"{where}: {type(exc).__name__}: {getattr(exc, 'msg', exc)}") from None


def _check_address(host: str, port: int) -> None:
    """os-ken would only log that it cannot listen, and wait for ever."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except (OSError, OverflowError) as exc:
            reason = getattr(exc, "strerror", None) or exc
            raise OkoError(f"cannot listen at {host}:{port}: {reason}") from None


def _has_threads(hub: Any) -> bool:
    return bool(hub.HUB_TYPE == "native")


def _notice_ends(datapath_class: Any) -> None:
    """Lets applications hear of DEAD_DISPATCHER when a connection ends."""
    receive = datapath_class._recv_loop

    def receive_and_tell(self: Any) -> None:
        try:
            receive(self)
        finally:
            self.close()
            self.send(b"", close_socket=True)  # wakes the sending thread, which ends

    datapath_class._recv_loop = receive_and_tell


def _notice_listening(controller: Any) -> list[bool]:
    """A list that is empty until os-ken listens, which is some time after its start."""
    noticed: list[bool] = []
    server = controller.StreamServer

    def listen(*arguments: Any, **options: Any) -> Any:
        made = server(*arguments, **options)
        noticed.append(True)
        return made

    controller.StreamServer = listen
    return noticed


def _wait_for(hub: Any, happened: Sequence[bool], seconds: float) -> bool:
    """True as soon as the list is not empty; False: it stayed so for that long."""
    end = time.monotonic() + seconds
    while not happened and time.monotonic() < end:
        hub.sleep(0.01)
    return bool(happened)


def _spawn(hub: Any, function: Callable[[], None]) -> Any:
    """In a daemon thread, whose threads are daemons, or in a green one."""
    if not _has_threads(hub):
        return hub.spawn(function)
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def _close(hub: Any, manager: Any) -> None:
    """Lets the applications end; one that does not is left behind."""
    closed: list[bool] = []

    def close() -> None:
        try:
            manager.close()
        except Exception:
            logger.exception("an application could not be closed")
        closed.append(True)

    _spawn(hub, close)
    if not _wait_for(hub, closed, CLOSE_SECONDS):
        logger.warning("an application is still busy after %g s; ended without it", CLOSE_SECONDS)


def _report(exc: BaseException) -> None:
    if isinstance(exc, OkoError):
        print(f"oko-controller: {exc}", file=sys.stderr)
        return
    logger.error("an application cannot start", exc_info=exc)


if __name__ == "__main__":
    sys.exit(main())
