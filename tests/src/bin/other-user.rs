//! Another user of the pod: a process in the same network namespace with a user id other than root's and the agent's.
//!
//! ```text
//! other-user UID send SOCKET...             sends one datagram to each, a path or @name; prints `sent` or the error for each
//! other-user UID ask METHOD ADDRESS PATH    sends one HTTP request, also to a Unix socket; prints the status or the error
//! ```
//!
//! The program is started by root and changes to that user first; the change is permanent.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

const TIMEOUT: Duration = Duration::from_secs(5);

/// Content of a datagram: the smallest that is known to crash an Envoy, of a length that Envoy's own messages do not have.
const DATAGRAM: [u8; 64] = [b'A'; 64];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        [uid, "send", sockets @ ..] => become_user(uid).map(|()| send(sockets)),
        [uid, "ask", method, address, path] => {
            become_user(uid).map(|()| println!("{}", text_or_error(ask(method, address, path))))
        }
        _ => Err(anyhow::anyhow!(
            "usage: other-user UID send SOCKET... | other-user UID ask METHOD ADDRESS PATH"
        )),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("other-user: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn become_user(uid: &str) -> Result<()> {
    let uid: u32 = uid.parse().with_context(|| format!("{uid:?} is no user id"))?;
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
    setgroups(&[]).context("leave all groups: takes root")?;
    setresgid(group, group, group)?;
    setresuid(user, user, user)?;
    Ok(())
}

fn send(sockets: &[&str]) {
    for socket in sockets {
        let sent = UnixDatagram::unbound().and_then(|own| {
            own.set_write_timeout(Some(TIMEOUT))?;
            match socket.strip_prefix('@') {
                Some(name) => own.send_to_addr(&DATAGRAM, &SocketAddr::from_abstract_name(padded(name))?),
                None => own.send_to(&DATAGRAM, socket),
            }
        });
        println!("{socket} {}", text_or_error(sent.map(|_| "sent".to_owned()).map_err(Into::into)));
    }
}

/// Pads an abstract name with zeros to the maximum length, as Envoy does.
fn padded(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(107, 0);
    bytes
}

fn ask(method: &str, address: &str, path: &str) -> Result<String> {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    );
    let mut answer = Vec::new();
    if address.starts_with('/') {
        let mut stream = UnixStream::connect(address)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.write_all(request.as_bytes())?;
        stream.read_to_end(&mut answer)?;
    } else {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.write_all(request.as_bytes())?;
        stream.read_to_end(&mut answer)?;
    }
    let answer = String::from_utf8_lossy(&answer);
    match answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)) {
        Some(status) => Ok(status.to_owned()),
        None => bail!("no answer: {answer:?}"),
    }
}

fn text_or_error(outcome: Result<String>) -> String {
    outcome.unwrap_or_else(|error| format!("{error:#}"))
}
