"""Faults of the packet's ends: parsing, editing, reading and writing captures, replaying."""

from __future__ import annotations

from fault import Fault

CLI = "tests/cli/test_replay.py::"
PARSE = "tests/unit/test_parse.py::"
CAPTURE = "tests/unit/test_capture.py::"

REPLAY = [
    Fault(
        "merge-out-of-order",
        "what several workers sent is written worker by worker, not in input order",
        "csrc/port_pcap.c",
        "            if (!first || entry.seq < best.seq) {",
        "            if (!first) {",
        CLI + "test_output_order_does_not_depend_on_workers",
    ),
    Fault(
        "silently-short",
        "a failed write is forgotten",
        "csrc/port_pcap.c",
        "            w->failed = done < 0 ? errno : ENOSPC;\n            break;",
        "            return 0;",
        CLI + "test_disk_full_later",
    ),
    Fault(
        "spread-by-direction",
        "the two directions of a connection go to different workers",
        "csrc/spread.c",
        "        hash = ends.src + ends.dst;",
        "        hash = ends.src + 3 * ends.dst;",
        "test_replay",
    ),
    Fault(
        "round-given-twice",
        "a worker takes packets of another one's share",
        "csrc/replay.c",
        "        n_places += items[i].owner == owner;",
        "        n_places += items[i].owner <= owner;",
        "test_replay",
    ),
    Fault(
        "clock-runs-back",
        "a capture that runs back in time takes the datapath clock with it",
        "csrc/merge.c",
        "            s->ns = s->record.ns > s->ns ? s->record.ns : s->ns;",
        "            s->ns = s->record.ns;",
        CLI + "test_clock",
    ),
    Fault(
        "rounds-without-shift",
        "each round over the captures happens at the same time as the first",
        "csrc/replay.c",
        "    r->shift += r->round_units;",
        "    r->shift += 0;",
        CLI + "test_clock",
    ),
    Fault(
        "years-pass",
        "looping keeps gaps of more than an hour",
        "csrc/replay.c",
        "    if (r->cut && gap > HOUR)",
        "    if (!r->cut && gap > HOUR)",
        CLI + "test_clock",
    ),
    Fault(
        "buffer-moves-under-burst",
        "the read buffer is refilled while a burst still points into it",
        "csrc/replay.c",
        "            flush_burst(r);\n            if (oko_merge_refill(r->merge) == OKO_E_BUSY)",
        "            if (oko_merge_refill(r->merge) == OKO_E_BUSY)",
        CLI + "test_sorts_real_captures",
    ),
    Fault(
        "total-length-believed",
        "an IPv4 total length beyond the frame is believed",
        "csrc/parse.c",
        "    if (hlen < IPV4_MIN || hlen > total || total > left)",
        "    if (hlen < IPV4_MIN || hlen > total)",
        PARSE + "test_cut_frames",
    ),
    Fault(
        "fragments-have-ports",
        "the first fragment is matched by its ports",
        "csrc/parse.c",
        "    if (layers >= OKO_LAYER_L4 && chain.complete && !chain.frag)",
        "    if (layers >= OKO_LAYER_L4 && chain.complete)",
        PARSE + "test_real_frames",
    ),
    Fault(
        "exthdr-beyond-end",
        "an IPv6 extension header that is cut off is passed",
        "csrc/parse.c",
        "        if (size > left - at)\n            return;\n        note_ext",
        "        note_ext",
        "test_parse",
    ),
    Fault(
        "checksum-of-later-fragments",
        "a changed address rewrites payload of later fragments as if it were a checksum",
        "csrc/edit_field.c",
        "    if (key->ip_frag[0] & OKO_FRAG_LATER)\n        return;",
        "    if (key->ip_frag[0] == 0xff)\n        return;",
        "test_edit",
    ),
    Fault(
        "pseudo-header-forgotten",
        "a changed address leaves the transport checksum as it was",
        "csrc/edit_field.c",
        "    if (address)\n        cover_transport(pkt, key, &cover, false);",
        "    (void)address;",
        CLI + "test_rewriting_agrees_with_dpkt",
    ),
    Fault(
        "udp-checksum-invented",
        "a UDP datagram without checksum gets one",
        "csrc/checksum.c",
        "    if (before == after || (udp && old == 0))",
        "    if (before == after)",
        "test_edit",
    ),
    Fault(
        "dei-cleared",
        "writing a VLAN's priority clears its drop eligibility",
        "csrc/edit_field.c",
        "        data[14] = (uint8_t)((data[14] & 0x1f) | v[0] << 5);",
        "        data[14] = (uint8_t)((data[14] & 0x0f) | v[0] << 5);",
        "test_edit",
    ),
    Fault(
        "length-believed",
        "a pcap record may claim any length",
        "csrc/capture.c",
        "    if (cap_len > RECORD_MAX)",
        "    if (cap_len == UINT32_MAX - 1)",
        CAPTURE + "test_corrupt",
    ),
    Fault(
        "cut-capture-is-an-end",
        "a capture that is cut off in a record just ends",
        "csrc/capture.c",
        "    if (!c->eof)\n        return OKO_CAPTURE_REFILL;\n    uint32_t left",
        "    return c->eof ? OKO_CAPTURE_END : OKO_CAPTURE_REFILL;\n    uint32_t left",
        CLI + "test_cut_captures",
    ),
]
