"""What the site is beside its pages: reference written from the code, links into the repository."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from reference import pages

_ROOT = Path(__file__).resolve().parents[2]
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((\.\./[^)#]+)(#[^)]*)?\)")


def on_config(config: MkDocsConfig, **_: Any) -> MkDocsConfig:
    """Pages that the navigation does not name go to its end: none is lost."""
    docs = Path(config.docs_dir)
    named = set(re.findall(r"[\w/]+\.md", str(config.nav)))
    unnamed = sorted(name for path in docs.rglob("*.md") if (name := str(path.relative_to(docs))) not in named)
    if config.nav and unnamed:
        config.nav = [*config.nav, {"More": unnamed}]
    return config


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Add the generated pages."""
    for name, text in pages().items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, **_: Any) -> str:
    """Links that leave docs/ for a file of the repository become its name; those to nothing are an error."""
    docs = Path(config.docs_dir)
    here = (docs / page.file.src_uri).parent

    def replaced(match: re.Match[str]) -> str:
        target = (here / match[2]).resolve()
        if target.is_relative_to(docs):
            return match[0]
        if not target.is_relative_to(_ROOT) or not target.exists():
            raise PluginError(f"{page.file.src_uri}: the link to {match[2]} leads to nothing in the repository")
        return f"{match[1]} (`{target.relative_to(_ROOT)}`)"

    return _LINK.sub(replaced, markdown)
