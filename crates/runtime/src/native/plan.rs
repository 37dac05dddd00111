//! From what the port asks for to what the container's first process does.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use clunk_core::id::ContainerId;
use serde::Serialize;

use crate::gpu;
use crate::port::{ContainerSpec, ExecSpec, Profile, RuntimeError, Stdio, Upper};
use crate::wire::{Bind, GpuPlan, Plan, PlanLimits, ProgramPlan, StdioPlan};

/// `/tmp` and `/dev/shm` when nothing is said. Pages count towards the container's memory in any case.
const TMP_BYTES: u64 = 1 << 30;
/// The kernel's own limit, HOST_NAME_MAX.
const HOSTNAME_MAX: usize = 64;

pub(super) fn container(
    spec: &ContainerSpec,
    scratch: Option<&Path>,
    gpu: Option<GpuPlan>,
) -> Result<Plan, RuntimeError> {
    let refuse = |reason: String| RuntimeError::Start { id: spec.id, step: "plan".into(), reason };
    if spec.root.lowers.is_empty() {
        return Err(refuse("a container needs at least one layer".into()));
    }
    if spec.hostname.is_empty()
        || spec.hostname.len() > HOSTNAME_MAX
        || !spec.hostname.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    {
        return Err(refuse(format!("`{}` is not a host name", spec.hostname)));
    }
    if let Some(mount) = spec.mounts.iter().find(|mount| !is_plain(&mount.target)) {
        return Err(refuse(format!("mount target `{}` is not an absolute path without `..`", mount.target)));
    }
    let (upper, work) = match (&spec.root.upper, scratch) {
        (Upper::Keep { upper, work }, _) => (upper.clone(), work.clone()),
        (Upper::Scratch, Some(dir)) => (dir.join("upper"), dir.join("work")),
        (Upper::Scratch, None) => return Err(refuse("no scratch directory".into())),
    };
    let binds = spec.mounts.iter().map(|mount| Bind {
        source: mount.source.clone(),
        target: mount.target.clone(),
        read_only: mount.read_only,
    });
    Ok(Plan {
        lowers: spec.root.lowers.clone(),
        upper,
        work,
        keep: matches!(spec.root.upper, Upper::Keep { .. }),
        binds: binds.collect(),
        gpu,
        hostname: spec.hostname.clone(),
        limits: PlanLimits {
            cpu_millis: spec.limits.cpu_millis,
            memory_bytes: spec.limits.memory_bytes,
            pids: spec.limits.pids,
            tmp_bytes: spec.limits.tmp_bytes.unwrap_or(TMP_BYTES),
        },
        program: ProgramPlan {
            argv: spec.argv.clone(),
            env: environment(&spec.env, !spec.gpus.is_empty()),
            workdir: spec.workdir.clone(),
            build_profile: spec.profile == Profile::Build,
            stdio: stdio(spec.stdio),
            link: spec.link,
        },
    })
    .and_then(|plan| check_program(spec.id, &plan.program).map(|()| plan))
}

pub(super) fn exec(
    id: ContainerId,
    spec: &ExecSpec,
    build_profile: bool,
    gpu: bool,
) -> Result<ProgramPlan, RuntimeError> {
    let plan = ProgramPlan {
        argv: spec.argv.clone(),
        env: environment(&spec.env, gpu),
        workdir: spec.workdir.clone(),
        build_profile,
        stdio: stdio(spec.stdio),
        link: false,
    };
    check_program(id, &plan).map(|()| plan)
}

fn environment(env: &[(String, String)], gpu: bool) -> Vec<(String, String)> {
    if gpu { gpu::environment(env.to_vec()) } else { env.to_vec() }
}

fn stdio(stdio: Stdio) -> StdioPlan {
    match stdio {
        Stdio::Pipes => StdioPlan::Pipes,
        Stdio::Terminal { rows, columns } => StdioPlan::Terminal { rows, columns },
    }
}

fn check_program(id: ContainerId, plan: &ProgramPlan) -> Result<(), RuntimeError> {
    let refuse = |reason: &str| Err(RuntimeError::Start { id, step: "plan".into(), reason: reason.into() });
    if plan.argv.first().is_none_or(String::is_empty) {
        return refuse("no program is named");
    }
    if plan.env.iter().any(|(key, _)| key.is_empty() || key.contains('=')) {
        return refuse("an environment variable has no name, or a `=` in it");
    }
    let texts =
        plan.env.iter().flat_map(|(key, value)| [key, value]).chain(&plan.argv).chain([&plan.workdir]);
    if texts.into_iter().any(|text| text.contains('\0')) {
        return refuse("an argument or environment variable holds a zero byte");
    }
    Ok(())
}

fn is_plain(target: &str) -> bool {
    let path = Path::new(target);
    path.is_absolute()
        && path.components().count() > 1
        && path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
}

/// The plan as an in-memory file: it can be larger than a message.
pub(super) fn file<P: Serialize>(plan: &P) -> std::io::Result<OwnedFd> {
    let fd = rustix::fs::memfd_create("plan", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = std::fs::File::from(fd);
    file.write_all(&serde_json::to_vec(plan)?)?;
    Ok(file.into())
}
