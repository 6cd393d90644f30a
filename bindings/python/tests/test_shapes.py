"""The shapes that every language reads (tests/golden/shapes). Python has no types of its own for them: what a plugin answers is the
plain value, exactly, and a context goes in as it is."""

import json

import pytest
from conftest import ROOT, do, start

SHAPES = ROOT / "tests" / "golden" / "shapes"


def cases(shape):
    found = json.loads((SHAPES / f"{shape}.json").read_text())
    assert found
    return found


@pytest.mark.parametrize("shape", ["payloads", "results", "events", "contexts"])
def test_an_answer_is_what_the_plugin_said(plugin, shape):
    for case in cases(shape):
        sent = do("echo", answer=case["json"])
        answer = plugin.call("command", sent)
        # As texts, because 1, 1.0 and True are equal.
        assert json.dumps(answer, sort_keys=True) == json.dumps(sent["content"], sort_keys=True), case["name"]


FIELDS = {
    "id": "ID", "platform": "Platform", "topic": "Topic", "user_id": "UserID", "channel_id": "ChannelID",
    "form_rule_id": "FormRuleID", "form_id": "FormID", "auth_context": "AuthContext", "metadata": "Metadata",
}  # fmt: skip


@pytest.mark.parametrize("name", ["fixture-wasm-go", "fixture-grpc-go"])
def test_a_plugin_understands_the_context(host, name):
    with start(host, name) as plugin:
        for case in cases("contexts"):
            read = plugin.call("command", {"context": case["json"], "content": {"do": "context"}})
            assert {ours: read[theirs] for ours, theirs in FIELDS.items()} == case["value"], case["name"]
