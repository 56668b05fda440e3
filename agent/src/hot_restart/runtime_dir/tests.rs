use std::{fs::Permissions, os::unix::fs::PermissionsExt, os::unix::net::UnixDatagram};

use tempfile::TempDir;

use super::*;
use crate::hot_restart::base_id::{RestartEpoch, SocketRole};

struct Folders(TempDir);

impl Folders {
    fn new() -> Self {
        let folders = Self(tempfile::tempdir().unwrap());
        fs::create_dir(folders.shared_memory()).unwrap();
        folders
    }

    fn run(&self) -> PathBuf {
        self.0.path().join("run")
    }

    fn shared_memory(&self) -> PathBuf {
        self.0.path().join("shm")
    }

    fn open(&self) -> Result<RuntimeDir, RuntimeDirError> {
        RuntimeDir::open(&self.run(), &self.shared_memory())
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_folder_belongs_to_one_agent() {
    let folders = Folders::new();
    let first = folders.open().unwrap();
    assert_eq!(fs::metadata(folders.run()).unwrap().mode() & 0o777, 0o700);
    assert!(matches!(folders.open(), Err(RuntimeDirError::InUse(_))));
    drop(first);
    folders.open().unwrap();
}

#[test]
fn a_folder_others_may_enter_is_refused() {
    let folders = Folders::new();
    fs::create_dir(folders.run()).unwrap();
    for mode in [0o755, 0o710, 0o701] {
        fs::set_permissions(folders.run(), Permissions::from_mode(mode)).unwrap();
        assert!(
            matches!(folders.open(), Err(RuntimeDirError::NotPrivate { mode: found, .. }) if found == mode)
        );
    }
}

#[test]
fn a_folder_must_leave_room_for_the_names_of_sockets() {
    let folders = Folders::new();
    let runtime_dir = |length: usize| {
        let run = folders.run();
        let missing = length - run.as_os_str().len() - 1;
        RuntimeDir::open(&run.join("x".repeat(missing)), &folders.shared_memory())
    };
    assert!(matches!(runtime_dir(79), Err(RuntimeDirError::TooLong(_))));
    let base_id = runtime_dir(78).unwrap().reserve_base_id().unwrap();
    let longest = base_id.socket(SocketRole::UdpParent, RestartEpoch::FRESH);
    drop(UnixDatagram::bind(format!("{}{}", longest.display(), endpoint::TEMPORARY_SUFFIX)).unwrap());
}

#[test]
fn names_are_envoys() {
    let folders = Folders::new();
    let runtime_dir = folders.open().unwrap();
    let base_id = runtime_dir.reserve_base_id().unwrap();
    let (number, run) = (base_id.get(), folders.run());
    let socket = |role, epoch| base_id.socket(role, RestartEpoch(epoch));
    assert_eq!(base_id.socket_path(), run.join("hr"));
    assert_eq!(base_id.segment(), folders.shared_memory().join(format!("envoy_shared_memory_{number}0")));
    assert_eq!(socket(SocketRole::Parent, 0), run.join(format!("hr_parent_{number}0")));
    assert_eq!(socket(SocketRole::Child, 1), run.join(format!("hr_child_{number}1")));
    assert_eq!(socket(SocketRole::UdpParent, 5), run.join(format!("hr_udp_parent_{number}2")));
    assert_eq!(socket(SocketRole::UdpChild, 6), run.join(format!("hr_udp_child_{number}0")));
}

#[test]
fn envoy_names_no_socket_by_a_negative_number() {
    assert!(i32::try_from(u64::from(BASE_IDS.end) * 10).is_ok());
    for (number, base_id) in [(0, 1_000_000), (198_999_999, 199_999_999), (199_000_000, 1_000_000)] {
        assert_eq!(within(BASE_IDS, number), base_id);
    }
}

#[test]
fn a_lineage_leaves_nothing_behind() {
    let folders = Folders::new();
    let runtime_dir = folders.open().unwrap();
    let base_id = runtime_dir.reserve_base_id().unwrap();
    base_id.write_segment().unwrap();
    for role in [SocketRole::Parent, SocketRole::Child, SocketRole::UdpParent, SocketRole::UdpChild] {
        for epoch in 0..3 {
            drop(UnixDatagram::bind(base_id.socket(role, RestartEpoch(epoch))).unwrap());
        }
    }
    assert_eq!((names(&folders.run()).len(), names(&folders.shared_memory()).len()), (12, 2));
    drop(base_id);
    assert_eq!((names(&folders.run()).len(), names(&folders.shared_memory()).len()), (0, 0));
}

#[test]
fn a_base_id_in_use_is_passed_over() {
    let folders = Folders::new();
    let runtime_dir = folders.open().unwrap();
    let taken = |base_id| matches!(runtime_dir.reserve(base_id).unwrap(), Reservation::Taken);
    assert!(!taken(1));
    // Reserved, though its agent is dead by now: only one that starts may clean up.
    assert!(taken(1));
    let stranger = folders.shared_memory().join("envoy_shared_memory_20");
    fs::write(&stranger, "a stranger's").unwrap();
    assert!(taken(2));
    assert_eq!(fs::read_to_string(&stranger).unwrap(), "a stranger's");
    assert_eq!(names(&folders.shared_memory()), ["envoy_shared_memory_20", "pilot_agent_1.lock"]);
}

#[test]
fn what_a_dead_agent_left_is_removed_and_nothing_else() {
    let folders = Folders::new();
    let write = |name: &str| fs::write(folders.shared_memory().join(name), "").unwrap();
    fs::create_dir(folders.run()).unwrap();
    fs::set_permissions(folders.run(), Permissions::from_mode(0o700)).unwrap();
    for socket in ["hr_parent_10", "hr_udp_child_12", "hr_child_11.new", "admin", "hr_other_10"] {
        drop(UnixDatagram::bind(folders.run().join(socket)).unwrap());
    }
    fs::write(folders.run().join("hr_parent_20"), "no socket").unwrap();
    // Another agent, in a folder of its own, that lives.
    let alive = RuntimeDir::open(&folders.0.path().join("other"), &folders.shared_memory()).unwrap();
    let alive = alive.reserve_base_id().unwrap();
    alive.write_segment().unwrap();
    let kept = names(&folders.shared_memory());
    // One that died with a segment, one that died before it had one, and two files that are no agent's.
    ["pilot_agent_7.lock", "envoy_shared_memory_70", "pilot_agent_8.lock"].into_iter().for_each(write);
    let strangers = ["envoy_shared_memory_90", "pilot_agent_x.lock", "pilot_agent_+9.lock"];
    strangers.into_iter().for_each(write);

    let runtime_dir = folders.open().unwrap();
    let mut expected: Vec<_> = strangers.map(String::from).into_iter().chain(kept).collect();
    expected.sort();
    assert_eq!(names(&folders.shared_memory()), expected);
    assert_eq!(names(&folders.run()), ["admin", "hr_other_10", "hr_parent_20"]);
    assert_ne!(runtime_dir.reserve_base_id().unwrap().get(), alive.get());
}

#[test]
fn a_lock_on_a_file_that_was_removed_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lock");
    let file = File::create_new(&path).unwrap();
    lock_named(&file, &path).unwrap();
    fs::remove_file(&path).unwrap();
    lock_named(&file, &path).unwrap_err();
    let other = File::create_new(&path).unwrap();
    lock_named(&file, &path).unwrap_err();
    lock_named(&other, &path).unwrap();
}

#[test]
fn agents_that_start_at_once_take_nothing_from_each_other() {
    let folders = Folders::new();
    let start = |agent: usize| {
        let (run, shared_memory) = (folders.0.path().join(agent.to_string()), folders.shared_memory());
        for _ in 0..100 {
            let base_id = RuntimeDir::open(&run, &shared_memory).unwrap().reserve_base_id().unwrap();
            base_id.write_segment().unwrap();
            // The others clean up what they take for a dead agent's.
            drop(RuntimeDir::open(&folders.0.path().join(format!("{agent} again")), &shared_memory).unwrap());
            let reservation = shared_memory.join(base_id::reservation_name(base_id.get()));
            assert!(base_id.segment().exists() && reservation.exists());
        }
    };
    std::thread::scope(|agents| {
        for agent in 0..4 {
            agents.spawn(move || start(agent));
        }
    });
    assert_eq!(names(&folders.shared_memory()), [""; 0]);
}

#[test]
fn no_shared_memory_is_an_error_of_its_own() {
    let folders = Folders::new();
    let runtime_dir = RuntimeDir::open(&folders.run(), &folders.0.path().join("missing")).unwrap();
    assert!(matches!(runtime_dir.reserve_base_id(), Err(RuntimeDirError::SharedMemory { .. })));
}

#[test]
fn an_envoy_is_known_by_its_sockets() {
    let check =
        |base_id: u32, socket: &str, expected: bool| assert_eq!(is_of(base_id, socket), expected, "{socket}");
    check(30, "@envoy_domain_socket_parent_300@@@@@@", true);
    check(30, "@envoy_domain_socket_udp_child_302@@@", true);
    check(30, "/run/pilot/hr_parent_301", true);
    check(30, "@envoy_domain_socket_parent_310@@@@@@", false);
    check(30, "/run/pilot/other_300", false);
    check(30, "/run/docker.sock", false);
    check(30, "", false);
}
