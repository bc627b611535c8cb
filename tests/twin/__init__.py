"""The naive twin: a switch in plain Python that the C core is compared with.

frame.py reads and changes frames by the RFCs, switch.py is the switch, generate.py makes random
flows and packets, programs.py has filter programs; core.py gives the datapath the twin's verbs and
compare.py carries out the same script on both. In frame.py and switch.py no caches, no cleverness,
and nothing shared with the core but the model.
"""
