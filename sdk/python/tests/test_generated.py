"""The generated modules belong to the .proto files as they are now."""

import hashlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PB = ROOT / "sdk" / "python" / "flowplug_sdk" / "pb"


def test_the_generated_modules_are_those_of_the_protocol():
    sources = [line.split() for line in (PB / "SOURCES").read_text().splitlines()]
    assert sorted(name for _, name in sources) == sorted(path.name for path in (ROOT / "proto").glob("*.proto"))
    for digest, name in sources:
        now = hashlib.sha256((ROOT / "proto" / name).read_bytes()).hexdigest()
        assert now == digest, f"proto/{name} has changed; run: sdk/python/generate.sh target/venv/bin/python"
