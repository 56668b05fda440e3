//! Which engine, and whether there is one.

use HotRestartMode::{Auto, Mediated, Native};

use super::*;

#[test]
fn the_agent_mediates_between_envoys_it_knows_and_lets_others_speak_for_themselves() {
    let check = |mode, versions: [Option<&str>; 2], expected| {
        let folder = tempfile::tempdir().unwrap();
        let mut engine = Engine::open(mode, &folder.path().join("run"), Duration::from_secs(1));
        let (from, to) = (Revision::FIRST, Revision::FIRST.next());
        for (revision, version) in [from, to].into_iter().zip(versions) {
            if let Some(version) = version {
                engine.learn(revision, version.parse().unwrap(), &[]);
            }
        }
        assert_eq!(engine.bond(from, to), expected, "{mode:?} {versions:?}");
    };
    let (known, other) = (Some("11.104"), Some("12.104"));
    check(Auto, [known, known], Bond::Loose);
    check(Mediated, [known, known], Bond::Loose);
    check(Native, [known, known], Bond::Tied);
    // What we do not understand, they may.
    check(Auto, [other, other], Bond::Tied);
    // What they do not either is started beside.
    check(Auto, [known, other], Bond::Loose);
    check(Native, [known, other], Bond::Loose);
    check(Auto, [None, known], Bond::Loose);
    check(Mediated, [other, other], Bond::Loose);
}

#[test]
fn what_the_running_one_speaks_is_known_however_many_were_wanted_since() {
    let folder = tempfile::tempdir().unwrap();
    let mut engine = Engine::open(Native, &folder.path().join("run"), Duration::from_secs(1));
    let (running, mut wanted) = (Revision::FIRST, Revision::FIRST);
    for _ in 0..100 {
        engine.learn(wanted, "11.104".parse().unwrap(), &[running]);
        assert_eq!(engine.bond(running, wanted), Bond::Tied);
        wanted = wanted.next();
    }
    assert!(engine.versions.len() <= REMEMBERED + 1);
}

#[test]
fn an_engine_without_a_place_is_off() {
    assert!(!Engine::open(HotRestartMode::Off, Path::new("/tmp"), Duration::ZERO).is_on());
    assert!(!Engine::open(HotRestartMode::Auto, Path::new("/proc/nowhere"), Duration::ZERO).is_on());
}
