"""oko-switchd: the switch as a daemon.

    oko-switchd --bridge br0 --port 1=afpacket:veth0 --port 2=pcap:in.pcap,write=out.pcap \\
        --controller tcp:127.0.0.1:6653

Runs in the foreground, logs to standard error, ends cleanly on SIGTERM and SIGINT, reads its
configuration again on SIGHUP. Exit status: 0 ended as asked, 1 something is wrong, 2 wrong usage.
docs/switchd.md has the whole story.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from oko.errors import OkoError

if TYPE_CHECKING:
    from oko.switch.bridge import Bridge
    from oko.switch.config import BridgeConfig, Config
    from oko.switch.daemon import BridgeAgent


def make_agent(bridge: Bridge, own: BridgeConfig, config: Config) -> BridgeAgent:
    """The OpenFlow agent of a bridge."""
    from oko.agent.agent import Agent, Tls

    return Agent(bridge, own.protocols, Tls(config.private_key, config.certificate, config.ca_cert))


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    from oko.switch import config, log
    from oko.switch.daemon import Daemon

    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        settings = config.load(arguments)
        # Flows are many objects that stay, and hardly any cycles: look for those less often.
        gc.set_threshold(50_000, 20, 50)
        log.start(settings.log_level, as_json=settings.log_json, file=settings.log_file)
        return asyncio.run(Daemon(settings, arguments, make_agent).run())
    except OkoError as exc:
        print(exc.report("oko-switchd"), file=sys.stderr)
        return 1
    except OSError as exc:
        where = f"{exc.filename}: " if exc.filename else ""
        print(f"oko-switchd: {where}{exc.strerror or exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
