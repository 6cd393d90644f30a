//! Names whose look-up does not end: each holds a thread, and there are only so many of them.

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex};

use flowplug::call::{Cancel, Deadline};
use flowplug::error::Kind;
use flowplug::host::http::Resolve;
use flowplug::host::{HttpRequest, PluginContext};

use crate::server::Server;
use crate::support::LONG;
use crate::{SHORT, Web, plugin};

/// Looks nothing up before it is let go; then every name leads here.
#[derive(Default)]
struct Stuck {
    /// Look-ups that have begun, and whether they may end.
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Resolve for Stuck {
    fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        let mut state = self.state.lock().unwrap();
        state.0 += 1;
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |(_, free)| !*free).unwrap());
        Ok(vec!["127.0.0.1".parse().unwrap()])
    }
}

impl Stuck {
    fn begun(&self) -> usize {
        self.state.lock().unwrap().0
    }

    /// Leaves a request when its look-up has begun, which goes on.
    fn hold(&self, web: &Web, plugin: &Arc<PluginContext>, url: &str) {
        let (before, cancel) = (self.begun(), Cancel::new());
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| web.ask_within(plugin, &get(url), &Deadline::after(LONG), Some(&cancel)));
            let state = self.state.lock().unwrap();
            let (state, late) = self.changed.wait_timeout_while(state, LONG, |(begun, _)| *begun == before).unwrap();
            drop(state);
            cancel.cancel();
            assert_eq!(asked.join().unwrap().unwrap_err().kind(), Kind::Cancelled);
            assert!(!late.timed_out(), "{url} was not looked up");
        });
    }
}

fn get(url: &str) -> HttpRequest<'_> {
    HttpRequest { method: "GET", url, headers: &[], body: b"" }
}

#[test]
fn lookups_that_do_not_end_are_counted_however_many_servers_a_plugin_and_plugins_a_host_has() {
    let (stuck, server) = (Arc::new(Stuck::default()), Server::plain());
    let web = Web::resolving(None, Arc::default(), stuck.clone());
    let url = |n: usize| format!("http://name{n}.example.com:{}/", server.port());
    let refused = |p: &Arc<PluginContext>, n: usize| {
        let before = stuck.begun();
        let error = web.ask_within(p, &get(&url(n)), &Deadline::after(SHORT), None).unwrap_err();
        assert_eq!((error.kind(), stuck.begun()), (Kind::Timeout, before), "{error}");
    };
    let greedy = || plugin(&["*.example.com"], &["127.0.0.1"]);
    let first = greedy();
    (0..8).for_each(|n| stuck.hold(&web, &first, &url(n)));
    // Past 16 servers the plugin's client is another one.
    (8..20).for_each(|n| refused(&first, n));
    // The first look-up of a plugin takes none of the host's 128.
    for _ in 1..18 {
        let another = greedy();
        (0..8).for_each(|n| stuck.hold(&web, &another, &url(n)));
    }
    let another = greedy();
    (0..3).for_each(|n| stuck.hold(&web, &another, &url(n)));
    refused(&another, 3);
    // So one that does nothing wrong is looked up for, whatever others do.
    let last = greedy();
    stuck.hold(&web, &last, &url(0));
    refused(&last, 1);
    stuck.state.lock().unwrap().1 = true;
    stuck.changed.notify_all();
    for p in [first, last] {
        assert_eq!(web.ask(&p, &get(&url(30))).unwrap().status, 200);
    }
}
