//! Network namespaces for pods, connected by a bridge, with the netfilter rules of a sidecar, as Kubernetes and `istio-init`
//! set them up.
//!
//! ```text
//! outside, 10.77.0.1 ── bridge ──┬── eth0 of a pod, 10.77.0.2
//!                                └── eth0 of a pod, 10.77.0.3
//! ```
//!
//! A socket or a child belongs to the network namespace of the thread that creates it. A test therefore enters a namespace and
//! leaves it again; on a single-threaded runtime this also holds for awaited futures. A namespace ends with its last open
//! descriptor. The module needs root, iproute2 and iptables.

use std::fs::File;
use std::io::Write as _;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, setns, unshare};

/// Group id of proxies. The rules let their connections pass.
pub const PROXY_GID: u32 = 1337;

/// A network namespace.
pub struct NetworkNamespace(File);

/// Guard of an entered namespace. It is bound to the thread.
pub struct NamespaceGuard {
    before: File,
    thread: PhantomData<*const ()>,
}

/// The bridge and the namespace outside of all pods.
pub struct PodNetwork {
    outside: NetworkNamespace,
}

// === impl NetworkNamespace ===

impl NetworkNamespace {
    /// Creates a namespace with a loopback device.
    fn new() -> Result<Self> {
        let thread = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).context("create a network namespace (needs root)")?;
            own()
        });
        let namespace = Self(thread.join().ok().context("the thread panicked")??);
        namespace.configure(&["ip link set lo up"])?;
        Ok(namespace)
    }

    /// Enters the namespace until the guard is dropped.
    pub fn enter(&self) -> Result<NamespaceGuard> {
        let before = own()?;
        setns(&self.0, CloneFlags::CLONE_NEWNET).context("enter a network namespace")?;
        Ok(NamespaceGuard { before, thread: PhantomData })
    }

    /// Runs these commands inside; words are separated by spaces.
    fn configure(&self, commands: &[&str]) -> Result<()> {
        let _inside = self.enter()?;
        commands.iter().try_for_each(|command| run(command, ""))
    }

    /// Redirects connections to a proxy as `istio-iptables` does: connections of the workload to the outbound port, connections
    /// from other pods to the inbound port.
    pub fn intercept(&self, (outbound, inbound): (u16, u16)) -> Result<()> {
        let _inside = self.enter()?;
        let rules = format!(
            "*nat
:TO_PROXY - [0:0]
-A PREROUTING -p tcp -j REDIRECT --to-ports {inbound}
-A OUTPUT -p tcp -j TO_PROXY
-A TO_PROXY -s 127.0.0.6/32 -o lo -j RETURN
-A TO_PROXY ! -d 127.0.0.1/32 -o lo -p tcp -m owner --gid-owner {PROXY_GID} -j REDIRECT --to-ports {inbound}
-A TO_PROXY -o lo -j RETURN
-A TO_PROXY -m owner --gid-owner {PROXY_GID} -j RETURN
-A TO_PROXY -d 127.0.0.1/32 -j RETURN
-A TO_PROXY -p tcp -j REDIRECT --to-ports {outbound}
COMMIT
"
        );
        run("iptables-restore", &rules)
    }
}

// === impl NamespaceGuard ===

impl Drop for NamespaceGuard {
    fn drop(&mut self) {
        if let Err(error) = setns(&self.before, CloneFlags::CLONE_NEWNET) {
            eprintln!("leave a network namespace: {error}");
        }
    }
}

// === impl PodNetwork ===

impl PodNetwork {
    /// Address outside of all pods.
    pub const OUTSIDE: IpAddr = address(1);

    /// Creates a bridge without pods.
    pub fn new() -> Result<Self> {
        let outside = NetworkNamespace::new()?;
        outside.configure(&[
            "ip link add wire type bridge",
            "ip address add 10.77.0.1/24 dev wire",
            "ip link set wire up",
        ])?;
        Ok(Self { outside })
    }

    /// Returns the namespace outside of all pods.
    pub const fn outside(&self) -> &NetworkNamespace {
        &self.outside
    }

    /// Creates a pod at `10.77.0.<last>`.
    pub fn pod(&self, last: u8) -> Result<NetworkNamespace> {
        let pod = NetworkNamespace::new()?;
        let inside = format!("/proc/{}/fd/{}", std::process::id(), pod.0.as_raw_fd());
        self.outside.configure(&[
            &format!("ip link add pod{last} type veth peer name eth0 netns {inside}"),
            &format!("ip link set pod{last} master wire up"),
        ])?;
        pod.configure(&[
            &format!("ip address add {}/24 dev eth0", address(last)),
            "ip link set eth0 up",
            "ip route add default via 10.77.0.1",
        ])?;
        Ok(pod)
    }
}

/// Returns the address `10.77.0.<last>`.
pub const fn address(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 77, 0, last))
}

/// Opens the current network namespace of this thread.
fn own() -> Result<File> {
    File::open("/proc/thread-self/ns/net").context("open our network namespace")
}

/// Runs a command with this text as its standard input.
fn run(line: &str, input: &str) -> Result<()> {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().context("a command")?);
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let started = command.spawn();
    let mut child =
        started.with_context(|| format!("{line} (on Debian: apt-get install iproute2 iptables)"))?;
    child.stdin.take().context("its input")?.write_all(input.as_bytes()).context("write its input")?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
