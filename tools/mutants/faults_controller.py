"""Faults of the controller kit: os-ken's codec, waiting for answers, the launcher."""

from __future__ import annotations

from fault import Fault

EXTENSION = "tests/controller/test_extension.py::"
EXCHANGE = "tests/controller/test_exchange.py::"
LAUNCHER = "tests/controller/test_launcher.py::"

CONTROLLER = [
    Fault(
        "multipart-cut",
        "os-ken fails on replies that show programs or dump maps",
        "oko/controller/codec.py",
        "            found.length = len(buf) - offset",
        "            found.length = 16",
        EXTENSION + "test_multipart_replies_are_read_whole",
    ),
    Fault(
        "every-experimenter-is-ours",
        "another vendor's action is taken for send_maps",
        "oko/controller/codec.py",
        "            if (experimenter, kind) != (OKO, SEND_MAPS):",
        "            if kind != SEND_MAPS:",
        EXTENSION + "test_other_experimenters_are_left_alone",
    ),
    Fault(
        "half-a-map",
        "an application is handed the last chunk of a map for the whole",
        "oko/controller/exchange.py",
        "        entries += part.entries",
        "        entries[:] = part.entries",
        EXCHANGE + "test_chunks_of_maps_are_put_together",
    ),
    Fault(
        "deaf-to-the-end",
        "a call goes on waiting when the connection has ended",
        "oko/controller/exchange.py",
        "                if self._closed():",
        "                if False:",
        EXCHANGE + "test_the_connection_ends_meanwhile",
    ),
    Fault(
        "words-lost",
        "the reason why a program was refused does not reach the application",
        "oko/controller/exchange.py",
        'self._texts.pop(xid, "")',
        '""',
        EXCHANGE + "test_the_switchs_words",
    ),
    Fault(
        "busy-for-ever",
        "an application that is busy keeps oko-controller from ending",
        "oko/controller/launcher.py",
        "threading.Thread(target=function, daemon=True)",
        "threading.Thread(target=function)",
        LAUNCHER + "test_ends_while_a_switch_is_connected",
    ),
    Fault(
        "gone-unnoticed",
        "applications do not hear that a switch has gone",
        "oko/controller/launcher.py",
        "    datapath_class._recv_loop = receive_and_tell",
        "    datapath_class._recv_loop = receive",
        LAUNCHER + "test_apps_hear_that_a_connection_ended",
    ),
]
