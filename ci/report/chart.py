"""A trend as an SVG picture, without scripts: a line over the runs, a point each, and the floor where there is one."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from ci.report.trends import Trend

_WIDTH, _HEIGHT, _LEFT, _BELOW = 340, 150, 70, 22
_MOST = 200


def chart(trend: Trend, *, write: Callable[[float], str], kind: str = "reused", from_zero: bool = False, most: float | None = None) -> str:
    """Return a figure; `write` writes a value, `kind` is the class that gives the colour, `most` is what no value exceeds. Of very many
    points the last ones are drawn.
    """
    points = trend.points[-_MOST:]
    values = [point.value for point in points] + ([trend.floor] if trend.floor is not None else [])
    low, high = (0.0 if from_zero else min(values)), max(values)
    room = (high - low) * 0.1 or max(abs(high) * 0.05, 0.01)
    low, high = (low if from_zero else low - room), high + room
    high = high if most is None else min(high, most)

    def across(index: int) -> float:
        return _LEFT + (index + 0.5) * (_WIDTH - _LEFT - 6) / len(points)

    def up(value: float) -> float:
        return 6 + (high - value) / (high - low) * (_HEIGHT - _BELOW - 6)

    places = [(across(index), up(point.value)) for index, point in enumerate(points)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    circles = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"><title>{escape(point.run)}: {escape(write(point.value))}</title></circle>'
        for (x, y), point in zip(places, points, strict=True)
    )
    floor = f'<path class="floor" d="M{_LEFT} {up(trend.floor):.1f}H{_WIDTH}"/>' if trend.floor is not None else ""
    last = points[-1]
    said = f"{len(points)} runs, from {write(points[0].value)} to {write(last.value)}"
    said += f"; floor {write(trend.floor)}" if trend.floor is not None else ""
    return (
        f"<figure><figcaption>{escape(trend.name)}: {escape(write(last.value))}</figcaption>"
        f'<svg class="{kind}" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(trend.name)}: {escape(said)}">'
        f'<path class="axis" d="M{_LEFT} 6V{_HEIGHT - _BELOW}H{_WIDTH}"/>{floor}<polyline class="line" points="{line}"/>{circles}'
        f'<text x="{_LEFT - 6}" y="12" text-anchor="end">{escape(write(high))}</text>'
        f'<text x="{_LEFT - 6}" y="{_HEIGHT - _BELOW}" text-anchor="end">{escape(write(low))}</text>'
        f'<text x="{_LEFT}" y="{_HEIGHT - 6}">{escape(points[0].when[:10])}</text>'
        f'<text x="{_WIDTH - 2}" y="{_HEIGHT - 6}" text-anchor="end">{escape(last.when[:10])}</text></svg></figure>'
    )
