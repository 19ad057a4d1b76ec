"""MkDocs hook: equations become MathML while the site is built, so that reading it needs no script.

Pages write them as code hosts do: ```math for a line of its own, $`…`$ within a sentence.
"""

import re
from html import unescape
from typing import Any

from latex2mathml.converter import convert

BLOCK = re.compile(r'<pre class="math"><code>(.*?)</code></pre>', re.DOTALL)
INLINE = re.compile(r"\$<code>(.*?)</code>\$", re.DOTALL)


def on_page_content(html: str, **_: Any) -> str:
    """The page with each piece of TeX as MathML."""
    html = BLOCK.sub(lambda match: _mathml(match[1], "block"), html)
    return INLINE.sub(lambda match: _mathml(match[1], "inline"), html)


def _mathml(escaped: str, display: str) -> str:
    return convert(unescape(escaped).strip(), display=display)
