//! A server that answers what a test tells it to, byte for byte, and remembers what it was asked.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// One request as it arrived.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub method: String,
    /// Path and query.
    pub target: String,
    pub authorization: Option<String>,
    pub accept: Option<String>,
    pub body: String,
}

impl Asked {
    pub(super) fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }
}

/// A server on the loopback; it ends when this is dropped.
pub(super) struct Fake {
    pub url: String,
    log: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fake {
    /// Answers every request with what `answer` makes of it and of how many came before.
    pub(super) async fn start(answer: impl Fn(&Asked, usize) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let log = Arc::new(Mutex::new(Vec::new()));
        let (answer, shared) = (Arc::new(answer), log.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, answer.clone(), shared.clone()));
            }
        });
        Self { url, log, task }
    }

    pub(super) fn log(&self) -> Vec<Asked> {
        self.log.lock().unwrap().clone()
    }
}

async fn serve(
    mut stream: TcpStream,
    answer: Arc<impl Fn(&Asked, usize) -> Vec<u8>>,
    log: Arc<Mutex<Vec<Asked>>>,
) {
    let Some(asked) = read(&mut stream).await else { return };
    let before = {
        let mut log = log.lock().unwrap();
        log.push(asked.clone());
        log.len() - 1
    };
    let bytes = answer(&asked, before);
    let _ = stream.write_all(&bytes).await;
    let _ = stream.shutdown().await;
}

async fn read(stream: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
    };
    let length = header("content-length").map_or(0, |text| text.parse().unwrap());
    while bytes.len() < head_end + length {
        stream.read_buf(&mut bytes).await.ok()?;
    }
    let mut line = head.split(' ');
    Some(Asked {
        method: line.next()?.to_owned(),
        target: line.next()?.to_owned(),
        authorization: header("authorization"),
        accept: header("accept"),
        body: String::from_utf8_lossy(&bytes[head_end..]).into_owned(),
    })
}

/// An answer with `headers` (each a whole line) and `body`.
pub(super) fn reply(status: &str, headers: &[&str], body: &str) -> Vec<u8> {
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}")
        .into_bytes()
}

/// An answer in JSON.
pub(super) fn json(status: &str, body: &str) -> Vec<u8> {
    reply(status, &["Content-Type: application/json"], body)
}

/// An error of the specification.
pub(super) fn error(status: &str, code: &str) -> Vec<u8> {
    json(status, &format!(r#"{{"errors":[{{"code":"{code}","message":"{}"}}]}}"#, code.to_lowercase()))
}

/// `answer` with its last `missing` bytes never sent.
pub(super) fn cut(mut answer: Vec<u8>, missing: usize) -> Vec<u8> {
    answer.truncate(answer.len() - missing);
    answer
}
