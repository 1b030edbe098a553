"""The frame of our HTML pages: one self-contained file each, escaped, legible on a phone and in the dark.

A page is a template that extends page.html.jinja and fills its blocks `title` and `body`. The frame makes the tables of
class `sortable` sortable, gives `button.copy` its work (it copies its data-copy) and draws the charts.
"""

import functools
import json
from collections.abc import Mapping
from typing import Any

import jinja2
import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from prunedlora.results.figure_text import counted, figure_text, file_text, percent
from prunedlora.results.recorded_settings import chosen


def render(package: str, template: str, charts: Mapping[str, go.Figure], **context: Any) -> str:
    """The page of a template that lies in `package`; no request leaves it, and every text from outside is escaped.

    `charts`: id → figure. The template puts each where it belongs with `{{ chart(id, what it shows in words) }}`, and
    it is drawn when it comes into view; it may be `large`, have `many` things beside each other, or a number of `rows`.
    Plotly is in the page only where there are charts.
    """
    return _environment(package).get_template(template).render(charts=charts, chart=_placing(charts), **context)


def with_code(words: str) -> Markup:
    """Words in which code stands between backticks, as a card has it, escaped, for a page."""
    parts = enumerate(words.split("`"))
    return Markup("").join(Markup("<code>{}</code>").format(part) if i % 2 else part for i, part in parts)


def _placing(charts: Mapping[str, go.Figure]) -> Any:
    def chart(name: str, description: str, *, large: bool = False, many: bool = False, rows: int = 0) -> Markup:
        kind = f"chart{' large' * large}{' many' * many}{' rows' * (rows > 0)}"
        # Safe to mark so: a script ends at no character that is left. Hover texts, HTML to Plotly, are chart.py's duty.
        figure = Markup(charts[name].to_json().replace("<", "\\u003c"))
        return Markup(
            '<div class="{kind}" id="{name}" style="--rows: {rows}" role="img" aria-label="{description}"></div>\n'
            '<script type="application/json" id="{name}-figure">{figure}</script>'
        ).format(kind=kind, rows=rows, name=name, description=description, figure=figure)

    return chart


@functools.cache
def _environment(package: str) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(name, ".") for name in dict.fromkeys((__package__, package))]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        figure=figure_text,
        file_text=file_text,
        percent=percent,
        counted=counted,
        chosen=chosen,
        with_code=with_code,
        json=functools.partial(json.dumps, sort_keys=True, ensure_ascii=False),
        plotly_js=lambda: Markup(get_plotlyjs()),
    )
    return environment
