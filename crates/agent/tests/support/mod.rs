//! A replica whose container is played by a script that speaks the runner's side of the protocol.

use std::future::Future;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use clunk_agent::frame::{Kind, control, field};
use clunk_agent::link::{Link, Outgoing};
use clunk_agent::reader::{Frame, LinkReader};
use clunk_agent::{
    AppLog, Blame, CallEnd, DialPlace, Dispatch, Ended, Logs, Metric, Payload, Replica, ReplicaOwner,
    ReplicaSpec, Value,
};
use clunk_core::error::ErrorBody;
use clunk_core::id::{AppId, CallId, ContainerId, ReplicaId};
use clunk_runtime::{ContainerSpec, ExitReason, Limits, Network, Profile, RootFs, Stdio, Upper};
use clunk_runtime::{FakeContainer, FakeRuntime};
use tokio::sync::mpsc;

/// Events that a test may leave unread.
const EVENTS_MAX: usize = 100_000;
/// A test that waits longer for an event has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// What an owner is told.
#[derive(Debug)]
pub enum Event {
    Ready,
    Answered { number: u64, end: CallEnd, cpu_us: u64 },
    Yielded { number: u64, value: Value },
    Metric { number: u64, metric: Metric },
    Lost { numbers: Vec<u64>, error: ErrorBody, blame: Blame },
    Connected { socket: UnixStream, place: DialPlace },
    Ended { ended: Ended, lost: Vec<u64> },
}

struct Recorder(mpsc::Sender<Event>);

impl Recorder {
    fn record(&self, event: Event) {
        // A test that has ended reads no more.
        let _ = self.0.try_send(event);
    }
}

impl ReplicaOwner for Recorder {
    fn ready(&self, _replica: ReplicaId, _cold_start: Duration) {
        self.record(Event::Ready);
    }

    fn answered(&self, _replica: ReplicaId, number: u64, end: CallEnd, cpu_us: u64) {
        self.record(Event::Answered { number, end, cpu_us });
    }

    fn yielded(&self, _replica: ReplicaId, number: u64, value: Value) {
        self.record(Event::Yielded { number, value });
    }

    fn metric(&self, _replica: ReplicaId, number: u64, metric: Metric) {
        self.record(Event::Metric { number, metric });
    }

    fn lost(&self, _replica: ReplicaId, numbers: Vec<u64>, error: ErrorBody, blame: Blame) {
        self.record(Event::Lost { numbers, error, blame });
    }

    fn connected(&self, _replica: ReplicaId, socket: UnixStream, place: DialPlace) {
        self.record(Event::Connected { socket, place });
    }

    fn ended(&self, _replica: ReplicaId, ended: Ended, lost: Vec<u64>) {
        self.record(Event::Ended { ended, lost });
    }
}

/// A replica and what its owner was told.
pub struct Rig {
    pub replica: Arc<Replica>,
    pub runtime: FakeRuntime,
    pub app: AppId,
    pub logs: Logs,
    events: mpsc::Receiver<Event>,
    _folder: tempfile::TempDir,
}

/// What differs between tests.
#[derive(Clone, Copy)]
pub struct Shape {
    pub concurrency: u32,
    pub workers: u32,
    pub startup: Duration,
}

pub const ONE: Shape = Shape { concurrency: 1, workers: 0, startup: PATIENCE };

impl Rig {
    /// A replica whose container plays the script.
    pub fn new<F, P>(shape: Shape, script: F) -> Self
    where
        F: Fn(Runner) -> P + Clone + Send + Sync + 'static,
        P: Future<Output = ExitReason> + Send + 'static,
    {
        let runtime = FakeRuntime::new(move |container| {
            let script = script.clone();
            async move { script(Runner::begin(container).await).await }
        });
        Self::on(shape, runtime)
    }

    pub fn on(shape: Shape, runtime: FakeRuntime) -> Self {
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::open(folder.path()).unwrap();
        let app = AppId::fresh();
        let spec = spec(shape, app, logs.start(app).unwrap());
        let replica = Replica::start(spec, Arc::new(runtime.clone()), Arc::new(Recorder(sender)));
        Self { replica, runtime, app, logs, events, _folder: folder }
    }

    /// The next thing the owner was told.
    pub async fn event(&mut self) -> Event {
        let event = tokio::time::timeout(PATIENCE, self.events.recv()).await;
        event.expect("the owner hears of something in time").expect("the replica's task runs")
    }

    pub async fn ready(&mut self) {
        let event = self.event().await;
        assert!(matches!(event, Event::Ready), "{event:?}");
    }

    /// The next event, which is an answer.
    pub async fn answer(&mut self) -> (u64, CallEnd) {
        match self.event().await {
            Event::Answered { number, end, .. } => (number, end),
            event => panic!("no answer: {event:?}"),
        }
    }

    /// The next event, which is the replica's end.
    pub async fn ended(&mut self) -> (Ended, Vec<u64>) {
        match self.event().await {
            Event::Ended { ended, lost } => (ended, lost),
            event => panic!("no end: {event:?}"),
        }
    }

    pub async fn lost(&mut self) -> (Vec<u64>, ErrorBody, Blame) {
        match self.event().await {
            Event::Lost { numbers, error, blame } => (numbers, error, blame),
            event => panic!("nothing lost: {event:?}"),
        }
    }

    pub fn send(&self, numbers: &[u64]) {
        assert!(self.replica.send(&calls(numbers), false));
    }
}

pub fn spec(shape: Shape, app: AppId, log: Arc<AppLog>) -> ReplicaSpec {
    ReplicaSpec {
        id: ReplicaId::fresh(),
        app,
        function: "f".into(),
        container: container(),
        start: control([("module", "m")]),
        startup_timeout: shape.startup,
        log: Some(log),
        concurrency: shape.concurrency,
        workers: shape.workers,
    }
}

fn container() -> ContainerSpec {
    ContainerSpec {
        id: ContainerId::fresh(),
        root: RootFs { lowers: vec!["/".into()], upper: Upper::Scratch },
        mounts: Vec::new(),
        gpus: Vec::new(),
        argv: vec!["runner".into()],
        env: Vec::new(),
        workdir: "/".into(),
        hostname: "test".into(),
        limits: Limits::default(),
        network: Network::None,
        stdio: Stdio::Pipes,
        link: true,
        profile: Profile::Function,
    }
}

/// Calls whose argument is their number.
pub fn calls(numbers: &[u64]) -> Vec<Dispatch> {
    let call = |number: &u64| Dispatch {
        number: *number,
        id: CallId::fresh(),
        control: String::new(),
        payload: Payload::Memory(number.to_string().into()),
        logged: Arc::default(),
    };
    numbers.iter().map(call).collect()
}

pub fn text(payload: &Payload) -> String {
    match payload {
        Payload::Memory(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
        Payload::File { .. } => panic!("not in memory"),
    }
}

pub fn returned(end: &CallEnd) -> String {
    match end {
        CallEnd::Returned(value) => text(&value.payload),
        CallEnd::Raised(raised) => panic!("raised {}", raised.kind),
    }
}

/// One link, from the runner's side.
pub struct Wire {
    pub link: Arc<Link>,
    pub reader: LinkReader,
}

impl Wire {
    pub fn new(socket: UnixStream) -> Self {
        let (link, reader) = Link::new(socket.into(), Arc::default()).unwrap();
        Self { link, reader }
    }

    /// The next frame; None at the end of the stream.
    pub async fn next(&mut self) -> Option<Frame> {
        self.reader.next().await.ok()
    }

    /// The next frame, which is of this kind.
    pub async fn expect(&mut self, kind: Kind) -> Frame {
        let frame = self.reader.next().await.expect("a frame");
        assert_eq!(frame.kind, kind);
        frame
    }

    /// Nothing more has been sent.
    pub fn is_empty(&mut self) -> bool {
        self.reader.parse().unwrap().is_none()
            && !(self.reader.fill_now() && self.reader.parse().unwrap().is_some())
    }

    pub fn say(&self, kind: Kind, call: u64, control: &str) {
        self.link.send(Outgoing::bare(kind, call, control));
    }

    pub fn ready(&self) {
        self.say(Kind::Ready, 0, "python=3\n");
    }

    /// Answers with the call's arguments.
    pub fn echo(&self, call: &Frame) {
        let payload = &call.payload;
        let (call, control) = (call.call, "cpu_us=1500\n");
        self.link.send(Outgoing { kind: Kind::Result, call, control, payload, socket: None });
    }

    /// Reads frames until the stream ends: what a runner does that hangs.
    pub async fn hang(mut self) -> ExitReason {
        while self.next().await.is_some() {}
        std::future::pending().await
    }

    /// Answers every call until it is told to stop.
    pub async fn serve(mut self) -> ExitReason {
        while let Some(frame) = self.next().await {
            match frame.kind {
                Kind::Call => self.echo(&frame),
                Kind::Stop => return ExitReason::Code(0),
                _ => {}
            }
        }
        ExitReason::Code(0)
    }
}

/// A container's program that has read START.
pub struct Runner {
    pub container: FakeContainer,
    pub wire: Wire,
    pub dial: UnixStream,
}

impl Runner {
    pub async fn begin(mut container: FakeContainer) -> Self {
        let mut wire = Wire::new(container.link.take().unwrap());
        let start = wire.expect(Kind::Start).await;
        assert_eq!((start.control.as_str(), start.payload.len()), ("module=m\n", 0));
        Self { container, wire, dial: socket(start) }
    }

    /// The link of the next worker to fork, with its number.
    pub async fn worker(&mut self) -> (usize, Wire) {
        let frame = self.wire.expect(Kind::Worker).await;
        let at = field(&frame.control, "worker").unwrap().parse().unwrap();
        (at, Wire::new(socket(frame)))
    }

    /// As many workers as asked for, ready; and the program too.
    pub async fn workers(&mut self, count: usize) -> Vec<Wire> {
        let mut workers = Vec::new();
        for at in 0..count {
            let (number, wire) = self.worker().await;
            assert_eq!(number, at);
            wire.ready();
            workers.push(wire);
        }
        self.wire.ready();
        workers
    }
}

fn socket(frame: Frame) -> UnixStream {
    let Payload::File { file, .. } = frame.payload else { panic!("no socket") };
    std::os::fd::OwnedFd::from(Arc::into_inner(file).unwrap()).into()
}
