"""The switch daemon's inside: bridges, ports, configuration, state, appctl and metrics.

Control messages come from `oko.agent`; packets never pass here (`oko.datapath` and the C core).
"""
