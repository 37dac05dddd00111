//! Works off what the engine told of a prediction's call, in its order.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clunk_agent::replica::now_ms;
use clunk_agent::{Metric, Value as Given};
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::model::{Cause, Kind, Output, Prediction, Status, StatusEvent, WebhookEvent};
use clunk_model::metrics;
use clunk_store::models::PredictionWrite;
use futures_util::FutureExt;
use serde_json::{Map, Value, json};

use super::live::{Ending, Letter, Live};
use super::{Models, outputs};
use crate::engine::durable;
use crate::engine::observer::{Finish, ObservedEnd};

/// Bytes of logs that are kept of one prediction. What comes beyond them is in the log of its app.
const MAX_LOGS: usize = 1 << 20;
const LOGS_CUT: &str = "\n[more was printed; the log of the app has all of it]\n";
/// Parts of one iterator's output.
const MAX_PARTS: usize = 100_000;
/// Waits between attempts to write an end: doubled from the first to the second.
const WRITE_PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Runs until the mailbox is empty.
pub async fn work(models: Arc<Models>, live: Arc<Live>) {
    let id = live.id;
    let worked = AssertUnwindSafe(work_off(&models, &live)).catch_unwind().await;
    if worked.is_err() {
        tracing::error!(prediction = %id, "a bug: what became of a prediction could not be worked off");
        // Its call is in the queue still: the next server runs it again.
        models.lives.remove(id);
    }
}

async fn work_off(models: &Arc<Models>, live: &Arc<Live>) {
    let known = load(models, live).await;
    while let Some((letters, overflowed)) = live.take() {
        if overflowed {
            let error = ErrorBody::new(
                ErrorCode::PayloadTooLarge,
                "the model gives output faster than it can be kept",
            );
            fail(models, live, error).await;
        }
        for letter in letters {
            if known {
                apply(models, live, letter).await;
            } else if let Letter::Ended(ending) = letter {
                ending.finish.into_iter().for_each(Finish::finish);
                models.lives.remove(live.id);
            }
        }
    }
}

/// Reads the record when it is not in memory. False: there is no such prediction, the call was made by hand.
async fn load(models: &Models, live: &Live) -> bool {
    let mut pause = WRITE_PAUSE.0;
    loop {
        if live.record().is_some() {
            return true;
        }
        match models.store.prediction(live.id).await {
            Ok(Some(stored)) => {
                live.record().get_or_insert(stored.record);
                return true;
            }
            Ok(None) => return false,
            Err(error) => {
                tracing::error!(prediction = %live.id, %error, "could not read a prediction; trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(WRITE_PAUSE.1);
            }
        }
    }
}

async fn apply(models: &Arc<Models>, live: &Arc<Live>, letter: Letter) {
    match letter {
        Letter::Started { attempt } => started(models, live, attempt),
        Letter::Printed(text) => {
            live.change(|record| print(&mut record.logs, &text));
            models.hook(live, WebhookEvent::Logs);
        }
        // The credit goes with the letter: when the value is in the record.
        Letter::Yielded(value, _credit) => yielded(models, live, value).await,
        Letter::Metric(metric) => measure(live, &metric),
        Letter::Ended(ending) => ended(models, live, *ending).await,
    }
}

fn started(models: &Arc<Models>, live: &Arc<Live>, attempt: u32) {
    let first = live.change(|record| {
        let Some(status) = record.status.apply(StatusEvent::Start) else { return false };
        let first = record.started_ms.is_none() && attempt == 1;
        record.status = status;
        record.started_ms = Some(now_ms());
        // What an earlier attempt gave is void.
        record.output = None;
        record.logs.clear();
        record.metrics.clear();
        models.store.note_prediction(PredictionWrite::Update {
            record: Box::new(record.clone()),
            output: None,
            webhook_due_ms: None,
        });
        first
    });
    if first == Some(true) {
        models.hook(live, WebhookEvent::Start);
    }
}

fn print(logs: &mut String, text: &str) {
    if logs.len() >= MAX_LOGS {
        return;
    }
    let room = MAX_LOGS - logs.len();
    let end = (0..=room.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    logs.push_str(&text[..end]);
    if end < text.len() {
        logs.push_str(LOGS_CUT);
    }
}

fn measure(live: &Live, metric: &Metric) {
    let kept = live.change(|record| metrics::measure(&mut record.metrics, metric));
    if kept == Some(false) && !live.metrics_full.swap(true, Ordering::Relaxed) {
        let (name, most) = (&metric.name, metrics::METRICS_BYTES >> 20);
        let text = format!(
            "[the metric {name} is not kept: another has its name, or all are more than {most} MiB]\n"
        );
        live.change(|record| print(&mut record.logs, &text));
    }
}

async fn yielded(models: &Arc<Models>, live: &Arc<Live>, value: Given) {
    if live.verdict().1.is_some() {
        return;
    }
    let output = match outputs::keep(models, live.id, value).await {
        Ok(output) => output,
        Err(error) => return fail(models, live, error).await,
    };
    let parts = live.change(|record| outputs::append(record, output)).unwrap_or(0);
    if parts > MAX_PARTS {
        let text = format!("the output has more than {MAX_PARTS} parts");
        return fail(models, live, ErrorBody::new(ErrorCode::PayloadTooLarge, text)).await;
    }
    models.hook(live, WebhookEvent::Output);
}

/// The prediction cannot succeed any more: its call is stopped.
async fn fail(models: &Arc<Models>, live: &Arc<Live>, error: ErrorBody) {
    live.condemn(error);
    if let Err(error) = models.engine.cancel(live.id.0, false).await {
        tracing::debug!(prediction = %live.id, %error, "a prediction that failed could not be stopped");
    }
}

async fn ended(models: &Arc<Models>, live: &Arc<Live>, ending: Ending) {
    let Ending { end, finish } = ending;
    if live.is_terminal() {
        models.lives.remove(live.id);
        models.deadlines.remove(live.id);
        finish.into_iter().for_each(Finish::finish);
        return;
    }
    let Some(mut record) = live.record().clone() else { return };
    let (event, error) = conclude(models, live, &mut record, end).await;
    let training = record.kind == Kind::Training && event == StatusEvent::Succeed;
    let (event, error) = match training {
        true => match models.publish_trained(&mut record).await {
            Ok(()) => (event, error),
            Err(failed) => (StatusEvent::Fail, Some(failed.message)),
        },
        false => (event, error),
    };
    record.status = record.status.apply(event).unwrap_or(Status::Failed);
    record.error = error;
    complete(&mut record);
    models.flush_hooks(live, &record);
    write_end(models, &record).await;
    live.change(|live| *live = record);
    models.lives.remove(live.id);
    models.deadlines.remove(live.id);
    finish.into_iter().for_each(Finish::finish);
    models.webhooks_due.notify_one();
}

/// What the end of the call means.
async fn conclude(
    models: &Arc<Models>,
    live: &Live,
    record: &mut Prediction,
    end: ObservedEnd,
) -> (StatusEvent, Option<String>) {
    let (cause, condemned) = live.verdict();
    if let Some(error) = condemned {
        return (StatusEvent::Fail, Some(error.message));
    }
    match end {
        // Of an iterator the value is empty: its parts have come before.
        ObservedEnd::Returned(value) if value.payload.is_empty() => {
            record.output.get_or_insert_with(|| Output { value: json!([]), files: Vec::new() });
            (StatusEvent::Succeed, None)
        }
        ObservedEnd::Returned(value) => match outputs::keep(models, record.id, value).await {
            Ok(output) => {
                record.output = Some(output);
                (StatusEvent::Succeed, None)
            }
            Err(error) => (StatusEvent::Fail, Some(error.message)),
        },
        ObservedEnd::Raised(raised) => {
            if record.started_ms.is_none() {
                // Its model could not be set up: nothing else of the prediction says where.
                print(&mut record.logs, &raised.traceback);
            }
            let said = if raised.message.is_empty() { raised.kind } else { raised.message };
            (StatusEvent::Fail, Some(said))
        }
        ObservedEnd::Failed(error) => match error.code {
            ErrorCode::CallCanceled => (StatusEvent::Cancel(cause.unwrap_or(Cause::Caller)), None),
            // Its caller did not ask for that.
            ErrorCode::AppStopped => {
                let why = match cause {
                    Some(_) => None,
                    None => Some(why_stopped(models, record).await.unwrap_or(error.message)),
                };
                (StatusEvent::Cancel(cause.unwrap_or(Cause::Caller)), why)
            }
            _ => (StatusEvent::Fail, Some(error.message)),
        },
    }
}

/// What was taken away under a prediction.
async fn why_stopped(models: &Models, record: &Prediction) -> Option<String> {
    if let Some((name, _)) = &record.deployment
        && models.store.deployment(name).await.ok()?.is_none()
    {
        return Some(format!("the deployment {name} was deleted"));
    }
    match models.store.version(record.version).await.ok()? {
        Some(_) => None,
        None => Some(format!("the version {} was deleted", record.version.short())),
    }
}

/// Its times.
fn complete(record: &mut Prediction) {
    let now = now_ms().max(record.created_ms);
    record.completed_ms = Some(now);
    let seconds = |since: u64| json!(now.saturating_sub(since) as f64 / 1000.0);
    if let Some(started_ms) = record.started_ms {
        record.metrics.insert("predict_time".into(), seconds(started_ms));
    }
    record.metrics.insert("total_time".into(), seconds(record.created_ms));
}

/// Returns when the end is on disk: until then the call is there, and runs again when the server is killed.
async fn write_end(models: &Arc<Models>, record: &Prediction) {
    let wants = record.webhook.as_ref().is_some_and(|webhook| webhook.wants(WebhookEvent::Completed));
    let mut pause = WRITE_PAUSE.0;
    loop {
        let written = async {
            let _used = models.engine.payload_use.clone().read_owned().await;
            let output = match &record.output {
                Some(output) => Some(outputs::stored(&models.engine, output).await?),
                None => None,
            };
            let write = PredictionWrite::Update {
                record: Box::new(record.clone()),
                output,
                webhook_due_ms: wants.then(now_ms),
            };
            models.store.write_prediction(write).await.map_err(|error| crate::answer::store_error(&error))
        };
        match written.await {
            Ok(()) => return,
            Err(error) => {
                tracing::error!(prediction = %record.id, %error, "could not keep an end; trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(WRITE_PAUSE.1);
            }
        }
    }
}

/// The input of a call, as the runner reads it.
pub fn call_payload(input: &Value, context: &Map<String, Value>) -> Vec<u8> {
    serde_json::to_vec(&json!({"input": input, "context": context})).expect("JSON has a JSON form")
}

/// Accepts the call of a prediction.
pub async fn submit(
    models: &Models,
    record: &Prediction,
    payload: Vec<u8>,
    function: clunk_core::id::FunctionId,
) -> Result<(), ErrorBody> {
    let pool =
        models.engine.function(function).ok_or_else(|| super::catalogue::not_served(record.version))?;
    durable::spawn_as(&pool, record.id.0, payload).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_bounded_and_cut_between_characters() {
        let mut logs = "x".repeat(MAX_LOGS - 1);
        print(&mut logs, "éé");
        assert!(logs.ends_with(&format!("x{LOGS_CUT}")), "no half of a character");
        let len = logs.len();
        print(&mut logs, "more");
        assert_eq!(logs.len(), len);
    }
}
