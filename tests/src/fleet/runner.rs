//! The program `fleet`: clients on one thread, orders from standard input, one answer on standard output for each order. It
//! ends at the end of its input.

use std::cell::RefCell;
use std::io::Write;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, LocalSet};
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::connection::{Client, ConnectionSettings, LinkState, Reading};
use super::names::{self, Names};
use super::orders::{ClientRange, FleetConfig, Goal, GoalTimes, Order, ResumeState, Totals, now};
use super::state::FleetState;
use super::subscriber::{Retention, Subscriber};

/// Interval between checks of the goal. Reported times are measured by the clients themselves.
const LOOK: Duration = Duration::from_millis(5);

/// File descriptors besides the clients' sockets: standard streams, the reactor, and a reserve.
const SPARE: u64 = 64;

struct ClientFleet {
    settings: Rc<ConnectionSettings>,
    fleet: Rc<FleetState>,
    clients: Vec<Rc<RefCell<Client>>>,
    tasks: Vec<Option<JoinHandle<()>>>,
}

/// Runs a fleet until its orders end.
pub fn run(setup: FleetConfig) -> Result<()> {
    raise_file_limit(u64::from(setup.streams) + SPARE)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    let mut orders = lines()?;
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        let mut fleet = ClientFleet::new(setup)?;
        while let Some(line) = orders.recv().await {
            let answer = match serde_json::from_str(&line).context("read an order") {
                Ok(order) => fleet.execute(order).await,
                Err(error) => Err(error),
            };
            let answer = answer.unwrap_or_else(|error| json!({"error": format!("{error:#}")}));
            let mut out = std::io::stdout().lock();
            writeln!(out, "{answer}").and_then(|()| out.flush()).context("write an answer")?;
        }
        Ok(())
    })
}

/// Raises the limit on open files as far as needed and allowed.
fn raise_file_limit(needed: u64) -> Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("read the limit on open files")?;
    if soft >= needed {
        return Ok(());
    }
    ensure!(hard >= needed, "{needed} open files are needed, {hard} allowed");
    setrlimit(Resource::RLIMIT_NOFILE, needed, hard).context("raise the limit on open files")
}

/// Returns standard input line by line, read by a thread of its own because the read cannot be cancelled.
fn lines() -> Result<mpsc::Receiver<String>> {
    let (sender, receiver) = mpsc::channel(16);
    let read = move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("orders".into()).spawn(read).context("start a thread")?;
    Ok(receiver)
}

// === impl ClientFleet ===

impl ClientFleet {
    fn new(setup: FleetConfig) -> Result<Self> {
        let fleet = Rc::new(FleetState {
            codec: setup.codec,
            kinds: setup.kinds.clone(),
            names: RefCell::new(Names::default()),
            routes: RefCell::default(),
            refused: RefCell::new(None),
            goal: RefCell::new(Goal::Configured),
        });
        let client = |index: u32| {
            let number = setup.first + index;
            let node = names::node(setup.node_id.as_deref(), number, setup.scopes);
            let kept = setup.keep > 0 && index.is_multiple_of(setup.keep);
            let retention = if kept { Retention::Everything } else { Retention::Nothing };
            Rc::new(RefCell::new(Client::new(Subscriber::new(fleet.clone(), node, retention))))
        };
        let clients: Vec<_> = (0..setup.streams).map(client).collect();
        let tasks = clients.iter().map(|_| None).collect();
        let tls = setup.ca.as_ref().map(|path| trusting(path).map(Arc::new)).transpose()?;
        Ok(Self { settings: Rc::new(ConnectionSettings::new(setup, tls)), fleet, clients, tasks })
    }

    async fn execute(&mut self, order: Order) -> Result<Value> {
        match order {
            Order::Connect { which, memory } => self.connect(which, memory),
            Order::Disconnect { which } => self.disconnect(which),
            Order::Mark { goal } => {
                *self.fleet.goal.borrow_mut() = goal;
                for client in &self.clients {
                    let mut client = client.borrow_mut();
                    client.subscriber.mark();
                    (client.lost, client.going_away) = (0, 0);
                }
            }
            Order::Await { which, within_ms } => {
                let reached = self.reached(which, Duration::from_millis(within_ms)).await;
                return serde_json::to_value(reached).context("write an answer");
            }
            Order::Stall { which } => self.set_reading(which, Reading::Stalled),
            Order::Resume { which } => self.set_reading(which, Reading::On),
            Order::Refuse { name } => *self.fleet.refused.borrow_mut() = name,
            Order::Totals => return serde_json::to_value(self.totals()).context("write an answer"),
            Order::Holdings { client } => {
                let found = self.clients.get(client as usize).context("there is no such client")?;
                return serde_json::to_value(found.borrow().subscriber.holdings()).context("write an answer");
            }
        }
        Ok(json!({"at": now()}))
    }

    fn connect(&mut self, which: ClientRange, memory: ResumeState) {
        for index in which.indices(self.clients.len()) {
            let (Some(client), Some(task)) = (self.clients.get(index), self.tasks.get_mut(index)) else {
                return;
            };
            if task.is_none() {
                let stay = self.settings.clone().stay(client.clone(), memory);
                *task = Some(tokio::task::spawn_local(stay));
            }
        }
    }

    fn disconnect(&mut self, which: ClientRange) {
        for index in which.indices(self.clients.len()) {
            let (Some(client), Some(task)) = (self.clients.get(index), self.tasks.get_mut(index)) else {
                return;
            };
            if let Some(task) = task.take() {
                task.abort();
            }
            client.borrow_mut().link = LinkState::Down;
        }
    }

    fn set_reading(&self, which: ClientRange, reading: Reading) {
        for client in self.clients.get(which.indices(self.clients.len())).unwrap_or_default() {
            client.borrow_mut().set_reading(reading);
        }
    }

    async fn reached(&self, which: ClientRange, within: Duration) -> GoalTimes {
        let clients = self.clients.get(which.indices(self.clients.len())).unwrap_or_default();
        let deadline = tokio::time::Instant::now() + within;
        loop {
            let mut at: Vec<u64> =
                clients.iter().filter_map(|client| client.borrow().subscriber.reached).collect();
            let missing = clients.len() - at.len();
            if missing == 0 || tokio::time::Instant::now() >= deadline {
                at.sort_unstable();
                return GoalTimes { at, missing: u32::try_from(missing).unwrap_or(u32::MAX) };
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for client in &self.clients {
            let client = client.borrow();
            totals.connected += u32::from(client.link == LinkState::Up);
            totals.lost += client.lost;
            totals.going_away += client.going_away;
            totals.last_loss = totals.last_loss.or_else(|| client.last_loss.clone());
            totals.refused += client.subscriber.refused;
            let mut all = 0;
            for (kind, [responses, resources, bytes]) in client.subscriber.counted() {
                *totals.responses.entry(kind).or_default() += responses;
                *totals.resources.entry(kind).or_default() += resources;
                *totals.bytes.entry(kind).or_default() += bytes;
                all += bytes;
            }
            totals.most_bytes = totals.most_bytes.max(all);
        }
        totals
    }
}

/// Returns client settings that trust only the authorities in this file.
fn trusting(path: &std::path::Path) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let certificates =
        CertificateDer::pem_file_iter(path).with_context(|| format!("read {}", path.display()))?;
    for certificate in certificates {
        roots.add(certificate.context("read a certificate")?).context("trust a certificate")?;
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}
