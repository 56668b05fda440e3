//! Made-up machines: containers of both versions, with and without a namespace of their own, and services.

use std::num::{NonZeroU32, NonZeroU64};

use super::*;

/// A machine of these files, below a folder.
fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }
    root
}

const V2: &str = "31 23 0:28 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate";
const V1: &str = "30 23 0:27 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
    31 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
    32 30 0:29 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n\
    33 30 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
    34 30 0:31 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd";

/// Cores of 8, quota, memory.
fn check(files: &[(&str, &str)], expected: (u32, Option<u32>, Option<u64>)) {
    let root = machine(files);
    let limits = Limits::of(&Cgroup::below(root.path()), NonZeroU32::new(8).unwrap());
    let Limits { cores, quota, memory } = limits;
    assert_eq!(
        (cores.get(), quota.map(NonZeroU32::get), memory.map(NonZeroU64::get)),
        expected,
        "{files:#?}"
    );
}

#[test]
fn nothing_there_limits_nothing() {
    check(&[], (8, None, None));
    check(&[("proc/self/cgroup", "0::/"), ("proc/self/mountinfo", V2)], (8, None, None));
    check(
        &[("proc/self/cgroup", "0::/x\nrubbish"), ("proc/self/mountinfo", "rubbish\n - \na b - cgroup2")],
        (8, None, None),
    );
}

#[test]
fn a_container_of_version_2_has_its_limits_at_the_mount() {
    let container = [("proc/self/cgroup", "0::/"), ("proc/self/mountinfo", V2)];
    for (cpu, set, memory, expected) in [
        ("150000 100000", "0-3,7", "134217728", (5, Some(2), Some(134_217_728))),
        ("max 100000", "0-7", "max", (8, None, None)),
        ("1000 100000", "", "4096", (8, Some(1), Some(4096))),
        ("200000 100000", "0-63", "0", (8, Some(2), None)),
        ("rubbish", "3-1", "-1", (8, None, None)),
        ("100000 0", "x", "99999999999999999999", (8, None, None)),
    ] {
        let files = [
            ("sys/fs/cgroup/cpu.max", cpu),
            ("sys/fs/cgroup/cpuset.cpus.effective", set),
            ("sys/fs/cgroup/memory.max", memory),
        ];
        check(&[&container[..], &files].concat(), expected);
    }
}

#[test]
fn the_tightest_limit_on_the_way_up_counts() {
    check(
        &[
            ("proc/self/cgroup", "0::/kubepods/pod1/envoy"),
            ("proc/self/mountinfo", V2),
            ("sys/fs/cgroup/kubepods/pod1/envoy/cpu.max", "max 100000"),
            ("sys/fs/cgroup/kubepods/pod1/envoy/memory.max", "max"),
            ("sys/fs/cgroup/kubepods/pod1/cpu.max", "300000 100000"),
            ("sys/fs/cgroup/kubepods/pod1/memory.max", "1000"),
            ("sys/fs/cgroup/kubepods/cpu.max", "400000 100000"),
            ("sys/fs/cgroup/kubepods/memory.max", "2000"),
            ("sys/fs/cgroup/kubepods/cpuset.cpus.effective", "0-1"),
            ("sys/fs/cgroup/other/memory.max", "1"),
        ],
        (2, Some(3), Some(1000)),
    );
}

#[test]
fn version_1_has_a_hierarchy_for_each_controller() {
    let groups =
        "9:name=systemd:/s\n4:memory:/docker/c1\n3:cpuset:/docker/c1\n2:cpu,cpuacct:/docker/c1\n0::/s";
    let at = |quota, memory| {
        [
            ("proc/self/cgroup", groups),
            ("proc/self/mountinfo", V1),
            ("sys/fs/cgroup/cpu,cpuacct/docker/c1/cpu.cfs_quota_us", quota),
            ("sys/fs/cgroup/cpu,cpuacct/docker/c1/cpu.cfs_period_us", "100000"),
            ("sys/fs/cgroup/cpuset/docker/c1/cpuset.effective_cpus", "1,3"),
            ("sys/fs/cgroup/memory/docker/c1/memory.limit_in_bytes", memory),
        ]
    };
    check(&at("250001", "67108864"), (2, Some(3), Some(67_108_864)));
    check(&at("-1", "9223372036854771712"), (2, None, None));
}

#[test]
fn a_container_that_sees_only_its_part_finds_itself_in_it() {
    // Docker with version 1 and the host's namespace: the path is the host's, the mount begins at it.
    let mount = "33 30 0:30 /docker/c1 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory";
    for path in ["/docker/c1", "/elsewhere", "/../c2"] {
        check(
            &[
                ("proc/self/cgroup", &format!("4:memory:{path}")),
                ("proc/self/mountinfo", mount),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "5000"),
            ],
            (8, None, Some(5000)),
        );
    }
    check(
        &[
            ("proc/self/cgroup", "4:memory:/docker/c1/inner"),
            ("proc/self/mountinfo", &mount.replace("memory ro", "memory\\040of\\040us ro")),
            ("sys/fs/cgroup/memory of us/inner/memory.limit_in_bytes", "4000"),
            ("sys/fs/cgroup/memory of us/memory.limit_in_bytes", "5000"),
        ],
        (8, None, Some(4000)),
    );
}

#[test]
fn a_hybrid_machine_is_limited_by_either() {
    let mounts = format!("{V1}\n41 30 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw");
    check(
        &[
            ("proc/self/cgroup", "4:memory:/a\n1:cpu,cpuacct:/\n0::/a"),
            ("proc/self/mountinfo", &mounts),
            ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "7000"),
            ("sys/fs/cgroup/unified/a/cpu.max", "100000 100000"),
        ],
        (8, Some(1), Some(7000)),
    );
}

#[test]
fn a_kill_for_want_of_memory_is_counted() {
    let v2 = [("proc/self/cgroup", "0::/"), ("proc/self/mountinfo", V2)];
    let v1 = [("proc/self/cgroup", "4:memory:/a"), ("proc/self/mountinfo", V1)];
    let (events, control) = ("sys/fs/cgroup/memory.events", "sys/fs/cgroup/memory/a/memory.oom_control");
    for (group, file, before, after, expected) in [
        (&v2, events, "low 0\noom 1\noom_kill 0\noom_group_kill 0", "low 0\noom 2\noom_kill 1", Oom::Yes),
        (&v2, events, "oom 3\noom_kill 3", "oom 4\noom_kill 3", Oom::No),
        (&v1, control, "oom_kill_disable 0\nunder_oom 0\noom_kill 5", "under_oom 0\noom_kill 6", Oom::Yes),
        (&v1, control, "oom_kill_disable 0\nunder_oom 0", "oom_kill_disable 0\nunder_oom 0", Oom::Unknown),
        // Of the group above, and of another hierarchy: not ours to count.
        (&v1, "sys/fs/cgroup/memory/memory.oom_control", "oom_kill 0", "oom_kill 1", Oom::Unknown),
        (&v1, events, "oom_kill 0", "oom_kill 1", Oom::Unknown),
    ] {
        let root = machine(&[&group[..], &[(file, before)]].concat());
        let cgroup = Cgroup::below(root.path());
        let count = OomCount::of(&cgroup);
        fs::write(root.path().join(file), after).unwrap();
        assert_eq!(OomCount::of(&cgroup).since(count), expected, "{before} {after}");
    }
}

#[tokio::test]
async fn a_count_may_be_late() {
    let events = "sys/fs/cgroup/memory.events";
    let root = machine(&[("proc/self/cgroup", "0::/"), ("proc/self/mountinfo", V2), (events, "oom_kill 0")]);
    let cgroup = Cgroup::below(root.path());
    let before = OomCount::of(&cgroup);
    assert_eq!(before.verdict(&cgroup).await, Oom::No);
    // It has looked once when the count moves.
    let late = async { fs::write(root.path().join(events), "oom_kill 1").unwrap() };
    assert_eq!(tokio::join!(biased; before.verdict(&cgroup), late).0, Oom::Yes);
}

#[test]
fn this_machine_can_be_read() {
    let limits = Limits::of_process();
    let parallel = std::thread::available_parallelism().unwrap().get();
    assert!(usize::try_from(limits.cores.get()).unwrap() >= parallel, "{limits:?} {parallel}");
    assert!(limits.memory.is_none_or(|bytes| bytes.get() > 1 << 20), "{limits:?}");
}
