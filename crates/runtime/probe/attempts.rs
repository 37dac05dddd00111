//! System calls a tenant may try, and what the kernel says. All unsafe code of the probe is here.

use std::ffi::CStr;
use std::io;

const NULL: usize = 0;

fn call(number: libc::c_long, arguments: [usize; 5]) -> String {
    let [a, b, c, d, e] = arguments;
    // SAFETY: pointers passed are null or to terminated constants; calls that would write through them are refused
    // or fail on the null pointer. The probe does nothing else that an unexpected success could upset.
    let result = unsafe { libc::syscall(number, a, b, c, d, e) };
    if result >= 0 {
        return "WORKS".into();
    }
    match io::Error::last_os_error().raw_os_error() {
        Some(libc::EPERM) => "EPERM".into(),
        Some(libc::EACCES) => "EACCES".into(),
        Some(libc::ENOSYS) => "ENOSYS".into(),
        other => format!("error {}", other.unwrap_or_default()),
    }
}

fn text(text: &'static CStr) -> usize {
    text.as_ptr() as usize
}

fn flag(flag: libc::c_int) -> usize {
    flag as usize
}

pub fn all(facts: &mut Vec<String>) {
    let here = flag(libc::AT_FDCWD);
    let block = libc::makedev(254, 0) as usize;
    let mut attempt =
        |name: &str, number, arguments| facts.push(format!("call {name}: {}", call(number, arguments)));
    attempt("mount tmpfs", libc::SYS_mount, [text(c"x"), text(c"/root"), text(c"tmpfs"), 0, NULL]);
    attempt("umount /tmp", libc::SYS_umount2, [text(c"/tmp"), 0, 0, 0, 0]);
    attempt("pivot_root", libc::SYS_pivot_root, [text(c"/"), text(c"/"), 0, 0, 0]);
    attempt("fsopen", libc::SYS_fsopen, [text(c"tmpfs"), 0, 0, 0, 0]);
    attempt("open_tree", libc::SYS_open_tree, [here, text(c"/"), 1, 0, 0]);
    for (name, kind) in [
        ("user", libc::CLONE_NEWUSER),
        ("mount", libc::CLONE_NEWNS),
        ("network", libc::CLONE_NEWNET),
        ("pid", libc::CLONE_NEWPID),
    ] {
        attempt(&format!("unshare {name}"), libc::SYS_unshare, [flag(kind), 0, 0, 0, 0]);
    }
    let new_user = flag(libc::CLONE_NEWUSER | libc::SIGCHLD);
    attempt("clone user", libc::SYS_clone, [new_user, NULL, NULL, NULL, 0]);
    attempt("clone3", libc::SYS_clone3, [NULL, 0, 0, 0, 0]);
    attempt("setns", libc::SYS_setns, [0, 0, 0, 0, 0]);
    attempt("mknod block device", libc::SYS_mknodat, [here, text(c"/root/disk"), 0o060_666, block, 0]);
    attempt("open by handle", libc::SYS_open_by_handle_at, [here, NULL, 0, 0, 0]);
    attempt("bpf", libc::SYS_bpf, [0, NULL, 0, 0, 0]);
    attempt("perf_event_open", libc::SYS_perf_event_open, [NULL, 0, 0, 0, 0]);
    attempt("add_key", libc::SYS_add_key, [text(c"user"), text(c"x"), text(c"y"), 1, usize::MAX]);
    attempt("keyctl", libc::SYS_keyctl, [0, usize::MAX, 0, 0, 0]);
    attempt("userfaultfd", libc::SYS_userfaultfd, [0, 0, 0, 0, 0]);
    attempt("io_uring_setup", libc::SYS_io_uring_setup, [1, NULL, 0, 0, 0]);
    attempt("init_module", libc::SYS_init_module, [NULL, 0, NULL, 0, 0]);
    attempt("kexec_load", libc::SYS_kexec_load, [0, 0, NULL, 0, 0]);
    attempt("reboot", libc::SYS_reboot, [0, 0, 0, 0, 0]);
    attempt("swapon", libc::SYS_swapon, [text(c"/dev/null"), 0, 0, 0, 0]);
    attempt("sethostname", libc::SYS_sethostname, [text(c"x"), 1, 0, 0, 0]);
    attempt("settimeofday", libc::SYS_settimeofday, [NULL, NULL, 0, 0, 0]);
    attempt("clock_settime", libc::SYS_clock_settime, [0, NULL, 0, 0, 0]);
    attempt("syslog", libc::SYS_syslog, [3, NULL, 0, 0, 0]);
    attempt("quotactl", libc::SYS_quotactl, [0, NULL, 0, NULL, 0]);
    attempt("ptrace first process", libc::SYS_ptrace, [libc::PTRACE_ATTACH as usize, 1, 0, 0, 0]);
    attempt("kcmp", libc::SYS_kcmp, [1, 1, 0, 0, 0]);
    for (name, family, kind) in [
        ("inet", libc::AF_INET, libc::SOCK_STREAM),
        ("unix", libc::AF_UNIX, libc::SOCK_STREAM),
        ("netlink", libc::AF_NETLINK, libc::SOCK_RAW),
        ("raw", libc::AF_INET, libc::SOCK_RAW),
        ("packet", libc::AF_PACKET, libc::SOCK_RAW),
        ("vsock", libc::AF_VSOCK, libc::SOCK_STREAM),
        ("kernel crypto", libc::AF_ALG, libc::SOCK_SEQPACKET),
    ] {
        let protocol = if name == "raw" { 255 } else { 0 };
        attempt(&format!("socket {name}"), libc::SYS_socket, [flag(family), flag(kind), protocol, 0, 0]);
    }
    attempt("type into terminal", libc::SYS_ioctl, [0, libc::TIOCSTI as usize, text(c"x"), 0, 0]);
    attempt("chown own file", libc::SYS_fchownat, [here, text(c"/root"), 1000, 1000, 0]);
    attempt("chroot", libc::SYS_chroot, [text(c"/"), 0, 0, 0, 0]);
    attempt("nice below zero", libc::SYS_setpriority, [0, 0, usize::MAX, 0, 0]);
    attempt("other user", libc::SYS_setresuid, [1000, 1000, 1000, 0, 0]);
}
