//! What a request may be sent to: the host by the allowlist, the address by the policy. A table of the ways round it.

use flowplug::error::Kind;
use flowplug::host::HttpRequest;

use crate::server::Server;
use crate::{Web, denial, plugin};

/// The allowlist has the name or the address; the policy has no private range. Nothing is connected to.
#[test]
fn an_address_that_is_not_public_is_refused_in_every_spelling() {
    let (web, server) = (Web::new(), Server::plain());
    let port = server.port();
    web.name("inside.example.com", &[&["127.0.0.1"]]);
    web.name("mapped.example.com", &[&["::ffff:127.0.0.1"]]);
    web.name("both.example.com", &[&["127.0.0.1", "::1"]]);
    web.name("metadata.example.com", &[&["169.254.169.254"]]);
    web.name("nat64.example.com", &[&["64:ff9b::7f00:1"]]);
    web.name("sixtofour.example.com", &[&["2002:7f00:1::"]]);
    let p = plugin(&["*.example.com", "127.0.0.1", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "[::127.0.0.1]", "localhost"], &[]);
    web.name("localhost", &[&["127.0.0.1"]]);
    for host in [
        "127.0.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "017700000001",
        "127.1",
        "127.0.0.1.",
        "%31%32%37.0.0.1",
        "\u{ff11}\u{ff12}\u{ff17}.0.0.1",
        "127\u{3002}0\u{3002}0\u{3002}1",
        "0.0.0.0",
        "0",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "inside.example.com",
        "INSIDE.example.com",
        "mapped.example.com",
        "both.example.com",
        "metadata.example.com",
        "nat64.example.com",
        "sixtofour.example.com",
    ] {
        let name = host.to_ascii_lowercase();
        if name.ends_with("localhost.") {
            web.name("localhost.", &[&["127.0.0.1"]]);
        }
        let error = web.get(&p, &format!("http://{host}:{port}/")).unwrap_err();
        assert_eq!(denial(&error), "http_private", "{host}: {error}");
        assert!(error.message().contains("http_private: ["), "{host}: {error}");
    }
    assert_eq!(server.connections(), 0);
}

/// The policy has every private range; the allowlist does not have the host as a browser reads it.
#[test]
fn a_host_that_the_allowlist_does_not_name_is_refused_however_it_is_written() {
    let (web, server) = (Web::new(), Server::plain());
    let port = server.port();
    let p = plugin(&["good.example.com", "*.sub.example.com", &format!("good.example.net:{port}")], &["0.0.0.0/0", "::/0"]);
    for name in ["good.example.com", "good.example.net", "evil.org", "sub.example.com", "localhost"] {
        web.name(name, &[&["127.0.0.1"]]);
    }
    for url in [
        format!("http://evil.org:{port}/"),
        format!("http://127.0.0.1:{port}/"),
        format!("http://sub.example.com:{port}/"),
        format!("http://good.example.com.evil.org:{port}/"),
        format!("http://good.example.com@evil.org:{port}/"),
        format!("http://evil.org:{port}#@good.example.com/"),
        format!("http://evil.org:{port}?@good.example.com/"),
        format!("http://evil.org:{port}\\@good.example.com/"),
        format!("http://good.example.com:{port}@evil.org/"),
        format!("http://user@good.example.com:{port}/"),
        format!("http://good.example.com\u{2044}.evil.org:{port}/"),
        format!("http://good%2eexample%2ecom%2f.evil.org:{port}/"),
        format!("http://g\u{43e}od.example.com:{port}/"),
        format!("http://good.example.net:{}/", port.wrapping_add(1)),
        "http://good.example.net/".to_owned(),
        format!("ftp://good.example.com:{port}/"),
        format!("gopher://good.example.com:{port}/"),
        "file:///etc/passwd".to_owned(),
        "data:text/plain,x".to_owned(),
        format!("http://good.example.com:{port}/\r\nHost: evil.org"),
        format!("http://good.example.com:{port}/ HTTP/1.1"),
        format!("http:///good.example.com:{port}/ "),
        String::new(),
    ] {
        let error = web.get(&p, &url).unwrap_err();
        assert!(matches!(error.kind(), Kind::PermissionDenied | Kind::InvalidArgument), "{url:?}: {error}");
    }
    assert_eq!(server.connections(), 0);
    for url in [
        format!("http://good.example.com:{port}/"),
        format!("http://GOOD.example.com:{port}/"),
        format!("http:good.example.com:{port}/"),
        format!("http://good\u{3002}example.com:{port}/"),
        format!("http://good.example.net:{port}/"),
    ] {
        assert_eq!(web.get(&p, &url).unwrap().status, 200, "{url}");
    }
    for seen in server.seen() {
        assert!(seen.header("host").unwrap().starts_with("good.example."), "{seen:?}");
    }
}

#[test]
fn a_name_that_changes_its_mind_is_judged_at_each_connection() {
    let (web, server) = (Web::new(), Server::plain());
    let inner = Server::on(&format!("127.0.0.2:{}", server.port()), |_, _| panic!("it was reached"), |tcp| Some(Box::new(tcp)));
    let p = plugin(&["rebinding.example.com"], &["127.0.0.1"]);
    web.name("rebinding.example.com", &[&["127.0.0.1"], &["127.0.0.2"], &["169.254.169.254"], &["127.0.0.1"]]);
    let url = format!("http://rebinding.example.com:{}/", server.port());
    let leaving = |url: &str| web.ask(&p, &HttpRequest { method: "GET", url, headers: &[("Connection", "close")], body: b"" });
    assert_eq!(leaving(&url).unwrap().status, 200);
    assert_eq!(denial(&leaving(&url).unwrap_err()), "http_private");
    assert_eq!(denial(&leaving(&url).unwrap_err()), "http_private");
    assert_eq!(leaving(&url).unwrap().status, 200);
    // One look-up for each connection: nobody asks again between the judgement and the connection.
    assert_eq!(web.names.asked.lock().unwrap().len(), 4);
    assert_eq!((server.connections(), inner.connections()), (2, 0));
}

#[test]
fn of_several_addresses_only_those_are_tried_that_may_be() {
    let (web, server) = (Web::new(), Server::plain());
    let inner = Server::on(&format!("127.0.0.2:{}", server.port()), |_, _| panic!("it was reached"), |tcp| Some(Box::new(tcp)));
    let p = plugin(&["mixed.example.com"], &["127.0.0.1"]);
    web.name("mixed.example.com", &[&["127.0.0.2", "::1", "127.0.0.1", "127.0.0.2"]]);
    assert_eq!(web.get(&p, &format!("http://mixed.example.com:{}/", server.port())).unwrap().status, 200);
    assert_eq!(inner.connections(), 0);
}

#[test]
fn names_that_lead_nowhere_and_ports_where_nobody_listens_are_errors() {
    let web = Web::new();
    let p = plugin(&["*.example.com", "127.0.0.1"], &["127.0.0.0/8"]);
    web.name("nothing.example.com", &[&[]]);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for url in ["http://missing.example.com/", "http://nothing.example.com/", &format!("http://{closed}/")] {
        let error = web.get(&p, url).unwrap_err();
        assert_eq!(error.kind(), Kind::Io, "{url}: {error}");
    }
}
