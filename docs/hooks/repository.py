"""MkDocs hook: links from pages to files of the repository, which lie outside the site's folder.

On a code host such links work as they stand. For the site each linked file becomes a page or a picture under
`repository/`: Markdown as a page like any other, with its own links followed, anything else as its text. A link to a
folder becomes plain text. A link whose text is the name of a documented object, such as `rkd.losses.kd_loss`, leads to
its entry in the API reference; a name without an entry is an error.
"""

import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

FOLDER = "repository/"
LINK = re.compile(r"(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s#:]+)(?P<anchor>#[^)\s]*)?\)")
OBJECT = re.compile(r"`(rkd(?:\.\w+)+)`")
PICTURES = {".png", ".svg"}
LANGUAGES = {".py": "python", ".smk": "python", ".yaml": "yaml", ".yml": "yaml", ".toml": "toml", ".json": "json"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put pages that the navigation in mkdocs.yml does not name at its end, so that none is lost."""
    pages = sorted(page.relative_to(config.docs_dir).as_posix() for page in Path(config.docs_dir).rglob("*.md"))
    if left := [page for page in pages if page not in set(_entries(config.nav))]:
        config.nav = [*(config.nav or []), {"More": left}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add every file of the repository that a page links to, and those that the navigation names."""
    root = Path(config.config_file_path).parent
    todo = [root / "docs" / file.src_uri for file in files.documentation_pages()]
    todo += [root / entry.removeprefix(FOLDER) for entry in _entries(config.nav) if entry.startswith(FOLDER)]
    while todo:
        path = todo.pop()
        inside = path.is_relative_to(root / "docs")
        if not inside and files.get_file_from_path(uri := _uri(path, root)) is None:
            where: dict[str, Any] = (
                {"abs_src_path": str(path)} if path.suffix in PICTURES else {"content": _text(path, root)}
            )
            files.append(File.generated(config, uri, **where))
        if path.suffix == ".md":
            linked = (_resolve(match, path) for match in LINK.finditer(path.read_text(encoding="utf-8")))
            todo += [
                file
                for file in linked
                if file.is_file()
                and file.is_relative_to(root)
                and not file.is_relative_to(root / "docs")
                and files.get_file_from_path(_uri(file, root)) is None
            ]
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page with its links as the site needs them."""
    root = Path(config.config_file_path).parent
    uri = page.file.src_uri
    here = root / uri.removeprefix(FOLDER) if uri.startswith(FOLDER) else root / "docs" / uri

    def replaced(match: re.Match[str]) -> str:
        path = _resolve(match, here)
        name = OBJECT.fullmatch(match["text"])
        if name and path.suffix == ".py":
            return f"[{match['text']}][{name[1]}]"
        if path.is_dir():
            return match["text"]
        target = path.relative_to(root / "docs").as_posix() if path.is_relative_to(root / "docs") else _uri(path, root)
        if not path.is_relative_to(root) or files.get_file_from_path(target) is None:
            return match[0]  # MkDocs says what is wrong with it
        relative = posixpath.relpath(target, posixpath.dirname(uri))
        return f"{match['picture']}[{match['text']}]({relative}{match['anchor'] or ''})"

    return LINK.sub(replaced, markdown)


def _entries(nav: Any) -> Iterator[str]:
    """All pages that a navigation names, however deep."""
    if isinstance(nav, str):
        yield nav
        return
    for entry in nav.values() if isinstance(nav, dict) else nav or ():
        yield from _entries(entry)


def _resolve(match: re.Match[str], page: Path) -> Path:
    return Path(os.path.normpath(page.parent / match["target"]))


def _uri(path: Path, root: Path) -> str:
    """Where a file of the repository lies in the site; text that is no Markdown becomes a page of its own."""
    suffix = "" if path.suffix in {".md", *PICTURES} else ".md"
    return f"{FOLDER}{os.path.relpath(path, root)}{suffix}"


def _text(path: Path, root: Path) -> str:
    content = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return content
    fence = "`" * 12
    language = LANGUAGES.get(path.suffix, "python" if path.name == "Snakefile" else "text")
    head = "---\nhide: [toc]\nsearch: {exclude: true}\n---\n"
    return f"{head}# {path.relative_to(root)}\n\n{fence}{language}\n{content}\n{fence}\n"
