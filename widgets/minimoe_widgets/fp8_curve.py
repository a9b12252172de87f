"""FP8Explorer's second picture, live: errors of dot products by the interval of promotion, as SVG in the page's ink.

How the production version differs: nothing here is special to production.
"""

import html
import math

from minimoe_widgets.fp8_sums import INTERVALS, LENGTHS, PAPER_INTERVAL
from minimoe_widgets.fp8_words import SumsPicture, percent

__all__ = ["HIGH", "LOW", "PAPER_ERROR", "curve"]

PAPER_ERROR = 0.02  # "nearly 2%" at K = 4096: arXiv 2412.19437 section 3.3.2
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 420, 284, 52, 66, 28, 36
LOW, HIGH = -5, -1  # decades of the error
BLUE, RED = "#3A8FCB", "#D55E00"  # legible on white and on black


def _x(interval):
    return LEFT + (WIDTH - LEFT - RIGHT) * math.log2(interval / INTERVALS[0]) / math.log2(INTERVALS[-1] / INTERVALS[0])


def _y(error):
    decades = min(max(math.log10(max(error, 1e-9)), LOW), HIGH)
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (decades - LOW) / (HIGH - LOW)


def curve(picture: SumsPicture) -> str:
    """One line for each K, the chosen one thick, its chosen interval a disc; the paper's interval and error dashed."""
    parts = [_axes()]
    for length in sorted(LENGTHS, key=lambda k: k == picture.length):  # the chosen one last, above the others
        line, own = picture.line(length), length == picture.length
        points = " ".join(f"{_x(interval):.1f},{_y(error):.1f}" for interval, error in line)
        ink = f'stroke="{BLUE}" stroke-width="3"' if own else 'stroke="currentColor" stroke-width="1" opacity="0.45"'
        parts.append(f'<polyline class="mm-line" points="{points}" fill="none" {ink}/>')
        if own:
            parts.append(_text(_x(line[-1][0]) + 5, _y(line[-1][1]) + 4, f"K = {length:,}", colour=BLUE))
    found = picture.error(picture.interval).largest
    x, y = _x(picture.interval), _y(found)
    parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6" fill="{RED}" stroke="currentColor"/>')
    parts.append(_text(x + 10, min(y + 18, HEIGHT - BOTTOM - 6), percent(found), colour=RED, weight=700))
    return (
        f'<svg class="mm-sums" role="img" aria-label="{html.escape(picture.alt(), quote=True)}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" style="width:100%;max-width:560px;display:block;'
        f'color:var(--jp-ui-font-color1, CanvasText)">{"".join(parts)}</svg>'
    )


def _axes():
    right, floor = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = [f'<path d="M{LEFT},{TOP}V{floor}H{right}" fill="none" stroke="currentColor"/>']
    for decade in range(LOW, HIGH + 1):
        parts.append(_text(LEFT - 5, _y(10.0**decade) + 4, f"{10.0 ** (decade + 2):g}%", "end"))
    for interval in INTERVALS:
        parts.append(_text(_x(interval), floor + 14, str(interval), "middle"))
    parts.append(_text((LEFT + right) / 2, HEIGHT - 4, "products between two promotions to float32", "middle"))
    parts.append(_text(0, 12, "largest error of a sum"))
    paper, dashes = _x(PAPER_INTERVAL), 'stroke="currentColor" stroke-dasharray="4 3" opacity="0.6"'
    parts.append(f'<path d="M{paper:.1f},{TOP}V{floor}" {dashes}/>')
    parts.append(_text(paper + 4, TOP + 6, "V3: 128"))
    parts.append(f'<path d="M{LEFT},{_y(PAPER_ERROR):.1f}H{right}" {dashes}/>')
    parts.append(_text(paper + 4, _y(PAPER_ERROR) - 4, "the paper's 2%, in one piece"))
    return "".join(parts)


def _text(x, y, words, anchor="start", colour="currentColor", weight=400):
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="13" font-weight="{weight}" fill="{colour}" text-anchor="{anchor}" '
        f'font-family="sans-serif">{html.escape(words)}</text>'
    )
