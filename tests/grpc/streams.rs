//! go-plugin's own streams, seen from the plugin's end. The plugin is a script that names a socket of the test's own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use flowplug::call::Deadline;
use flowplug::grpc::pb::go_plugin::ConnInfo;
use prost::Message;
use serde_json::json;
use tokio::net::UnixListener;

use crate::hostile::{Plugin, script};
use crate::support::{Bench, SOON, call, comes_true, order, soon};

/// What was asked, by its path: how often, and what came with it.
#[derive(Default)]
struct Asked(Mutex<BTreeMap<String, (usize, Vec<u8>)>>);

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

/// Answers everything with an empty message, but the streams, which it leaves open, and `Help`, at which it hangs up.
async fn serve(socket: tokio::net::UnixStream, asked: Arc<Asked>) {
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
        let response = http::Response::builder().header("content-type", "application/grpc").body(()).unwrap();
        let mut out = answer.send_response(response, false).unwrap();
        if path == STDIO || path == BROKER {
            kept.push(out);
            continue;
        }
        out.send_data(Bytes::from_static(&[0; 5]), false).unwrap();
        out.send_trailers(std::iter::once((http::HeaderName::from_static("grpc-status"), "0".parse().unwrap())).collect()).unwrap();
    }
}

#[test]
fn streams_are_opened_once_for_each_process() {
    let bench = Bench::new("streams");
    let (asked, path) = (Arc::<Asked>::default(), std::env::temp_dir().join(format!("fps-{}", std::process::id())));
    let own = tokio::runtime::Runtime::new().unwrap();
    let listener = own.block_on(async { UnixListener::bind(&path).unwrap() });
    let counted = asked.clone();
    own.spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(serve(socket, counted.clone()));
        }
    });
    let text = format!("echo '1|1|unix|{}|grpc|'; exec sleep 600", path.display());
    let program = Plugin::new("streams", &script(&text), "");
    let (plugin, _exits) = bench.start_manifest(&program.manifest, "null");
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
    drop(std::fs::remove_file(&path));
}
