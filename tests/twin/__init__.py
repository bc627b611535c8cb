"""The naive twin: a switch in plain Python that the C core is compared with.

frame.py reads and changes frames by the RFCs, switch.py is the switch, generate.py makes random
flows and packets. No caches, no cleverness; nothing is shared with the core but the model.
"""
