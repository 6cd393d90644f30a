//! A plugin on tonic by somebody who has neither go-plugin nor an SDK: what the protocol asks for, by hand.
//!
//! It serves a Unix socket in the folder that the host names, or TCP with the argument `tcp`, and TLS where the host gives a
//! certificate. `command` answers with its content, or does what that wants: `{"do": "error", "text": t}`, `{"do": "sleep", "ms": n}`,
//! or `{"ask": f, "key": k, "value": v}`, a function of the host, as the plugin on plain go-plugin has it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs, unreachable_pub, reason = "a plugin for tests")]

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use pb::host_service_client::HostServiceClient;
use pb::plugin_service_server::{PluginService, PluginServiceServer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};

#[allow(clippy::all, clippy::allow_attributes_without_reason, clippy::pedantic, dead_code, reason = "generated")]
mod pb {
    include!("../../../src/grpc/pb/flowbot.plugin.rs");
}

/// The largest message that is taken, in bytes.
const MESSAGE: usize = 64 << 20;

struct Plugin {
    host: HostServiceClient<Channel>,
    token: String,
}

impl Plugin {
    /// A request to the host for the call at hand: with the token, and with that call's id.
    fn ask<T>(&self, message: T, call: &tonic::metadata::MetadataMap) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", format!("Bearer {}", self.token).parse().unwrap());
        if let Some(id) = call.get("flowplug-call") {
            request.metadata_mut().insert("flowplug-call", id.clone());
        }
        request
    }

    async fn obey(&self, call: &tonic::metadata::MetadataMap, order: &Value) -> Result<Value, String> {
        if let Some(function) = order["ask"].as_str() {
            return self.ask_for(call, function, order).await;
        }
        match order["do"].as_str() {
            Some("error") => Err(order["text"].as_str().unwrap_or_default().to_owned()),
            Some("sleep") => {
                tokio::time::sleep(Duration::from_millis(order["ms"].as_u64().unwrap_or_default())).await;
                Ok(json!({"slept": order["ms"]}))
            }
            _ => Ok(order.clone()),
        }
    }

    async fn ask_for(&self, call: &tonic::metadata::MetadataMap, function: &str, order: &Value) -> Result<Value, String> {
        let text = |name: &str| order[name].as_str().unwrap_or_default().to_owned();
        let bytes = usize::try_from(order["bytes"].as_u64().unwrap_or_default()).unwrap();
        let (key, value, mut host) = (text("key"), text("value") + &"x".repeat(bytes), self.host.clone());
        let failed = |status: Status| status.message().to_owned();
        let said = |error: String, value: Value| if error.is_empty() { Ok(value) } else { Err(error) };
        match function {
            "get_config" => {
                let m = host.get_config(self.ask(pb::GetConfigRequest { key }, call)).await.map_err(failed)?.into_inner();
                said(m.error, json!(m.value))
            }
            "kv_get" => {
                let m = host.kv_get(self.ask(pb::KvGetRequest { key }, call)).await.map_err(failed)?.into_inner();
                said(m.error, if m.missing { Value::Null } else { json!(String::from_utf8_lossy(&m.value)) })
            }
            "kv_set" => {
                let request = pb::KvSetRequest { key, value: value.into_bytes() };
                host.kv_set(self.ask(request, call)).await.map_err(failed).map(|_| Value::Null)
            }
            "kv_delete" => host.kv_delete(self.ask(pb::KvDeleteRequest { key }, call)).await.map_err(failed).map(|_| Value::Null),
            "emit_event" => {
                let request = pb::EmitEventRequest { source: "tonic".into(), event_type: "tonic.asked".into(), payload: value };
                host.emit_event(self.ask(request, call)).await.map_err(failed).map(|_| Value::Null)
            }
            _ => Err("there is no such host function".to_owned()),
        }
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl PluginService for Plugin {
    async fn init(&self, _: Request<pb::InitRequest>) -> Answer<pb::InitResponse> {
        Ok(Response::new(pb::InitResponse {}))
    }

    async fn command(&self, request: Request<pb::CommandRequest>) -> Answer<pb::CommandResponse> {
        let order: Value = serde_json::from_str(&request.get_ref().content).map_err(|e| Status::invalid_argument(e.to_string()))?;
        Ok(Response::new(match self.obey(request.metadata(), &order).await {
            Ok(answer) => pb::CommandResponse { payload: answer.to_string(), error: String::new() },
            Err(error) => pb::CommandResponse { payload: String::new(), error },
        }))
    }

    async fn is_ready(&self, _: Request<()>) -> Answer<pb::IsReadyResponse> {
        Ok(Response::new(pb::IsReadyResponse { ready: true }))
    }

    async fn bootstrap(&self, _: Request<()>) -> Answer<()> {
        Err(Status::unimplemented(""))
    }
    async fn form(&self, _: Request<pb::FormRequest>) -> Answer<pb::FormResponse> {
        Err(Status::unimplemented(""))
    }
    async fn rules(&self, _: Request<()>) -> Answer<pb::RulesResponse> {
        Err(Status::unimplemented(""))
    }
    async fn help(&self, _: Request<()>) -> Answer<pb::HelpResponse> {
        Err(Status::unimplemented(""))
    }
    async fn ability_call(&self, _: Request<pb::CallRequest>) -> Answer<pb::CallResponse> {
        Err(Status::unimplemented(""))
    }
    async fn webhook_convert(&self, _: Request<pb::WebhookConvertRequest>) -> Answer<pb::CallResponse> {
        Err(Status::unimplemented(""))
    }
    async fn o_auth_callback(&self, _: Request<pb::OAuthCallbackRequest>) -> Answer<pb::CallResponse> {
        Err(Status::unimplemented(""))
    }
}

/// TLS that lets in who has the host's key, and the certificate to show, in base64.
fn tls(host: &str) -> (tokio_rustls::TlsAcceptor, String) {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let der = own.cert.der().clone();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(own.signing_key.serialize_der()));
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(host.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let clients = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_client_cert_verifier(clients).with_single_cert(vec![der.clone()], key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    (tokio_rustls::TlsAcceptor::from(Arc::new(config)), base64::engine::general_purpose::STANDARD.encode(der))
}

/// A connection of any kind, for tonic.
struct Accepted(Box<dyn Io>);
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl tonic::transport::server::Connected for Accepted {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}
impl AsyncRead for Accepted {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut *self.0).poll_read(cx, buf)
    }
}
impl AsyncWrite for Accepted {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::pin::Pin::new(&mut *self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut *self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut *self.0).poll_shutdown(cx)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    assert_eq!(variable("FLOWBOT_PLUGIN"), "flowbot-plugin-v1", "This program is a plugin: a host starts it.");
    let host = Endpoint::from_shared(variable("FLOWBOT_HOST_ADDRESS")).unwrap().connect_lazy();
    let plugin = Plugin { host: HostServiceClient::new(host).max_decoding_message_size(MESSAGE), token: variable("FLOWBOT_HOST_TOKEN") };
    let (acceptor, certificate) = std::env::var("PLUGIN_CLIENT_CERT").map_or((None, String::new()), |host| {
        let (acceptor, certificate) = tls(&host);
        (Some(acceptor), certificate)
    });
    let (come, accepted) = tokio::sync::mpsc::channel(1);
    let welcome = move |socket: Box<dyn Io>| {
        let (come, acceptor) = (come.clone(), acceptor.clone());
        tokio::spawn(async move {
            let socket = match acceptor {
                None => socket,
                Some(acceptor) => match acceptor.accept(socket).await {
                    Ok(stream) => Box::new(stream) as Box<dyn Io>,
                    Err(e) => return eprintln!("[WARN] TLS: {e}"),
                },
            };
            drop(come.send(Ok::<_, std::io::Error>(Accepted(socket))).await);
        });
    };
    if std::env::args().any(|argument| argument == "tcp") {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("1|1|tcp|{}|grpc|{certificate}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                welcome(Box::new(socket));
            }
        });
    } else {
        let path = format!("{}/tonic.sock", variable("PLUGIN_UNIX_SOCKET_DIR"));
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        println!("1|1|unix|{path}|grpc|{certificate}");
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                welcome(Box::new(socket));
            }
        });
    }
    let connections = tokio_stream::wrappers::ReceiverStream::new(accepted);
    Server::builder().serve_with_incoming(PluginServiceServer::new(plugin).max_decoding_message_size(MESSAGE), connections).await.unwrap();
}
