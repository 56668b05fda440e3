//! A mesh that changes all the time: services are added, removed, moved, change their protocol, and mesh settings change.
//!
//! ```text
//! slot 0 … 11      a name and a port each, with or without a service
//! steady           the two services under load; their clusters change with the mesh settings, their endpoints never
//! ```
//!
//! The changes are pseudo-random and the same in each run. The expected state of an Envoy follows from the configuration alone.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use pilot_tests::manifest::{Folder, Port, endpoint_slice, service, service_entry};
use pilot_tests::net::{free_port, loopback};
use serde_json::Value;

use super::expected_state::EnvoyState;

/// Maximum number of services besides the steady ones.
const SLOTS: usize = 12;

/// One change in so many is a change of mesh settings, which changes every cluster.
const SETTINGS: usize = 15;

/// Pseudo-random numbers from a fixed seed.
pub(crate) struct Random(u64);

/// Form of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ServiceForm {
    /// HTTP on a port of its own: listener and route configuration are added and removed with it.
    Http,
    /// HTTP on the steady service's port: only a virtual host is added and removed.
    SharedPort,
    /// TCP on a port of its own.
    Tcp,
    /// A `ServiceEntry` with addresses.
    Entry,
    /// A `ServiceEntry` with DNS resolution.
    Dns,
}

struct ServiceSlot {
    name: String,
    port: u16,
    target: u16,
    now: Option<ServiceState>,
}

struct ServiceState {
    form: ServiceForm,
    addresses: BTreeSet<u8>,
}

/// The mesh and its folder.
pub(crate) struct ChangingMesh {
    folder: Folder,
    settings: PathBuf,
    timeout: u64,
    random: Random,
    slots: Vec<ServiceSlot>,
    shared: u16,
    steady: EnvoyState,
    /// Number of changes so far.
    pub(crate) changes: usize,
}

// === impl Random ===

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns a number below `end`, which must not be 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % end as u64).unwrap_or_default()
    }

    /// Returns a duration below this many milliseconds.
    pub(crate) fn within(&mut self, millis: usize) -> Duration {
        Duration::from_millis(self.below(millis) as u64)
    }
}

// === impl ChangingMesh ===

impl ChangingMesh {
    /// Creates a mesh in `folder` and the mesh file `settings` with only the steady services: `web`, HTTP, and `db`, TCP, each given by
    /// its address and its endpoints.
    pub(crate) fn new(
        folder: Folder,
        settings: PathBuf,
        seed: u64,
        [web, db]: [(SocketAddr, Vec<SocketAddr>); 2],
    ) -> Result<Self> {
        let slot = |number| -> Result<ServiceSlot> {
            Ok(ServiceSlot {
                name: format!("s{number}"),
                port: free_port()?,
                target: free_port()?,
                now: None,
            })
        };
        let mut steady = EnvoyState::default();
        let shared = web.0.port();
        steady.hosts.insert(shared.to_string(), [format!("{}:{shared}", host("web"))].into());
        for (name, (served, endpoints)) in [("web", web), ("db", db)] {
            let endpoints = endpoints.iter().map(ToString::to_string).collect();
            steady.clusters.insert(format!("outbound|{}||{}", served.port(), host(name)), endpoints);
            steady.listeners.insert(format!("127.0.0.1_{}", served.port()));
        }
        let slots = (0..SLOTS).map(slot).collect::<Result<_>>()?;
        Ok(Self {
            folder,
            settings,
            timeout: 10,
            random: Random::new(seed),
            slots,
            shared,
            steady,
            changes: 0,
        })
    }

    /// Applies one change and returns its description.
    pub(crate) fn change(&mut self) -> Result<String> {
        self.changes += 1;
        if self.random.below(SETTINGS) == 0 {
            return self.change_settings();
        }
        let addresses = (0..=self.random.below(3)).map(|_| u8::try_from(20 + self.random.below(6)));
        let addresses: BTreeSet<u8> = addresses.collect::<Result<_, _>>()?;
        let forms = [
            ServiceForm::Http,
            ServiceForm::SharedPort,
            ServiceForm::Tcp,
            ServiceForm::Entry,
            ServiceForm::Dns,
        ];
        let form = *forms.get(self.random.below(forms.len())).context("a form")?;
        let (which, what) = (self.random.below(SLOTS), self.random.below(6));
        let slot = self.slots.get_mut(which).context("a slot")?;
        let description = match (&mut slot.now, what) {
            (None, _) => {
                slot.now = Some(ServiceState { form, addresses });
                "added"
            }
            (Some(_), 0 | 1) => {
                slot.now = None;
                "removed"
            }
            (Some(served), 2) => {
                served.form = form;
                "changed its form"
            }
            // Envoy would resolve a ServiceEntry without addresses by its host name.
            (Some(served), 3) if served.form != ServiceForm::Dns && served.form != ServiceForm::Entry => {
                served.addresses.clear();
                "lost its endpoints"
            }
            (Some(served), _) => {
                served.addresses = addresses;
                "moved"
            }
        };
        if let Some(served) = slot.now.as_mut().filter(|served| served.addresses.is_empty()) {
            // The same holds for a service that changed its form.
            if matches!(served.form, ServiceForm::Dns | ServiceForm::Entry) {
                served.addresses.insert(20);
            }
        }
        let file = format!("{}.yaml", slot.name);
        match slot.objects(self.shared) {
            Some(objects) => self.folder.write(&file, &objects)?,
            None => self.folder.remove(&file)?,
        }
        Ok(format!("{} {description} {:?}", slot.name, slot.now.as_ref().map(|served| served.form)))
    }

    /// Returns the pause before the next change.
    pub(crate) fn pause(&mut self) -> Duration {
        // Sometimes longer than the debounce, so that the changes become several pushes.
        Duration::from_millis(10) + self.random.within(200)
    }

    fn change_settings(&mut self) -> Result<String> {
        self.timeout = 5 + self.timeout % 20;
        let mut mesh: Value = serde_saphyr::from_str(&fs::read_to_string(&self.settings)?)?;
        let fields = mesh.as_object_mut().context("the mesh file is an object")?;
        fields.insert("connectTimeout".into(), format!("{}s", self.timeout).into());
        let beside = self.settings.with_extension("new");
        fs::write(&beside, serde_saphyr::to_string(&mesh)?)?;
        fs::rename(&beside, &self.settings)?;
        Ok(format!("connectTimeout: {}s", self.timeout))
    }

    /// Returns the expected state of an Envoy.
    pub(crate) fn expected_state(&self) -> EnvoyState {
        let mut state = self.steady.clone();
        for slot in &self.slots {
            let Some(served) = &slot.now else { continue };
            let (port, host) = (slot.served_at(served.form, self.shared), slot.host(served.form));
            let endpoints = served.addresses.iter().map(|last| format!("127.0.0.{last}:{}", slot.target));
            state.clusters.insert(format!("outbound|{port}||{host}"), endpoints.collect());
            state.listeners.insert(format!("127.0.0.1_{port}"));
            if served.form != ServiceForm::Tcp {
                state.hosts.entry(port.to_string()).or_default().insert(format!("{host}:{port}"));
            }
        }
        state
    }
}

// === impl ServiceSlot ===

impl ServiceSlot {
    const fn served_at(&self, form: ServiceForm, shared: u16) -> u16 {
        match form {
            ServiceForm::SharedPort => shared,
            ServiceForm::Http | ServiceForm::Tcp | ServiceForm::Entry | ServiceForm::Dns => self.port,
        }
    }

    fn host(&self, form: ServiceForm) -> String {
        match form {
            ServiceForm::Http | ServiceForm::SharedPort | ServiceForm::Tcp => host(&self.name),
            ServiceForm::Entry | ServiceForm::Dns => format!("{}.example.com", self.name),
        }
    }

    /// Returns the manifests of the service.
    fn objects(&self, shared: u16) -> Option<Vec<Value>> {
        let ServiceState { form, addresses } = self.now.as_ref()?;
        let speaks = if *form == ServiceForm::Tcp { "tcp" } else { "http" };
        let port = [Port::new(speaks, self.served_at(*form, shared), self.target)];
        let addresses: Vec<IpAddr> = addresses.iter().copied().map(loopback).collect();
        let resolution = match form {
            ServiceForm::Http | ServiceForm::SharedPort | ServiceForm::Tcp => {
                let slice = endpoint_slice(&self.name, &port, &addresses);
                return Some(vec![service(&self.name, "10.0.1.1", &port), slice]);
            }
            ServiceForm::Entry => "STATIC",
            ServiceForm::Dns => "DNS",
        };
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        Some(vec![service_entry(&self.name, &self.host(*form), resolution, &port, &addresses)])
    }
}

/// Returns the host of a service of the namespace `default`.
fn host(name: &str) -> String {
    format!("{name}.default.svc.cluster.local")
}
