//! Which process of a replica has which call, and the calls that wait for a place.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use clunk_core::id::CallId;
use tokio::time::Instant;

use crate::frame::{FrameError, Kind, WINDOW, control};
use crate::link::{Link, Outgoing};
use crate::payload::Payload;
use crate::replica::{CANCEL_GRACE, LONG_CANCEL_GRACE};
use crate::value::{MAX_FILES, Part};

/// Calls that a process of its kind may have before their turn: it then never waits for the next one.
pub const AHEAD_MAX: u32 = 4;

/// One call for a replica.
#[derive(Debug, Clone)]
pub struct Dispatch {
    /// Chosen by the owner: unique on its replica, and rising.
    pub number: u64,
    pub id: CallId,
    /// Control text of the CALL frame.
    pub control: String,
    pub payload: Payload,
    /// Log events of the call so far.
    pub logged: Arc<AtomicU64>,
}

/// A call that a process has.
struct Running {
    id: CallId,
    logged: Arc<AtomicU64>,
    seat: usize,
    /// First number of its batch.
    batch: Option<u64>,
    canceled: bool,
    /// Its code has heard of that.
    interrupted: bool,
    /// Values it yielded ahead of what was credited; below zero when it was credited ahead.
    ahead: i64,
    /// Files that came and whose value has not.
    parts: Vec<Part>,
}

/// A process that takes calls.
#[derive(Default)]
struct Seat {
    /// While it does.
    link: Option<Arc<Link>>,
    /// Places that are taken: calls, and batches.
    taken: u32,
    /// Calls beyond its places that it takes before their turn; it works them off in their order.
    ahead: u32,
    /// Of those, the ones that were canceled.
    canceled_ahead: u32,
}

/// Calls that wait until a process has a place.
struct Waiting {
    calls: Vec<Dispatch>,
    batch: bool,
}

/// What was asked of the replica's task.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Orders {
    pub stop: bool,
    pub kill: bool,
}

/// The links that frames were queued for.
#[derive(Default)]
pub(crate) struct Touched(Option<Arc<Link>>, Vec<Arc<Link>>);

impl Touched {
    fn add(&mut self, link: &Arc<Link>) {
        match &self.0 {
            Some(first) if Arc::ptr_eq(first, link) => {}
            Some(_) if self.1.iter().any(|other| Arc::ptr_eq(other, link)) => {}
            Some(_) => self.1.push(link.clone()),
            None => self.0 = Some(link.clone()),
        }
    }

    pub fn flush(self) {
        self.0.iter().chain(&self.1).for_each(|link| link.flush());
    }
}

/// What a cancelled call needs beside its CANCEL frame.
pub(crate) enum Canceling {
    /// Nothing: it has been answered, or is canceled already.
    Done,
    /// It had no place yet.
    Waited,
    /// Its turn has not come; the process hears of it in time.
    Ahead(Arc<Link>),
    Running {
        link: Arc<Link>,
        seat: usize,
    },
}

pub(crate) struct Table {
    concurrency: u32,
    seats: Vec<Seat>,
    calls: HashMap<u64, Running>,
    /// Calls of each batch that are not answered, by its first number.
    batches: HashMap<u64, u32>,
    waiting: VecDeque<Waiting>,
    /// Calls of processes that are gone, until the owner is told.
    orphans: Vec<u64>,
    /// Canceled while they waited: the owner has to hear of them.
    pub dropped: Vec<u64>,
    /// When canceled calls have to have ended, the earliest first.
    pub deadlines: VecDeque<(Instant, u64)>,
    pub orders: Orders,
    /// No more calls are taken.
    pub closed: bool,
}

impl Table {
    pub fn new(concurrency: u32, seats: usize) -> Self {
        Self {
            concurrency: concurrency.max(1),
            seats: (0..seats).map(|_| Seat::default()).collect(),
            calls: HashMap::new(),
            batches: HashMap::new(),
            waiting: VecDeque::new(),
            orphans: Vec::new(),
            dropped: Vec::new(),
            deadlines: VecDeque::new(),
            orders: Orders::default(),
            closed: false,
        }
    }

    /// Takes calls: gives them to processes, or lets them wait.
    pub fn take_in(&mut self, calls: &[Dispatch], batch: bool, touched: &mut Touched) {
        match batch {
            true => self.take_in_together(calls, true, touched),
            false => calls.chunks(1).for_each(|call| self.take_in_together(call, false, touched)),
        }
    }

    fn take_in_together(&mut self, calls: &[Dispatch], batch: bool, touched: &mut Touched) {
        match self.free_seat() {
            Some(seat) if self.waiting.is_empty() => self.place(seat, calls, batch, touched),
            _ => self.waiting.push_back(Waiting { calls: calls.to_vec(), batch }),
        }
    }

    /// The process with the fewest calls, of those that have a place.
    fn free_seat(&self) -> Option<usize> {
        let free =
            |seat: &&(usize, &Seat)| seat.1.link.is_some() && seat.1.taken < self.concurrency + seat.1.ahead;
        let seats = self.seats.iter().enumerate();
        seats.filter(|seat| free(&seat)).min_by_key(|(_, seat)| seat.taken).map(|(at, _)| at)
    }

    fn place(&mut self, at: usize, calls: &[Dispatch], batch: bool, touched: &mut Touched) {
        let (Some(first), Some(link)) = (calls.first(), self.seats[at].link.clone()) else { return };
        self.seats[at].taken += 1;
        let batch = batch.then_some(first.number);
        if let Some(number) = batch {
            self.batches.insert(number, calls.len() as u32);
            link.push(Outgoing::bare(
                Kind::Batch,
                0,
                &control([("count", calls.len().to_string().as_str())]),
            ));
        }
        for call in calls {
            let (id, logged) = (call.id, call.logged.clone());
            self.calls.insert(
                call.number,
                Running {
                    id,
                    logged,
                    seat: at,
                    batch,
                    canceled: false,
                    interrupted: false,
                    ahead: 0,
                    parts: Vec::new(),
                },
            );
            let (control, payload) = (call.control.as_str(), &call.payload);
            link.push(Outgoing { kind: Kind::Call, call: call.number, control, payload, socket: None });
        }
        touched.add(&link);
    }

    /// Gives waiting calls to processes that have places.
    pub fn place_waiting(&mut self, touched: &mut Touched) {
        while !self.waiting.is_empty()
            && let Some(seat) = self.free_seat()
            && let Some(next) = self.waiting.pop_front()
        {
            self.place(seat, &next.calls, next.batch, touched);
        }
    }

    /// A process takes calls from now on.
    pub fn seat(&mut self, at: usize, link: Arc<Link>) {
        self.seats[at] = Seat { link: Some(link), ..Seat::default() };
    }

    /// A process takes so many calls before their turn.
    pub fn allow_ahead(&mut self, at: usize, calls: u64) {
        if self.concurrency == 1 {
            self.seats[at].ahead = calls.min(AHEAD_MAX.into()) as u32;
        }
    }

    /// Whether calls run one after the other, in the order of their numbers.
    fn is_serial(&self) -> bool {
        self.concurrency == 1 && self.seats.len() == 1 && self.batches.is_empty()
    }

    /// Whether a call has to wait in its process for one that came before it.
    fn is_ahead(&self, number: u64, at: usize) -> bool {
        let others = self.calls.iter().filter(|(other, call)| **other < number && call.seat == at);
        self.concurrency == 1 && self.seats[at].taken > 1 && others.count() > 0
    }

    /// The turn of a process's next call has come. Whether that one is to end, and has to have ended soon.
    pub fn turn(&mut self, at: usize, now: Instant) -> bool {
        if self.seats[at].canceled_ahead == 0 {
            return false;
        }
        let calls = self.calls.iter().filter(|(_, call)| call.seat == at);
        let Some((number, call)) = calls.min_by_key(|(number, _)| **number) else { return false };
        if !call.canceled {
            return false;
        }
        self.deadlines.push_back((now + CANCEL_GRACE, *number));
        self.seats[at].canceled_ahead -= 1;
        true
    }

    /// A process takes no more calls; the ones it had, rising. They are orphans until they are told of.
    pub fn unseat(&mut self, at: usize) -> Vec<u64> {
        self.seats[at] = Seat::default();
        let mut numbers: Vec<u64> =
            self.calls.iter().filter(|(_, call)| call.seat == at).map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        for number in &numbers {
            self.remove(*number);
        }
        self.orphans.extend(&numbers);
        numbers
    }

    /// The owner is told of these.
    pub fn told(&mut self, numbers: &[u64]) {
        self.orphans.retain(|orphan| !numbers.contains(orphan));
    }

    /// A process answered a call: the files that came before. None: it had no such call.
    pub fn answer(&mut self, seat: usize, number: u64) -> Option<Vec<Part>> {
        self.calls.get(&number).filter(|call| call.seat == seat)?;
        self.remove(number)
    }

    /// A process that has a call sent a file of its output. False: they are too many.
    pub fn add_part(&mut self, seat: usize, number: u64, part: Part) -> bool {
        let Some(call) = self.calls.get_mut(&number).filter(|call| call.seat == seat) else { return true };
        call.parts.push(part);
        call.parts.len() <= MAX_FILES
    }

    pub fn has(&self, seat: usize, number: u64) -> bool {
        self.calls.get(&number).is_some_and(|call| call.seat == seat)
    }

    fn remove(&mut self, number: u64) -> Option<Vec<Part>> {
        let call = self.calls.remove(&number)?;
        let last = match call.batch {
            None => true,
            Some(first) => {
                let left = self.batches.get(&first).map_or(0, |left| left - 1);
                match left {
                    0 => self.batches.remove(&first),
                    left => self.batches.insert(first, left),
                };
                left == 0
            }
        };
        if last {
            let seat = &mut self.seats[call.seat];
            seat.taken = seat.taken.saturating_sub(1);
        }
        Some(call.parts)
    }

    /// Marks a call as canceled, and when it has to have ended.
    pub fn cancel(&mut self, number: u64, now: Instant) -> Canceling {
        let seat = self.calls.get(&number).map(|call| call.seat);
        if let Some(at) = seat.filter(|at| self.is_ahead(number, *at)) {
            let call = self.calls.get_mut(&number);
            let again = call.is_none_or(|call| std::mem::replace(&mut call.canceled, true));
            return match self.seats[at].link.clone() {
                Some(link) if !again => {
                    self.seats[at].canceled_ahead += 1;
                    Canceling::Ahead(link)
                }
                _ => Canceling::Done,
            };
        }
        // Of a batch all are in one place.
        let shared = seat.is_some_and(|seat| self.seats[seat].taken.min(self.concurrency) > 1);
        if let Some(call) = self.calls.get_mut(&number) {
            let link = self.seats[call.seat].link.clone();
            return match (std::mem::replace(&mut call.canceled, true), link) {
                (false, Some(link)) => {
                    let deadline = now + if shared { LONG_CANCEL_GRACE } else { CANCEL_GRACE };
                    let seat = call.seat;
                    self.due(number, deadline);
                    Canceling::Running { link, seat }
                }
                _ => Canceling::Done,
            };
        }
        for at in 0..self.waiting.len() {
            let calls = &mut self.waiting[at].calls;
            if let Some(found) = calls.iter().position(|call| call.number == number) {
                calls.remove(found);
                if calls.is_empty() {
                    self.waiting.remove(at);
                }
                self.dropped.push(number);
                return Canceling::Waited;
            }
        }
        Canceling::Done
    }

    /// A canceled call is dealing with that: from the first time that it says so, it has longer.
    pub fn interrupted(&mut self, seat: usize, number: u64, now: Instant) {
        let Some(call) = self.calls.get_mut(&number).filter(|call| call.seat == seat && call.canceled) else {
            return;
        };
        if !std::mem::replace(&mut call.interrupted, true) {
            self.deadlines.retain(|(_, other)| *other != number);
            self.due(number, now + LONG_CANCEL_GRACE);
        }
    }

    fn due(&mut self, number: u64, deadline: Instant) {
        let place = self.deadlines.partition_point(|(other, _)| *other <= deadline);
        self.deadlines.insert(place, (deadline, number));
    }

    /// The process of a canceled call that did not end in time, among those that were due.
    pub fn overdue(&mut self, now: Instant) -> Option<usize> {
        while self.deadlines.front().is_some_and(|(due, _)| *due <= now) {
            let (_, number) = self.deadlines.pop_front()?;
            if let Some(call) = self.calls.get(&number) {
                return Some(call.seat);
            }
        }
        None
    }

    /// The link of the generator that may send more values.
    pub fn credit(&mut self, number: u64, count: u32) -> Option<Arc<Link>> {
        let call = self.calls.get_mut(&number)?;
        call.ahead = call.ahead.saturating_sub(i64::from(count));
        self.seats[call.seat].link.clone()
    }

    /// A process yielded a value of a call: the files that came before it. None: it has no such call. An error: more than
    /// it may.
    pub fn yielded(&mut self, seat: usize, number: u64) -> Option<Result<&mut Vec<Part>, FrameError>> {
        let call = self.calls.get_mut(&number).filter(|call| call.seat == seat)?;
        call.ahead += 1;
        Some(if call.ahead <= WINDOW { Ok(&mut call.parts) } else { Err(FrameError::Window) })
    }

    /// The call in a frame's header, or the only one that runs when the output does not say. One more event of it is
    /// about to be logged.
    pub fn logging_call(&mut self, number: u64) -> Option<(u64, CallId)> {
        if number == 0 {
            // Whose output it is can be told of one call at a time only.
            self.seats.iter_mut().for_each(|seat| seat.ahead = 0);
        }
        let (number, call) = match self.calls.get_key_value(&number) {
            None if number == 0 && self.calls.len() == 1 => self.calls.iter().next(),
            None if number == 0 && self.is_serial() => self.calls.iter().min_by_key(|(number, _)| **number),
            found => found,
        }?;
        call.logged.fetch_add(1, Ordering::Relaxed);
        Some((*number, call.id))
    }

    /// Takes no more calls; the ones that had no place.
    pub fn close(&mut self) -> Vec<u64> {
        self.closed = true;
        let waiting = self.waiting.drain(..).flat_map(|waiting| waiting.calls);
        waiting.map(|call| call.number).chain(self.dropped.drain(..)).collect()
    }

    /// Every process is gone; the calls they had that nobody was told of. Rising.
    pub fn clear(&mut self) -> Vec<u64> {
        for at in 0..self.seats.len() {
            self.unseat(at);
        }
        let mut numbers = std::mem::take(&mut self.orphans);
        numbers.sort_unstable();
        numbers
    }
}

#[cfg(test)]
mod tests;
