//! Random histories of file changes: the last update is the state of the files.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::watching::{DEADLINE, SETTINGS};
use super::*;

/// Step of a history.
#[derive(Clone, Debug)]
enum FileAction {
    Write(&'static str, &'static str),
    Replace(&'static str, &'static str),
    Remove(&'static str),
    Wait,
}

fn file_action() -> impl Strategy<Value = FileAction> {
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
        (file(), text()).prop_map(|(file, text)| FileAction::Write(file, text)),
        (file(), text()).prop_map(|(file, text)| FileAction::Replace(file, text)),
        file().prop_map(FileAction::Remove),
        Just(FileAction::Wait),
    ]
}

#[test]
fn last_config_update_is_the_state_of_the_files() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut runner = TestRunner::new(ProptestConfig { cases: 24, ..ProptestConfig::default() });
    let actions = prop::collection::vec(file_action(), 1..12);
    let run = |actions: Vec<FileAction>| {
        runtime.block_on(check_history(&actions));
        Ok(())
    };
    runner.run(&actions, run).unwrap();
}

async fn check_history(actions: &[FileAction]) {
    let pod = PodFiles::new(&[]);
    let first = pod.load(None).unwrap();
    let settings = Settings {
        debounce: Duration::from_millis(5),
        max_delay: Some(Duration::from_millis(20)),
        absence: Duration::from_millis(10),
        ..SETTINGS
    };
    let mut watcher = ConfigWatcher::with_settings(pod.inputs.clone(), first.clone(), settings);
    for action in actions {
        match action {
            FileAction::Write(file, text) => pod.write(file, text),
            FileAction::Replace(file, text) => pod.replace(file, text),
            FileAction::Remove(file) => drop(fs::remove_file(pod.path(file))),
            FileAction::Wait => tokio::time::sleep(Duration::from_millis(12)).await,
        }
    }
    let (mut last_valid, mut rejection) = (first, None);
    let deadline = Instant::now() + DEADLINE;
    loop {
        let is_current = match pod.load(Some(&last_valid)) {
            Ok(desired) => desired.hash == last_valid.hash && rejection.is_none(),
            Err(faults) => rejection == Some(faults),
        };
        if is_current {
            return;
        }
        let remaining = deadline.saturating_duration_since(Instant::now());
        match tokio::time::timeout(remaining, watcher.next()).await {
            Ok(Some(ConfigUpdate::Changed(desired))) => (last_valid, rejection) = (desired, None),
            Ok(Some(ConfigUpdate::Rejected(faults))) => rejection = Some(faults),
            Ok(Some(ConfigUpdate::Recovered)) => rejection = None,
            other => panic!("{actions:?}: {other:?}; last rejection {rejection:?}"),
        }
    }
}
