//! The page of one model: what it is, its form, the newest run, the same call for programs, its versions.

use clunk_core::model::{Model, Prediction, Version};
use maud::{Markup, html};

use super::fields;
use super::form::Field;
use super::layout::form_token;
use super::markdown::{is_safe, markdown};
use super::panel;
use super::session::Visitor;
use super::snippets::Snippet;
use super::submitted::{Problems, Submitted};
use super::time;

/// Digits of a version that people see.
pub const SHORT_ID: usize = 12;

pub struct ModelPage<'a> {
    pub visitor: &'a Visitor,
    pub model: &'a Model,
    pub version: Option<&'a Version>,
    pub versions: &'a [Version],
    pub recent: &'a [Prediction],
    pub form: Form<'a>,
    pub snippets: Vec<Snippet>,
    pub panel: Option<Markup>,
}

pub struct Form<'a> {
    pub fields: &'a [Field],
    pub shown: &'a Submitted,
    pub problems: &'a Problems,
    /// Why nothing was run, when it is not about one field.
    pub message: Option<&'a str>,
}

impl ModelPage<'_> {
    pub fn markup(&self) -> Markup {
        let texts = &self.model.texts;
        html! {
            (self.head())
            @if let Some(version) = self.version {
                div.work id="run" {
                    section.ask aria-label="Input" { (self.form(version)) }
                    div.answer data-place="panel" aria-live="off" {
                        @match &self.panel {
                            Some(panel) => (panel),
                            None => section.panel.empty #panel aria-label="Prediction" {
                                p.nothing {
                                    @if self.visitor.is_owner() { "Fill in the form and run the model: its output will be here." }
                                    @else { "This model has no example of its output yet." }
                                }
                            },
                        }
                    }
                }
                section id="api" { h2 { "Call it from a program" } (snippets(&self.snippets)) }
            } @else {
                section.words {
                    p { "This model has no version yet. Push one from the folder with its " code { "cog.yaml" } ":" }
                    pre.command { "clunk push . " (self.model.name) }
                }
            }
            @if let Some(readme) = texts.readme.as_deref().filter(|text| !text.trim().is_empty()) {
                section id="readme" { h2 { "Readme" } div.prose { (markdown(readme)) } }
            }
            @if !self.versions.is_empty() { section id="versions" { h2 { "Versions" } (self.versions()) } }
            @if !self.recent.is_empty() { section id="predictions" { h2 { "Recent predictions" } (recent(self.recent, false)) } }
        }
    }

    fn head(&self) -> Markup {
        let model = self.model;
        let texts = &model.texts;
        let links = [
            ("Code", &texts.github_url),
            ("Paper", &texts.paper_url),
            ("License", &texts.license_url),
            ("Weights", &texts.weights_url),
        ];
        html! {
            div.title {
                h1 { span.owner { (model.name.owner()) "/" } wbr; (model.name.name()) }
                p.facts {
                    (visibility(model)) " \u{b7} "
                    (model.configuration.hardware) " \u{b7} "
                    span.number { (model.run_count) } @if model.run_count == 1 { " run" } @else { " runs" }
                    @for (word, address) in links {
                        @if let Some(address) = address.as_deref().filter(|address| is_safe(address)) {
                            " \u{b7} " a href=(address) rel="noreferrer" { (word) }
                        }
                    }
                }
                @if let Some(text) = &texts.description { p.description { (text) } }
                nav.parts aria-label="Parts of this page" {
                    @if self.version.is_some() { a href="#run" { "Run" } a href="#api" { "API" } }
                    @if texts.readme.is_some() { a href="#readme" { "Readme" } }
                    @if !self.versions.is_empty() { a href="#versions" { "Versions" } }
                    @if !self.recent.is_empty() { a href="#predictions" { "Predictions" } }
                }
            }
        }
    }

    fn form(&self, version: &Version) -> Markup {
        let Form { fields: all, shown, problems, message } = &self.form;
        let address = format!("/models/{}", self.model.name);
        let latest = self.model.latest_version == Some(version.id);
        html! {
            @if !latest {
                p.note { "An earlier version: " code { (short(version)) } ". " a href=(address) { "Use the newest." } }
            }
            @if self.visitor.is_owner() {
                form.stack #form method="post" action=(address) enctype="multipart/form-data" novalidate
                    data-snippets=(format!("{address}/snippets")) {
                    (form_token(self.visitor))
                    input type="hidden" name="version" value=(version.id.to_string());
                    p.problem.said #problem role="alert" { @if let Some(message) = message { (message) } }
                    @if all.is_empty() { p.nothing { "This model takes no input." } }
                    (fields::fields(all, shown, problems))
                    div.run {
                        button type="submit" data-run { "Run" }
                        span.hint data-keys hidden { "Ctrl Enter" }
                    }
                }
            } @else { (self.asked_of_guests(&address)) }
        }
    }

    /// What it takes, not to be filled in: only the owner can run it.
    fn asked_of_guests(&self, address: &str) -> Markup {
        html! {
            div.note.guest {
                p { "You look at this model as a guest. Whoever has this server\u{2019}s token can run it." }
                p { a.button href=(format!("/sign-in?next={address}")) { "Sign in to run it" } }
            }
            @if !self.form.fields.is_empty() {
                fieldset.stack disabled aria-label="What it takes" {
                    (fields::fields(self.form.fields, self.form.shown, self.form.problems))
                }
            }
        }
    }

    fn versions(&self) -> Markup {
        html! {
            div.wide {
                table {
                    thead { tr { th scope="col" { "Version" } th scope="col" { "Made" } th scope="col" { "Cog" } } }
                    tbody {
                        @for version in self.versions {
                            tr {
                                td {
                                    a.id href=(format!("/models/{}?version={}", self.model.name, version.id)) {
                                        (short(version))
                                    }
                                    @if self.model.latest_version == Some(version.id) { " newest" }
                                    @if version.training.is_some() { " trained" }
                                }
                                td { (time::moment(version.created_ms)) }
                                td { (version.cog_version) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn visibility(model: &Model) -> &'static str {
    match model.visibility {
        clunk_core::model::Visibility::Public => "public",
        clunk_core::model::Visibility::Private => "private",
    }
}

fn short(version: &Version) -> String {
    version.id.to_string().chars().take(SHORT_ID).collect()
}

/// One below the other, or, with scripts, one at a time.
pub fn snippets(snippets: &[Snippet]) -> Markup {
    html! {
        div.snippets #snippets {
            p.hint {
                code { "CLUNK_TOKEN" } " is the server's token, from the file " code { "token" } " of its state folder."
            }
            @for snippet in snippets {
                section.snippet data-snippet=(snippet.id) aria-label=(snippet.title) {
                    h3 { (snippet.title) }
                    pre tabindex="0" { (snippet.text) }
                }
            }
        }
    }
}

/// `named`: of several models.
pub fn recent(predictions: &[Prediction], named: bool) -> Markup {
    html! {
        div.wide {
            table {
                thead {
                    tr {
                        th scope="col" { "Prediction" } th scope="col" { "State" } th.number scope="col" { "Took" }
                        @if named { th scope="col" { "Model" } }
                        th scope="col" { "Made" }
                    }
                }
                tbody {
                    @for prediction in predictions {
                        @let took = prediction.completed_ms.map(|end| end.saturating_sub(prediction.created_ms));
                        tr {
                            td { a.id href=(format!("/predictions/{}", prediction.id)) { (prediction.id) } }
                            td { (panel::mark(prediction.status)) }
                            td.number { @if let Some(took) = took { (time::duration(took)) } }
                            @if named { td { a href=(format!("/models/{}", prediction.model)) { (prediction.model) } } }
                            td { (time::moment(prediction.created_ms)) }
                        }
                    }
                }
            }
        }
    }
}

/// Models as a list of cards.
pub fn models(models: &[Model]) -> Markup {
    html! {
        ul.cards {
            @for model in models {
                li {
                    a href=(format!("/models/{}", model.name)) {
                        strong { span.owner { (model.name.owner()) "/" } (model.name.name()) }
                    }
                    p.description { (model.texts.description.as_deref().unwrap_or("")) }
                    p.facts {
                        (visibility(model)) " \u{b7} " span.number { (model.run_count) }
                        @if model.run_count == 1 { " run" } @else { " runs" }
                    }
                }
            }
        }
    }
}

/// What to do when there is nothing yet.
pub fn beginning() -> Markup {
    html! {
        section.words {
            h2 { "No models yet" }
            p { "A Cog project becomes a model here: from a folder with a " code { "cog.yaml" } "," }
            pre.command { "clunk push . me/first" }
            p { "Nothing at hand? This writes a small project that works:" }
            pre.command { "clunk init cog hello\nclunk push hello me/hello" }
        }
    }
}
