"""`oko-bench plot`: the curves of a results file as one SVG picture, without any library.

A panel per kind of growth (`scale/WHAT/N`, `memory/WHAT/N`), both axes logarithmic: a straight
line that climbs is a power of N, a bend is where something stops fitting, into a cache, say.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

WIDTH, HEIGHT, COLUMNS = 420, 280, 2
LEFT, RIGHT, TOP, BOTTOM = 64, 96, 34, 40  # of a panel, around its axes
COLOURS = ("#1b6ca8", "#c0392b", "#27845a", "#8e5ea2")

Curve = list[tuple[int, float]]


def curves_of(records: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Curve]]:
    """By panel ("what grows, what is measured"), then by name: points in rising order of N."""
    panels: dict[str, dict[str, Curve]] = {}
    for record in records:
        kind, *rest = str(record.get("name", "")).split("/")
        measure = "bytes" if kind == "memory" else "ns"
        value = record.get(f"{measure}_median")
        if kind not in ("scale", "memory") or len(rest) != 2 or not rest[1].isdecimal():
            continue
        if not isinstance(value, (int, float)) or value <= 0:
            continue
        what, n = rest[0], int(rest[1])
        title = f"{record['group']}: {what}" if kind == "memory" else str(record["group"])
        panel = f"{title}, {measure} per {record['unit']}"
        panels.setdefault(panel, {}).setdefault(what, []).append((n, float(value)))
    for curves in panels.values():
        for curve in curves.values():
            curve.sort()
    return panels


def _decades(low: float, high: float) -> tuple[int, int]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return first, max(last, first + 1)


def _label(exponent: int) -> str:
    return f"{10**exponent:,}" if exponent >= 0 else f"{10.0**exponent:g}"


def _panel(title: str, curves: Mapping[str, Curve], x0: int, y0: int) -> list[str]:
    points = [point for curve in curves.values() for point in curve]
    x_first, x_last = _decades(min(n for n, _ in points), max(n for n, _ in points))
    y_first, y_last = _decades(min(v for _, v in points), max(v for _, v in points))
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(n: float) -> float:
        return x0 + LEFT + wide * (math.log10(n) - x_first) / (x_last - x_first)

    def y(value: float) -> float:
        return y0 + TOP + high * (1 - (math.log10(value) - y_first) / (y_last - y_first))

    bottom, right = y(10.0**y_first), x(10.0**x_last)
    out = [f'<text x="{x0 + LEFT}" y="{y0 + 20}" class="title">{html.escape(title)}</text>']
    for exponent in range(x_first, x_last + 1):
        at = x(10.0**exponent)
        out.append(f'<path d="M{at:.1f} {bottom:.1f}V{y0 + TOP}" class="grid"/>')
        out.append(f'<text x="{at:.1f}" y="{bottom + 16:.1f}" class="x">{_label(exponent)}</text>')
    for exponent in range(y_first, y_last + 1):
        at = y(10.0**exponent)
        out.append(f'<path d="M{x0 + LEFT} {at:.1f}H{right:.1f}" class="grid"/>')
        out.append(
            f'<text x="{x0 + LEFT - 6}" y="{at + 4:.1f}" class="y">{_label(exponent)}</text>'
        )
    for number, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        places = [(x(n), y(value)) for n, value in curve]
        line = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
        out.append(f'<polyline points="{line}" stroke="{colour}" class="curve"/>')
        for (a, b), (n, value) in zip(places, curve, strict=True):
            tip = f"<title>{html.escape(name)}, {n:,}: {value:,.1f}</title>"
            out.append(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}">{tip}</circle>')
        a, b = places[-1]
        out.append(
            f'<text x="{a + 8:.1f}" y="{b + 4:.1f}" fill="{colour}">{html.escape(name)}</text>'
        )
    return out


def svg(lines: Iterable[Mapping[str, Any]]) -> str:
    """The picture of a results file's records; the first may be the machine.

    Raises ValueError when there is no point of any curve."""
    records = list(lines)
    panels = curves_of(records)
    if not panels:
        raise ValueError("no curves: run `oko-bench --json FILE 'scale*' memory` first")
    machine: dict[str, Any] = next((r["machine"] for r in records if "machine" in r), {})
    rows = -(-len(panels) // COLUMNS)
    width, height = COLUMNS * WIDTH, rows * HEIGHT + 24
    body = []
    for number, (title, curves) in enumerate(panels.items()):
        body += _panel(title, curves, number % COLUMNS * WIDTH, number // COLUMNS * HEIGHT)
    about = ", ".join(str(machine[k]) for k in ("cpu", "date") if machine.get(k))
    body.append(f'<text x="{LEFT}" y="{height - 8}">{html.escape(about)}</text>')
    style = (
        "text{font:11px sans-serif;fill:#333}.title{font-weight:bold}.x{text-anchor:middle}"
        ".y{text-anchor:end}.grid{stroke:#ddd}.curve{fill:none;stroke-width:2}"
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">'
    return "\n".join([head, f"<style>{style}</style>", *body, "</svg>", ""])


def main(arguments: list[str]) -> str:
    """`oko-bench plot RESULTS [PICTURE]`: writes the picture (default: RESULTS with .svg), returns
    what went wrong, or nothing."""
    if len(arguments) not in (1, 2) or arguments[0].startswith("-"):
        return "usage: oko-bench plot RESULTS.jsonl [PICTURE.svg]"
    source = Path(arguments[0])
    target = Path(arguments[1]) if len(arguments) == 2 else source.with_suffix(".svg")
    try:
        text = source.read_text()
        records = [json.loads(line) for line in text.splitlines() if line.strip()]
        if not all(isinstance(record, dict) for record in records):
            raise ValueError("not records")
        target.write_text(svg(records))
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        return f"{source}: not a file that oko-bench --json has written"
    except ValueError as error:
        return f"{source}: {error}"
    return ""
