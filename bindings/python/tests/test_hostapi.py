"""Every host function with success, a missing key and a failure, for both runtimes; what callbacks are told; nested calls."""

import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import BOUND, FIXTURES, Recorder, ask, do, load, start

import flowplug

OK = {"done": True}


@pytest.fixture(params=["inline", "detached"])
def callbacks(request) -> str:
    return request.param


def refused(plugin, text, params):
    """The host function fails, and the plugin is told why."""
    assert text in plugin.call("command", params, timeout=BOUND)["error"]


def test_get_config(plugin, api):
    assert plugin.call("command", ask("get_config", key="name")) == {"value": "value"}
    assert plugin.call("command", ask("get_config", key="empty")) == {"value": ""}
    # gRPC has no way to say that a config key is missing.
    missing = {"missing": True} if plugin.identity == FIXTURES["wasm"] else {"value": ""}
    assert plugin.call("command", ask("get_config", key="none")) == missing
    assert ("get_config", "none") in api.asked


def test_the_store(plugin, api):
    key = f"plugin:{plugin.identity}:ä/key"
    assert plugin.call("command", ask("kv_get", key="ä/key")) == {"missing": True}
    assert plugin.call("command", ask("kv_set", key="ä/key", value="wörth")) == OK
    assert api.store == {key: "wörth".encode()}
    assert plugin.call("command", ask("kv_get", key="ä/key")) == {"value": "wörth"}
    assert plugin.call("command", ask("kv_set", key="ä/key", value="")) == OK
    assert plugin.call("command", ask("kv_get", key="ä/key")) == {"value": ""}
    assert plugin.call("command", ask("kv_delete", key="ä/key")) == OK
    assert plugin.call("command", ask("kv_delete", key="ä/key")) == OK
    assert api.store == {}


def test_http(plugin, api):
    request = {
        "method": "POST",
        "url": "http://127.0.0.1:1/path?q=1",
        "headers": {"X-Ask": "please"},
        "body": "b\nädy",
    }
    answer = plugin.call("command", ask("http_request", **request))["value"]
    assert (answer["status"], answer["body"]) == (201, "made b\nädy")
    assert {name.lower(): value for name, value in answer["headers"].items()} == {"x-answer": "yes"}
    (_, seen) = api.asked[-1]
    assert (seen.method, seen.url, seen.body) == ("POST", "http://127.0.0.1:1/path?q=1", "b\nädy".encode())
    assert ("x-ask", "please") in [(name.lower(), value) for name, value in seen.headers]


def test_a_denied_host_never_reaches_the_callback(plugin, api):
    refused(plugin, "example.com", ask("http_request", method="GET", url="http://example.com/"))
    assert api.asked == []


def test_events(plugin, api):
    assert plugin.call("command", ask("emit_event", event_type="made", source="test", data={"n": [1, "ä"]})) == OK
    (_, event) = api.asked[-1]
    assert (event["event_type"], event["source"], event["data"]) == ("made", "test", {"n": [1, "ä"]})


def test_log(plugin, api):
    assert plugin.call("command", ask("log", level=2, message="careful", fields={"a": "b"})) == OK
    record = api.wait_for_log(lambda record: record.message == "careful")
    assert (record.plugin, record.level, record.fields) == (plugin.identity, flowplug.LogLevel.WARN, {"a": "b"})


def test_standard_error_is_logged(plugin, api):
    plugin.call("command", do("output", text="[ERROR] a line"))
    record = api.wait_for_log(lambda record: "a line" in record.message)
    assert record.plugin == plugin.identity


FAILING = [
    ask("get_config", key="bad"),
    ask("kv_get", key="bad"),
    ask("kv_set", key="bad", value="x"),
    ask("kv_delete", key="bad"),
    ask("http_request", method="GET", url="http://127.0.0.1/bad"),
    ask("emit_event", event_type="bad"),
]


@pytest.mark.parametrize("params", FAILING, ids=[each["content"]["fn"] for each in FAILING])
def test_an_exception_fails_the_host_function(plugin, params, caplog):
    refused(plugin, "RuntimeError: this is bad", params)
    # The program's own fault is shown with its trace.
    assert "this is bad" in caplog.text
    assert plugin.call("command", do("echo")) == {"do": "echo"}


def test_a_flowplug_error_is_an_answer_and_no_fault(make_host, name, caplog):
    class API(flowplug.HostAPI):
        def kv_get(self, caller, key):
            raise flowplug.PermissionDeniedError("not yours")

    with start(make_host(api=API()), name) as plugin:
        refused(plugin, "not yours", ask("kv_get", key="a"))
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "AttributeError"),
        ("text", "AttributeError"),
        (flowplug.HTTPResponse(99), "cannot be used"),
        (flowplug.HTTPResponse(200, [("a", "b")] * 2000), "cannot be used"),
    ],
)
def test_an_impossible_answer_is_a_failure_and_not_a_wait(make_host, name, answer, said):
    class API(flowplug.HostAPI):
        def http_request(self, caller, request):
            return answer

    with start(make_host(api=API()), name) as plugin:
        refused(plugin, said, ask("http_request", method="GET", url="http://127.0.0.1/"))


def test_the_caller_is_known(plugin, api):
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    plugin.call("command", ask("kv_get", key="a"), tag=2**63 + 7, traceparent=trace, timeout=20)
    caller = api.callers[-1]
    assert (caller.plugin, caller.function, caller.tag, caller.traceparent) == (plugin.identity, "command", 2**63 + 7, trace)
    assert 0 < caller.remaining <= 20
    assert caller.parent


def test_super_and_what_is_not_overridden_is_the_librarys(make_host, name):
    class API(flowplug.HostAPI):
        def kv_get(self, caller, key):
            return super().kv_get(caller, key)

    with start(make_host(api=API()), name, {"key": "from the config"}) as plugin:
        assert plugin.call("command", ask("kv_set", key="a", value="b")) == OK
        assert plugin.call("command", ask("kv_get", key="a")) == {"value": "b"}
        assert plugin.call("command", ask("get_config", key="key")) == {"value": "from the config"}


def test_a_plugins_api_overrides_the_hosts(make_host, api, name):
    class API(flowplug.HostAPI):
        def kv_get(self, caller, key):
            return b"override"

    with start(make_host(api=api), name, api=API()) as plugin:
        assert plugin.call("command", ask("kv_get", key="a")) == {"value": "override"}
        assert plugin.call("command", ask("get_config", key="name")) == {"value": "value"}


def test_a_call_from_a_callback_belongs_to_the_call_that_led_there(make_host, name):
    class API(flowplug.HostAPI):
        def kv_get(self, caller, key):
            return str(second.call("command", do("echo", key=key))["key"]).encode()

    host = make_host(api=API())
    first, second = start(host, name, identity="first"), start(host, name, identity="second")
    assert first.call("command", ask("kv_get", key="a")) == {"value": "plugin:first:a"}


def test_nesting_ends_with_busy(make_host, name):
    deepest: list[flowplug.FlowplugError] = []

    class API(flowplug.HostAPI):
        def kv_get(self, caller, key):
            try:
                return str(plugin.call("command", ask("kv_get", key="a"))).encode()
            except flowplug.BusyError as error:
                deepest.append(error)
                raise

    plugin = start(make_host(api=API()), name)
    assert "error" in str(plugin.call("command", ask("kv_get", key="a"), timeout=BOUND))
    assert deepest


def test_another_thread_says_on_whose_behalf_it_calls(make_host):
    outcome: list[object] = []

    class API(flowplug.HostAPI):
        def kv_get(self, caller, key):
            def work():
                try:
                    outcome.append(plugin.call("command", ask("kv_get", key="a"), parent=caller.parent, timeout=BOUND))
                except flowplug.FlowplugError as error:
                    outcome.append(error.status)

            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
            return b"done"

    # The chain holds all instances of this plugin at some depth: found out at once, not by waiting.
    plugin = start(make_host(api=API()), FIXTURES["wasm"])
    assert plugin.call("command", ask("kv_get", key="a")) == {"value": "done"}
    assert flowplug.Status.BUSY in outcome


def test_the_host_cannot_be_closed_from_its_own_callback(make_host, name):
    seen: list[object] = []

    class API(flowplug.HostAPI):
        def kv_get(self, caller, key):
            try:
                host.close()
            except flowplug.InvalidStateError as error:
                seen.append(error.status)
            return b"still here"

    host = make_host(api=API())
    with start(host, name) as plugin:
        assert plugin.call("command", ask("kv_get", key="a")) == {"value": "still here"}
    assert seen == [flowplug.Status.INVALID_STATE]


def test_records_go_to_a_logger_or_a_function(make_host, caplog):
    records: list[flowplug.LogRecord] = []
    with start(make_host(log=records.append), FIXTURES["wasm"]) as plugin:
        plugin.call("command", ask("log", level=1, message="to a function"))
    assert "to a function" in [record.message for record in records]
    with caplog.at_level(logging.DEBUG, "plugins"), start(make_host(log=logging.getLogger("plugins")), FIXTURES["wasm"]) as plugin:
        plugin.call("command", ask("log", level=3, message="to a logger", fields={"n": "1"}))
    assert ("plugins", logging.ERROR, f"{FIXTURES['wasm']}: to a logger n=1") in caplog.record_tuples


def test_the_librarys_events(make_host, name):
    events: list[dict] = []
    with start(make_host(on_event=events.append), name) as plugin:
        plugin.stop()
    states = [event["state"] for event in events if event.get("plugin") == name and "state" in event]
    assert states[-1] == "stopped" and "running" in states


class Redirecting(BaseHTTPRequestHandler):
    def do_GET(self):
        port = self.server.server_port
        targets = {"/ok": "/page", "/other": f"http://localhost:{port}/page", "/loop": "/loop"}
        if self.path in targets:
            self.send_response(302)
            self.send_header("Location", targets[self.path])
            body = b""
        else:
            self.send_response(200 if self.path == "/page" else 404)
            body = self.headers["User-Agent"].encode()
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        pass


@pytest.fixture
def site():
    with ThreadingHTTPServer(("127.0.0.1", 0), Redirecting) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_fetch_checks_every_redirect(make_host, site, name):
    class API(flowplug.HostAPI):
        def http_request(self, caller, request):
            return flowplug.fetch(caller, request)

    with start(make_host(api=API()), name) as plugin:

        def get(path):
            asked = ask("http_request", method="GET", url=site + path, headers={"User-Agent": "tester"})
            return plugin.call("command", asked, timeout=BOUND)["value"]

        for path, status in (("/page", 200), ("/ok", 200), ("/none", 404)):
            answer = get(path)
            assert (answer["status"], answer["body"]) == (status, "tester")
        assert get("/loop")["status"] == 302
        refused(plugin, "localhost", ask("http_request", method="GET", url=site + "/other"))
        refused(plugin, "failed", ask("http_request", method="GET", url="http://127.0.0.1:1/"))


def test_the_url_of_a_request_is_checked_only_while_it_lasts(make_host):
    kept: list[flowplug.Caller] = []

    class API(Recorder):
        def http_request(self, caller, request):
            kept.append(caller)
            caller.http_check("http://127.0.0.1/elsewhere")
            with pytest.raises(flowplug.PermissionDeniedError):
                caller.http_check("http://example.com/")
            return flowplug.HTTPResponse(204)

    with load(make_host(api=API()), FIXTURES["wasm"]) as plugin:
        plugin.start()
        assert plugin.call("command", ask("http_request", method="GET", url="http://127.0.0.1/"))["value"]["status"] == 204
    with pytest.raises(flowplug.NotFoundError):
        kept[0].http_check("http://127.0.0.1/")


def test_the_librarys_own_http_client(make_host, site, name):
    granting = {"default": {"preset": "trusted", "http_private": ["127.0.0.0/8"]}}
    with start(make_host(policy=granting), name) as plugin:
        asked = ask("http_request", method="GET", url=site + "/ok", headers={"User-Agent": "tester"})
        answer = plugin.call("command", asked, timeout=BOUND)["value"]
        assert (answer["status"], answer["body"]) == (200, "tester")
        refused(plugin, "localhost", ask("http_request", method="GET", url=site + "/other"))
        refused(plugin, "10 times", ask("http_request", method="GET", url=site + "/loop"))
    with start(make_host(), name) as plugin:
        refused(plugin, "http_private", ask("http_request", method="GET", url=site + "/page"))


def test_a_store_in_a_file(make_host, tmp_path):
    for found in ({"missing": True}, {"value": "kept"}):
        with make_host(kv_path=tmp_path / "kv") as host, start(host, "c-fixture") as plugin:
            assert plugin.call("command", ask("kv_get", key="k")) == found
            assert plugin.call("command", ask("kv_set", key="k", value="kept")) == OK
            with pytest.raises(flowplug.IoError, match="in use"):
                flowplug.Host(kv_path=tmp_path / "kv")


def test_metrics(make_host, name):
    with make_host() as host, start(host, name) as plugin:
        plugin.call("command", ask("kv_get", key="k"))
        assert f'flowplug_calls_total{{plugin="{plugin.identity}"}} 1\n' in host.metrics()
