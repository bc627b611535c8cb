"""Deliberate faults: each must turn its named test red (tools/mutants/run).

One for each unsound acceptance of the 2018 verifier, one for each of its mistakes that could come
back, and the faults that leave results equal but lose speed.
"""

from __future__ import annotations

from fault import Fault
from faults_2018 import MISTAKES_2018
from faults_agent import AGENT
from faults_controller import CONTROLLER
from faults_datapath import DATAPATH
from faults_ofctl import OFCTL
from faults_replay import REPLAY
from faults_switch import SWITCH
from faults_verifier import VERIFIER
from faults_vm import VM

FAULTS: list[Fault] = [
    *AGENT, *CONTROLLER, *DATAPATH, *MISTAKES_2018, *OFCTL, *REPLAY, *SWITCH, *VM, *VERIFIER,
]  # fmt: skip
