"""What every page shares: one self-contained HTML file that replaces pages only."""

from __future__ import annotations

import html
import os
from pathlib import Path

import plotly.graph_objects as go
import plotly.offline

DOCTYPE = "<!DOCTYPE html>"

# Okabe and Ito's colours, told apart by colour-blind readers as well.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6BB1")


def check_page(path: Path, source: Path, option: str = "--page") -> None:
    """Raise ValueError if the page cannot go to ``path``, before anything is done for it.

    A file that is there is replaced only if it is a page, and ``source``, which the page is made
    from, is no place for one.
    """
    if path.resolve() == source.resolve():
        why = f"it is {source}, which the page is made from"
    elif path.is_dir():
        why = "it is a folder"
    elif not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        why = f"{path.parent} is not a writable folder"
    elif path.exists() and not path.read_bytes().startswith(DOCTYPE.encode()):
        why = "it is there and is not a page, so it would be lost"
    else:
        return
    raise ValueError(f"cannot write the page {path}: {why}; choose another {option}")


def save_page(path: Path, title: str, body: str) -> None:
    """Write a page of this title around ``body``, which is HTML."""
    page = PAGE.format(
        doctype=DOCTYPE, plotly=plotly.offline.get_plotlyjs(), title=html.escape(title), body=body
    )
    path.write_text(page, encoding="utf-8")


def embedded(figure: go.Figure) -> str:
    """The figure as HTML for a body; it scrolls where the window is narrow."""
    text = figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False})
    return f'<div class="figure">{text}</div>'


PAGE = """{doctype}
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 1200px; margin: 2em auto;
       padding: 0 1em; }}
h1 {{ font-size: 1.6em; }} h2 {{ font-size: 1.2em; margin-top: 2em; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ text-align: left; padding: .25em 1.2em .25em 0; border-bottom: 1px solid #ddd; }}
th {{ font-weight: 600; }} code {{ background: #f4f4f4; padding: .1em .3em; }}
.figure {{ overflow-x: auto; }} .figure > div {{ min-width: 950px; }}
.good {{ color: #00734f; }} .worse {{ color: #b03a00; }} .quiet {{ color: #666; }}
</style>
<script>{plotly}</script>
</head>
<body>
{body}
</body>
</html>
"""
