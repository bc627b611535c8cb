"""The OpenFlow agent: connections to controllers and tools, for one bridge.

agent.py holds the connections of a bridge, session.py answers the messages of one.
"""
