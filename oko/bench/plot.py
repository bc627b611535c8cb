"""`oko-bench plot`: results as one SVG picture, without any library.

Of a file that `oko-bench --json` wrote: curves, a panel per kind of growth (`scale/WHAT/N`,
`memory/WHAT/N`, `workers/WHAT/N`), both axes logarithmic: a straight line that climbs is a power
of N, a bend is where something stops fitting, into a cache, say. Of one that `tools/compare --json`
wrote: bars, a panel of forwarding and one of filters, a group per row of the tables.

The picture has a background of its own and follows the reader's choice of light or dark.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

WIDTH, HEIGHT, COLUMNS = 440, 300, 2
LEFT, RIGHT, TOP, BOTTOM = 70, 84, 36, 52  # of a panel, around its axes
N_COLOURS = 5
STYLE = (
    """
svg{--back:#fff;--ink:#222;--grid:#ddd;--c0:#1b6ca8;--c1:#c0392b;--c2:#27845a;--c3:#8e5ea2;--c4:#8a6d1d}
@media(prefers-color-scheme:dark){svg{--back:#15181c;--ink:#ddd;--grid:#3a3f46;--c0:#6cb6f0;
--c1:#ff8a7a;--c2:#6fd19f;--c3:#cfa5e6;--c4:#e0c060}}
.back{fill:var(--back)}text{font:11px sans-serif;fill:var(--ink)}
.title{font-weight:bold;font-size:12px}
.x{text-anchor:middle}.y{text-anchor:end}.grid{stroke:var(--grid)}
.curve{fill:none;stroke-width:2}
""".strip()
    + "".join(
        f"\n.curve.c{k}{{stroke:var(--c{k})}}.dot.c{k},text.c{k},.bar.c{k}{{fill:var(--c{k})}}"
        for k in range(N_COLOURS)
    )
)

Curve = list[tuple[int, float]]
AXES = {
    "flows": "flows of packets",
    "rules": "flows in the table",
    "masks": "masks",
    "programs": "programs that each packet runs",
    "tables": "tables that each packet passes",
    "commits": "flows in the table",
    "workers": "workers",
}
"""What grows, by the name of a panel's first curve or its group."""


def _text(x: float, y: float, text: str, kind: str = "", more: str = "") -> str:
    style = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{style}{more}>{html.escape(text)}</text>'


def _document(width: int, height: int, body: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">'
    back = f'<rect width="{width}" height="{height}" class="back"/>'
    return "\n".join([head, f"<style>{STYLE}</style>", back, *body, "</svg>", ""])


# ---------------------------------------------------------------- curves


def curves_of(records: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str, str], dict[str, Curve]]:
    """By panel (title, x axis, y axis), then by name: points in rising order of N."""
    panels: dict[tuple[str, str, str], dict[str, Curve]] = {}
    for record in sorted(records, key=lambda r: str(r.get("name", "")).startswith("workers")):
        kind, *rest = str(record.get("name", "")).split("/")
        measure = "bytes" if kind == "memory" else "ns"
        value = record.get(f"{measure}_median")
        if kind not in ("scale", "memory", "workers") or len(rest) != 2 or not rest[1].isdecimal():
            continue
        if not isinstance(value, (int, float)) or value <= 0:
            continue
        what, n = rest[0], int(rest[1])
        group = what if kind == "memory" else str(record["group"]).split(": ")[-1].split(",")[0]
        title = f"memory: {what}" if kind == "memory" else group
        time = "ns of wall time" if kind == "workers" else measure
        panel = title, AXES.get(group, group), f"{time} per {record['unit']}"
        panels.setdefault(panel, {}).setdefault(what, []).append((n, float(value)))
    for curves in panels.values():
        for curve in curves.values():
            curve.sort()
    return panels


def _ticks(low: float, high: float) -> tuple[list[float], float, float]:
    """Values for a logarithmic axis, and its ends: decades, or 1, 2, 5 where there are few."""
    steps = (1, 2, 5) if high / low < 300 else (1,)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1
    marks = [step * 10.0**decade for decade in range(first, last + 1) for step in steps]
    start = max((m for m in marks if m <= low), default=marks[0])
    end = min((m for m in marks if m >= high and m > start), default=marks[-1])
    return [m for m in marks if start <= m <= end], start, end


def _label(value: float) -> str:
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def _panel(names: tuple[str, str, str], curves: Mapping[str, Curve], x0: int, y0: int) -> list[str]:
    points = [point for curve in curves.values() for point in curve]
    x_ticks, x_first, x_last = _ticks(min(n for n, _ in points), max(n for n, _ in points))
    y_ticks, y_first, y_last = _ticks(min(v for _, v in points), max(v for _, v in points))
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(n: float) -> float:
        return x0 + LEFT + wide * math.log(n / x_first) / math.log(x_last / x_first)

    def y(value: float) -> float:
        return y0 + TOP + high * (1 - math.log(value / y_first) / math.log(y_last / y_first))

    title, x_name, y_name = names
    bottom, right = y(y_first), x(x_last)
    out = [_text(x0 + LEFT, y0 + 20, title, "title")]
    out.append(_text(x0 + LEFT + wide / 2, bottom + 34, x_name, "x axis"))
    at = f"{x0 + 14} {y0 + TOP + high / 2:.1f}"
    out.append(
        _text(x0 + 14, y0 + TOP + high / 2, y_name, "x axis", f' transform="rotate(-90 {at})"')
    )
    for tick in x_ticks:
        out.append(f'<path d="M{x(tick):.1f} {bottom:.1f}V{y0 + TOP}" class="grid"/>')
        out.append(_text(x(tick), bottom + 16, _label(tick), "x"))
    for tick in y_ticks:
        out.append(f'<path d="M{x0 + LEFT} {y(tick):.1f}H{right:.1f}" class="grid"/>')
        out.append(_text(x0 + LEFT - 6, y(tick) + 4, _label(tick), "y"))
    ends: list[float] = []
    for number, (name, curve) in enumerate(curves.items()):
        colour = f"c{number % N_COLOURS}"
        places = [(x(n), y(value)) for n, value in curve]
        line = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
        out.append(f'<polyline points="{line}" class="curve {colour}"/>')
        for (a, b), (n, value) in zip(places, curve, strict=True):
            tip = f"<title>{html.escape(name)}, {n:,}: {value:,.1f}</title>"
            out.append(
                f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" class="dot {colour}">{tip}</circle>'
            )
        a, b = places[-1]
        while any(abs(b - other) < 12 for other in ends):
            b += 3  # names of curves that end together stand one below the other
        ends.append(b)
        out.append(_text(a + 8, b + 4, name, colour))
    return out


def svg(lines: Iterable[Mapping[str, Any]]) -> str:
    """The curves of a results file's records; the first may be the machine.

    Raises ValueError when there is no point of any curve."""
    records = list(lines)
    panels = curves_of(records)
    if not panels:
        raise ValueError("no curves: run `oko-bench --json FILE 'scale*' memory` first")
    machine: dict[str, Any] = next((r["machine"] for r in records if "machine" in r), {})
    rows = -(-len(panels) // COLUMNS)
    width, height = COLUMNS * WIDTH, rows * HEIGHT + 24
    body = []
    for number, (names, curves) in enumerate(panels.items()):
        body += _panel(names, curves, number % COLUMNS * WIDTH, number // COLUMNS * HEIGHT)
    about = ", ".join(str(machine[k]) for k in ("cpu", "date") if machine.get(k))
    body.append(_text(LEFT, height - 8, about))
    return _document(width, height, body)


# ---------------------------------------------------------------- bars

BAR, GAP, NAMES, VALUES = 11, 9, 150, 70  # heights of a bar and between groups; widths beside them
BARS = {
    "forwarding": ("oko", "ovs-dpdk", "ovs-dpdk-tuned", "testpmd"),
    "filters": ("oko", "native", "kernel", "dpdk"),
}
"""Who is drawn, by part of a comparison, in this order and these colours."""
UNITS = {
    "forwarding": "forwarding, million packets per second: more is better",
    "filters": "filters, time per packet as a multiple of oko's (jit-batch): less is better",
}


def bars(comparison: Mapping[str, Any]) -> str:
    """The bars of a comparison's record (oko.bench.against).

    Raises ValueError when there is none."""
    body: list[str] = []
    width, top = COLUMNS * WIDTH, 0
    for part, who in BARS.items():
        groups: dict[str, dict[str, float]] = {}
        for row in comparison[part]:
            if "ns_median" in row:
                groups.setdefault(row["what"], {})[row["who"]] = float(row["ns_median"])
        for group in groups.values():
            if part == "forwarding":
                group.update({name: 1e3 / ns for name, ns in group.items()})
            elif ours := group.get("jit-batch", 0.0):
                group.update({name: _best(group, name) / ours for name in ("kernel", "dpdk")})
                group.update(native=group.get("native", 0.0) / ours, oko=1.0)
            else:
                group.clear()
        groups = {what: group for what, group in groups.items() if any(map(group.get, who))}
        if groups:
            drawn, top = _bars(UNITS[part], who, groups, width, top)
            body += drawn
    if not body:
        raise ValueError("no figures: nobody took part")
    about = f"{comparison['machine']['cpu']}, {comparison['started']}, {comparison['commit']}"
    body.append(_text(8, top + 16, about))
    return _document(width, top + 24, body)


def _best(group: Mapping[str, float], peer: str) -> float:
    """The time of a peer's fastest form; 0 if it has none."""
    return min((ns for name, ns in group.items() if name.split("-")[0] == peer), default=0.0)


def _bars(
    title: str,
    who: Sequence[str],
    groups: Mapping[str, Mapping[str, float]],
    width: int,
    top: int,
) -> tuple[list[str], int]:
    """A panel from y = `top`, and where it ends."""
    most = max(group.get(name, 0.0) for group in groups.values() for name in who)
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 1_000) if most / s <= 8 or s == 1_000)
    ticks = range(0, math.ceil(most / step) * step + 1, step)

    def x(value: float) -> float:
        return NAMES + (width - NAMES - VALUES) * value / ticks[-1]

    out = [_text(8, top + 20, title, "title")]
    place = 8.0
    present = [name for name in who if any(group.get(name) for group in groups.values())]
    for name in present:
        colour = f"c{who.index(name)}"
        out.append(
            f'<rect x="{place:.1f}" y="{top + 30}" width="10" height="10" class="bar {colour}"/>'
        )
        out.append(_text(place + 14, top + 39, name))
        place += 34 + 7 * len(name)
    y = top + 52
    drawn = []
    for what, group in groups.items():
        shown = [name for name in present if group.get(name)]
        drawn.append(_text(NAMES - 6, y + BAR * len(shown) / 2 + 4, what, "y"))
        for name in shown:
            value = group[name]
            box = f'x="{NAMES}" y="{y}" width="{x(value) - NAMES:.1f}" height="{BAR - 1}"'
            tip = f"<title>{html.escape(what)}, {html.escape(name)}: {value:g}</title>"
            drawn.append(f'<rect {box} class="bar c{who.index(name)}">{tip}</rect>')
            drawn.append(_text(x(value) + 4, y + BAR - 2, f"{value:,.3g}"))
            y += BAR
        y += GAP
    for tick in ticks:
        out.append(f'<path d="M{x(tick):.1f} {top + 48}V{y}" class="grid"/>')
        out.append(_text(x(tick), y + 12, _label(tick), "x"))
    return out + drawn, y + 24


# ---------------------------------------------------------------- the command


def picture(text: str) -> str:
    """The picture of a results file's text. Raises ValueError, KeyError or TypeError for others."""
    whole: Any = None
    try:
        whole = json.loads(text)
    except json.JSONDecodeError:
        records = [json.loads(line) for line in text.splitlines() if line.strip()]
    else:
        records = [whole]
    if isinstance(whole, dict) and "forwarding" in whole:
        return bars(whole)
    if not all(isinstance(record, dict) for record in records):
        raise ValueError("not records")
    return svg(records)


def main(arguments: list[str]) -> str:
    """`oko-bench plot RESULTS [PICTURE]`: writes the picture (default: RESULTS with .svg), returns
    what went wrong, or nothing."""
    if len(arguments) not in (1, 2) or arguments[0].startswith("-"):
        return "usage: oko-bench plot RESULTS [PICTURE.svg]"
    source = Path(arguments[0])
    target = Path(arguments[1]) if len(arguments) == 2 else source.with_suffix(".svg")
    try:
        target.write_text(picture(source.read_text()))
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        return f"{source}: not a file that oko-bench --json has written"
    except ValueError as error:
        return f"{source}: {error}"
    return ""
