//! What an answered call costs the agent: `cargo run --release -p clunk-agent --example calls_bench -- [CALLS [REPLICAS
//! [CONCURRENCY]]]`.
//!
//! One thread is the agent, as one core of a server would be; the runners are played by other threads, which answer
//! what they read at once. The processor time is the agent's thread's alone. For system calls:
//! `strace -c -f --seccomp-bpf` on the same command, of which the runners' read and write one each per call.

#![allow(clippy::print_stdout)]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use clunk_agent::frame::{HEADER_LEN, Header, Kind};
use clunk_agent::{
    Blame, CallEnd, DialPlace, Dispatch, Ended, Logs, Payload, Replica, ReplicaOwner, ReplicaSpec, Value,
};
use clunk_core::error::ErrorBody;
use clunk_core::id::{AppId, CallId, ContainerId, ReplicaId};
use clunk_runtime::*;
use tokio::sync::{Notify, oneshot};

fn main() -> std::io::Result<()> {
    let number = |at: usize, default: u64| {
        std::env::args().nth(at).and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let (calls, replicas, concurrency) = (number(1, 100_000), number(2, 4), number(3, 1));
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    executor.block_on(bench(calls, replicas, concurrency as u32))
}

async fn bench(calls: u64, replicas: u64, concurrency: u32) -> std::io::Result<()> {
    let folder = std::env::temp_dir().join(format!("clunk-calls-bench-{}", std::process::id()));
    let logs = Logs::open(&folder)?;
    let app = AppId::fresh();
    let log = logs.start(app)?;
    let count =
        Arc::new(Count { left: AtomicU64::new(calls), answers: AtomicU64::new(0), done: Notify::new() });
    let runtime: Arc<dyn Runtime> = Arc::new(FakeRuntime::new(play));
    let (spent, start) = (processor_time()?, Instant::now());
    let mut running = Vec::new();
    for _ in 0..replicas {
        let owner = Arc::new(Feeder { replica: OnceLock::new(), count: count.clone(), concurrency });
        let spec = spec(app, log.clone(), concurrency);
        let replica = Replica::start(spec, runtime.clone(), owner.clone());
        let _ = owner.replica.set(replica.clone());
        running.push(replica);
    }
    while count.answers.load(Ordering::Relaxed) < calls {
        count.done.notified().await;
    }
    let (took, spent) = (start.elapsed(), processor_time()? - spent);
    println!(
        "{calls} calls, {replicas} replicas, {concurrency} at a time: {:.0} answers/s, {:.1} us of the agent's thread each",
        calls as f64 / took.as_secs_f64(),
        spent.as_secs_f64() * 1e6 / calls as f64
    );
    runtime.shutdown().await;
    std::fs::remove_dir_all(&folder)
}

/// Of this thread.
fn processor_time() -> std::io::Result<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = text.split(' ').next().and_then(|field| field.parse().ok()).unwrap_or(0);
    Ok(Duration::from_nanos(nanos))
}

struct Count {
    left: AtomicU64,
    answers: AtomicU64,
    done: Notify,
}

/// Sends the next call from inside the answer to one.
struct Feeder {
    replica: OnceLock<Arc<Replica>>,
    count: Arc<Count>,
    concurrency: u32,
}

impl Feeder {
    fn feed(&self) {
        let Some(replica) = self.replica.get() else { return };
        let left = &self.count.left;
        let take = |left: u64| left.checked_sub(1);
        if let Ok(number) = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            let (control, payload) = (String::new(), Payload::from(&b"arguments"[..]));
            let call = Dispatch { number, id: CallId::fresh(), control, payload, logged: Arc::default() };
            replica.send(std::slice::from_ref(&call), false);
        }
    }
}

impl ReplicaOwner for Feeder {
    fn ready(&self, _replica: ReplicaId, _cold_start: Duration) {
        (0..self.concurrency).for_each(|_| self.feed());
    }

    fn answered(&self, _replica: ReplicaId, _number: u64, _end: CallEnd, _cpu_us: u64) {
        self.count.answers.fetch_add(1, Ordering::Relaxed);
        self.feed();
        if self.count.left.load(Ordering::Relaxed) == 0 {
            self.count.done.notify_one();
        }
    }

    fn yielded(&self, _replica: ReplicaId, _number: u64, _value: Value) {}
    fn lost(&self, _replica: ReplicaId, _numbers: Vec<u64>, _error: ErrorBody, _blame: Blame) {}
    fn connected(&self, _replica: ReplicaId, _socket: UnixStream, _place: DialPlace) {}
    fn ended(&self, _replica: ReplicaId, _ended: Ended, _lost: Vec<u64>) {}
}

/// A container whose program is a thread.
async fn play(mut container: FakeContainer) -> ExitReason {
    let (done, ended) = oneshot::channel();
    if let Some(link) = container.link.take() {
        std::thread::spawn(move || {
            // The agent closes the link in the end.
            let _ = serve(link);
            let _ = done.send(());
        });
    }
    let _ = ended.await;
    ExitReason::Code(0)
}

/// Answers every CALL that one read brings with one write.
fn serve(mut link: UnixStream) -> std::io::Result<()> {
    let frame = |kind, call, payload: &[u8]| {
        let header = Header { kind, file: false, control_len: 0, call, payload_len: payload.len() as u64 };
        [&header.encode()[..], payload].concat()
    };
    link.write_all(&frame(Kind::Ready, 0, b""))?;
    let mut buffer = vec![0; 64 << 10];
    let mut held = 0;
    loop {
        let count = link.read(&mut buffer[held..])?;
        if count == 0 {
            return Ok(());
        }
        held += count;
        let (mut at, mut answers) = (0, Vec::new());
        while let Some(header) = buffer[at..held].first_chunk::<HEADER_LEN>() {
            let header = Header::decode(header).map_err(std::io::Error::other)?;
            if held - at < HEADER_LEN + header.body_len() {
                break;
            }
            at += HEADER_LEN + header.body_len();
            if header.kind == Kind::Call {
                answers.extend(frame(Kind::Result, header.call, b"result"));
            }
        }
        buffer.copy_within(at..held, 0);
        held -= at;
        link.write_all(&answers)?;
    }
}

fn spec(app: AppId, log: Arc<clunk_agent::AppLog>, concurrency: u32) -> ReplicaSpec {
    let container = ContainerSpec {
        id: ContainerId::fresh(),
        root: RootFs { lowers: vec!["/".into()], upper: Upper::Scratch },
        mounts: Vec::new(),
        gpus: Vec::new(),
        argv: vec!["runner".into()],
        env: Vec::new(),
        workdir: "/".into(),
        hostname: "bench".into(),
        limits: Limits::default(),
        network: Network::None,
        stdio: Stdio::Pipes,
        link: true,
        profile: Profile::Function,
    };
    ReplicaSpec {
        id: ReplicaId::fresh(),
        app,
        function: "f".into(),
        container,
        start: String::new(),
        startup_timeout: Duration::from_secs(60),
        log: Some(log),
        concurrency,
        workers: 0,
    }
}
