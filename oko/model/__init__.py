"""What a switch is told to do, as values: fields, flows, actions, groups and meters.

Frozen dataclasses and pure functions; nothing here touches the datapath. Text (`oko.text`) and
OpenFlow make these values, `oko.model.compile` turns them into the flat records of csrc/oko.h.
"""
