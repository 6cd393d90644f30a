"""Manifests and the check of configs."""

import json
import math

import pytest
from conftest import ROOT

import flowplug

WASM = """
name: greeter
version: 1.10
runtime: wasm
wasm: { module: ./plugin.wasm }
config_schema:
  type: object
  properties: { greeting: { type: string, minLength: 1 }, times: { type: integer } }
  required: [greeting]
"""


@pytest.mark.parametrize("content", [WASM, WASM.encode()], ids=["text", "bytes"])
def test_parse_fills_in_defaults(content):
    with flowplug.Manifest.parse(content) as manifest:
        fields = manifest.to_dict()
    assert (fields["name"], fields["version"], fields["runtime"]) == ("greeter", "1.10", "wasm")
    assert fields["wasm"]["pool"]["max_instances"] == 4
    assert fields["wasm"]["permissions"]["memory"]["max"] == "64MB"


@pytest.mark.parametrize("name", ["bookmarks", "defaults", "grpc"])
def test_golden_manifests_mean_what_stands_beside_them(name):
    golden = ROOT / "tests" / "golden" / "manifest"
    with flowplug.Manifest.read(golden / f"{name}.yaml", strict=True) as manifest:
        assert manifest.to_dict() == json.loads((golden / f"{name}.json").read_text())
        assert manifest.warnings == []


def test_read_takes_a_file_and_a_folder(tmp_path):
    (tmp_path / "plugin.yaml").write_text(WASM)
    for path in (tmp_path, tmp_path / "plugin.yaml", str(tmp_path)):
        with flowplug.Manifest.read(path) as manifest:
            assert manifest.to_dict()["name"] == "greeter"


def test_read_of_nothing(tmp_path):
    with pytest.raises(flowplug.FlowplugError, match=r"plugin\.yaml"):
        flowplug.Manifest.read(tmp_path)


def test_an_unknown_field_is_a_warning_or_an_error():
    odd = WASM + "autor: me\n"
    with flowplug.Manifest.parse(odd) as manifest:
        (warning,) = manifest.warnings
    assert "autor" in warning
    with pytest.raises(flowplug.InvalidManifestError, match="autor"):
        flowplug.Manifest.parse(odd, strict=True)
    with flowplug.Manifest.parse(WASM, strict=True) as manifest:
        assert manifest.warnings == []


def test_every_problem_is_listed():
    with pytest.raises(flowplug.InvalidManifestError) as failure:
        flowplug.Manifest.parse("version: 1\nruntime: jvm\n")
    error = failure.value
    assert error.status is flowplug.Status.INVALID_MANIFEST
    assert {"name", "runtime"} <= {problem["field"] for problem in error.details["problems"]}
    assert "missing name" in error.message and "invalid runtime" in error.message


def test_configs_are_checked():
    with flowplug.Manifest.parse(WASM) as manifest:
        manifest.validate_config({"greeting": "hello"})
        manifest.validate_config(b'{"greeting":"hello"}')
        with pytest.raises(flowplug.InvalidConfigError) as failure:
            manifest.validate_config({"greeting": "", "times": "many"})
        paths = {violation["instance_path"] for violation in failure.value.details["violations"]}
        assert paths == {"/greeting", "/times"}
        with pytest.raises(flowplug.InvalidConfigError):
            manifest.validate_config()
        with pytest.raises(flowplug.InvalidConfigError, match="not valid JSON"):
            manifest.validate_config(b"{")


def test_a_config_is_filled():
    with flowplug.Manifest.parse(WASM.replace("times: { type: integer }", "times: { type: integer, default: 3 }")) as manifest:
        assert manifest.fill_config({"greeting": "hello"}) == {"greeting": "hello", "times": 3}
        assert manifest.fill_config({"greeting": "hello", "times": 1}) == {"greeting": "hello", "times": 1}
        with pytest.raises(flowplug.InvalidConfigError) as failure:
            manifest.fill_config()
        assert failure.value.details["violations"]


def test_the_schemas_are_schemas():
    assert "runtime" in flowplug.manifest_schema()["properties"]
    assert "$schema" in flowplug.policy_schema()


ASKING = "name: a\nruntime: wasm\nwasm: { module: ./m.wasm, permissions: { http: [{ host: api.example.com }], memory: { max: 64MB } } }\n"


def test_a_manifest_is_checked_against_the_policy(make_host):
    host = make_host(policy="strict")
    with flowplug.Manifest.parse(ASKING) as manifest:
        denied = host.admit(manifest, "org/a")
        assert (denied["allowed"], denied["identity"], denied["runtime"]) == (False, "org/a", "wasm")
        (http,) = [request for request in denied["requests"] if request["what"] == "http"]
        assert (http["asked"], http["allowed"]) == ("api.example.com", False)
        assert http["grant"]
        granted = host.admit(manifest, "org/a", policy="trusted")
        assert granted["allowed"] and granted["granted"]["http"] == ["api.example.com"]
        with pytest.raises(flowplug.InvalidArgumentError):
            host.admit(manifest, "../a")
        with pytest.raises(flowplug.InvalidConfigError):
            host.admit(manifest, "org/a", policy={"http": 1})
    host.close()
    with flowplug.Manifest.parse(ASKING) as manifest, pytest.raises(flowplug.InvalidStateError):
        host.admit(manifest, "org/a")


def test_what_json_cannot_say_is_refused_here():
    with flowplug.Manifest.parse(WASM) as manifest:
        with pytest.raises(ValueError):
            manifest.validate_config(math.nan)
        with pytest.raises(TypeError):
            manifest.validate_config({"greeting": object()})


def test_a_closed_manifest_says_so():
    manifest = flowplug.Manifest.parse(WASM)
    manifest.close()
    manifest.close()
    assert manifest.closed
    with pytest.raises(flowplug.InvalidStateError, match="closed"):
        manifest.to_dict()
