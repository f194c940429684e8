"""Plots as inline SVG: curves, and dots with their intervals. They take the page's text colour, light or dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_COLOURS = ("#4363d8", "#e6194b", "#3cb44b", "#f58231", "#911eb4", "#008080", "#9a6324", "#808080")
_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 540, 46, 24, 30, 40


@dataclass(frozen=True)
class Curve:
    """A line through points (x, y); ``dots`` draws the points too."""

    name: str
    points: Sequence[tuple[float, float]]
    dots: bool = False


@dataclass(frozen=True)
class Dot:
    """A value with its interval (None: not known), of one series."""

    name: str
    value: float | None
    interval: tuple[float, float] | None


def curves(
    title: str, x_label: str, y_label: str, series: Sequence[Curve], x_max: float, diagonal: bool = False
) -> str:
    """Curves over [0, x_max] x [0, 1], with a legend; ``diagonal`` draws the line from corner to corner."""
    height, legend = 300, 10 + len(series) * 16
    plot_w, plot_h = _WIDTH - _LEFT - _RIGHT, height - _TOP - _BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        return _LEFT + min(x / x_max, 1.0) * plot_w, _TOP + (1 - min(y, 1.0)) * plot_h

    parts = [_text(_WIDTH / 2, 18, title, "middle", bold=True)]
    for k in range(6):
        x, y = place(x_max * k / 5, k / 5)
        parts += [_line(_LEFT, y, _LEFT + plot_w, y, 0.15), _line(x, _TOP, x, _TOP + plot_h, 0.15)]
        parts.append(_text(_LEFT - 6, y + 4, f"{k / 5:.2g}", "end"))
        parts.append(_text(x, _TOP + plot_h + 14, f"{x_max * k / 5:.2g}", "middle"))
    if diagonal:
        parts.append(_line(*place(0, 0), *place(x_max, 1.0), 0.4, dash=True))
    for k, curve in enumerate(series):
        colour = _COLOURS[k % len(_COLOURS)]
        placed = [place(*point) for point in curve.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if curve.dots:
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in placed]
        y = height + 16 + 16 * k
        parts += [f'<rect x="{_LEFT}" y="{y - 8}" width="12" height="4" fill="{colour}"/>']
        parts.append(_text(_LEFT + 18, y - 1, curve.name, "start"))
    parts.append(_text(_LEFT + plot_w / 2, height - 8, x_label, "middle"))
    parts.append(_text(12, _TOP + plot_h / 2, y_label, "middle", upright=True))
    return _svg(title, height + legend, parts)


def dots(title: str, groups: Sequence[tuple[str, Sequence[Dot]]]) -> str:
    """Shares in [0, 1] with intervals: one block of rows per group, one row per series."""
    left, row, names = 190, 15, [dot.name for dot in groups[0][1]] if groups else []
    body = sum(len(block) * row + 10 for _, block in groups)
    height = _TOP + body + 24 + 16 * len(names)
    plot_w = _WIDTH - left - _RIGHT
    parts = [_text(_WIDTH / 2, 18, title, "middle", bold=True)]
    for k in range(6):
        x = left + plot_w * k / 5
        parts += [_line(x, _TOP, x, _TOP + body, 0.15), _text(x, _TOP + body + 14, f"{20 * k} %", "middle")]
    y = _TOP + 8.0
    for group, block in groups:
        parts.append(_text(left - 10, y + (len(block) - 1) * row / 2 + 4, group, "end"))
        for dot in block:
            colour = _COLOURS[names.index(dot.name) % len(_COLOURS)]
            if dot.value is not None:
                if dot.interval is not None:
                    low, high = (left + plot_w * end for end in dot.interval)
                    parts.append(_line(low, y, high, y, 1.0, colour))
                parts.append(f'<circle cx="{left + plot_w * dot.value:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>')
            y += row
        y += 10
    for k, name in enumerate(names):
        y = _TOP + body + 32 + 16 * k
        parts.append(f'<rect x="{left}" y="{y - 8}" width="12" height="4" fill="{_COLOURS[k % len(_COLOURS)]}"/>')
        parts.append(_text(left + 18, y - 1, name, "start"))
    return _svg(title, height, parts)


def _svg(title: str, height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}" '
        f'font-size="11" fill="currentColor">{"".join(parts)}</svg>'
    )


def _line(x1, y1, x2, y2, opacity: float, colour: str = "currentColor", dash: bool = False) -> str:
    width = 1 if opacity < 1 else 2
    dashes = ' stroke-dasharray="4 4"' if dash else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
        f'stroke-width="{width}" opacity="{opacity}"{dashes}/>'
    )


def _text(x: float, y: float, text: str, anchor: str, bold: bool = False, upright: bool = False) -> str:
    weight = ' font-weight="600" font-size="13"' if bold else ""
    turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if upright else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{weight}{turn}>{escape(text)}</text>'
