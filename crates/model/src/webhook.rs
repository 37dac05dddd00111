//! Tells a webhook what happens to a prediction: in order, each time with the whole of it.
//!
//! One task follows one prediction. What happens while it sends is told by the next message: a slow receiver gets fewer
//! of them, never old ones after new ones. A receiver that hangs keeps the messages of others neither back nor out: each
//! host has places of its own, below those of all.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::client::{self, Client};
use crate::life::State;
use crate::prediction::Prediction;
use crate::request::{Hook, HookEvent};
use crate::settings::Settings;

/// A message about something that goes on may wait so long for a place, and then take so long.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(5);
/// The last message.
const FINAL_TIMEOUT: Duration = Duration::from_secs(30);
/// Times that the last message is sent.
const TRIES: u32 = 12;
/// Between the first two of them; doubles.
const PAUSE: Duration = Duration::from_millis(100);
/// Predictions whose webhooks are followed at the same time; the next that wants one is refused.
pub const FOLLOWED_MAX: usize = 2000;
/// Messages on their way at the same time, each with a connection.
const SENDING_MAX: usize = 256;
/// Of those, to one host and port.
const HOST_SENDING_MAX: usize = 16;

/// Sends webhooks of one server.
#[derive(Clone)]
pub struct Webhooks {
    client: Client,
    settings: Arc<Settings>,
    places: Arc<Semaphore>,
    sending: Arc<Semaphore>,
    /// Places of the hosts that something is to be sent to, by host and port; at most one for each that is followed.
    hosts: Arc<Mutex<HashMap<String, Arc<Semaphore>>>>,
}

/// Room for one more prediction to be followed.
pub struct Place(OwnedSemaphorePermit);

/// Where the messages of one prediction go.
struct Receiver<'a> {
    hook: &'a Hook,
    trace: &'a Trace,
    host: Arc<Semaphore>,
}

/// What of a request goes along with its webhooks.
#[derive(Debug, Clone, Default)]
pub struct Trace(pub Vec<(&'static str, String)>);

/// What was told already.
#[derive(Default)]
struct Told {
    start: bool,
    chunks: usize,
    logs: usize,
}

impl Webhooks {
    pub fn new(client: Client, settings: Arc<Settings>) -> Self {
        let (places, sending) = (Semaphore::new(FOLLOWED_MAX), Semaphore::new(SENDING_MAX));
        Self { client, settings, places: Arc::new(places), sending: Arc::new(sending), hosts: Arc::default() }
    }

    /// None: as many as there may be are followed.
    pub fn place(&self) -> Option<Place> {
        self.places.clone().try_acquire_owned().ok().map(Place)
    }

    /// Follows a prediction to its end.
    pub fn follow(&self, place: Place, prediction: Arc<Prediction>, hook: Hook, trace: Trace) {
        let this = self.clone();
        // Ends with the prediction, or when its last message has been tried often enough.
        tokio::spawn(async move {
            let receiver = Receiver { hook: &hook, trace: &trace, host: this.host(&hook.url) };
            this.tell_all(&prediction, &receiver).await;
            drop(receiver);
            this.hosts().retain(|_, host| Arc::strong_count(host) > 1);
            drop(place.0);
        });
    }

    fn hosts(&self) -> MutexGuard<'_, HashMap<String, Arc<Semaphore>>> {
        self.hosts.lock().expect("no panic while locked")
    }

    /// The places of a URL's host.
    fn host(&self, url: &str) -> Arc<Semaphore> {
        let url = reqwest::Url::parse(url).ok();
        let key = url.as_ref().and_then(|url| Some((url.host_str()?, url.port_or_known_default()?)));
        let (host, port) = key.unwrap_or_default();
        let places = || Arc::new(Semaphore::new(HOST_SENDING_MAX));
        self.hosts().entry(format!("{host}:{port}")).or_insert_with(places).clone()
    }

    /// Waits until every receiver has been told, for so long at most.
    pub async fn drain(&self, limit: Duration) {
        let _ = tokio::time::timeout(limit, self.places.acquire_many(FOLLOWED_MAX as u32)).await;
    }

    async fn tell_all(&self, prediction: &Prediction, to: &Receiver<'_>) {
        let hook = to.hook;
        let mut told = Told::default();
        let mut logs_due = Instant::now();
        loop {
            let due = next(prediction, hook, &mut told, logs_due).await;
            let (event, body) = due;
            if event == HookEvent::Completed {
                if hook.events.contains(&event) {
                    self.send_final(prediction, to, body).await;
                }
                return;
            }
            if let Err(error) = self.send(to, body, PROGRESS_TIMEOUT).await {
                let error = error.text;
                tracing::warn!(
                    id = prediction.id,
                    url = shown(&hook.url),
                    error,
                    "a webhook was not delivered"
                );
            }
            logs_due = Instant::now() + self.settings.logs_interval;
        }
    }

    async fn send_final(&self, prediction: &Prediction, to: &Receiver<'_>, body: Bytes) {
        for attempt in 0..TRIES {
            let Err(failure) = self.send(to, body.clone(), FINAL_TIMEOUT).await else { return };
            let (error, again) = (failure.text, failure.again && attempt + 1 < TRIES);
            tracing::warn!(
                id = prediction.id,
                url = shown(&to.hook.url),
                error,
                again,
                "the last webhook was not delivered"
            );
            if !again {
                return;
            }
            tokio::time::sleep(PAUSE * 2_u32.saturating_pow(attempt)).await;
        }
    }

    /// One try: it waits for a place and for the answer, for so long at most each.
    async fn send(&self, to: &Receiver<'_>, body: Bytes, limit: Duration) -> Result<(), Failure> {
        let http = self.client.get().await.map_err(|text| Failure { text, again: false })?;
        // First of its host: what waits for one that hangs has no place of all. Neither is ever closed.
        let places = async { (to.host.acquire().await, self.sending.acquire().await) };
        let Ok(_places) = tokio::time::timeout(limit, places).await else {
            let text =
                format!("{HOST_SENDING_MAX} others wait for the same receiver, or {SENDING_MAX} for all");
            return Err(Failure { text, again: true });
        };
        let mut request = http.post(&to.hook.url).timeout(limit).header("content-type", "application/json");
        if let Some(token) = &self.settings.webhook_token {
            request = request.bearer_auth(token);
        }
        for (name, value) in &to.trace.0 {
            request = request.header(*name, value);
        }
        match request.body(body).send().await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => {
                let status = answer.status();
                let again = matches!(status.as_u16(), 429 | 500 | 502 | 503 | 504);
                Err(Failure { text: format!("it answered {status}"), again })
            }
            Err(error) => {
                let error = error.without_url();
                Err(Failure { text: client::reason(&error), again: !error.is_builder() })
            }
        }
    }
}

struct Failure {
    text: String,
    /// It may work later.
    again: bool,
}

/// A URL without what may be a secret, for the log.
fn shown(url: &str) -> String {
    let Ok(mut url) = reqwest::Url::parse(url) else { return String::new() };
    url.set_query(None);
    url.set_fragment(None);
    // Both can be left out of every URL with a host.
    let _ = (url.set_username(""), url.set_password(None));
    url.into()
}

/// Waits for the next thing to tell; also what it is, with the prediction as it is then.
async fn next(
    prediction: &Prediction,
    hook: &Hook,
    told: &mut Told,
    logs_due: Instant,
) -> (HookEvent, Bytes) {
    let wants = |event| hook.events.contains(&event);
    let mut alarm = Box::pin(tokio::time::sleep_until(logs_due));
    poll_fn(|context| {
        let due = std::future::Future::poll(alarm.as_mut(), context).is_ready();
        prediction.look(|record| {
            let (chunks, logs) = (record.chunks().len(), record.logs.len());
            let ended = record.state.is_ended();
            let begun = record.state != State::Queued && (!ended || record.started.is_some());
            let first = begun && !std::mem::replace(&mut told.start, begun) && wants(HookEvent::Start);
            let event = if first {
                Some(HookEvent::Start)
            } else if chunks > told.chunks && wants(HookEvent::Output) {
                Some(HookEvent::Output)
            } else if ended {
                Some(HookEvent::Completed)
            } else if logs != told.logs && due && wants(HookEvent::Logs) {
                Some(HookEvent::Logs)
            } else {
                None
            };
            let Some(event) = event else {
                record.watch(context.waker());
                return Poll::Pending;
            };
            let pieces = match event {
                HookEvent::Start if ended => record.while_it_ran(false, |record| prediction.json_of(record)),
                HookEvent::Output if ended => record.while_it_ran(true, |record| prediction.json_of(record)),
                _ => prediction.json_of(record),
            };
            // The message has all of it, but for the first word about one that is over already.
            if !(ended && event == HookEvent::Start) {
                (told.chunks, told.logs) = (chunks, logs);
            }
            Poll::Ready((event, Bytes::from(pieces.pieces.concat())))
        })
    })
    .await
}

#[cfg(test)]
mod tests {
    use clunk_agent::Payload;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::life::Event;
    use crate::request::Asked;

    /// Reads the head of a request; its body fits in with it or is discarded.
    async fn head(stream: &mut TcpStream) {
        let (mut all, mut some) = (Vec::new(), [0; 1024]);
        while !all.windows(4).any(|window| window == b"\r\n\r\n") {
            let read = stream.read(&mut some).await.unwrap();
            assert!(read > 0, "a whole request");
            all.extend_from_slice(&some[..read]);
        }
    }

    /// Tells this URL of the end of a prediction.
    fn tell_end(webhooks: &Webhooks, url: &str) {
        let payload = Payload::from(&b""[..]);
        let prediction = Prediction::new("id".into(), &Asked::default(), payload, 0, None, false);
        prediction.step(Event::CancelAsked, |_| ());
        let hook = Hook { url: url.into(), events: vec![HookEvent::Completed] };
        webhooks.follow(webhooks.place().unwrap(), prediction, hook, Trace::default());
    }

    async fn receiver() -> (TcpListener, String) {
        let receiver = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", receiver.local_addr().unwrap());
        (receiver, url)
    }

    const TAKEN: &[u8] = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

    #[tokio::test]
    async fn a_receiver_that_hangs_keeps_the_others_waiting_for_nothing() {
        let ((hanging, deaf), (healthy, url)) = (receiver().await, receiver().await);
        let webhooks = Webhooks::new(Client::new("test"), Arc::default());
        (0..SENDING_MAX + 1).for_each(|_| tell_end(&webhooks, &deaf));
        let mut open = Vec::new();
        while open.len() < HOST_SENDING_MAX {
            let (mut stream, _) = hanging.accept().await.unwrap();
            head(&mut stream).await;
            open.push(stream);
        }
        tell_end(&webhooks, &url);
        let told = async {
            let (mut stream, _) = healthy.accept().await.unwrap();
            head(&mut stream).await;
            stream.write_all(TAKEN).await.unwrap();
        };
        tokio::time::timeout(FINAL_TIMEOUT / 2, told).await.expect("before one that hangs is given up");
        assert!(futures_util::FutureExt::now_or_never(hanging.accept()).is_none(), "no more to one host");
    }

    #[tokio::test]
    async fn hosts_that_nothing_goes_to_are_forgotten() {
        let (receiver, url) = receiver().await;
        let webhooks = Webhooks::new(Client::new("test"), Arc::default());
        tell_end(&webhooks, &url);
        let (mut stream, _) = receiver.accept().await.unwrap();
        head(&mut stream).await;
        assert_eq!(webhooks.hosts().len(), 1);
        stream.write_all(TAKEN).await.unwrap();
        webhooks.drain(FINAL_TIMEOUT).await;
        assert!(webhooks.hosts().is_empty());
    }

    #[test]
    fn so_many_are_followed_and_the_next_is_refused() {
        let webhooks = Webhooks::new(Client::new("test"), Arc::default());
        let places: Vec<_> = (0..FOLLOWED_MAX).map_while(|_| webhooks.place()).collect();
        assert_eq!((places.len(), webhooks.place().is_none()), (FOLLOWED_MAX, true));
        let refused = crate::answer::too_many_webhooks();
        assert_eq!(
            (refused.status().as_u16(), &refused.headers()["retry-after"]),
            (429, &"1".parse().unwrap())
        );
        drop(places);
        assert!(webhooks.place().is_some());
    }

    #[test]
    fn secrets_of_a_url_are_not_logged() {
        assert_eq!(shown("https://me:key@h:8080/a?token=s#f"), "https://h:8080/a");
    }

    #[tokio::test]
    async fn so_many_messages_are_on_their_way_and_the_others_wait() {
        let (receiver, url) = receiver().await;
        let mut webhooks = Webhooks::new(Client::new("test"), Arc::default());
        webhooks.sending = Arc::new(Semaphore::new(1));
        (0..3).for_each(|_| tell_end(&webhooks, &url));
        for _ in 0..3 {
            let (mut stream, _) = receiver.accept().await.unwrap();
            head(&mut stream).await;
            for _ in 0..100 {
                tokio::task::yield_now().await;
                let more = futures_util::FutureExt::now_or_never(receiver.accept());
                assert!(more.is_none(), "another comes before this one has its answer");
            }
            stream.write_all(TAKEN).await.unwrap();
        }
        webhooks.drain(FINAL_TIMEOUT).await;
        assert_eq!(webhooks.places.available_permits(), FOLLOWED_MAX);
    }
}
