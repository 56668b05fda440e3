use super::*;

/// A directory in which time passes as told.
struct Directory {
    settle: Settle,
    files: BTreeMap<PathBuf, Stamp>,
    start: Instant,
}

const MS: Duration = Duration::from_millis(1);

impl Directory {
    fn new() -> Self {
        Self { settle: Settle::default(), files: BTreeMap::new(), start: Instant::now() }
    }

    fn write(&mut self, name: &str, version: i64) {
        let at = (version, 0);
        self.files.insert(name.into(), Stamp { inode: (0, 1), size: 7, modified: at, changed: at });
    }

    /// Looks at so many milliseconds; returns what is believed and when to look again.
    fn look(&mut self, at: u64, hints: &Hints) -> (String, Option<u64>) {
        let now = self.start + Duration::from_millis(at);
        let (beliefs, again) = self.settle.look(&self.files, &[], hints, now);
        let beliefs: Vec<_> = beliefs
            .iter()
            .map(|belief| match belief {
                Belief::Settled(path) => format!("read {}", path.display()),
                Belief::Vanishing(path) => format!("vanishing {}", path.display()),
                Belief::Gone(path) => format!("gone {}", path.display()),
            })
            .collect();
        let again = again.map(|at| u64::try_from((at - self.start).as_millis()).unwrap());
        (beliefs.join(", "), again)
    }
}

fn paths(names: &[&str]) -> HashSet<PathBuf> {
    names.iter().map(PathBuf::from).collect()
}

fn quiet() -> Hints {
    Hints::default()
}

fn settled(names: &[&str]) -> Directory {
    let mut directory = Directory::new();
    for name in names {
        directory.write(name, 0);
    }
    directory.look(0, &quiet());
    directory.look(30, &quiet());
    directory
}

#[test]
fn a_file_is_read_once_it_is_quiet() {
    let mut directory = Directory::new();
    directory.write("a", 1);
    assert_eq!(directory.look(0, &quiet()), (String::new(), Some(30)));
    assert_eq!(directory.look(29, &quiet()), (String::new(), Some(30)));
    directory.write("a", 2);
    assert_eq!(directory.look(29, &quiet()), (String::new(), Some(59)));
    assert_eq!(directory.look(59, &quiet()), ("read a".into(), None));
    assert_eq!(directory.look(99, &quiet()), (String::new(), None));
}

#[test]
fn two_writes_within_one_tick_of_the_clock_are_told_apart_by_notices() {
    let mut directory = settled(&["a"]);
    let touched = Hints { touched: paths(&["a"]), ..quiet() };
    assert_eq!(directory.look(100, &touched), (String::new(), Some(130)));
    assert_eq!(directory.look(120, &touched), (String::new(), Some(150)));
    assert_eq!(directory.look(150, &quiet()), ("read a".into(), None));
}

#[test]
fn whoever_writes_is_waited_for() {
    let mut directory = settled(&["a"]);
    directory.write("a", 1);
    let writing = Hints { writing: paths(&["a"]), ..quiet() };
    assert_eq!(directory.look(100, &writing), (String::new(), Some(10_100)));
    assert_eq!(directory.look(900, &writing), (String::new(), Some(10_900)));
    // Closed.
    let touched = Hints { touched: paths(&["a"]), ..quiet() };
    assert_eq!(directory.look(901, &touched), (String::new(), Some(931)));
    assert_eq!(directory.look(931, &quiet()), ("read a".into(), None));
}

#[test]
fn a_rename_is_believed_at_once() {
    let mut directory = settled(&["d/a", "d/b"]);
    directory.write("d/a", 1);
    directory.write("d/b", 1);
    let renamed = Hints { renamed: paths(&["d/a"]), touched: paths(&["d/a"]), ..quiet() };
    assert_eq!(directory.look(100, &renamed), ("read d/a".into(), Some(130)));
    // A directory, or the `..data` link in it, stands for everything in it, but not for what is being written.
    directory.write("d/a", 2);
    let renamed = Hints { renamed: paths(&["d"]), writing: paths(&["d/a"]), ..quiet() };
    assert_eq!(directory.look(110, &renamed), ("read d/b".into(), Some(10_110)));
}

#[test]
fn a_file_is_gone_once_it_stays_away() {
    let mut directory = settled(&["a", "b"]);
    directory.files.clear();
    assert_eq!(directory.look(100, &quiet()).1, Some(400));
    // An editor puts it back under its old name.
    directory.write("a", 1);
    assert_eq!(directory.look(390, &quiet()), (String::new(), Some(400)));
    assert_eq!(directory.look(400, &quiet()), ("gone b".into(), Some(420)));
    assert_eq!(directory.look(420, &quiet()), ("read a".into(), None));
}

#[test]
fn what_cannot_be_seen_stays_as_it_was() {
    let mut directory = settled(&["d/a", "b"]);
    directory.files.clear();
    let now = directory.start + 200 * MS;
    let (beliefs, _) = directory.settle.look(&directory.files, &["d".into()], &quiet(), now);
    assert_eq!(beliefs, [Belief::Vanishing("b".into())]);
}

#[test]
fn a_doubted_belief_settles_again() {
    let mut directory = settled(&["a"]);
    directory.settle.doubt(Path::new("a"), directory.start + 40 * MS);
    assert_eq!(directory.look(60, &quiet()), (String::new(), Some(70)));
    assert_eq!(directory.look(70, &quiet()), ("read a".into(), None));
}

#[test]
fn a_rescan_reads_everything_again() {
    let mut directory = settled(&["a", "b"]);
    let everything = Hints { everything: true, ..quiet() };
    assert_eq!(directory.look(5000, &everything), (String::new(), Some(5030)));
    assert_eq!(directory.look(5030, &quiet()), ("read a, read b".into(), None));
}
