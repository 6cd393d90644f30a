//! Redirects: each is a request of its own, to be allowed like the first.

use std::sync::Arc;

use flowplug::error::Kind;
use flowplug::host::HttpRequest;
use serde_json::Value;

use crate::server::{Seen, Server};
use crate::support::TestHost;
use crate::{Web, denial, plugin, plugin_of};

/// A server whose path says where it redirects to, and how: `/302/http://…`; anything else is the end.
fn redirecting() -> Server {
    Server::answering(|seen, out| {
        let path = seen.line.split(' ').nth(1).unwrap();
        match path.strip_prefix('/').and_then(|rest| rest.split_once('/')) {
            Some((status, to)) if status.parse::<u16>().is_ok() => {
                let to = to.replace("%5C", "\\");
                write!(out, "HTTP/1.1 {status} Elsewhere\r\nLocation: {to}\r\nContent-Length: 5\r\n\r\nmoved").is_ok()
            }
            _ => write!(out, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nthe end").is_ok(),
        }
    })
}

#[test]
fn each_hop_is_checked_like_the_first() {
    let (web, server, other) = (Web::new(), redirecting(), Server::plain());
    let (port, far) = (server.port(), other.port());
    web.name("good.example.com", &[&["127.0.0.1"]]);
    web.name("evil.org", &[&["127.0.0.1"]]);
    web.name("inner.example.com", &[&["127.0.0.2"]]);
    let p = plugin(&[&format!("good.example.com:{port}"), "inner.example.com", "127.0.0.3"], &["127.0.0.1"]);
    for status in [301, 302, 303, 307, 308] {
        for to in [
            format!("http://evil.org:{far}/"),
            format!("//evil.org:{far}/"),
            format!("http://good.example.com:{far}/"),
            format!("http://127.0.0.1:{far}/"),
            format!("http://inner.example.com:{far}/"),
            format!("http://127.0.0.3:{far}/"),
            format!("http://0x7f.3:{far}/"),
            format!("http://good.example.com:{port}@evil.org:{far}/"),
            format!("http://user:secret@good.example.com:{port}/"),
            format!("\\\\evil.org:{far}/"),
            format!("/\\evil.org:{far}/"),
            "file:///etc/passwd".to_owned(),
            "ftp://good.example.com/".to_owned(),
            "javascript:alert(1)".to_owned(),
            "http://".to_owned(),
        ] {
            let error = web.get(&p, &format!("http://good.example.com:{port}/{status}/{}", to.replace('\\', "%5C"))).unwrap_err();
            assert!(matches!(error.kind(), Kind::PermissionDenied | Kind::InvalidArgument | Kind::Io), "{to}: {error}");
        }
    }
    assert_eq!(other.connections(), 0);
}

#[test]
fn what_is_allowed_is_followed_and_the_last_answer_is_the_answer() {
    let (web, server, other) = (Web::new(), redirecting(), redirecting());
    let p = plugin(&["127.0.0.1"], &["127.0.0.1"]);
    for url in [
        server.url("/302//absolute/end"),
        server.url("/307//end?query#fragment"),
        server.url(&format!("/302/{}", other.url("/end"))),
        server.url("/301//302//303//end"),
        server.url("/308/../../end"),
    ] {
        assert_eq!(web.get(&p, &url).unwrap().body, b"the end", "{url}");
    }
    let nowhere = Server::saying("HTTP/1.1 302 Found\r\nContent-Length: 4\r\n\r\nhere");
    let answer = web.get(&p, &nowhere.url("/")).unwrap();
    assert_eq!((answer.status, answer.body.as_slice()), (302, &b"here"[..]));
    let not_modified = Server::saying("HTTP/1.1 304 Not Modified\r\nLocation: /\r\n\r\n");
    assert_eq!(web.get(&p, &not_modified.url("/")).unwrap().status, 304);
}

#[test]
fn what_is_reached_by_a_redirect_is_audited_before_it_is_reached() {
    let (web, server, other, refused) = (Web::new(), redirecting(), Server::plain(), Server::plain());
    let host = Arc::new(TestHost::default());
    let p = plugin_of(&host, &[&format!("127.0.0.1:{}", server.port()), &format!("127.0.0.1:{}", other.port())], &["127.0.0.1"]);
    for _ in 0..2 {
        web.get(&p, &server.url(&format!("/302/{}", other.url("/")))).unwrap();
        web.get(&p, &server.url(&format!("/302/{}", refused.url("/")))).unwrap_err();
    }
    let told: Vec<Value> = host.events.lock().unwrap().iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    let targets: Vec<&str> = told.iter().map(|event| event["audit"]["target"].as_str().unwrap()).collect();
    assert_eq!(targets, [format!("127.0.0.1:{}", other.port())], "the first server is told of where the plugin asks");
    assert_eq!((told[0]["audit"]["allowed"].as_bool(), refused.connections()), (Some(true), 0));
}

#[test]
fn redirects_end() {
    let web = Web::new();
    let p = plugin(&["127.0.0.1"], &["127.0.0.1"]);
    let server = Server::answering(|_, out| write!(out, "HTTP/1.1 302 Round\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n").is_ok());
    let error = web.get(&p, &server.url("/")).unwrap_err();
    assert_eq!((error.kind(), error.message().contains("10 times")), (Kind::Io, true), "{error}");
    assert_eq!((server.seen().len(), server.connections()), (11, 1));
}

#[test]
fn method_body_and_credentials_follow_the_fetch_standard() {
    let (web, server, other) = (Web::new(), redirecting(), Server::plain());
    let p = plugin(&["127.0.0.1"], &["127.0.0.1"]);
    let headers = [("Content-Type", "text/plain"), ("Authorization", "secret"), ("Cookie", "secret"), ("X-Own", "kept")];
    let last = |method: &str, url: &str| -> Seen {
        web.ask(&p, &HttpRequest { method, url, headers: &headers, body: b"sent" }).unwrap();
        [server.seen(), other.seen()].concat().pop().unwrap()
    };
    for (status, method, becomes) in [
        (301, "POST", "GET"),
        (302, "POST", "GET"),
        (303, "POST", "GET"),
        (303, "PUT", "GET"),
        (303, "HEAD", "HEAD"),
        (301, "PUT", "PUT"),
        (302, "DELETE", "DELETE"),
        (307, "POST", "POST"),
        (308, "post", "POST"),
        (308, "PATCH", "PATCH"),
    ] {
        let seen = last(method, &server.url(&format!("/{status}//end")));
        assert!(seen.line.starts_with(&format!("{becomes} /end ")), "{status} {method}: {seen:?}");
        let kept = becomes.eq_ignore_ascii_case(method);
        assert_eq!((seen.body.as_str(), seen.header("content-type").is_some()), (if kept { "sent" } else { "" }, kept), "{seen:?}");
        assert_eq!((seen.header("authorization"), seen.header("x-own")), (Some("secret"), Some("kept")), "{seen:?}");

        let far = last(method, &server.url(&format!("/{status}/{}", other.url("/far"))));
        assert!(far.line.starts_with(&format!("{becomes} /far ")), "{far:?}");
        assert_eq!((far.header("authorization"), far.header("cookie"), far.header("x-own")), (None, None, Some("kept")), "{far:?}");
    }
    let error = web.get(&plugin(&["localhost"], &["127.0.0.1"]), &server.url("/")).unwrap_err();
    assert_eq!(denial(&error), "permissions.http");
}
