"""The OpenFlow agent: connections to controllers and tools, for one bridge.

transport.py moves bytes, session.py answers messages, agent.py holds the connections of a bridge.
"""
