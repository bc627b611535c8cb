"""OpenFlow on the wire: bytes to `oko.model` values and small message dataclasses, and back.

One codec for both directions, switch and client, in versions 1.0 (with NXM), 1.3, 1.4 and 1.5. It
needs neither the compiled extension nor a controller framework.

Bottom up: common (header, errors, multipart framing), oxm (matches), actions and instructions,
flows, groups, meters, extension (oko's own messages), oko2018 (the dialect of 2018).

Input is hostile: every decoder either returns a value or raises OpenFlowError, whose name is the
error that the standard (or Open vSwitch, where the standard leaves it open) wants as the answer.
"""
