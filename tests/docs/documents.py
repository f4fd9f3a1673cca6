"""The documents as docutils reads them: their sections, examples, tables and links.

A comment before a block says what the block is, and so what becomes of it here:

``.. example``              it is run; how, its language says: console, python, js, toml, ini (see `examples`)
``.. example: output``      what the python or js block before it prints
``.. example: KIND ...``    it is run as the kind says: ``websocket /v2``, ``log``, ``frames``, ``source``
``.. no example: REASON``   it is not run

Every block of the documents that are written by hand has such a comment.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import attrs
from docutils import nodes
from docutils.core import publish_doctree

ROOT = Path(__file__).resolve().parents[2]
#: What is written by hand and described here; docs/configuration.rst is rendered from the settings.
WRITTEN = (
    "README.rst",
    "docs/index.rst",
    "docs/protocol.rst",
    "docs/operations.rst",
    "docs/architecture.rst",
    "docs/sources.rst",
)
_MARK = re.compile(r"(example|no example)(?::\s*(.+))?", re.DOTALL)


@attrs.frozen
class Block:
    """A literal block. ``mark`` is the comment before it; empty: there is none."""

    mark: str
    language: str
    text: str
    where: str

    @property
    def is_example(self) -> bool:
        return self.mark.startswith("example")

    @property
    def kind(self) -> str:
        """What to do with it."""
        match = _MARK.fullmatch(self.mark)
        return (match[2] if match is not None else None) or self.language


@attrs.frozen
class Section:
    """A section right below the title, with all its blocks in order."""

    document: str
    title: str
    blocks: tuple[Block, ...]


def every_document() -> list[str]:
    """All documents of the project."""
    found = [*ROOT.glob("*.rst"), *ROOT.glob("docs/*.rst"), *ROOT.glob("bench/*.rst")]
    return sorted(str(path.relative_to(ROOT)) for path in found)


@cache
def read(document: str) -> tuple[nodes.document, str]:
    """The tree of a document, and what docutils complains about."""
    complaints = io.StringIO()
    settings = {
        "report_level": 2,
        "halt_level": 5,
        "warning_stream": complaints,
        "syntax_highlight": "none",  # else the code directive wants Pygments
        "file_insertion_enabled": False,
        "input_encoding": "utf-8",
    }
    path = ROOT / document
    tree = publish_doctree(
        path.read_text(encoding="utf-8"), source_path=document, settings_overrides=settings
    )
    return tree, complaints.getvalue()


def sections(document: str) -> list[Section]:
    """Those that have blocks; what stands before the first section belongs to the document's title."""
    tree, _ = read(document)
    parts: list[tuple[str, list[nodes.Node]]] = [(str(tree.get("title", document)), [])]
    for child in tree.children:
        if isinstance(child, nodes.section):
            parts.append((child[0].astext(), [child]))
        else:
            parts[0][1].append(child)
    found = [Section(document, title, tuple(_blocks(document, children))) for title, children in parts]
    return [section for section in found if section.blocks]


def _blocks(document: str, children: Sequence[nodes.Node]) -> Iterator[Block]:
    for child in children:
        for block in child.findall(nodes.literal_block):
            before = block.parent[block.parent.index(block) - 1] if block.parent.index(block) else None
            mark = before.astext() if isinstance(before, nodes.comment) else ""
            language = next((name for name in block["classes"] if name != "code"), "")
            line = before.line if mark and before is not None else block.line
            yield Block(
                mark if _MARK.fullmatch(mark) else "", language, block.astext(), f"{document}:{line or '?'}"
            )


def rows(document: str, title: str) -> list[list[str]]:
    """The body of the first table in the section with this title, however deep; literals keep no quotes."""
    tree, _ = read(document)
    section = next(section for section in tree.findall(nodes.section) if section[0].astext() == title)
    body = next(iter(section.findall(nodes.tbody)))
    return [[_text(entry) for entry in row.findall(nodes.entry)] for row in body.findall(nodes.row)]


def _text(entry: nodes.entry) -> str:
    """Without what docutils thinks of it: a backslash, for an empty first cell, looks like half a title."""
    said = [child for child in entry.children if not isinstance(child, nodes.system_message)]
    return "\n\n".join(child.astext() for child in said)


def literals(document: str) -> list[str]:
    """What stands in double backquotes."""
    tree, _ = read(document)
    return [literal.astext() for literal in tree.findall(nodes.literal)]


def links(document: str) -> list[str]:
    """Where the document points to."""
    tree, _ = read(document)
    return [str(link["refuri"]) for link in tree.findall(nodes.reference) if "refuri" in link]


def anchors(document: str) -> set[str]:
    """What can follow the # in a link to the document."""
    tree, _ = read(document)
    found: set[str] = set()
    for element in tree.findall(nodes.Element):
        found.update(element.get("ids", ()))
    return found
