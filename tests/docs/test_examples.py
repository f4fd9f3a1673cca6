"""What the documents show is what happens."""

from __future__ import annotations

import pytest

from tests.docs.documents import WRITTEN, Section, sections
from tests.docs.examples import SectionRun, needs_kafka
from tests.docs.people import People
from tests.hub_process import HubProcess

SECTIONS = [
    section
    for document in WRITTEN
    for section in sections(document)
    if any(block.is_example and not needs_kafka(block) for block in section.blocks)
]


def needs_of(section: Section) -> list[pytest.MarkDecorator]:
    has_js = any(block.is_example and block.kind == "js" for block in section.blocks)
    return [pytest.mark.needs("node", "node packages")] if has_js else []


@pytest.mark.parametrize(
    "section",
    [
        pytest.param(section, id=f"{section.document}: {section.title}", marks=needs_of(section))
        for section in SECTIONS
    ],
)
def test_examples(section: Section, demo_hub: HubProcess, people: People) -> None:
    SectionRun(section, demo_hub, people).run()


@pytest.mark.parametrize("document", WRITTEN)
def test_every_block_says_whether_it_is_an_example(document: str) -> None:
    unmarked = [block.where for section in sections(document) for block in section.blocks if not block.mark]
    assert not unmarked, f"{unmarked}: see tests/docs/documents.py"
