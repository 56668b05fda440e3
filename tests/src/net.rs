//! Free ports, and one HTTP request.
//!
//! Ports are below the kernel's ephemeral range, so that no outgoing connection takes a port between its allocation and the
//! program's bind. Each port stays locked by a file until this process ends, so that concurrent tests, also in other
//! processes, use distinct ports.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::Method;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use nix::fcntl::{Flock, FlockArg};
use tokio::net::{TcpSocket, TcpStream};

/// Range of ports: below every default ephemeral range (Linux: 32768), above the usual ports of a developer's programs.
const PORTS: Range<u16> = 20000..30000;

/// Time limit for a response of an admin or debug port.
const ANSWER: Duration = Duration::from_secs(5);

struct Taken {
    next: u16,
    locks: Vec<Flock<File>>,
}

static TAKEN: Mutex<Taken> = Mutex::new(Taken { next: 0, locks: Vec::new() });

/// Returns a TCP port that is free on every address, and reserves it until the process ends.
pub fn free_port() -> Result<u16> {
    let folder = lock_folder()?;
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    let size = PORTS.end - PORTS.start;
    if taken.next == 0 {
        // Processes start at different positions, so that they seldom try the same port.
        taken.next = u16::try_from(std::process::id() % u32::from(size / 50)).unwrap_or(0) * 50;
    }
    for _ in 0..size {
        let port = PORTS.start + taken.next % size;
        taken.next = (taken.next + 1) % size;
        let file = File::create(folder.join(port.to_string())).context("create the lock of a port")?;
        let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else { continue };
        if is_free(port) {
            taken.locks.push(lock);
            return Ok(port);
        }
    }
    anyhow::bail!("no free port in {PORTS:?}")
}

/// Returns true if the port can be bound. The socket never listens: a child forked at this moment inherits it until it executes
/// its program, and a socket that is only bound does not disturb another listener.
fn is_free(port: u16) -> bool {
    let bound = TcpSocket::new_v4().and_then(|socket| {
        socket.set_reuseaddr(true)?;
        socket.bind((Ipv4Addr::UNSPECIFIED, port).into())
    });
    bound.is_ok()
}

fn lock_folder() -> Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("pilot-tests-ports-{}", nix::unistd::getuid()));
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    Ok(folder)
}

/// Returns `127.0.0.1:port`.
pub fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Returns the loopback address `127.0.0.last`. All of 127/8 belongs to the loopback device.
pub fn loopback(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, last).into()
}

/// Returns status and body of `GET path`.
pub async fn get(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    request(Method::GET, address, path).await
}

/// Returns the body of `GET path`. A status other than 200 is an error.
pub async fn get_ok(address: SocketAddr, path: &str) -> Result<String> {
    let (status, body) = get(address, path).await?;
    ensure!(status == 200, "GET http://{address}{path}: {status} {}", body.trim());
    Ok(body)
}

/// Returns the body of `POST path`. A status other than 200 is an error.
pub async fn post_ok(address: SocketAddr, path: &str) -> Result<String> {
    let (status, body) = request(Method::POST, address, path).await?;
    ensure!(status == 200, "POST http://{address}{path}: {status} {}", body.trim());
    Ok(body)
}

async fn request(method: Method, address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let description = format!("{method} http://{address}{path}");
    let context = || description.clone();
    let exchange = async {
        let stream = TcpStream::connect(address).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::HOST, address.to_string())
            .body(Empty::<Bytes>::new())?;
        let exchange = async {
            let response = sender.send_request(request).await?;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await?.to_bytes();
            anyhow::Ok((status, String::from_utf8_lossy(&body).into_owned()))
        };
        tokio::select! {
            answer = exchange => answer,
            Err(error) = connection => Err(error.into()),
        }
    };
    tokio::time::timeout(ANSWER, exchange).await.with_context(context)?.with_context(context)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn free_ports_are_distinct_across_threads() {
        let threads: Vec<_> = (0..4)
            .map(|_| std::thread::spawn(|| (0..20).map(|_| free_port().unwrap()).collect::<Vec<_>>()))
            .collect();
        let ports: Vec<u16> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), 80);
        for port in ports {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
            assert!(!is_free(port), "{port} counts as free although a listener is bound to it");
            drop(listener);
        }
    }
}
