"""The README's words on Kafka, with a broker."""

from __future__ import annotations

import shlex
import sys

import httpx

from tests.docs.documents import ROOT, sections
from tests.docs.examples import needs_kafka
from tests.docs.programs import run
from tests.docs.shapes import Bindings
from tests.docs.transcripts import Transcript
from tests.hub_process import running_hub
from tests.kafka_broker import KafkaBroker

#: The broker's address in the examples.
DOCUMENTED = "127.0.0.1:9092"


def documented(kind: str) -> str:
    (text,) = (
        block.text
        for section in sections("README.rst")
        for block in section.blocks
        if needs_kafka(block) and block.kind == f"kafka {kind}"
    )
    return text


def test_a_record_is_an_event(kafka_broker: KafkaBroker) -> None:
    kafka_broker.create_topics(["hub.events"], 4)
    bindings = Bindings({DOCUMENTED: kafka_broker.bootstrap})
    _, program, command, *arguments = shlex.split(bindings.apply(documented("serve")))
    given = dict(zip(arguments[::2], arguments[1::2], strict=True))
    assert (program, command, set(given)) == (".venv/bin/hub", "serve", {"--config", "--set"})
    with running_hub(ROOT / given["--config"], given["--set"]) as hub:
        script = bindings.apply(documented("produce"))
        run([sys.executable, "-"], Transcript([], bindings, "README.rst"), script=script)
        query = {"channels": "job:43", "lastSeq": '{"job:43":0}', "wait": "60", "format": "v2"}
        answer = httpx.get(f"{hub.public_url}/poll", params=query, timeout=90.0, trust_env=False).json()
    (event,) = (event for event in answer["events"] if "seq" in event)
    assert (event["seq"], event["data"]) == (1, {"progress": 10})
