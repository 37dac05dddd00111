//! Counts of one lane, as Prometheus reads them.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::health::View;
use crate::lane::Kind;
use crate::life::Outcome;

/// Upper bounds of the histogram of durations, in seconds.
const BOUNDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0];

#[derive(Default)]
pub struct Counters {
    succeeded: AtomicU64,
    failed: AtomicU64,
    canceled: AtomicU64,
    refused: AtomicU64,
    restarts: AtomicU64,
    /// Predictions by duration: each in the first bound that holds it, the last is beyond all.
    durations: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counters {
    pub fn ended(&self, outcome: Outcome, took: Option<Duration>) {
        count(match outcome {
            Outcome::Succeeded => &self.succeeded,
            Outcome::Failed => &self.failed,
            Outcome::Canceled => &self.canceled,
        });
        let Some(took) = took else { return };
        let seconds = took.as_secs_f64();
        let bound = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        count(&self.durations[bound]);
        self.micros.fetch_add(took.as_micros() as u64, Ordering::Relaxed);
    }

    pub fn refused(&self) {
        count(&self.refused);
    }

    pub fn restarted(&self) {
        count(&self.restarts);
    }

    /// Adds the lane's lines; `first` is the one that brings the explanations.
    pub fn write(&self, kind: Kind, view: &View, first: bool, out: &mut String) {
        let kind = kind.name();
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let explain = |out: &mut String, name: &str, form: &str, text: &str| {
            if first {
                let _ = writeln!(out, "# HELP {name} {text}\n# TYPE {name} {form}");
            }
        };
        explain(out, "clunk_predictions_total", "counter", "Predictions that have ended, by how.");
        let outcomes =
            [("succeeded", &self.succeeded), ("failed", &self.failed), ("canceled", &self.canceled)];
        for (status, counter) in outcomes {
            let _ = writeln!(
                out,
                "clunk_predictions_total{{kind=\"{kind}\",status=\"{status}\"}} {}",
                get(counter)
            );
        }
        explain(out, "clunk_prediction_seconds", "histogram", "Time that the model worked on a prediction.");
        let mut sum = 0;
        for (index, counter) in self.durations.iter().enumerate() {
            sum += get(counter);
            let bound = BOUNDS.get(index).map_or("+Inf".to_owned(), f64::to_string);
            let _ = writeln!(out, "clunk_prediction_seconds_bucket{{kind=\"{kind}\",le=\"{bound}\"}} {sum}");
        }
        let seconds = get(&self.micros) as f64 / 1e6;
        let _ = writeln!(out, "clunk_prediction_seconds_sum{{kind=\"{kind}\"}} {seconds}");
        let _ = writeln!(out, "clunk_prediction_seconds_count{{kind=\"{kind}\"}} {sum}");
        for (name, form, text, value) in [
            (
                "clunk_refused_total",
                "counter",
                "Predictions refused because the queue was full.",
                get(&self.refused),
            ),
            (
                "clunk_restarts_total",
                "counter",
                "Times that the model's process went away by itself.",
                get(&self.restarts),
            ),
            ("clunk_queue_length", "gauge", "Predictions that wait.", view.queued as u64),
            ("clunk_running", "gauge", "Predictions that the model works on.", view.running as u64),
        ] {
            explain(out, name, form, text);
            let _ = writeln!(out, "{name}{{kind=\"{kind}\"}} {value}");
        }
        explain(out, "clunk_health", "gauge", "1 for the state that the model is in.");
        let _ = writeln!(out, "clunk_health{{kind=\"{kind}\",status=\"{}\"}} 1", view.status(false));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Setup;
    use crate::life::Health;

    #[test]
    fn buckets_hold_all_that_is_shorter() {
        let counters = Counters::default();
        for millis in [0, 3, 3, 700_000] {
            counters.ended(Outcome::Succeeded, Some(Duration::from_millis(millis)));
        }
        counters.ended(Outcome::Canceled, None);
        let view = View { health: Health::Up, busy: false, setup: Setup::default(), queued: 2, running: 1 };
        let mut text = String::new();
        counters.write(Kind::Prediction, &view, true, &mut text);
        for line in [
            "clunk_predictions_total{kind=\"prediction\",status=\"succeeded\"} 4",
            "clunk_predictions_total{kind=\"prediction\",status=\"canceled\"} 1",
            "clunk_prediction_seconds_bucket{kind=\"prediction\",le=\"0.001\"} 1",
            "clunk_prediction_seconds_bucket{kind=\"prediction\",le=\"0.005\"} 3",
            "clunk_prediction_seconds_bucket{kind=\"prediction\",le=\"+Inf\"} 4",
            "clunk_prediction_seconds_count{kind=\"prediction\"} 4",
            "clunk_queue_length{kind=\"prediction\"} 2",
            "clunk_health{kind=\"prediction\",status=\"READY\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
