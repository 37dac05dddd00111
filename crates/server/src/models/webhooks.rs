//! Webhooks: signed, throttled, tried again until they are taken, and sent once more on demand.
//!
//! Events while a prediction runs are sent from memory, at most one in half a second of a kind, and always the newest
//! state. Its end lies in the store until it was taken, in the same commit as the end itself.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clunk_agent::replica::now_ms;
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::model::{Prediction, PredictionId, WebhookEvent};
use clunk_store::models::DueWebhook;
use tokio::sync::Semaphore;

use super::live::{Hooks, Live};
use super::{Models, targets};
use crate::answer::store_error;

/// Between two events `output` or `logs` of one prediction.
const THROTTLE: Duration = Duration::from_millis(500);
/// For one request, from connecting to the status.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// Requests on their way at the same time.
const MAX_REQUESTS: usize = 64;
/// Ends that are looked at together.
const MAX_DUE: u32 = 64;
/// Tries of an end: with waits of 1, 2, 4, … seconds between them the last is a minute after the end.
const MAX_TRIES: u32 = 7;
/// How long the sender sleeps when nothing wakes it.
const IDLE: Duration = Duration::from_secs(30);

/// Ends that are being sent, and predictions whose earlier events are.
#[derive(Default)]
pub struct Sending {
    ends: Mutex<HashSet<PredictionId>>,
    events: Mutex<HashSet<PredictionId>>,
}

/// What sends webhooks.
pub struct Sender {
    client: reqwest::Client,
    permits: Semaphore,
    sending: Sending,
}

impl Sender {
    pub fn new() -> Result<Self, ErrorBody> {
        clunk_image::install_cryptography();
        let client = reqwest::Client::builder()
            .user_agent(concat!("clunk/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .timeout(REQUEST_LIMIT)
            .dns_resolver(Arc::new(targets::Resolver))
            .build()
            .map_err(|error| {
                ErrorBody::new(
                    ErrorCode::Internal,
                    format!("could not set up the sender of webhooks: {error}"),
                )
            })?;
        Ok(Self { client, permits: Semaphore::new(MAX_REQUESTS), sending: Sending::default() })
    }

    fn ends(&self) -> std::sync::MutexGuard<'_, HashSet<PredictionId>> {
        self.sending.ends.lock().expect("no panic while locked")
    }

    fn events(&self) -> std::sync::MutexGuard<'_, HashSet<PredictionId>> {
        self.sending.events.lock().expect("no panic while locked")
    }
}

/// Why a webhook was not taken.
struct Refused {
    why: String,
    /// No later try would fare better.
    for_good: bool,
}

impl Refused {
    fn now(why: String) -> Self {
        Self { why, for_good: false }
    }

    fn for_good(why: String) -> Self {
        Self { why, for_good: true }
    }
}

fn next(hooks: &mut Hooks) -> Option<WebhookEvent> {
    let flags = [
        (&mut hooks.start, WebhookEvent::Start),
        (&mut hooks.output, WebhookEvent::Output),
        (&mut hooks.logs, WebhookEvent::Logs),
    ];
    let next = flags.into_iter().find_map(|(flag, event)| std::mem::take(flag).then_some(event));
    hooks.count += u64::from(next.is_some());
    next
}

fn event_name(event: WebhookEvent) -> &'static str {
    match event {
        WebhookEvent::Start => "start",
        WebhookEvent::Output => "output",
        WebhookEvent::Logs => "logs",
        WebhookEvent::Completed => "completed",
    }
}

impl Models {
    /// Something happened that a webhook may want to be told of.
    pub(super) fn hook(&self, live: &Arc<Live>, event: WebhookEvent) {
        let wanted =
            |record: &Prediction| record.webhook.as_ref().is_some_and(|webhook| webhook.wants(event));
        if !live.record().as_ref().is_some_and(wanted) {
            return;
        }
        let mut hooks = live.hooks.lock().expect("no panic while locked");
        match event {
            WebhookEvent::Start => hooks.start = true,
            WebhookEvent::Output => hooks.output = true,
            WebhookEvent::Logs => hooks.logs = true,
            WebhookEvent::Completed => return,
        }
        if !std::mem::replace(&mut hooks.sending, true) {
            // Under the lock: who has just found nothing to send takes the entry out before this one puts it in.
            self.sender.events().insert(live.id);
            drop(hooks);
            tokio::spawn(send_events(self.me(), live.clone()));
        }
    }

    /// It is about to end with this. What was not sent yet is in the event of the end, for those who want that one; for
    /// others the last output is still to be told.
    pub(super) fn flush_hooks(&self, live: &Arc<Live>, end: &Prediction) {
        let Some(webhook) = &end.webhook else { return };
        if webhook.wants(WebhookEvent::Completed) {
            let mut hooks = live.hooks.lock().expect("no panic while locked");
            (hooks.start, hooks.output, hooks.logs) = (false, false, false);
        } else if end.output.is_some() {
            self.hook(live, WebhookEvent::Output);
        }
    }

    async fn send(&self, prediction: &Prediction, event: WebhookEvent, id: &str) -> Result<(), Refused> {
        let Some(webhook) = &prediction.webhook else { return Ok(()) };
        // One of an earlier release was not checked when it was accepted.
        targets::check(&webhook.url).map_err(|error| Refused::for_good(error.message))?;
        let shown = match self.presenter.get() {
            Some(present) => present(self, prediction),
            None => self.shown(prediction),
        };
        let body = serde_json::to_vec(&shown).expect("JSON has a JSON form");
        let timestamp = now_ms() / 1000;
        let signed = [format!("{id}.{timestamp}.").as_bytes(), &body].concat();
        let signature = STANDARD.encode(self.secret.sign(&signed));
        let _permit = self.sender.permits.acquire().await.map_err(|error| Refused::now(error.to_string()))?;
        let request = self
            .sender
            .client
            .post(&webhook.url)
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp.to_string())
            .header("webhook-signature", format!("v1,{signature}"))
            .header("clunk-event", event_name(event))
            .body(body);
        let answer = request.send().await.map_err(|error| Refused::now(error.without_url().to_string()))?;
        let said = format!("status {}", answer.status().as_u16());
        match answer.status() {
            status if status.is_success() => Ok(()),
            reqwest::StatusCode::GONE => Err(Refused::for_good(said)),
            _ => Err(Refused::now(said)),
        }
    }

    /// Sends the webhook of a prediction that has ended once more.
    pub async fn redeliver(&self, id: PredictionId) -> Result<(), ErrorBody> {
        let prediction = self.prediction(id).await?;
        let bad = |text: String| Err(ErrorBody::new(ErrorCode::BadRequest, text));
        if prediction.webhook.is_none() {
            return bad(format!("prediction {id} has no webhook"));
        }
        if !prediction.status.is_terminal() {
            return bad(format!("prediction {id} has not ended: its webhook is sent when it has"));
        }
        let due = DueWebhook { prediction: id, due_ms: now_ms(), attempts: 0 };
        self.store.put_webhook(due).await.map_err(|error| store_error(&error))?;
        self.webhooks_due.notify_one();
        Ok(())
    }
}

/// Sends what is flagged, as long as there is something.
async fn send_events(models: Arc<Models>, live: Arc<Live>) {
    loop {
        let (event, count) = {
            let mut hooks = live.hooks.lock().expect("no panic while locked");
            match next(&mut hooks) {
                Some(event) => (event, hooks.count),
                None => {
                    hooks.sending = false;
                    models.sender.events().remove(&live.id);
                    break;
                }
            }
        };
        let sent = match models.full(&live).await {
            Ok(prediction) => {
                let id = format!("msg_{}_{count}", live.id);
                models.send(&prediction, event, &id).await
            }
            Err(error) => Err(Refused::now(error.message)),
        };
        if let Err(Refused { why, .. }) = sent {
            tracing::info!(prediction = %live.id, event = event_name(event), why, "a webhook was not taken");
        }
        if event != WebhookEvent::Start {
            throttle(&live).await;
        }
    }
    models.webhooks_due.notify_one();
}

/// Waits until the next event may be sent: at the end of the prediction, at once.
async fn throttle(live: &Live) {
    let mut changed = live.changed.subscribe();
    let over = async {
        while !live.is_terminal() {
            if changed.changed().await.is_err() {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(THROTTLE, over).await;
}

/// Sends ends until the server stops.
pub async fn deliver(models: Arc<Models>) {
    loop {
        let wait = match send_due(&models).await {
            Ok(wait) => wait,
            Err(error) => {
                tracing::error!(%error, "could not read which webhooks are due");
                IDLE
            }
        };
        tokio::select! {
            () = models.webhooks_due.notified() => {}
            () = tokio::time::sleep(wait) => {}
            () = models.stopping.cancelled() => return,
        }
    }
}

/// Begins to send what is due. Gives how long nothing else will be.
async fn send_due(models: &Arc<Models>) -> Result<Duration, ErrorBody> {
    let busy = models.sender.ends().len().min(MAX_REQUESTS) as u32;
    let due = models.store.due_webhooks(MAX_DUE + busy).await.map_err(|error| store_error(&error))?;
    let now = now_ms();
    for webhook in due {
        if webhook.due_ms > now {
            return Ok(Duration::from_millis(webhook.due_ms - now).min(IDLE));
        }
        let id = webhook.prediction;
        // What came before the end is sent before it.
        if models.sender.events().contains(&id) || models.sender.ends().len() >= MAX_REQUESTS {
            continue;
        }
        if models.sender.ends().insert(id) {
            tokio::spawn(send_end(models.clone(), webhook));
        }
    }
    Ok(IDLE)
}

async fn send_end(models: Arc<Models>, webhook: DueWebhook) {
    let id = webhook.prediction;
    let sent = match models.prediction(id).await {
        Ok(prediction) => {
            models.send(&prediction, WebhookEvent::Completed, &format!("msg_{id}_completed")).await
        }
        Err(error) if error.code == ErrorCode::NotFound => Ok(()),
        Err(error) => Err(Refused::now(error.message)),
    };
    let attempts = webhook.attempts + 1;
    let outcome = match sent {
        Ok(()) => models.store.settle_webhook(id).await,
        Err(Refused { why, for_good }) if for_good || attempts >= MAX_TRIES => {
            tracing::warn!(prediction = %id, why, attempts, "a webhook was never taken and is given up");
            models.store.settle_webhook(id).await
        }
        Err(Refused { why, .. }) => {
            tracing::info!(prediction = %id, why, attempts, "a webhook was not taken and is tried again");
            let due_ms = now_ms() + (1000 << webhook.attempts);
            models.store.put_webhook(DueWebhook { attempts, due_ms, ..webhook }).await
        }
    };
    if let Err(error) = outcome {
        tracing::error!(prediction = %id, %error, "could not write down that a webhook was sent");
        // It is sent again: not as fast as it can.
        tokio::time::sleep(IDLE).await;
    }
    models.sender.ends().remove(&id);
    models.webhooks_due.notify_one();
}
