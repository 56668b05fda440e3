//! A mesh that never keeps still: services come, go, move, change what they speak, and the mesh's own settings change.
//!
//! ```text
//! place 0 … 11     a name and a port each, where a service is now, or is not
//! steady           what the scene serves; its clusters change with the mesh's settings, its endpoints never
//! ```
//!
//! The changes look random and are the same each time. What an Envoy should have after them is known here, from the words of
//! the configuration alone.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use pilot_tests::manifest::{Folder, Port, endpoint_slice, service, service_entry};
use pilot_tests::net::{free_port, loopback};
use serde_json::Value;

use super::expected_state::Picture;

/// How many services there are at most, besides the steady ones.
const PLACES: usize = 12;

/// One change in so many is a change of the mesh's settings: then every cluster is another one.
const SETTINGS: usize = 15;

/// Numbers that look random and are the same each time.
pub(crate) struct Dice(u64);

/// What a service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// HTTP on a port of its own: its listener and its route come and go with it.
    Http,
    /// HTTP on the steady service's port: only a virtual host comes and goes.
    Fellow,
    /// TCP on a port of its own.
    Tcp,
    /// A `ServiceEntry` with addresses.
    Entry,
    /// A `ServiceEntry` that Envoy resolves itself.
    Dns,
}

struct Place {
    name: String,
    port: u16,
    target: u16,
    now: Option<Served>,
}

struct Served {
    form: Form,
    addresses: BTreeSet<u8>,
}

/// The mesh, and the folder that says it.
pub(crate) struct World {
    folder: Folder,
    settings: PathBuf,
    timeout: u64,
    dice: Dice,
    places: Vec<Place>,
    shared: u16,
    steady: Picture,
    /// How many changes there were.
    pub(crate) changes: usize,
}

// === impl Dice ===

impl Dice {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % end as u64).unwrap_or_default()
    }

    /// A duration below this many milliseconds.
    pub(crate) fn within(&mut self, millis: usize) -> Duration {
        Duration::from_millis(self.below(millis) as u64)
    }
}

// === impl World ===

impl World {
    /// A world in `folder` and the mesh file `settings`, where nothing but the steady services is served: `web`, HTTP, and `db`,
    /// TCP, each given by where it is served and its endpoints.
    pub(crate) fn new(
        folder: Folder,
        settings: PathBuf,
        seed: u64,
        [web, db]: [(SocketAddr, Vec<SocketAddr>); 2],
    ) -> Result<Self> {
        let place = |number| -> Result<Place> {
            Ok(Place { name: format!("s{number}"), port: free_port()?, target: free_port()?, now: None })
        };
        let mut steady = Picture::default();
        let shared = web.0.port();
        steady.hosts.insert(shared.to_string(), [format!("{}:{shared}", host("web"))].into());
        for (name, (served, endpoints)) in [("web", web), ("db", db)] {
            let endpoints = endpoints.iter().map(ToString::to_string).collect();
            steady.clusters.insert(format!("outbound|{}||{}", served.port(), host(name)), endpoints);
            steady.listeners.insert(format!("127.0.0.1_{}", served.port()));
        }
        let places = (0..PLACES).map(place).collect::<Result<_>>()?;
        Ok(Self { folder, settings, timeout: 10, dice: Dice::new(seed), places, shared, steady, changes: 0 })
    }

    /// Changes something, and says what.
    pub(crate) fn change(&mut self) -> Result<String> {
        self.changes += 1;
        if self.dice.below(SETTINGS) == 0 {
            return self.change_settings();
        }
        let addresses = (0..=self.dice.below(3)).map(|_| u8::try_from(20 + self.dice.below(6)));
        let addresses: BTreeSet<u8> = addresses.collect::<Result<_, _>>()?;
        let forms = [Form::Http, Form::Fellow, Form::Tcp, Form::Entry, Form::Dns];
        let form = *forms.get(self.dice.below(forms.len())).context("a form")?;
        let (which, what) = (self.dice.below(PLACES), self.dice.below(6));
        let place = self.places.get_mut(which).context("a place")?;
        let told = match (&mut place.now, what) {
            (None, _) => {
                place.now = Some(Served { form, addresses });
                "comes"
            }
            (Some(_), 0 | 1) => {
                place.now = None;
                "goes"
            }
            (Some(served), 2) => {
                served.form = form;
                "is another"
            }
            // Envoy resolves a host that has no address by its name.
            (Some(served), 3) if served.form != Form::Dns && served.form != Form::Entry => {
                served.addresses.clear();
                "loses its endpoints"
            }
            (Some(served), _) => {
                served.addresses = addresses;
                "moves"
            }
        };
        if let Some(served) = place.now.as_mut().filter(|served| served.addresses.is_empty()) {
            // Nor would a new form have any.
            if matches!(served.form, Form::Dns | Form::Entry) {
                served.addresses.insert(20);
            }
        }
        let file = format!("{}.yaml", place.name);
        match place.objects(self.shared) {
            Some(objects) => self.folder.write(&file, &objects)?,
            None => self.folder.remove(&file)?,
        }
        Ok(format!("{} {told} {:?}", place.name, place.now.as_ref().map(|served| served.form)))
    }

    /// How long until the next change.
    pub(crate) fn pause(&mut self) -> Duration {
        // Sometimes longer than changes are collected, so that they become several pushes.
        Duration::from_millis(10) + self.dice.within(200)
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

    /// What an Envoy should have now.
    pub(crate) fn picture(&self) -> Picture {
        let mut picture = self.steady.clone();
        for place in &self.places {
            let Some(served) = &place.now else { continue };
            let (port, host) = (place.served_at(served.form, self.shared), place.host(served.form));
            let endpoints = served.addresses.iter().map(|last| format!("127.0.0.{last}:{}", place.target));
            picture.clusters.insert(format!("outbound|{port}||{host}"), endpoints.collect());
            picture.listeners.insert(format!("127.0.0.1_{port}"));
            if served.form != Form::Tcp {
                picture.hosts.entry(port.to_string()).or_default().insert(format!("{host}:{port}"));
            }
        }
        picture
    }
}

// === impl Place ===

impl Place {
    const fn served_at(&self, form: Form, shared: u16) -> u16 {
        match form {
            Form::Fellow => shared,
            Form::Http | Form::Tcp | Form::Entry | Form::Dns => self.port,
        }
    }

    fn host(&self, form: Form) -> String {
        match form {
            Form::Http | Form::Fellow | Form::Tcp => host(&self.name),
            Form::Entry | Form::Dns => format!("{}.example.com", self.name),
        }
    }

    /// What users write of it.
    fn objects(&self, shared: u16) -> Option<Vec<Value>> {
        let Served { form, addresses } = self.now.as_ref()?;
        let speaks = if *form == Form::Tcp { "tcp" } else { "http" };
        let port = [Port::new(speaks, self.served_at(*form, shared), self.target)];
        let addresses: Vec<IpAddr> = addresses.iter().copied().map(loopback).collect();
        let resolution = match form {
            Form::Http | Form::Fellow | Form::Tcp => {
                let slice = endpoint_slice(&self.name, &port, &addresses);
                return Some(vec![service(&self.name, "10.0.1.1", &port), slice]);
            }
            Form::Entry => "STATIC",
            Form::Dns => "DNS",
        };
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        Some(vec![service_entry(&self.name, &self.host(*form), resolution, &port, &addresses)])
    }
}

/// The name of a service of the namespace `default`.
fn host(name: &str) -> String {
    format!("{name}.default.svc.cluster.local")
}
