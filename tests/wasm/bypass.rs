//! Ways around the HTTP allowlist and the key prefixes: a table of each, whose rows must all fail beside those that must not.

use std::sync::Arc;

use flowplug::error::Kind;
use flowplug::host::http::{check_headers, check_method, check_url};
use flowplug::host::{Host, PluginContext};
use flowplug::manifest::{HostPattern, Manifest};
use flowplug::wasm::Plugin;

use crate::support::*;

/// Granted to the plugin of these tests.
const GRANTED: [&str; 6] = ["api.example.com", "*.example.org:8443", "127.0.0.1:8080", "[2001:db8::1]", "bücher.example", "10.1.2.3"];

/// URLs that reach a granted host, and the one form in which the host hears of them.
const ALLOWED: [(&str, &str); 20] = [
    ("https://api.example.com", "https://api.example.com/"),
    ("HTTPS://API.EXAMPLE.COM:443/a", "https://api.example.com/a"),
    ("http://api.example.com:8080/?q=1#f", "http://api.example.com:8080/?q=1#f"),
    ("https://api.example.com./", "https://api.example.com./"),
    ("https://api.example.com/@evil.example.com", "https://api.example.com/@evil.example.com"),
    ("https://api.example.com/?@evil.example.com/", "https://api.example.com/?@evil.example.com/"),
    ("https://api.example.com#@evil.example.com/", "https://api.example.com/#@evil.example.com/"),
    ("https://api.example.com/%2e%2e/x/../y", "https://api.example.com/y"),
    // Read alike by all who read URLs as the standard has it: the host that they name is the granted one.
    ("https:api.example.com/x", "https://api.example.com/x"),
    ("https:///api.example.com/x", "https://api.example.com/x"),
    ("https://%61pi.example.com/", "https://api.example.com/"),
    ("https://ａｐｉ.example.com/", "https://api.example.com/"),
    ("https://api。example。com/", "https://api.example.com/"),
    ("https://api.exam\u{ad}ple.com/", "https://api.example.com/"),
    ("https://a.b.EXAMPLE.org:8443/", "https://a.b.example.org:8443/"),
    ("http://2130706433:8080/", "http://127.0.0.1:8080/"),
    ("http://0x7f.1:8080/", "http://127.0.0.1:8080/"),
    ("http://[2001:DB8:0::1]:99/", "http://[2001:db8::1]:99/"),
    ("https://BÜCHER.example/", "https://xn--bcher-kva.example/"),
    ("http://012.1.2.3/", "http://10.1.2.3/"),
];

/// URLs that must not get past it, by what they try.
const REFUSED: &[(&str, &[&str])] = &[
    (
        "user names",
        &[
            "https://api.example.com@evil.example.com/",
            "https://api.example.com:443@evil.example.com/",
            "https://api.example.com%40evil.example.com/",
            "https://user@api.example.com/",
            "https://:password@api.example.com/",
            "https://api.example.com:@evil.example.com/",
            "https://evil.example.com@api.example.com@evil.example.com/",
        ],
    ),
    (
        "hosts that look like it",
        &[
            "https://api.example.com.evil.example/",
            "https://evil-api.example.com/",
            "https://example.com/",
            "https://sub.api.example.com/",
            "https://api.example.comm/",
            "https://api-example.com/",
            "https://apі.example.com/",
            "https://api.examрle.com/",
            "https://xn--ap-4ja.example.com/",
            "https://api.example.com../",
            "https://.api.example.com/",
            "https://api..example.com/",
            "https://xn--bcher-kvb.example/",
            "https://bucher.example/",
            "https://buecher.example/",
        ],
    ),
    (
        "ports and wildcards",
        &[
            "http://example.org:8443/",
            "https://.example.org:8443/",
            "https://a.example.org/",
            "https://a.example.org:443/",
            "https://a.example.org:84430/",
            "https://a.example.org:08444/",
            "https://badexample.org:8443/",
            "https://a.example.org.evil.example:8443/",
            "http://127.0.0.1/",
            "http://127.0.0.1:8081/",
            "https://api.example.com:99999/",
            "https://api.example.com:-1/",
            "https://api.example.com:80:80/",
        ],
    ),
    (
        "addresses",
        &[
            "http://2130706433/",
            "http://2130706434:8080/",
            "http://0177.0.0.2:8080/",
            "http://127.1.1:8080/",
            "http://0/",
            "http://0.0.0.0:8080/",
            "http://localhost:8080/",
            "http://[::1]:8080/",
            "http://[::ffff:127.0.0.1]:8080/",
            "http://[::ffff:7f00:1]:8080/",
            "http://[::127.0.0.1]:8080/",
            "http://[2001:db8::2]/",
            "http://[2001:db8::1%25eth0]/",
            "http://[2001:db8::1]evil.example/",
            "http://2001:db8::1/",
            "http://10.1.2.3.evil.example/",
            "http://10.1.2.4/",
            "http://167838211.1/",
            "http://256.256.256.256/",
            "http://169.254.169.254/latest/meta-data/",
        ],
    ),
    (
        "characters that readers of URLs see differently",
        &[
            "https://api.example.com\\@evil.example.com/",
            "https://evil.example.com\\@api.example.com/",
            "https:\\\\api.example.com/",
            "https:/\\evil.example.com/",
            "https://api.example.com\t.evil.example/",
            "https://evil.example.com\n@api.example.com/",
            "https://api.example.com\r\nHost: evil.example.com/",
            " https://api.example.com/",
            "https://api.example.com/ ",
            "https://api.example.com/a b",
            "https://api.example.com\0.evil.example/",
            "https://api.example.com%00.evil.example/",
            "https://api.example.com%0d%0a.evil.example/",
            "https://api.example.com%2f@evil.example.com/",
            "https://api.example.com%5c.evil.example/",
            "https://api.example.com%2eevil.example/",
            "https://evil.example.com%23.api.example.com/",
            "https://evil.example.com;api.example.com/",
            "https://evil.example.com,api.example.com/",
            "https://[api.example.com]/",
            "https://api.example.com\u{7f}/",
            "https://evil.example.com／api.example.com/",
            "https://evil.example.com？api.example.com/",
            "https://api.example.com．evil.example/",
        ],
    ),
    (
        "schemes",
        &[
            "file://api.example.com/etc/passwd",
            "file:///etc/passwd",
            "ftp://api.example.com/",
            "gopher://api.example.com:70/",
            "ws://api.example.com/",
            "javascript://api.example.com/%0aalert(1)",
            "data:text/plain,x",
            "blob:https://api.example.com/x",
            "view-source:https://api.example.com/",
            "http+unix://api.example.com/",
            "api.example.com",
            "//api.example.com/",
            "/",
            "",
            "https:",
            "https://",
            "https://?api.example.com",
            "https://#api.example.com",
            "://api.example.com/",
            "https//api.example.com/",
        ],
    ),
];

fn context(identity: &str, host: &Arc<TestHost>) -> Arc<PluginContext> {
    let mut grants = grants();
    grants.http = GRANTED.iter().map(|host| HostPattern::parse(host).unwrap()).collect();
    PluginContext::new(identity, grants, Arc::clone(host) as Arc<dyn Host>)
}

#[test]
fn no_url_gets_around_the_allowlist() {
    let context = context("org/test", &Arc::default());
    for (url, heard) in ALLOWED {
        assert_eq!(check_url(&context, url).unwrap().as_str(), heard, "{url}");
    }
    for (what, urls) in REFUSED {
        for url in *urls {
            let refused = check_url(&context, url).map(String::from);
            let kind = refused.as_ref().err().map(flowplug::error::Error::kind);
            assert!(matches!(kind, Some(Kind::PermissionDenied | Kind::InvalidArgument)), "{what}: {url:?} {refused:?}");
        }
    }
    let long = format!("https://api.example.com/{}", "x".repeat(9000));
    check_url(&context, &long).unwrap_err();
    // Whatever a host may be written as: a host that is not granted is not, in any way of writing it that is understood.
    for c in ('\u{0}'..='\u{ffff}').filter(|c| !matches!(c, '/' | '?' | '#')) {
        for url in [format!("https://api.example.com{c}evil.example/"), format!("https://evil.example{c}api.example.com/")] {
            assert!(check_url(&context, &url).is_err(), "{url:?}");
        }
    }
}

#[test]
fn no_method_or_header_gets_around_it() {
    for method in [
        "CONNECT",
        "connect",
        "TRACE",
        "GET ",
        " GET",
        "GET\r\nHost: evil.example",
        "GET http://evil.example/ HTTP/1.1",
        "",
        "ＧＥＴ",
        "G\0T",
    ] {
        assert_eq!(check_method(method).unwrap_err().kind(), Kind::InvalidArgument, "{method:?}");
    }
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"] {
        check_method(method).unwrap();
    }
    for (name, value) in [
        ("Host", "evil.example"),
        ("HOST", "evil.example"),
        ("host", ""),
        ("Host ", "evil.example"),
        (" Host", "evil.example"),
        ("Ho\0st", "x"),
        ("Host:", "evil.example"),
        ("X\r\nHost", "evil.example"),
        ("X", "1\r\nHost: evil.example"),
        ("X", "1\nHost: evil.example"),
        ("X", "1\rHost: evil.example"),
        ("X", "1\0"),
        ("", "x"),
        (":authority", "evil.example"),
        ("Hoſt", "evil.example"),
        // A second request in the body, or one that a proxy takes for its own.
        ("Content-Length", "0"),
        ("content-length", "+4"),
        ("Content-Length", "4, 0"),
        ("Transfer-Encoding", "chunked"),
        ("transfer-encoding", "identity"),
        ("Connection", "Authorization"),
        ("Upgrade", "h2c"),
        ("TE", "trailers"),
    ] {
        assert!(check_headers(&[(name, value)], b"body").is_err(), "{name:?}: {value:?}");
    }
    let usual =
        [("Authorization", "Bearer x"), ("X-Forwarded-Host", "a"), ("X-Text", "ü\tx"), ("Content-Length", "4"), ("Connection", "Close")];
    check_headers(&usual, b"body").unwrap();
}

const KV: &str = r#"
    (import "flowbot" "kv_get" (func $get (param i32 i32 i32 i32) (result i32)))
    (import "flowbot" "kv_set" (func $set (param i32 i32 i32 i32) (result i32)))
    (import "flowbot" "kv_delete" (func $delete (param i32 i32) (result i32)))"#;
/// Each answers the hexadecimal digits of the import's result.
const KEYS: &str = r#"
    (func $number (param i32) (result i64) (call $hex (i64.extend_i32_u (local.get 0)) (i32.const 0) (i32.const 0)))
    (func (export "get") (param i32 i32) (result i64) (call $number (call $get (local.get 0) (local.get 1) (i32.const 8192) (i32.const 4096))))
    (func (export "set") (param i32 i32) (result i64) (call $number (call $set (local.get 0) (local.get 1) (local.get 0) (local.get 1))))
    (func (export "delete") (param i32 i32) (result i64) (call $number (call $delete (local.get 0) (local.get 1))))"#;

fn plugin(setup: &Setup, identity: &str, host: &Arc<TestHost>) -> Arc<Plugin> {
    std::fs::write(setup.folder.0.join("plugin.wasm"), wat::parse_str(guest(KV, KEYS)).unwrap()).unwrap();
    let manifest = Manifest::parse(b"name: x\nruntime: wasm\nwasm: { module: ./plugin.wasm }\n", &setup.folder.0, true).unwrap();
    let plugin = Plugin::load(&setup.settings, &manifest, context(identity, host), &call()).unwrap();
    plugin.start("null", &call()).unwrap();
    plugin
}

fn result(plugin: &Plugin, function: &str, key: &str) -> i32 {
    let answer = ask(plugin, function, key).unwrap();
    u32::from_str_radix(&answer[9..17], 16).unwrap().cast_signed()
}

/// Two plugins of one host: whatever the one calls its keys, it never meets those of the other.
#[test]
fn no_key_reaches_another_plugins() {
    let (setup, host) = (Setup::new(), Arc::default());
    let (mine, theirs) = (plugin(&setup, "a", &host), plugin(&setup, "a/b", &host));
    assert_eq!((result(&theirs, "set", "secret"), result(&theirs, "get", "secret")), (1, 6), "the control");
    let long = "k".repeat(512);
    let keys = [
        "secret",
        "/b:secret",
        "b:secret",
        ":secret",
        "a/b:secret",
        "plugin:a/b:secret",
        "../a/b:secret",
        "..",
        ".",
        "/",
        "\n",
        "\u{0}",
        "secret\u{0}",
        "\u{0}plugin:a/b:secret",
        "\u{8}\u{8}/b:secret",
        "ѕecret",
        "ｓecret",
        "SECRET",
        "secret ",
        "%2fb:secret",
        "*",
        &long,
    ];
    for key in keys {
        assert_eq!(result(&mine, "get", key), -1, "{key:?}");
        assert_eq!(result(&mine, "set", key), 1, "{key:?}");
        assert_eq!(result(&mine, "get", key), i32::try_from(key.len()).unwrap());
        assert_eq!(result(&mine, "delete", key), 1);
        assert_eq!(result(&theirs, "get", "secret"), 6, "{key:?}");
    }
    // Keys that look alike are keys of their own.
    assert_eq!((result(&mine, "set", "secret"), result(&mine, "get", "ѕecret"), result(&mine, "get", "secret\u{0}")), (1, -1, -1));
    for key in ["", &"k".repeat(513)] {
        assert_eq!((result(&mine, "get", key), result(&mine, "set", key), result(&mine, "delete", key)), (-2, 0, 0), "{:.10}", key);
    }
    let outside: Vec<String> =
        host.kv.lock().unwrap().keys().filter(|key| !key.starts_with("plugin:a:") && !key.starts_with("plugin:a/b:")).cloned().collect();
    assert!(outside.is_empty(), "{outside:?}");
}
