//! The application of the images: server, client, and load that counts every failure, in one program, because a distroless
//! image has no others.
//!
//! ```text
//! app serve NAME HTTP [TCP]                      echo servers at these addresses, named NAME
//! app ask HOST [ADDRESS]                         one request to HOST, or for HOST to ADDRESS; prints the response
//! app load READY HOST HTTP BEHIND [TCP BEHIND]   load until SIGTERM; prints "under way" after the first answers and a report
//!                                                in JSON at the end; exit code 1 if a request failed
//! ```
//!
//! The load is sent through the proxy, to HTTP and TCP. When `/healthz/ready` of READY fails, it is sent past the proxy, to
//! BEHIND, as a load balancer would do.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pilot_tests::load::{Class, Load, Report, Running};
use pilot_tests::net::get;
use pilot_tests::upstream::Upstream;
use pilot_tests::wait::eventually;
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

const USAGE: &str = "usage: app serve NAME HTTP [TCP] | app ask HOST [ADDRESS] | app load READY HOST HTTP BEHIND [TCP BEHIND]";

/// Requests of the load: quick ones of every class, and slow ones for which the shutdown has to wait.
const HTTP: [(Class, &str); 4] =
    [(Class::KeepAlive, "/"), (Class::New, "/"), (Class::Http2, "/"), (Class::KeepAlive, "/delay/1500")];
const TCP: [(Class, &str); 1] = [(Class::Tcp, "")];

/// Interval between readiness checks; much shorter than any drain.
const LOOK: Duration = Duration::from_millis(10);

/// Time limit for the first answers.
const TIMEOUT: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["serve", name, addresses @ ..] if matches!(addresses.len(), 1 | 2) => serve(name, addresses).await,
        ["ask", host] => ask(host, host).await,
        ["ask", host, address] => ask(address, host).await,
        ["load", ready, host, routes @ ..] if matches!(routes.len(), 2 | 4) => {
            load(ready, host, routes).await
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(64);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("app: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(name: &str, addresses: &[&str]) -> Result<()> {
    let stopped = stopped()?;
    let mut servers = Vec::new();
    for (at, text) in addresses.iter().enumerate() {
        let address = address(text)?;
        servers.push(match at {
            0 => Upstream::http(name, address).await?,
            _ => Upstream::tcp(name, address).await?,
        });
    }
    println!("{name} serves at {}", addresses.join(" and "));
    stopped.await.context("wait for SIGTERM")
}

async fn ask(to: &str, host: &str) -> Result<()> {
    let exchange = async {
        let mut stream = TcpStream::connect(to).await.context("connect")?;
        let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.context("write")?;
        read_answer(BufReader::new(stream)).await.context("read")
    };
    let answer = tokio::time::timeout(TIMEOUT, exchange).await.with_context(|| format!("ask {to}"))??;
    println!("{answer}");
    ensure!(answer.starts_with("HTTP/1.1 200 "), "{to} did not answer 200");
    Ok(())
}

/// Reads a response up to its content length: a draining Envoy closes the connection seconds later.
async fn read_answer(mut stream: BufReader<TcpStream>) -> Result<String> {
    let (mut answer, mut length) = (String::new(), 0);
    while !answer.ends_with("\r\n\r\n") {
        let start = answer.len();
        ensure!(stream.read_line(&mut answer).await? > 0, "it ends in {answer:?}");
        if let Some((name, value)) = answer[start..].split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse()?;
        }
    }
    let mut body = String::new();
    stream.take(length).read_to_string(&mut body).await?;
    Ok(answer + &body)
}

async fn load(ready: &str, host: &str, routes: &[&str]) -> Result<()> {
    let mut stopped = stopped()?;
    let ready = address(ready)?;
    let mut under_way: Vec<(Running, SocketAddr)> = Vec::new();
    for (route, classes) in routes.chunks(2).zip([&HTTP[..], &TCP]) {
        let [through, behind] = route else { continue };
        let (through, behind) = (address(through)?, address(behind)?);
        for (class, path) in classes {
            let load = Load { path: (*path).to_owned(), ..Load::new(*class, through, host) };
            under_way.push((load.start(), behind));
        }
    }
    let flows = eventually(TIMEOUT, "answers", async || {
        for (load, _) in &under_way {
            load.report().ensure_no_failures()?;
        }
        Ok(())
    });
    flows.await?;
    println!("under way");
    let watched = async {
        while get(ready, "/healthz/ready").await.is_ok_and(|(status, _)| status == 200) {
            tokio::time::sleep(LOOK).await;
        }
        for (load, behind) in &under_way {
            load.move_to(*behind);
        }
    };
    let moved = tokio::select! {
        () = watched => true,
        _ = &mut stopped => false,
    };
    if moved {
        stopped.await.context("wait for SIGTERM")?;
    }
    let mut reports = Vec::new();
    for (load, _) in under_way {
        reports.push(load.stop().await?);
    }
    let report = Report::merge(reports);
    let (answers, failures) = (report.answers.len(), report.failures.len());
    println!(
        "{}",
        json!({"answers": answers, "failures": failures, "moved": moved, "by": report.by_endpoint()})
    );
    report.ensure_no_failures()
}

fn address(text: &str) -> Result<SocketAddr> {
    text.parse().with_context(|| format!("{text:?} is no address such as 127.0.0.1:8080"))
}

/// Resolves on SIGTERM or SIGINT; PID 1 has no default action for them.
fn stopped() -> Result<oneshot::Receiver<()>> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("listen for signals")?;
    let (sender, receiver) = oneshot::channel();
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            // There is no receiver when the program ends by itself.
            sender.send(()).ok();
        }
    });
    Ok(receiver)
}
