//! Whatever happens to the files, in whatever order: what was told last is what they say.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::following::{PACE, PATIENCE, SEEING};
use super::*;
use crate::desired::patience::Pace;

/// What may happen to a pod.
#[derive(Clone, Debug)]
enum Deed {
    Write(&'static str, &'static str),
    Put(&'static str, &'static str),
    Remove(&'static str),
    Rest,
}

fn deed() -> impl Strategy<Value = Deed> {
    let file = || prop::sample::select(vec![MESH, "own.yaml", "bin/envoy", "etc/istio/pod/annotations"]);
    let text = || {
        prop::sample::select(vec![
            "",
            "{}",
            "defaultConfig: {concurrency: 3}",
            "defaultConfig: {customConfigFile: own.yaml}",
            "defaultConfig: {",
            "admin: {a: 1}",
            "a=\"b\"",
        ])
    };
    prop_oneof![
        (file(), text()).prop_map(|(file, text)| Deed::Write(file, text)),
        (file(), text()).prop_map(|(file, text)| Deed::Put(file, text)),
        file().prop_map(Deed::Remove),
        Just(Deed::Rest),
    ]
}

/// Whatever happens, what was told last is what a new reading of the files gives.
#[test]
fn the_last_desired_is_the_last_reported() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut runner = TestRunner::new(ProptestConfig { cases: 24, ..ProptestConfig::default() });
    let deeds = prop::collection::vec(deed(), 1..12);
    let run = |deeds: Vec<Deed>| {
        runtime.block_on(last_word(&deeds));
        Ok(())
    };
    runner.run(&deeds, run).unwrap();
}

async fn last_word(deeds: &[Deed]) {
    let pod = Pod::new(&[]);
    let first = pod.read(None).unwrap();
    let pace = Pace {
        settle: Duration::from_millis(5),
        at_most: Duration::from_millis(20),
        absence: Duration::from_millis(10),
        ..PACE
    };
    let mut follower = Follower::with(pod.given.clone(), first.clone(), (pace, SEEING));
    for deed in deeds {
        match deed {
            Deed::Write(file, text) => pod.write(file, text),
            Deed::Put(file, text) => pod.put(file, text),
            Deed::Remove(file) => drop(fs::remove_file(pod.path(file))),
            Deed::Rest => tokio::time::sleep(Duration::from_millis(12)).await,
        }
    }
    let (mut good, mut refused) = (first, None);
    let end = Instant::now() + PATIENCE;
    loop {
        let settled = match pod.read(Some(&good)) {
            Ok(desired) => desired.hash == good.hash && refused.is_none(),
            Err(faults) => refused == Some(faults),
        };
        if settled {
            return;
        }
        let left = end.saturating_duration_since(Instant::now());
        match tokio::time::timeout(left, follower.news()).await {
            Ok(Some(News::Changed(desired))) => (good, refused) = (desired, None),
            Ok(Some(News::Refused(faults))) => refused = Some(faults),
            Ok(Some(News::Mended)) => refused = None,
            other => panic!("{deeds:?}: {other:?}; last told {refused:?}"),
        }
    }
}
