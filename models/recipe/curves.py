"""Curves of a run as SVG: the losses of RUN/log.csv and the AP of RUN/scores.csv over the pictures seen.

python curves.py RUN        # writes RUN/curves.svg; train.py and evaluate.py do it by themselves
"""

import csv
import html
import math
import pathlib
import sys

from files import whole

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 720, 260, 60, 34, 150, 40
COLOURS = ("#1b6ca8", "#c8553d", "#3a7d44", "#8e5ea2", "#b8860b", "#555555")


def table(path):
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def steps(span):
    """Round values from 0 to `span`, four to ten of them after the 0."""
    power = 10.0 ** math.floor(math.log10(span))
    size = next(power * part for part in (1, 0.5, 0.2) if span >= 4 * power * part)
    return [size * i for i in range(int(span / size + 1e-9) + 1)]


def panel(title, series, below):
    """One diagram: `series` is `{name: [(x, y)]}`, `below` the distance from the top of the file."""
    points = [point for line in series.values() for point in line]
    right, high = max(x for x, _ in points) or 1, max(y for _, y in points) or 1
    foot = below + HEIGHT - BOTTOM
    at_x = lambda x: LEFT + x / right * (WIDTH - LEFT - RIGHT)  # noqa: E731
    at_y = lambda y: foot - y / high * (HEIGHT - TOP - BOTTOM)  # noqa: E731
    out = [f'<text x="{LEFT}" y="{below + 20}" font-weight="bold">{html.escape(title)}</text>']
    for value in steps(high):
        y = at_y(value)
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value in steps(right):
        out.append(f'<text x="{at_x(value):.1f}" y="{foot + 16}" text-anchor="middle">{value:g}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    out.append(f'<text x="{middle}" y="{below + HEIGHT - 8}" text-anchor="middle">pictures seen</text>')
    for number, (name, line) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{at_x(x):.1f},{at_y(y):.1f}" for x, y in line)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        out += [
            f'<circle cx="{at_x(x):.1f}" cy="{at_y(y):.1f}" r="2" fill="{colour}"/>'
            for x, y in line
            if len(line) < 20
        ]
        label = f'<text x="{WIDTH - RIGHT + 10}" y="{below + TOP + 10 + 18 * number}" fill="{colour}">'
        out.append(f"{label}{html.escape(name)} {line[-1][1]:.3f}</text>")
    return out


def draw(folder):
    """Write curves.svg from what the run has logged so far; nothing where it has logged nothing."""
    folder = pathlib.Path(folder)
    log, scores = table(folder / "log.csv"), table(folder / "scores.csv")
    panels = []
    if log:
        names = [name for name in ("class", "box", "taught_class", "taught_box") if name in log[0]]
        panels.append(("losses", {n: [(int(row["pictures"]), float(row[n])) for row in log] for n in names}))
    if scores:
        series = {}
        for row in scores:
            for name in ("AP50", "AP", "AP75"):
                series.setdefault(f"{name} {row['geometry']}", []).append(
                    (int(row["pictures"]), float(row[name]))
                )
        panels.append(("val", series))
    if not panels:
        return
    size = f'width="{WIDTH}" height="{HEIGHT * len(panels)}"'
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">']
    lines.append('<rect width="100%" height="100%" fill="white"/>')
    for number, (title, series) in enumerate(panels):
        lines += panel(title, series, number * HEIGHT)
    with whole(folder / "curves.svg") as path:
        path.write_text("\n".join([*lines, "</svg>", ""]))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    draw(sys.argv[1])
