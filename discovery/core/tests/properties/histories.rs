//! Properties of every history: resources depend on the current mesh only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pilot_core::cache::Cache;
use pilot_core::model::{ChangeKind, NameSet, ResourceSet};
use pilot_core::push::impact::touched;
use pilot_core::push::{PushContext, PushRequest, Reason};
use pilot_core::scope::Index;
use pilot_core::world::Changes;
use pilot_proto::ResourceType::{self, Endpoint};
use proptest::bool::weighted;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::KINDS;
use crate::statements::{Statement, Subject, furniture, statement};
use crate::told::{Answer, Living, Scopes, difference, everything, proxies};

/// Events, each with a flag for a snapshot after it. Most histories begin with a mesh of some objects.
fn history(most: usize) -> impl Strategy<Value = Vec<(Statement, bool)>> {
    (weighted(0.8), vec((statement(), any::<bool>()), 1..most)).prop_map(|(furnished, mut history)| {
        if furnished {
            history.splice(0..0, furniture().into_iter().map(|statement| (statement, false)));
        }
        history
    })
}

/// Returns the last event of each subject.
fn true_at_last(history: &[(Statement, bool)]) -> BTreeMap<Subject, Statement> {
    let mut last = BTreeMap::new();
    for (statement, _) in history {
        last.insert(statement.subject(), statement.clone());
    }
    last.retain(|_, statement| !statement.is_gone());
    last
}

/// Returns the request of a push for these changes.
fn request(changes: &Changes) -> PushRequest {
    let reason = |kind: ChangeKind| match kind {
        ChangeKind::Service => Reason::Service,
        ChangeKind::Endpoints => Reason::Endpoint,
        ChangeKind::MeshConfig => Reason::Global,
        ChangeKind::Proxy => Reason::Proxy,
        ChangeKind::Config(_) => Reason::Config,
    };
    let reasons = changes.keys.iter().map(|key| (reason(key.kind), 1)).collect();
    PushRequest { updated: changes.keys.clone(), reasons, ..PushRequest::default() }
}

/// A quarter of the usual 64 cases: each one generates whole meshes repeatedly.
fn fewer() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig { cases: usual.cases / 4, ..usual }
}

proptest! {
    #![proptest_config(fewer())]

    /// An incremental snapshot equals a full one, in any order of events.
    #[test]
    fn how_things_came_about_does_not_matter(history in history(30), seed in any::<u64>()) {
        let mut living = Living::new();
        for (statement, look) in &history {
            drop(living.say(statement));
            if *look {
                living.look();
            }
        }
        living.look();
        let mut rest: Vec<Statement> = true_at_last(&history).into_values().collect();
        // Any order, a different one each time.
        rest.sort_by_key(|statement| {
            let text = format!("{:?}", statement.subject());
            text.bytes().fold(seed, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
        });
        let fresh = Living::of(&rest);
        prop_assert_eq!(living.world.services(), fresh.world.services());
        prop_assert_eq!(living.world.in_namespace(), fresh.world.in_namespace());
        prop_assert_eq!(living.world.endpoints(), fresh.world.endpoints());
        prop_assert_eq!(living.world.served_at(), fresh.world.served_at());
        prop_assert_eq!(living.world.at_address(), fresh.world.at_address());
        prop_assert_eq!(living.world.configs(), fresh.world.configs());
        for proxy in proxies() {
            prop_assert_eq!(everything(&living.push, &proxy), everything(&fresh.push, &proxy), "{}", proxy.id);
        }
    }

    /// Cached resources equal generated ones, after any change and with evictions.
    #[test]
    fn what_was_told_before_does_not_matter(history in history(12), room in 1..60_usize) {
        let (mut living, mut scopes, cache) = (Living::new(), Scopes::default(), Cache::new(room));
        let proxies = proxies();
        for (number, (statement, look)) in history.iter().enumerate() {
            drop(living.say(statement));
            if !look {
                continue;
            }
            living.look();
            if number % 4 == 0 {
                cache.forget_unused();
            }
            for proxy in &proxies {
                for (kind, Answer { names, made }) in everything(&living.push, proxy) {
                    let told = scopes.tell(&cache, &living.push, proxy, kind, names.as_ref());
                    prop_assert_eq!(told, made, "{} {}", proxy.id, kind);
                }
            }
        }
    }

    /// Proxies, types and endpoints that a push leaves out have no changes.
    #[test]
    fn what_a_push_leaves_out_is_as_it_was(history in history(16)) {
        let proxies = proxies();
        let all = |push: &PushContext| -> Vec<BTreeMap<ResourceType, ResourceSet>> {
            let sets = |proxy| everything(push, proxy).into_iter().map(|(kind, answer)| (kind, answer.made.resources));
            proxies.iter().map(|proxy| sets(proxy).collect()).collect()
        };
        let mut living = Living::new();
        living.look();
        let mut before = (living.push.clone(), all(&living.push));
        let mut index = Index::default();
        let mut changes = Changes::default();
        for (number, proxy) in proxies.iter().enumerate() {
            index.join(number, proxy);
        }
        for (statement, look) in &history {
            changes.merge(living.say(statement));
            if !look {
                continue;
            }
            living.look();
            let request = Arc::new(request(&std::mem::take(&mut changes)));
            let asked = |number: usize| before.1[number].get(&Endpoint).map(names_of).unwrap_or_default();
            let audiences: Vec<_> = (0..proxies.len()).map(|number| index.follow(number, &asked(number))).collect();
            let concerned: BTreeMap<usize, Arc<PushRequest>> =
                index.concerned(&request, &before.0, &living.push).into_iter().collect();
            let now = all(&living.push);
            for (number, proxy) in proxies.iter().enumerate() {
                let own = concerned.get(&number);
                let kinds = own.map(|own| touched(own, proxy.node_type())).unwrap_or_default();
                for kind in KINDS {
                    let (old, new) = (&before.1[number][&kind], &now[number][&kind]);
                    let mut news: BTreeSet<String> = difference(old, new).into_iter().collect();
                    // Resources that were not requested before are not pushed; they are sent in response to the request.
                    if !kind.is_wildcard() || proxy.is_proxyless() {
                        news.retain(|name| old.get(name).is_some() && new.get(name).is_some());
                    }
                    if kinds.contains(&kind) {
                        let told = if kind == Endpoint { own.and_then(|own| audiences[number].touched(own)) } else { None };
                        news.retain(|name| told.as_ref().is_some_and(|told| !told.contains(name.as_str())));
                    }
                    prop_assert!(news.is_empty(), "{} is not told of {} {:?} after {:?}", proxy.id, kind, news, request.updated);
                }
            }
            before = (living.push.clone(), now);
        }
    }
}

fn names_of(set: &ResourceSet) -> NameSet {
    set.iter().map(|resource| resource.name.clone()).collect()
}
