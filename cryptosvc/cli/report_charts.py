"""Charts of a report as inline SVG: nothing in them runs, nothing in them is fetched.

The library draws for pages with scripts; what it adds for those (a script, tool tips, texts for them) is taken out
again. Assistive technology is shown the table beside a chart, which has the same numbers, and no chart.
"""

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pygal
from markupsafe import Markup
from pygal.style import Style

from cryptosvc.core.report.page import Bars, Moments

# The library hooks itself into every later import, by a protocol Python has dropped, to find maps; there are none here.
sys.meta_path[:] = [one for one in sys.meta_path if not isinstance(one, pygal.PluginImportFixer)]

_WIDTH = 960
_BARS_HEIGHT = 320
_LINE_HEIGHT = 22
_LONGEST_LABEL = 32
_LABELS_SHOWN = 16
_DAY = 86_400
_LATEST_SECOND = 253_402_300_799
"""The last that has a date of four digits in its year."""
_COLOURS = {"signed": "#0b6e4f", "refused": "#b3261e", "other": "#6b4fa0"}
_MORE_COLOURS = ("#0b5394", "#7a4d00", "#0b6e4f", "#b3261e", "#6b4fa0", "#00696f", "#7d2e68", "#4a5a00")
_SCRIPTED = frozenset({"script", "desc", "title"})
_NAMESPACE = "{http://www.w3.org/2000/svg}"


def drawn(chart: Bars | Moments, name: str) -> Markup:
    """Draw a chart; `name` is unique in the page."""
    made = _bars(chart) if isinstance(chart, Bars) else _moments(chart)
    made.uuid = name
    made.add_xml_filter(_still)
    return Markup(made.render(is_unicode=True))  # noqa: S704 -- the library escapes every text it draws


def _bars(chart: Bars) -> Any:  # the library is untyped
    made = pygal.StackedBar(**_options([_COLOURS[name] for name in chart.series]), height=_BARS_HEIGHT)
    made.x_labels = [_short(label) for label in chart.labels]
    made.x_label_rotation = 30
    every = max(1, -(-len(chart.labels) // _LABELS_SHOWN))
    made.x_labels_major = list(made.x_labels)[::every]
    made.show_minor_x_labels = False
    made.truncate_label = _LONGEST_LABEL
    for name, values in chart.series.items():
        made.add(name, [{"value": number, **_link(anchor)} for number, anchor in values])
    return made


def _moments(chart: Moments) -> Any:  # the library is untyped
    by_event: dict[str, list[dict[str, Any]]] = {}
    for line, moments in enumerate(chart.lines.values()):
        for second, event, index in moments:
            at = datetime.fromtimestamp(min(second, _LATEST_SECOND), UTC)
            by_event.setdefault(_short(event) or "none", []).append(
                {"value": (at, line), **_link(f"e{index}")}
            )
    colours = [_MORE_COLOURS[number % len(_MORE_COLOURS)] for number in range(len(by_event))]
    made = pygal.DateTimeLine(
        **_options(colours), height=120 + _LINE_HEIGHT * len(chart.lines), stroke=False, dots_size=5
    )
    seconds = [second for moments in chart.lines.values() for second, _, _ in moments]
    form = _form(max(seconds) - min(seconds))
    made.x_value_formatter = lambda at: at.strftime(form)
    made.x_label_rotation = 30
    made.y_labels = [{"value": line, "label": _short(subject)} for line, subject in enumerate(chart.lines)]
    made.range = (-0.5, len(chart.lines) - 0.5)
    for event, points in sorted(by_event.items()):
        made.add(event, points)
    return made


def _options(colours: Sequence[str]) -> Mapping[str, Any]:
    style = Style(
        background="#ffffff",
        plot_background="#ffffff",
        foreground="#1b1b1b",
        foreground_strong="#1b1b1b",
        foreground_subtle="#4a4a4a",
        font_family="sans-serif",
        label_font_size=12,
        major_label_font_size=12,
        legend_font_size=13,
        opacity="1",
        transition="0s",
        colors=tuple(colours) or ("#1b1b1b",),
    )
    return {
        "style": style,
        "width": _WIDTH,
        "js": (),
        "disable_xml_declaration": True,
        "legend_at_bottom": True,
        "margin": 10,
        "no_data_text": "",
    }


def _link(anchor: str) -> dict[str, Any]:
    return {"xlink": {"href": f"#{anchor}", "target": "_self"}} if anchor else {}


def _short(label: str) -> str:
    """A text as an XML document takes it, and short."""
    shown = "".join(one if one.isprintable() else "\ufffd" for one in label[:_LONGEST_LABEL])
    return shown if len(label) <= _LONGEST_LABEL else shown[:-1] + "…"


def _form(seconds: int) -> str:
    """How moments that lie so far apart are told from each other."""
    return "%Y-%m-%d" if seconds > 10 * _DAY else "%Y-%m-%d %H:%M" if seconds > _DAY // 8 else "%H:%M:%S"


def _still(root: Any) -> Any:  # an element of whichever XML library pygal found
    """Take out what only a script would use, and keep links out of the order of the keyboard."""
    for parent in list(root.iter()):
        for child in list(parent):
            tag = child.tag if isinstance(child.tag, str) else ""
            name = tag.removeprefix(_NAMESPACE)
            if not tag or name in _SCRIPTED or "tooltip-overlay" in child.get("class", ""):
                parent.remove(child)
            child.attrib.pop("id", None)  # the same in every chart
            if name == "a":
                child.set("tabindex", "-1")
    root.set("aria-hidden", "true")
    root.set("focusable", "false")
    return root
