//! With a shell in Envoy's place.

use std::{
    io::Read,
    time::{Duration, Instant},
};

use super::*;

fn shell(script: &str) -> Program {
    let arguments = vec!["-c".into(), script.into()];
    Program { path: "/bin/sh".into(), arguments, stdio: ChildStdio::Piped }
}

const ENVOY: ChildId = ChildId::Envoy(Launch::FIRST);

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Reaps until a known child has ended.
fn wait(children: &mut ChildProcesses) -> Vec<(ChildId, ExitStatus)> {
    for _ in 0..500 {
        let ended = children.reap();
        if !ended.is_empty() {
            return ended;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("nobody ended in five seconds");
}

// One test, because `waitpid(-1)` is the whole process's.
#[test]
fn children_are_started_clean_signalled_and_all_reaped() {
    // Even when we ourselves block SIGTERM (and ignore SIGPIPE, as all of Rust does), a child does not.
    let mut blocked = SigSet::empty();
    blocked.add(Signal::SIGTERM);
    blocked.thread_block().unwrap();
    let mut children = ChildProcesses::new().unwrap();
    let (_, output) =
        run(children.spawn(ENVOY, shell("grep -E '^Sig(Blk|Ign)' /proc/self/status; exit 7"))).unwrap();
    let (mut output, mut said) = (output.unwrap(), String::new());
    output.stdout.read_to_string(&mut said).unwrap();
    // Signals from 32 on belong to libc.
    let named: Vec<_> = said.lines().filter_map(|line| line.split_once("00000000")).collect();
    assert!(matches!(*named, [("SigBlk:\t", "00000000"), ("SigIgn:\t", "00000000" | "80000000")]), "{said}");
    assert_eq!(wait(&mut children), [(ENVOY, ExitStatus::Exited(7))]);

    // SIGKILL reaches the whole group.
    let (_, output) = run(children.spawn(ENVOY, shell("sleep 60 & echo up; wait"))).unwrap();
    let (mut output, mut up) = (output.unwrap(), [0; 3]);
    output.stdout.read_exact(&mut up).unwrap();
    children.signal(Launch::FIRST, EnvoySignal::Kill).unwrap();
    assert_eq!(wait(&mut children), [(ENVOY, ExitStatus::Signaled(9))]);
    let asked = Instant::now();
    output.stdout.read_to_end(&mut Vec::new()).unwrap();
    assert!(asked.elapsed() < Duration::from_secs(30), "the sleep outlived its group, holding the pipe");
    assert_eq!(children.signal(Launch::FIRST, EnvoySignal::Terminate), Ok(()), "to the dead, nothing");

    // An orphan is reaped, counted and not reported.
    let stranger = spawn(&shell("exit 3")).unwrap();
    while kill(stranger.pid, None).is_ok() {
        assert_eq!(children.reap(), []);
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(children.orphans(), 1);

    // A failed start has a reason.
    let mut why = |path: &str| {
        let program = Program { path: path.into(), arguments: vec![], stdio: ChildStdio::Piped };
        failure(&run(children.spawn(ENVOY, program)).unwrap_err())
    };
    assert_eq!(why("/nonexistent/envoy"), SpawnFailure::NotFound);
    assert_eq!(why("/etc/passwd"), SpawnFailure::NotExecutable);
    assert_eq!(failure(&Errno::EAGAIN.into()), SpawnFailure::Transient);
}
