"""Text that users wrote, for print: one function per language that would read parts of it as commands.

HTML has none here: the templates escape every text by themselves (`rkd.report.rendering.html`). Figures neither: their
style switches mathematical notation off.
"""

import re
import unicodedata

# Characters that turn the direction of all that follows: they could make a line read otherwise than it is.
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def visible(text: str) -> str:
    r"""Escape control characters, except line breaks and tabs.

    Spelled out are also halves of a surrogate pair, which no file can hold, and marks that turn the direction of text.

    >>> visible("a\x1b[31m b\n")
    'a\\x1b[31m b\n'
    """
    return "".join(_spelled(character) if _is_control(character) else character for character in text)


def one_line(text: str) -> str:
    r"""Return the text on one line: control characters escaped, runs of white space as one blank.

    >>> one_line(" two\n lines\x00")
    'two lines\\x00'
    """
    return " ".join(visible(text).split())


def has_control(text: str, allowed: str = "") -> bool:
    r"""Return True for text with control characters, line breaks or lone surrogates, except those `allowed`.

    >>> has_control("Größe {x} $"), has_control("a\tb"), has_control("a\tb", allowed="\t")
    (False, True, False)
    """
    return any(unicodedata.category(one) in ("Cc", "Cs", "Zl", "Zp") and one not in allowed for one in text)


def markdown(text: str) -> str:
    r"""Escape text for GitHub's Markdown, for a table cell, a list item or a paragraph of its own.

    An underscore inside a word is plain text there and reads better bare.

    >>> print(markdown("a|b <i> $x$ my_model"))
    a\|b \<i\> \$x\$ my_model
    """
    escaped = _MARKDOWN_SPECIAL.sub(r"\\\g<0>", one_line(text))
    return _MARKDOWN_START.sub(r"\g<1>\\\g<2>", escaped, count=1)


def markdown_code(text: str) -> str:
    """Return the text as a code span in Markdown, outside of tables.

    >>> markdown_code("a`b")
    '``a`b``'
    """
    line = one_line(text)
    fence = "`" * (max(map(len, re.findall("`+", line)), default=0) + 1)
    pad = " " if not line or line[0] in "` " or line[-1] in "` " else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def latex(text: str) -> str:
    r"""Escape text for LaTeX's text mode, also at the start of a table row.

    >>> print(latex("R&D_1: 50 % [x]"))
    R\&D\_1: 50 \% {[}x{]}
    """
    line = re.sub("-(?=-)", "-\0", one_line(text))  # two hyphens would become a dash
    return "".join(_LATEX_SPECIAL.get(character, character) for character in line)


_MARKDOWN_SPECIAL = re.compile(r"[\\`*|<>\[\]~$]|&(?=[#\w]+;)|(?<![^\W_])_|_(?![^\W_])")
# What would make a heading, a rule or a list item of the line.
_MARKDOWN_START = re.compile(r"^(#{0,5}|[-+=]*|\d{1,9})([#+=.)-])(?=\s|$)")
_LATEX_SPECIAL = {
    "\0": "{}",
    "\\": r"\textbackslash{}",
    **{character: "\\" + character for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "`": r"\textasciigrave{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    # At the start of a row they would belong to the command that ends the row before.
    **{character: f"{{{character}}}" for character in "[]*"},
    "±": r"$\pm$",
    "×": r"$\times$",
    "→": r"$\to$",
    "–": "--",
    "−": r"$-$",
    "†": r"$\dagger$",
    "‡": r"$\ddagger$",
}


def _is_control(character: str) -> bool:
    return (unicodedata.category(character) in ("Cc", "Cs") and character not in "\t\n\r") or character in _TURNING


def _spelled(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
