//! Which system calls programs in containers may make.
//!
//! An allow-list: what is not named fails with EPERM. Calls that C libraries probe for and fall back from fail with
//! ENOSYS instead. New namespaces are refused by the flags of `clone` and `unshare`; `clone3` hides its flags behind
//! a pointer that a filter cannot read, so it is always ENOSYS and libraries use `clone`.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Compare, SeccompCondition,
    SeccompFilter, SeccompRule,
};

macro_rules! calls {
    ($($name:ident)*) => { &[$(libc::$name),*] };
}

/// The filters, in the order of loading.
pub(crate) struct Filters {
    always: [BpfProgram; 2],
    pretend: Option<BpfProgram>,
}

/// Answered "done" without doing anything in builds whose containers have no user but root: dpkg and the scripts of
/// packages give files to users that cannot be had there, and every file stays root's.
const PRETENDED: &[i64] = calls! { SYS_fchown SYS_fchownat };
#[cfg(target_arch = "x86_64")]
const PRETENDED_OLD: &[i64] = calls! { SYS_chown SYS_lchown };
#[cfg(not(target_arch = "x86_64"))]
const PRETENDED_OLD: &[i64] = &[];

/// Every flag that makes a namespace.
const NEW_NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWCGROUP) as u64;
/// CLONE_NEWTIME shares its bit with the exit signal of `clone`, so only `unshare` can name it.
const NEW_TIME: u64 = 0x80;

/// Address families programs use; the rest (packet, vsock, kernel crypto, Bluetooth, ...) is attack surface.
const FAMILIES: [libc::c_int; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// Calls that put bytes into a terminal's input, as if typed by whoever watches it.
const TERMINAL_INJECTION: [u64; 2] = [libc::TIOCSTI, libc::TIOCLINUX];

/// Values of `personality` that change nothing or only what `uname` says.
const PERSONALITIES: [u64; 5] = [0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Known to be probed for, with a fallback on ENOSYS.
const ABSENT: &[i64] = &[
    libc::SYS_clone3,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_userfaultfd,
];

/// `ids`: how many users containers have.
pub(crate) fn compile(ids: u32) -> Result<Filters, String> {
    let arch = std::env::consts::ARCH.try_into().map_err(|_| "no seccomp support for this architecture")?;
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    let absent = SeccompAction::Errno(libc::ENOSYS as u32);
    let allowed = rules().map_err(|error| error.to_string())?;
    let compile = |rules, otherwise, matched| -> Result<BpfProgram, String> {
        let filter: SeccompFilter =
            SeccompFilter::new(rules, otherwise, matched, arch).map_err(|error| error.to_string())?;
        filter.try_into().map_err(|error: seccompiler::BackendError| error.to_string())
    };
    let absent_rules = ABSENT.iter().map(|&call| (call, Vec::new())).collect();
    let pretended: Rules = PRETENDED.iter().chain(PRETENDED_OLD).map(|&call| (call, Vec::new())).collect();
    Ok(Filters {
        always: [
            compile(allowed, refuse, SeccompAction::Allow)?,
            compile(absent_rules, SeccompAction::Allow, absent)?,
        ],
        pretend: (ids == 1)
            .then(|| compile(pretended, SeccompAction::Allow, SeccompAction::Errno(0)))
            .transpose()?,
    })
}

impl Filters {
    /// Puts them on this process and all it starts. It must have no new privileges.
    pub(crate) fn load(&self) -> Result<(), String> {
        self.always.iter().try_for_each(apply)
    }

    /// For builds, beside the others: where root is the only user, giving files to another one seems to work.
    pub(crate) fn pretend_owners(&self) -> Result<(), String> {
        self.pretend.iter().try_for_each(apply)
    }
}

fn apply(filter: &BpfProgram) -> Result<(), String> {
    seccompiler::apply_filter(filter).map_err(|error| error.to_string())
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn rules() -> Result<Rules, seccompiler::BackendError> {
    let mut rules: Rules = COMMON.iter().chain(ARCH).chain(ABSENT).map(|&call| (call, Vec::new())).collect();
    let condition = SeccompCondition::new;
    let none_of = |mask| {
        let condition = condition(0, Length::Qword, Compare::MaskedEq(mask), 0)?;
        Ok::<_, seccompiler::BackendError>(vec![SeccompRule::new(vec![condition])?])
    };
    let one_of = |values: &[u64]| {
        let rule = |&value: &u64| SeccompRule::new(vec![condition(0, Length::Dword, Compare::Eq, value)?]);
        values.iter().map(rule).collect::<Result<Vec<_>, _>>()
    };
    rules.insert(libc::SYS_clone, none_of(NEW_NAMESPACES)?);
    rules.insert(libc::SYS_unshare, none_of(NEW_NAMESPACES | NEW_TIME)?);
    rules.insert(libc::SYS_socket, one_of(&FAMILIES.map(|family| family as u64))?);
    rules.insert(libc::SYS_personality, one_of(&PERSONALITIES)?);
    let not_injecting = TERMINAL_INJECTION
        .iter()
        .map(|&request| condition(1, Length::Dword, Compare::Ne, request))
        .collect::<Result<Vec<_>, _>>()?;
    rules.insert(libc::SYS_ioctl, vec![SeccompRule::new(not_injecting)?]);
    Ok(rules)
}

/// On every architecture.
const COMMON: &[i64] = calls! {
    SYS_read SYS_write SYS_close SYS_fstat SYS_lseek SYS_mmap SYS_mprotect SYS_munmap SYS_brk SYS_rt_sigaction
    SYS_rt_sigprocmask SYS_rt_sigreturn SYS_pread64 SYS_pwrite64 SYS_readv SYS_writev SYS_sched_yield SYS_mremap
    SYS_msync SYS_mincore SYS_madvise SYS_shmget SYS_shmat SYS_shmctl SYS_dup SYS_nanosleep SYS_getitimer
    SYS_setitimer SYS_getpid SYS_sendfile SYS_connect SYS_accept SYS_sendto SYS_recvfrom SYS_sendmsg SYS_recvmsg
    SYS_shutdown SYS_bind SYS_listen SYS_getsockname SYS_getpeername SYS_socketpair SYS_setsockopt SYS_getsockopt
    SYS_execve SYS_exit SYS_wait4 SYS_kill SYS_uname SYS_semget SYS_semop SYS_semctl SYS_shmdt SYS_msgget SYS_msgsnd
    SYS_msgrcv SYS_msgctl SYS_fcntl SYS_flock SYS_fsync SYS_fdatasync SYS_truncate SYS_ftruncate SYS_getcwd SYS_chdir
    SYS_fchdir SYS_fchmod SYS_fchown SYS_umask SYS_gettimeofday SYS_getrlimit SYS_getrusage SYS_sysinfo SYS_times
    SYS_getuid SYS_getgid SYS_setuid SYS_setgid SYS_geteuid SYS_getegid SYS_setpgid SYS_getppid SYS_setsid
    SYS_setreuid SYS_setregid SYS_getgroups SYS_setgroups SYS_setresuid SYS_getresuid SYS_setresgid SYS_getresgid
    SYS_getpgid SYS_setfsuid SYS_setfsgid SYS_getsid SYS_capget SYS_capset SYS_rt_sigpending SYS_rt_sigtimedwait
    SYS_rt_sigqueueinfo SYS_rt_sigsuspend SYS_sigaltstack SYS_statfs SYS_fstatfs SYS_getpriority SYS_setpriority
    SYS_sched_setparam SYS_sched_getparam SYS_sched_setscheduler SYS_sched_getscheduler SYS_sched_get_priority_max
    SYS_sched_get_priority_min SYS_sched_rr_get_interval SYS_mlock SYS_munlock SYS_mlockall SYS_munlockall SYS_prctl
    SYS_setrlimit SYS_chroot SYS_sync SYS_gettid SYS_readahead SYS_setxattr SYS_lsetxattr SYS_fsetxattr SYS_getxattr
    SYS_lgetxattr SYS_fgetxattr SYS_listxattr SYS_llistxattr SYS_flistxattr SYS_removexattr SYS_lremovexattr
    SYS_fremovexattr SYS_tkill SYS_futex SYS_sched_setaffinity SYS_sched_getaffinity SYS_io_setup SYS_io_destroy
    SYS_io_getevents SYS_io_submit SYS_io_cancel SYS_getdents64 SYS_set_tid_address SYS_restart_syscall
    SYS_semtimedop SYS_fadvise64 SYS_timer_create SYS_timer_settime SYS_timer_gettime SYS_timer_getoverrun
    SYS_timer_delete SYS_clock_gettime SYS_clock_getres SYS_clock_nanosleep SYS_exit_group SYS_epoll_ctl SYS_tgkill
    SYS_mq_open SYS_mq_unlink SYS_mq_timedsend SYS_mq_timedreceive SYS_mq_notify SYS_mq_getsetattr SYS_waitid
    SYS_ioprio_set SYS_ioprio_get SYS_inotify_add_watch SYS_inotify_rm_watch SYS_openat SYS_mkdirat SYS_mknodat
    SYS_fchownat SYS_newfstatat SYS_unlinkat SYS_renameat SYS_linkat SYS_symlinkat SYS_readlinkat SYS_fchmodat
    SYS_faccessat SYS_pselect6 SYS_ppoll SYS_set_robust_list SYS_get_robust_list SYS_splice SYS_tee
    SYS_sync_file_range SYS_vmsplice SYS_utimensat SYS_epoll_pwait SYS_timerfd_create SYS_fallocate
    SYS_timerfd_settime SYS_timerfd_gettime SYS_accept4 SYS_signalfd4 SYS_eventfd2 SYS_epoll_create1 SYS_dup3 SYS_pipe2
    SYS_inotify_init1 SYS_preadv SYS_pwritev SYS_rt_tgsigqueueinfo SYS_recvmmsg SYS_prlimit64 SYS_name_to_handle_at
    SYS_syncfs SYS_sendmmsg SYS_getcpu SYS_process_vm_readv SYS_process_vm_writev SYS_sched_setattr
    SYS_sched_getattr SYS_renameat2 SYS_seccomp SYS_getrandom SYS_memfd_create SYS_execveat SYS_membarrier SYS_mlock2
    SYS_copy_file_range SYS_preadv2 SYS_pwritev2 SYS_statx SYS_rseq SYS_pidfd_send_signal SYS_pidfd_open
    SYS_close_range SYS_openat2 SYS_pidfd_getfd SYS_faccessat2 SYS_process_madvise SYS_epoll_pwait2
    SYS_landlock_create_ruleset SYS_landlock_add_rule SYS_landlock_restrict_self SYS_process_mrelease
    SYS_futex_waitv SYS_ptrace SYS_get_mempolicy SYS_set_mempolicy SYS_mbind SYS_pkey_mprotect SYS_pkey_alloc
    SYS_pkey_free SYS_memfd_secret SYS_remap_file_pages SYS_fchmodat2
};

#[cfg(target_arch = "x86_64")]
const ARCH: &[i64] = calls! {
    SYS_open SYS_stat SYS_lstat SYS_poll SYS_access SYS_pipe SYS_select SYS_dup2 SYS_pause SYS_alarm SYS_fork SYS_vfork
    SYS_getdents SYS_rename SYS_mkdir SYS_rmdir SYS_creat SYS_link SYS_unlink SYS_symlink SYS_readlink SYS_chmod
    SYS_chown SYS_lchown SYS_getpgrp SYS_utime SYS_mknod SYS_arch_prctl SYS_time SYS_epoll_create SYS_epoll_wait
    SYS_utimes SYS_futimesat SYS_inotify_init SYS_signalfd SYS_eventfd SYS_set_thread_area SYS_get_thread_area
};

#[cfg(not(target_arch = "x86_64"))]
const ARCH: &[i64] = &[];

#[cfg(test)]
mod tests {
    #[test]
    fn filters_fit_the_kernels_limit() {
        const INSTRUCTIONS_MAX: usize = 4096;
        let filters = super::compile(1).unwrap();
        assert!(filters.always.iter().chain(&filters.pretend).all(|filter| filter.len() <= INSTRUCTIONS_MAX));
    }
}
