//! The start page: what runs now, the newest models and predictions, and what the last day took.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::response::Response;
use clunk_agent::replica::now_ms;
use clunk_core::api::UsageRow;
use clunk_core::error::ErrorBody;
use clunk_core::model::{Kind, ModelName};
use maud::{Markup, html};

use super::handlers::shown;
use super::layout::{self, Page};
use super::session::Visitor;
use super::{model_page, time};
use crate::answer::store_error;
use crate::models::{ModelSort, PredictionFilter};
use crate::server::Server;

/// Models and predictions that are listed.
const LISTED: u32 = 10;
/// Apps that are listed, of those that run and of those that used most.
const LISTED_APPS: usize = 10;
const DAY_MS: u64 = 86_400_000;

/// `GET /`
pub async fn page(State(server): State<Arc<Server>>, Extension(visitor): Extension<Visitor>) -> Response {
    if !visitor.is_owner() {
        return layout::sign_in("/", false);
    }
    let made = body(&server).await;
    let page = |body| Page { title: "Start", visitor: &visitor, refreshes: false, body }.answer();
    shown(made.map(page), &visitor)
}

async fn body(server: &Server) -> Result<Markup, ErrorBody> {
    let models = server.models.models(ModelSort::LatestVersion, false, None, LISTED).await?;
    let filter = PredictionFilter::of(Kind::Prediction, LISTED);
    let recent = server.models.predictions(filter).await?.results;
    server.engine.record_usage().await;
    let until = now_ms();
    let used = server.engine.store.usage(until.saturating_sub(DAY_MS), until, DAY_MS).await;
    let used = totals(used.map_err(|error| store_error(&error))?);
    let apps = running(server);
    Ok(html! {
        div.title {
            h1 { "Clunk" }
            p.facts {
                "version " (crate::VERSION) " \u{b7} up "
                (time::duration(server.started.elapsed().as_millis() as u64))
            }
        }
        section id="running" {
            h2 { "Running now" }
            @if apps.is_empty() { p.nothing { "No containers: they start with the next call." } }
            @else { (running_table(&apps)) }
        }
        @if models.results.is_empty() { (model_page::beginning()) } @else {
            section id="models" {
                h2 { "Models" }
                (model_page::models(&models.results))
                @if models.next.is_some() { p { a href="/models" { "All models" } } }
            }
        }
        @if !recent.is_empty() {
            section id="predictions" { h2 { "Recent predictions" } (model_page::recent(&recent, true)) }
        }
        @if !used.is_empty() { section id="usage" { h2 { "Used in the last 24 hours" } (usage_table(&used)) } }
    })
}

/// An app with containers, or with calls that wait for one.
struct Running {
    name: String,
    containers: usize,
    calls: usize,
    queued: u64,
}

/// Those with the most containers first.
fn running(server: &Server) -> Vec<Running> {
    let apps = server.engine.all_apps();
    let mut all: Vec<_> = apps
        .iter()
        .map(|app| {
            let mut one = Running { name: app.name.clone(), containers: 0, calls: 0, queued: 0 };
            for (containers, calls, queued) in app.pools().iter().map(|pool| pool.counts()) {
                one.containers += containers;
                one.calls += calls;
                one.queued += queued;
            }
            one
        })
        .filter(|one| one.containers > 0 || one.queued > 0)
        .collect();
    all.sort_by(|a, b| b.containers.cmp(&a.containers).then_with(|| a.name.cmp(&b.name)));
    all
}

/// What one app used.
#[derive(Debug, Default, PartialEq)]
struct Used {
    calls: u64,
    cpu_s: f64,
    memory_gib_s: f64,
    gpu_s: f64,
    container_s: f64,
}

/// By the names of apps, those with the longest running containers first.
fn totals(rows: Vec<UsageRow>) -> Vec<(String, Used)> {
    let mut apps: BTreeMap<String, Used> = BTreeMap::new();
    for row in rows {
        let used = apps.entry(row.app_name).or_default();
        used.calls += row.calls;
        used.cpu_s += row.cpu_s;
        used.memory_gib_s += row.memory_gib_s;
        used.gpu_s += row.gpu_s;
        used.container_s += row.container_s;
    }
    let mut all: Vec<_> = apps.into_iter().collect();
    all.sort_by(|(_, a), (_, b)| b.container_s.total_cmp(&a.container_s));
    all
}

/// An app by its name; that of a model is the model's.
fn app(name: &str) -> Markup {
    let model = name.split_once('/').is_some_and(|(owner, model)| ModelName::new(owner, model).is_ok());
    html! { @if model { a href=(format!("/models/{name}")) { (name) } } @else { (name) } }
}

fn running_table(apps: &[Running]) -> Markup {
    let row = |one: &Running| {
        html! {
            td { (app(&one.name)) }
            td.number { (one.containers) }
            td.number { (one.calls) }
            td.number { (one.queued) }
        }
    };
    table(&["Containers", "Calls", "Waiting"], apps, row)
}

fn usage_table(apps: &[(String, Used)]) -> Markup {
    let seconds = |seconds: f64| time::duration((seconds * 1000.0) as u64);
    let gpus = apps.iter().any(|(_, used)| used.gpu_s > 0.0);
    let heads = ["Calls", "Containers", "Processor", "Memory", "GPU"];
    let row = |(name, used): &(String, Used)| {
        html! {
            td { (app(name)) }
            td.number { (used.calls) }
            td.number { (seconds(used.container_s)) }
            td.number { (seconds(used.cpu_s)) }
            td.number { (format!("{:.2} GiB h", used.memory_gib_s / 3600.0)) }
            @if gpus { td.number { (seconds(used.gpu_s)) } }
        }
    };
    table(&heads[..heads.len() - usize::from(!gpus)], apps, row)
}

/// Apps and numbers of them; `heads` are of the numbers.
fn table<T>(heads: &[&str], apps: &[T], row: impl Fn(&T) -> Markup) -> Markup {
    html! {
        div.wide {
            table {
                thead {
                    tr {
                        th scope="col" { "App" }
                        @for head in heads { th.number scope="col" { (head) } }
                    }
                }
                tbody { @for one in apps.iter().take(LISTED_APPS) { tr { (row(one)) } } }
            }
        }
        (more(apps.len()))
    }
}

fn more(count: usize) -> Markup {
    html! { @if count > LISTED_APPS { p.cut { "and " (count - LISTED_APPS) " more" } } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_summed_over_functions() {
        let row = |app: &str, calls, container_s| UsageRow {
            workspace: "main".into(),
            app: "app-1".into(),
            app_name: app.into(),
            function: "f".into(),
            from_ms: 0,
            calls,
            cpu_s: 1.0,
            memory_gib_s: 2.0,
            gpu_s: 0.0,
            container_s,
        };
        let used = totals(vec![row("a", 1, 1.0), row("b", 2, 9.0), row("a", 3, 1.5)]);
        let wanted = Used { calls: 4, cpu_s: 2.0, memory_gib_s: 4.0, gpu_s: 0.0, container_s: 2.5 };
        assert_eq!((used[0].0.as_str(), &used[1]), ("b", &("a".to_owned(), wanted)));
    }

    #[test]
    fn an_app_of_a_model_leads_to_it() {
        assert_eq!(app("acme/hello").into_string(), "<a href=\"/models/acme/hello\">acme/hello</a>");
        assert_eq!(app("hello").into_string(), "hello");
        assert_eq!(app("a/b/c\"").into_string(), "a/b/c&quot;");
    }
}
