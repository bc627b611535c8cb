"""Faults of the OpenFlow agent: order, errors, bundles, roles, events, silence, programs."""

from __future__ import annotations

from fault import Fault

SESSION = "tests/agent/test_session.py::"
PROGRAMS = "tests/agent/test_program_messages.py::"

AGENT = [
    Fault(
        "barrier-overtakes",
        "a barrier is answered before the flow-mods before it are in force",
        "oko/agent/session.py",
        "                if mods:\n                    yield from self.apply(mods)",
        "                if not mods:\n                    yield from self.apply(mods)",
        SESSION + "test_a_refusal_leaves_the_rest",
    ),
    Fault(
        "one-bad-ends-all",
        "flow-mods behind one that fails are forgotten",
        "oko/agent/session.py",
        "                del mods[: failed + 1]",
        "                del mods[:]",
        SESSION + "test_a_refusal_leaves_the_rest",
    ),
    Fault(
        "two-masters",
        "a new master leaves the old one in office",
        "oko/agent/agent.py",
        "            if session.role == MASTER and session is not master:",
        "            if session.role == MASTER and session is master:",
        SESSION + "test_one_master",
    ),
    Fault(
        "old-elections",
        "a role of an election that is over is accepted",
        "oko/agent/agent.py",
        ">= 1 << 63:",
        ">= 1 << 64:",
        SESSION + "test_one_master",
    ),
    Fault(
        "bundle-spills",
        "a bundle whose commit fails has changed ports or sent packets",
        "oko/agent/staging.py",
        "            yield self._failed(msg)\n            return\n        for _, what",
        "            yield self._failed(msg)\n        for _, what",
        SESSION + "test_a_bundle_that_fails_changes_nothing",
    ),
    Fault(
        "misses-for-all",
        "controllers of 1.3 get packets that no flow matches, unasked",
        "oko/agent/session.py",
        "        if self.version != OF10 or self._quiet or self.role == SLAVE:",
        "        if self._quiet or self.role == SLAVE:",
        SESSION + "test_misses_go_to_controllers_of_1_0_only",
    ),
    Fault(
        "endless-queue",
        "events pile up for a peer that does not read",
        "oko/agent/session.py",
        "        return self._channel.waiting() + size <= MAX_WAITING",
        "        return True",
        SESSION + "test_a_peer_that_does_not_read_loses_events_only",
    ),
    Fault(
        "filters-for-everybody",
        "a peer that does not know filter_prog is sent it",
        "oko/agent/session.py",
        "nxm=request.nxm, aware=self.aware,",
        "nxm=request.nxm, aware=True,",
        PROGRAMS + "test_only_those_who_know_see_filters",
    ),
    Fault(
        "any-message-makes-aware",
        "whoever loads a program counts as knowing the match field",
        "oko/agent/programs.py",
        "        said = ext.decode(msg)\n",
        "        said = ext.decode(msg)\n        self._session.aware = True\n",
        PROGRAMS + "test_only_those_who_know_see_filters",
    ),
    Fault(
        "slaves-load",
        "a slave may load programs",
        "oko/agent/programs.py",
        "        self._session.need_write()\n        if chunk.last",
        "        if chunk.last",
        PROGRAMS + "test_create_only_and_ownership",
    ),
    Fault(
        "uploads-leak",
        "an upload that was begun is kept when its connection ends",
        "oko/agent/programs.py",
        "        for xid in list(self._uploads):\n            self._forget(xid)\n",
        "",
        PROGRAMS + "test_uploads_are_limited_and_go_with_the_connection",
    ),
    Fault(
        "half-an-update",
        "entries of a map update that fails stay",
        "oko/switch/map_changes.py",
        "    except MapError:\n        _put_back(found, undo)\n        raise\n\n\ndef delete",
        "    except MapError:\n        raise\n\n\ndef delete",
        PROGRAMS + "test_updates_are_all_or_nothing",
    ),
    Fault(
        "never-gives-up",
        "a peer that answers no echo request stays connected",
        "oko/agent/connection.py",
        "        if self.version is None or (self._quiet and self._probed):",
        "        if self.version is None:",
        "tests/agent/test_silence.py::test_a_peer_that_does_not_answer",
    ),
    Fault(
        "forms-too-wide",
        "a value outside of its mask is accepted by form",
        "oko/openflow/oxm.py",
        "        free |= (entry.mask & ~looked_at) << 8",
        "        free |= (f.all_ones & ~looked_at) << 8",
        "tests/openflow/test_match_forms.py::test_decoding_by_form",
    ),
]
