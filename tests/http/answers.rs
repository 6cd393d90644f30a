//! What goes out and comes back: heads and bodies in every framing, bounds, ends, and the connections that are kept.

use std::sync::mpsc;
use std::time::Instant;

use flowplug::call::{Cancel, Deadline};
use flowplug::error::Kind;
use flowplug::host::HttpRequest;

use crate::server::Server;
use crate::support::LONG;
use crate::{SHORT, Web, plugin, plugin_with};

const GET: HttpRequest<'static> = HttpRequest { method: "GET", url: "", headers: &[], body: b"" };

#[test]
fn a_request_goes_out_whole_and_says_nothing_that_is_not_its_own_to_say() {
    let (web, server) = (Web::new(), Server::plain());
    let p = plugin(&["127.0.0.1"], &["127.0.0.1"]);
    let headers = [("X-One", "1"), ("x-one", "2"), ("Content-Length", "4"), ("Connection", "keep-alive"), ("Keep-Alive", "timeout=5")];
    let url = server.url("/p%61th/ä?q=ü&r=|^[]#fragment");
    let answer = web.ask(&p, &HttpRequest { method: "pAtCh", url: &url, headers: &headers, body: b"body" }).unwrap();
    assert_eq!(answer.status, 200);
    let seen = server.seen().pop().unwrap();
    assert_eq!((seen.line.as_str(), seen.body.as_str()), ("PATCH /p%61th/%C3%A4?q=%C3%BC&r=|^[] HTTP/1.1", "body"));
    assert_eq!(seen.header("host").unwrap(), server.address.to_string());
    assert_eq!(seen.headers.iter().filter(|line| line.starts_with("x-one: ")).count(), 2);
    assert_eq!(seen.headers.iter().filter(|line| line.starts_with("content-length")).count(), 1);
    assert!(seen.header("user-agent").unwrap().starts_with("flowplug/"), "{seen:?}");
    for name in ["keep-alive", "te", "transfer-encoding", "accept-encoding", "cookie", "referer"] {
        assert_eq!(seen.header(name), None, "{seen:?}");
    }
    let own = [("User-Agent", "mine"), ("Accept", "a/b")];
    web.ask(&p, &HttpRequest { headers: &own, url: &url, ..GET }).unwrap();
    let seen = server.seen().pop().unwrap();
    assert_eq!((seen.header("user-agent"), seen.header("accept")), (Some("mine"), Some("a/b")));
    for bad in ["a\r\nX-Two: 2", "a\nb", "a\0b"] {
        let error = web.ask(&p, &HttpRequest { headers: &[("X-One", bad)], url: &url, ..GET }).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument, "{bad:?}: {error}");
    }
    assert!(server.seen().is_empty());
}

#[test]
fn an_answer_comes_back_whole_in_every_framing() {
    let web = Web::new();
    let p = plugin(&["127.0.0.1"], &["127.0.0.1"]);
    for (method, said, status, body) in [
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello"),
        ("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nX-Trailer: t\r\n\r\n", 200, "hello"),
        ("GET", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello", 200, "hello"),
        ("GET", "HTTP/1.0 200 OK\r\n\r\nhello", 200, "hello"),
        ("GET", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello"),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", 204, ""),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5000000000\r\n\r\n", 200, ""),
        ("GET", "HTTP/1.1 418 \r\nContent-Length: 1\r\n\r\n\t", 418, "\t"),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello", 200, "hello"),
    ] {
        let server = Server::saying(said);
        let answer = web.ask(&p, &HttpRequest { method, url: &server.url("/"), ..GET }).unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (status, body.as_bytes()), "{said:?}");
        assert!(!answer.headers.iter().any(|(name, _)| name == "transfer-encoding" || name == "connection"), "{answer:?}");
    }
    let server = Server::saying(b"HTTP/1.1 200 OK\r\nX-A: 1\r\nX-A: 2\r\nX-B: \xff\r\nContent-Length: 0\r\n\r\n".to_vec());
    let headers = web.get(&p, &server.url("/")).unwrap().headers;
    let values = |wanted: &str| headers.iter().filter(|(name, _)| name == wanted).map(|(_, value)| value.clone()).collect::<Vec<_>>();
    assert_eq!((values("x-a"), values("x-b")), (vec!["1".to_owned(), "2".to_owned()], vec!["\u{fffd}".to_owned()]));
}

#[test]
fn what_is_no_answer_is_an_error() {
    let web = Web::new();
    let p = plugin(&["127.0.0.1"], &["127.0.0.1"]);
    let many: String = (0..200).map(|n| format!("X-{n}: 1\r\n")).collect();
    for said in [
        String::new(),
        "not http at all\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort".to_owned(),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab".to_owned(),
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nraw".to_owned(),
        format!("HTTP/1.1 200 OK\r\n{many}\r\n"),
        format!("HTTP/1.1 200 OK\r\nX-Long: {}\r\n\r\n", "x".repeat(300_000)),
        format!("HTTP/1.1 200 OK{}", "x".repeat(300_000)),
    ] {
        let server = Server::saying(said.clone());
        let error = web.get(&p, &server.url("/")).unwrap_err();
        assert_eq!(error.kind(), Kind::Io, "{said:.60}: {error}");
    }
}

#[test]
fn a_response_is_bounded_while_it_is_read() {
    let web = Web::new();
    let p = plugin_with(&["127.0.0.1"], &["127.0.0.1"], |grants| grants.http_max_response = 1000);
    let fits = Server::saying(format!("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{}", "x".repeat(1000)));
    assert_eq!(web.get(&p, &fits.url("/")).unwrap().body.len(), 1000);
    for head in ["Content-Length: 1000000000000", "Transfer-Encoding: chunked", "Connection: close"] {
        let server = Server::answering(move |_, out| {
            let chunk = if head.starts_with("Transfer") { format!("400\r\n{}\r\n", "x".repeat(1024)) } else { "x".repeat(1024) };
            drop(write!(out, "HTTP/1.1 200 OK\r\n{head}\r\n\r\n"));
            // For ever, until the other side has had enough.
            while out.write_all(chunk.as_bytes()).is_ok() {}
            false
        });
        let error = web.get(&p, &server.url("/")).unwrap_err();
        assert_eq!((error.kind(), error.message().contains("http_max_response")), (Kind::PermissionDenied, true), "{head}: {error}");
    }
}

#[test]
fn a_server_that_dawdles_is_left_at_the_deadline_or_when_the_call_is_cancelled() {
    let (web, p) = (Web::new(), plugin(&["127.0.0.1"], &["127.0.0.1"]));
    for said in ["", "HTTP/1.1 200 OK\r\nX-Sl", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe"] {
        let (gone, left) = mpsc::channel();
        let server = Server::answering(move |_, out| {
            drop(out.write_all(said.as_bytes()));
            // Until the other side closes the connection.
            drop(out.read(&mut [0]));
            gone.send(()).unwrap_or_default();
            false
        });
        let url = server.url("/");
        let began = Instant::now();
        let error = web.ask_within(&p, &HttpRequest { url: &url, ..GET }, &Deadline::after(SHORT), None).unwrap_err();
        assert_eq!(error.kind(), Kind::Timeout, "{error}");
        assert!(began.elapsed() < SHORT * 10);
        // Where the machine is so busy that the request had not come, there is nothing to leave.
        if !server.seen().is_empty() {
            left.recv_timeout(LONG).unwrap();
        }

        let cancel = Cancel::new();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| web.ask_within(&p, &HttpRequest { url: &url, ..GET }, &Deadline::after(LONG), Some(&cancel)));
            while server.seen().is_empty() {
                std::thread::yield_now();
            }
            cancel.cancel();
            assert_eq!(waiting.join().unwrap().unwrap_err().kind(), Kind::Cancelled);
        });
        left.recv_timeout(LONG).unwrap();
    }
    // The plugin's end ends it too.
    p.ending.cancel();
    assert_eq!(web.get(&p, &Server::plain().url("/")).unwrap_err().kind(), Kind::Cancelled);
}

#[test]
fn a_connection_is_kept_for_its_plugin_and_for_no_other() {
    let (web, server) = (Web::new(), Server::plain());
    let (first, second) = (plugin(&["127.0.0.1"], &["127.0.0.1"]), plugin(&["127.0.0.1"], &["127.0.0.1"]));
    let ask = |plugin| {
        let before = server.connections();
        web.get(plugin, &server.url("/")).unwrap();
        server.connections() - before
    };
    assert_eq!(ask(&first), 1);
    // It is at hand again a moment after its answer.
    assert!((0..20).any(|_| ask(&first) == 0));
    assert_eq!(ask(&second), 1);
    // A server that lets go of what was kept costs no request.
    let fickle = Server::saying("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    for _ in 0..20 {
        assert_eq!(web.get(&first, &fickle.url("/")).unwrap().body, b"ok");
    }
}

#[test]
fn a_plugin_that_goes_to_many_servers_keeps_few_connections() {
    let (web, p) = (Web::new(), plugin(&["127.0.0.1"], &["127.0.0.1"]));
    let (closed, left) = mpsc::channel();
    let servers: Vec<Server> = (0..17)
        .map(|n| {
            let closed = closed.clone();
            Server::answering(move |_, out| {
                drop(write!(out, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
                drop(out.read(&mut [0]));
                closed.send(n).unwrap_or_default();
                false
            })
        })
        .collect();
    for server in &servers {
        web.get(&p, &server.url("/")).unwrap();
    }
    let mut ended: Vec<_> = (0..16).map(|_| left.recv_timeout(LONG).unwrap()).collect();
    ended.sort_unstable();
    assert_eq!(ended, (0..16).collect::<Vec<_>>());
}
