"""What an os-ken application needs to use oko's extension: filter programs from a controller.

    import oko.controller                                   # os-ken now knows the extension

    match = parser.OFPMatch(in_port=1, filter_prog=1)
    actions = [parser.OFPActionOkoSendMaps(1), parser.OFPActionOutput(2)]

codec.py teaches os-ken's parsers the match field and the action, launcher.py is `oko-controller`.

Importing this package imports os-ken's codecs, but neither its hub (eventlet or threads) nor its
controller. The compiled extension is never needed: a
controller runs where there is no switch.

Ryu, from which os-ken descends, is served by name where os-ken is not installed; untested, because
Ryu no longer installs on the Pythons that oko supports.
"""

from __future__ import annotations

from .codec import register

register()

__all__ = ["register"]
