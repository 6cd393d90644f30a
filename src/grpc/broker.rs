//! The host's half of go-plugin's broker: it offers the host service to a plugin that dials it by number.
//!
//! A process has one stream of announcements and one listener, both for as long as it lives: gRPC channels go idle and dial
//! again. A plugin forgets an announcement after five seconds and takes it up once, so each offer has a number of its own, and
//! is announced right before the call that carries it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use tokio::net::UnixListener;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::call::Cancel;
use crate::error::{Error, Kind, Result};
use crate::grpc::message::{Outgoing, framed};
use crate::grpc::pb::go_plugin::ConnInfo;
use crate::grpc::remote::Remote;
use crate::grpc::stream::Messages;

/// The name of the broker's socket in a plugin's folder.
const SOCKET: &str = "broker.sock";

/// Announcements that may wait to be sent.
const WAITING: usize = 4;

/// One process's.
#[derive(Debug)]
pub(super) struct Broker {
    announce: mpsc::Sender<ConnInfo>,
    path: PathBuf,
    next: AtomicU32,
}

impl Broker {
    /// Opens the stream of announcements, and the listener that they will name.
    pub(super) fn open(shared: &Handle, connection: Remote, folder: &Path, gone: Cancel) -> Result<(Self, UnixListener)> {
        let path = folder.join(SOCKET);
        let listener = listen(shared, &path)?;
        let (announce, waiting) = mpsc::channel(WAITING);
        shared.spawn(async move {
            tokio::select! {
                biased;
                () = gone.cancelled() => (),
                () = exchange(connection, waiting) => (),
            }
        });
        Ok((Broker { announce, path, next: AtomicU32::new(1) }, listener))
    }

    /// Announces the listener. The number under which it can be dialled; 0 if the plugin has no broker.
    pub(super) fn offer(&self) -> u32 {
        let service_id = self.next.fetch_add(1, Ordering::Relaxed);
        let address = self.path.to_string_lossy().into_owned();
        let offer = ConnInfo { service_id, network: "unix".to_owned(), address, knock: None };
        if self.announce.try_send(offer).is_ok() { service_id } else { 0 }
    }
}

/// Sends the announcements for as long as the plugin takes them. What it announces itself has no use here, and is read so that
/// it does not wait.
async fn exchange(connection: Remote, mut announcements: mpsc::Receiver<ConnInfo>) {
    let Ok(connection) = connection.connection().await else { return };
    let begin = Outgoing::new("http://localhost/plugin.GRPCBroker/StartStream", Bytes::new());
    let Ok((response, mut stream)) = connection.sender.open(begin, false) else { return };
    let send = async {
        while let Some(announcement) = announcements.recv().await {
            if stream.send_data(framed(&announcement), false).is_err() {
                return;
            }
        }
    };
    let read = async {
        let Ok(response) = response.await else { return };
        let mut messages = Messages::new(response);
        while messages.next().await.is_some() {}
    };
    tokio::select! {
        () = send => (),
        () = read => (),
    }
}

/// A listener at this path.
pub(super) fn listen(shared: &Handle, path: &Path) -> Result<UnixListener> {
    let _context = shared.enter();
    UnixListener::bind(path).map_err(|e| Error::new(Kind::Io, format!("The socket {} cannot be made: {e}.", path.display())))
}
