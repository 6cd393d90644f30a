//! go-plugin's own streams, seen from the plugin's end. The plugin is a script that names a socket of the test's own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use flowplug::call::{Call, Deadline};
use flowplug::error::Kind;
use flowplug::grpc::pb::go_plugin::ConnInfo;
use prost::Message;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use crate::hostile::{Plugin, script};
use crate::support::{Bench, SOON, call, comes_true, order, soon};

/// What was asked, by its path: how often, and what came with it.
#[derive(Default)]
pub struct Asked(Mutex<BTreeMap<String, (usize, Vec<u8>)>>);

impl Asked {
    fn times(&self, path: &str) -> usize {
        self.0.lock().unwrap().get(path).map_or(0, |(times, _)| *times)
    }

    fn sent(&self, path: &str) -> Vec<u8> {
        self.0.lock().unwrap().get(path).map_or(Vec::new(), |(_, sent)| sent.clone())
    }
}

const STDIO: &str = "/plugin.GRPCStdio/StreamStdio";
const BROKER: &str = "/plugin.GRPCBroker/StartStream";

/// Answers everything with an empty message, but the streams, which it leaves open, `Help`, at which it hangs up, `Rules`, which it gives up,
/// and `Form` and `Bootstrap`, at which it fails.
pub async fn serve(socket: impl AsyncRead + AsyncWrite + Unpin, asked: Arc<Asked>) {
    let mut connection = h2::server::handshake(socket).await.unwrap();
    let mut kept = Vec::new();
    while let Some(Ok((request, mut answer))) = connection.accept().await {
        let (path, mut body) = (request.uri().path().to_owned(), request.into_body());
        asked.0.lock().unwrap().entry(path.clone()).or_default().0 += 1;
        let told = asked.clone();
        let own = path.clone();
        tokio::spawn(async move {
            while let Some(Ok(data)) = body.data().await {
                drop(body.flow_control().release_capacity(data.len()));
                told.0.lock().unwrap().get_mut(&own).unwrap().1.extend_from_slice(&data);
            }
        });
        if path.ends_with("/Help") {
            return;
        }
        if path.ends_with("/Rules") {
            answer.send_reset(h2::Reason::CANCEL);
            continue;
        }
        let response = http::Response::builder().header("content-type", "application/grpc");
        let fails = [("/Form", "14"), ("/Bootstrap", "4")].into_iter().find(|(function, _)| path.ends_with(function));
        if let Some((_, status)) = fails {
            let whole = response.header("grpc-status", status).header("grpc-message", "the database is down").body(()).unwrap();
            answer.send_response(whole, true).unwrap();
            continue;
        }
        let response = response.body(()).unwrap();
        let mut out = answer.send_response(response, false).unwrap();
        if path == STDIO || path == BROKER {
            kept.push(out);
            continue;
        }
        out.send_data(Bytes::from_static(&[0; 5]), false).unwrap();
        out.send_trailers(std::iter::once((http::HeaderName::from_static("grpc-status"), "0".parse().unwrap())).collect()).unwrap();
    }
}

/// A listener at a path, where another process of this number may have left one.
pub async fn listen(path: &Path) -> UnixListener {
    drop(std::fs::remove_file(path));
    UnixListener::bind(path).unwrap()
}

/// A plugin whose socket is served by [`serve`].
struct Served {
    program: Plugin,
    asked: Arc<Asked>,
    path: PathBuf,
    _own: tokio::runtime::Runtime,
}

impl Served {
    fn new(name: &str) -> Self {
        let (asked, path) = (Arc::<Asked>::default(), std::env::temp_dir().join(format!("fps-{}-{name}", std::process::id())));
        let own = tokio::runtime::Runtime::new().unwrap();
        let listener = own.block_on(listen(&path));
        let counted = asked.clone();
        own.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, counted.clone()));
            }
        });
        let text = format!("echo '1|1|unix|{}|grpc|'; exec sleep 600", path.display());
        Served { program: Plugin::new(name, &script(&text), ""), asked, path, _own: own }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.path));
    }
}

#[test]
fn a_failure_that_the_plugin_tells_is_its_own() {
    let (bench, served) = (Bench::new("fails"), Served::new("fails"));
    let (plugin, _exits) = bench.start_manifest(&served.program.manifest, "null");
    // Neither is the connection lost, nor the call late.
    for (name, status) in [("form", 14), ("bootstrap", 4)] {
        let function = plugin.resolve(name).unwrap();
        let from_afar = plugin.call_async(function, name, b"", &soon());
        let from_afar = bench.runtime.block_on(bench.runtime.spawn(from_afar)).unwrap().unwrap_err();
        for error in [call(&plugin, name, &json!({}), &soon()).unwrap_err(), from_afar] {
            assert_eq!((error.kind(), error.plugin_message()), (Kind::Plugin, "the database is down"), "{error}");
            assert_eq!(error.details()["grpc_status"], status, "{error:?}");
        }
    }
    // Of a call that is late, it is what it is.
    let late = Call::new(Deadline::after(Duration::from_millis(90)));
    assert_eq!(call(&plugin, "bootstrap", &json!({}), &late).unwrap_err().kind(), Kind::Timeout);
    plugin.stop(&Deadline::after(SOON));
}

#[test]
fn streams_are_opened_once_for_each_process() {
    let (bench, served) = (Bench::new("streams"), Served::new("streams"));
    let asked = &served.asked;
    let (plugin, _exits) = bench.start_manifest(&served.program.manifest, "null");
    let command = plugin.resolve("command").unwrap();
    let call_async = || bench.runtime.block_on(bench.runtime.spawn(plugin.call_async(command, "command", b"{}", &soon()))).unwrap();
    for _ in 0..3 {
        order(&plugin, json!(1), &soon()).unwrap();
        call_async().unwrap();
    }
    assert!(comes_true(|| asked.times(STDIO) == 1 && asked.times(BROKER) == 1 && !asked.sent(BROKER).is_empty()));
    // Each connection of the two is lost once, and made again: the streams that were on one are not.
    let help = plugin.resolve("help").unwrap();
    call(&plugin, "help", &json!({}), &soon()).unwrap_err();
    bench.runtime.block_on(bench.runtime.spawn(plugin.call_async(help, "help", b"", &soon()))).unwrap().unwrap_err();
    for _ in 0..3 {
        order(&plugin, json!(1), &soon()).unwrap();
        call_async().unwrap();
    }
    assert_eq!((asked.times(STDIO), asked.times(BROKER)), (1, 1));
    assert_eq!(asked.times("/flowbot.plugin.PluginService/Command"), 12);
    // Given up long before the deadline, which is not what ended it.
    let error = call(&plugin, "rules", &json!({}), &soon()).unwrap_err();
    assert!(error.kind() == Kind::Unavailable && error.message().contains("stream no longer needed"), "{error}");
    let late = Call::new(Deadline::after(Duration::from_millis(90)));
    assert_eq!(call(&plugin, "rules", &json!({}), &late).unwrap_err().kind(), Kind::Timeout);
    // One announcement, whose number `Init` has.
    let announced = ConnInfo::decode(&asked.sent(BROKER)[5..]).unwrap();
    let init = asked.sent("/flowbot.plugin.PluginService/Init");
    let init = flowplug::grpc::pb::flowbot::InitRequest::decode(&init[5..]).unwrap();
    assert_eq!((announced.service_id, announced.network.as_str()), (init.host_broker_id, "unix"));
    assert!(bench.left_behind()[0].join("broker.sock") == std::path::Path::new(&announced.address));
    // Said over and over, go-plugin's own `Shutdown` is asked once.
    plugin.stop(&Deadline::after(SOON));
    plugin.stop(&Deadline::after(SOON));
    assert_eq!(asked.times("/plugin.GRPCController/Shutdown"), 1);
}

/// Takes back whatever is asked, floods pings and reads no more, until it is hung up on.
async fn flood(mut socket: UnixStream) {
    let settings_and_go_away = b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let pings = b"\0\0\x08\x06\0\0\0\0\0pingpong".repeat(1000);
    drop(socket.read(&mut [0; 4096]).await);
    drop(socket.write_all(settings_and_go_away).await);
    while socket.write_all(&pings).await.is_ok() {}
}

#[test]
fn a_connection_that_is_given_up_is_closed_whatever_the_plugin_does() {
    let bench = Bench::new("given-up");
    let path = std::env::temp_dir().join(format!("fpg-{}", std::process::id()));
    let own = tokio::runtime::Runtime::new().unwrap();
    let listener = own.block_on(listen(&path));
    let (came, left) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let (all, closed) = (came.clone(), left.clone());
    own.spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            if all.fetch_add(1, Ordering::SeqCst) == 0 {
                tokio::spawn(serve(socket, Arc::default()));
                continue;
            }
            let closed = closed.clone();
            tokio::spawn(async move {
                flood(socket).await;
                closed.fetch_add(1, Ordering::SeqCst);
            });
        }
    });
    let text = format!("echo '1|1|unix|{}|grpc|'; exec sleep 600", path.display());
    let program = Plugin::new("given-up", &script(&text), "");
    let (plugin, _exits) = bench.load_manifest(&program.manifest, Deadline::after(SOON)).unwrap();
    let help = plugin.resolve("help").unwrap();
    let counts = || (came.load(Ordering::SeqCst), left.load(Ordering::SeqCst));
    let briefly = || Call::new(Deadline::after(Duration::from_millis(300)));
    // The first, at which the good connection is hung up on, and the others on one of their own each, unless there was no time for it.
    let several = comes_true(|| {
        bench.runtime.block_on(bench.runtime.spawn(plugin.call_async(help, "help", b"", &briefly()))).unwrap().unwrap_err();
        counts().0 > 5
    });
    // All but the first, which was not flooded, and perhaps the last: it ends by itself if the flood leaves it the room for that.
    assert!(several && comes_true(|| counts().0 <= counts().1 + 2), "{:?}", counts());
    // One that is worked by who calls, and kept for the next who does.
    let (before, mut last) = (counts().0, String::new());
    let another = comes_true(|| {
        last = order(&plugin, json!(1), &briefly()).unwrap_err().to_string();
        counts().0 > before
    });
    assert!(another, "{:?}, {last}", counts());
    plugin.stop(&Deadline::after(SOON));
    // That one too, and the one on which the stop asked the process to end, while somebody still holds the plugin.
    assert!(comes_true(|| counts().0 == counts().1 + 1), "{:?}", counts());
    drop(std::fs::remove_file(&path));
}
