//! Selection of the hot-restart mode.

use HotRestartMode::{Auto, Mediated, Native};

use super::*;

#[test]
fn the_agent_mediates_between_envoys_it_knows_and_lets_others_speak_for_themselves() {
    let check = |mode, versions: [Option<&str>; 2], expected| {
        let folder = tempfile::tempdir().unwrap();
        let mut backend = HotRestartBackend::open(mode, &folder.path().join("run"), Duration::from_secs(1));
        let (from, to) = (Revision::FIRST, Revision::FIRST.next());
        for (revision, version) in [from, to].into_iter().zip(versions) {
            if let Some(version) = version {
                backend.record_version(revision, version.parse().unwrap(), &[]);
            }
        }
        assert_eq!(backend.coupling(from, to), expected, "{mode:?} {versions:?}");
    };
    let (known, other) = (Some("11.104"), Some("12.104"));
    check(Auto, [known, known], Coupling::Independent);
    check(Mediated, [known, known], Coupling::Independent);
    check(Native, [known, known], Coupling::Coupled);
    // Two Envoys may have a version in common that the agent does not support.
    check(Auto, [other, other], Coupling::Coupled);
    // Without a common version the Envoys are started side by side.
    check(Auto, [known, other], Coupling::Independent);
    check(Native, [known, other], Coupling::Independent);
    check(Auto, [None, known], Coupling::Independent);
    check(Mediated, [other, other], Coupling::Independent);
}

#[test]
fn what_the_running_one_speaks_is_known_however_many_were_wanted_since() {
    let folder = tempfile::tempdir().unwrap();
    let mut backend = HotRestartBackend::open(Native, &folder.path().join("run"), Duration::from_secs(1));
    let (running, mut wanted) = (Revision::FIRST, Revision::FIRST);
    for _ in 0..100 {
        backend.record_version(wanted, "11.104".parse().unwrap(), &[running]);
        assert_eq!(backend.coupling(running, wanted), Coupling::Coupled);
        wanted = wanted.next();
    }
    assert!(backend.versions.len() <= UNUSED_VERSIONS + 1);
}

#[test]
fn an_engine_without_a_place_is_off() {
    assert!(!HotRestartBackend::open(HotRestartMode::Off, Path::new("/tmp"), Duration::ZERO).is_on());
    assert!(
        !HotRestartBackend::open(HotRestartMode::Auto, Path::new("/proc/nowhere"), Duration::ZERO).is_on()
    );
}
