"""The tables of docs/openflow.md are what the agent does."""

from __future__ import annotations

from pathlib import Path

import pytest
from conversation import Peer, made_agent

from oko.openflow import common
from oko.openflow.common import OF10, OF13, OF14, OF15

VERSIONS = (OF10, OF13, OF14, OF15)
DOC = Path(__file__).resolve().parents[2] / "docs" / "openflow.md"


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under a heading."""
    section = DOC.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def error_of(version: int, msg: bytes) -> str | None:
    agent = made_agent()
    try:
        replies = Peer(agent, version)(msg)
        if replies and replies[0][1] == common.ERROR:
            return common.decode_error(version, replies[0]).name
        return None
    finally:
        agent.bridge.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_messages(version):
    said = {}
    for names, *cells in rows("Messages"):
        for name in names.split(", "):
            said[name] = cells[VERSIONS.index(version)]
    kinds = common.TYPES[version]
    assert {name for name, cell in said.items() if cell != "-"} == set(kinds)
    for name, kind in kinds.items():
        refused = error_of(version, common.message(version, kind, 1)) == "OFPBRC_BAD_TYPE"
        assert refused == (said[name] == "no"), name


@pytest.mark.parametrize("version", VERSIONS)
def test_statistics(version):
    for name, number, *cells in rows("Statistics"):
        msg = common.encode_multipart(version, 1, int(number))
        refused = error_of(version, msg) == "OFPBRC_BAD_STAT"
        assert refused == (cells[VERSIONS.index(version)] == "no"), name
