//! Tells a webhook what happens to a prediction: in order, each time with the whole of it.
//!
//! One task follows one prediction. What happens while it sends is told by the next message: a slow receiver gets fewer
//! of them, never old ones after new ones.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::client::{self, Client};
use crate::life::State;
use crate::prediction::Prediction;
use crate::request::{Hook, HookEvent};
use crate::settings::Settings;

/// A message about something that goes on.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(5);
/// The last message.
const FINAL_TIMEOUT: Duration = Duration::from_secs(30);
/// Times that the last message is sent.
const TRIES: u32 = 12;
/// Between the first two of them; doubles.
const PAUSE: Duration = Duration::from_millis(100);
/// Predictions whose webhooks are followed at the same time.
const FOLLOWED_MAX: usize = 2000;
/// Messages on their way at the same time, each with a connection.
const SENDING_MAX: usize = 256;

/// Sends webhooks of one server.
#[derive(Clone)]
pub struct Webhooks {
    client: Client,
    settings: Arc<Settings>,
    places: Arc<Semaphore>,
    sending: Arc<Semaphore>,
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
        Self { client, settings, places: Arc::new(places), sending: Arc::new(sending) }
    }

    /// Follows a prediction to its end.
    pub fn follow(&self, prediction: Arc<Prediction>, hook: Hook, trace: Trace) {
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            tracing::warn!(
                id = prediction.id,
                "too many webhooks wait for their receivers; this one is not sent"
            );
            return;
        };
        let this = self.clone();
        // Ends with the prediction, or when its last message has been tried often enough.
        tokio::spawn(async move {
            this.tell_all(&prediction, &hook, &trace).await;
            drop(place);
        });
    }

    /// Waits until every receiver has been told, for so long at most.
    pub async fn drain(&self, limit: Duration) {
        let _ = tokio::time::timeout(limit, self.places.acquire_many(FOLLOWED_MAX as u32)).await;
    }

    async fn tell_all(&self, prediction: &Prediction, hook: &Hook, trace: &Trace) {
        let mut told = Told::default();
        let mut logs_due = Instant::now();
        loop {
            let due = next(prediction, hook, &mut told, logs_due).await;
            let (event, body) = due;
            if event == HookEvent::Completed {
                if hook.events.contains(&event) {
                    self.send_final(prediction, hook, trace, body).await;
                }
                return;
            }
            if let Err(error) = self.send(hook, trace, body, PROGRESS_TIMEOUT).await {
                let error = error.text;
                tracing::warn!(id = prediction.id, url = hook.url, error, "a webhook was not delivered");
            }
            logs_due = Instant::now() + self.settings.logs_interval;
        }
    }

    async fn send_final(&self, prediction: &Prediction, hook: &Hook, trace: &Trace, body: Bytes) {
        for attempt in 0..TRIES {
            let Err(failure) = self.send(hook, trace, body.clone(), FINAL_TIMEOUT).await else { return };
            let (error, again) = (failure.text, failure.again && attempt + 1 < TRIES);
            tracing::warn!(
                id = prediction.id,
                url = hook.url,
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

    async fn send(&self, hook: &Hook, trace: &Trace, body: Bytes, limit: Duration) -> Result<(), Failure> {
        let http = self.client.get().await.map_err(|text| Failure { text, again: false })?;
        // Never closed.
        let _sending = self.sending.acquire().await;
        let mut request = http.post(&hook.url).timeout(limit).header("content-type", "application/json");
        if let Some(token) = &self.settings.webhook_token {
            request = request.bearer_auth(token);
        }
        for (name, value) in &trace.0 {
            request = request.header(*name, value);
        }
        match request.body(body).send().await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => {
                let status = answer.status();
                let again = matches!(status.as_u16(), 429 | 500 | 502 | 503 | 504);
                Err(Failure { text: format!("it answered {status}"), again })
            }
            Err(error) => Err(Failure { text: client::reason(&error), again: !error.is_builder() }),
        }
    }
}

struct Failure {
    text: String,
    /// It may work later.
    again: bool,
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

    #[tokio::test]
    async fn so_many_messages_are_on_their_way_and_the_others_wait() {
        let receiver = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", receiver.local_addr().unwrap());
        let mut webhooks = Webhooks::new(Client::new("test"), Arc::default());
        webhooks.sending = Arc::new(Semaphore::new(1));
        for number in 0..3 {
            let payload = Payload::from(&b""[..]);
            let prediction = Prediction::new(number.to_string(), &Asked::default(), payload, 0, None, false);
            prediction.step(Event::CancelAsked, |_| ());
            let hook = Hook { url: url.clone(), events: vec![HookEvent::Completed] };
            webhooks.follow(prediction, hook, Trace::default());
        }
        for _ in 0..3 {
            let (mut stream, _) = receiver.accept().await.unwrap();
            head(&mut stream).await;
            for _ in 0..100 {
                tokio::task::yield_now().await;
                let more = futures_util::FutureExt::now_or_never(receiver.accept());
                assert!(more.is_none(), "another comes before this one has its answer");
            }
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
                .await
                .unwrap();
        }
        webhooks.drain(FINAL_TIMEOUT).await;
        assert_eq!(webhooks.places.available_permits(), FOLLOWED_MAX);
    }
}
