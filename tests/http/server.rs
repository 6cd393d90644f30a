//! A web server of a few lines: it reads a request, writes what it is told to, and keeps what it read.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) line: String,
    /// In lower case, `name: value`.
    pub(crate) headers: Vec<String>,
    pub(crate) body: String,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// What a server has to say to a request; the connection is closed after what it writes where it returns false.
pub(crate) trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}
type Answer = dyn Fn(&Seen, &mut dyn Stream) -> bool + Send + Sync;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) connections: Arc<AtomicUsize>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    /// One that answers each path with a text of its own.
    pub(crate) fn plain() -> Self {
        Self::answering(|seen, out| {
            let body = format!("answer to {}", seen.line);
            write!(out, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).is_ok()
        })
    }

    /// One that writes this to every request and closes the connection.
    pub(crate) fn saying(text: impl Into<Vec<u8>>) -> Self {
        let text = text.into();
        Self::answering(move |_, out| {
            drop(out.write_all(&text));
            false
        })
    }

    pub(crate) fn answering(answer: impl Fn(&Seen, &mut dyn Stream) -> bool + Send + Sync + 'static) -> Self {
        Self::on("127.0.0.1:0", answer, |tcp| Some(Box::new(tcp)))
    }

    pub(crate) fn on(
        place: &str,
        answer: impl Fn(&Seen, &mut dyn Stream) -> bool + Send + Sync + 'static,
        wrap: impl Fn(TcpStream) -> Option<Box<dyn Stream>> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(place).unwrap();
        let server = Server { address: listener.local_addr().unwrap(), connections: Arc::default(), seen: Arc::default() };
        let (connections, seen) = (server.connections.clone(), server.seen.clone());
        let (answer, wrap): (Arc<Answer>, _) = (Arc::new(answer), Arc::new(wrap));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                connections.fetch_add(1, Ordering::SeqCst);
                let (seen, answer, wrap) = (seen.clone(), answer.clone(), wrap.clone());
                std::thread::spawn(move || wrap(stream).map(|mut stream| serve(&mut *stream, &seen, &*answer)));
            }
        });
        server
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// What was asked since the last time.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

fn serve(stream: &mut dyn Stream, seen: &Mutex<Vec<Seen>>, answer: &Answer) {
    while let Some(request) = read(stream) {
        seen.lock().unwrap().push(request.clone());
        if !answer(&request, stream) {
            break;
        }
    }
}

fn read(stream: &mut dyn Stream) -> Option<Seen> {
    // One byte at a time: what follows the request is the next one's.
    let mut reader = BufReader::with_capacity(1, stream);
    let mut seen = Seen::default();
    let mut line = String::new();
    while reader.read_line(&mut line).ok()? > 0 {
        match line.trim_end() {
            "" => break,
            first if seen.line.is_empty() => first.clone_into(&mut seen.line),
            header => seen.headers.push(header.split_once(':').map(|(n, v)| format!("{}:{v}", n.to_ascii_lowercase())).unwrap()),
        }
        line.clear();
    }
    let length = seen.header("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    seen.body = String::from_utf8(body).unwrap();
    (!seen.line.is_empty()).then_some(seen)
}
