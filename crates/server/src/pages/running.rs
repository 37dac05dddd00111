//! The page of a model: shown, its form sent, and the same call for programs.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::model::{InputProblem, Kind, Model, ModelName, Prediction, Source, Version, Visibility};
use serde_json::{Map, Value, json};

use super::form::{Document, Field};
use super::handlers::{panel, query, see_other, shown};
use super::layout::{self, Page};
use super::model_page::{self, Form, ModelPage};
use super::multipart::{self, Sent};
use super::output::Display;
use super::session::Visitor;
use super::snippets::{self, Call, Snippet};
use super::submitted::{Problems, Submitted};
use crate::address::base_url;
use crate::answer::status;
use crate::models::{NewPrediction, PredictionFilter, Refusal, Target};
use crate::server::Server;

/// Of each on a model's page.
const LISTED: u32 = 10;

type Shared = State<Arc<Server>>;
type Named = Path<(String, String)>;

/// A model, the version that the page is about, and what its form asks.
struct Subject {
    model: Model,
    version: Option<Version>,
    fields: Vec<Field>,
}

impl Subject {
    /// What a guest may not see does not exist for one.
    async fn find(
        server: &Server,
        visitor: &Visitor,
        (owner, name): (&str, &str),
        version: Option<&str>,
    ) -> Result<Self, ErrorBody> {
        let unknown = || ErrorBody::new(ErrorCode::NotFound, format!("there is no model {owner}/{name}"));
        let name = ModelName::new(owner, name).map_err(|_| unknown())?;
        let model = server.models.model(&name).await?;
        if !visitor.is_owner() && model.visibility == Visibility::Private {
            return Err(unknown());
        }
        let version = match version.filter(|text| !text.is_empty()) {
            Some(text) => Some(Self::version(server, &name, text).await?),
            None => match model.latest_version {
                Some(id) => Some(server.models.version(id).await?),
                None => None,
            },
        };
        let fields = version.as_ref().map(|version| Document(&version.openapi_schema).fields());
        Ok(Self { model, version, fields: fields.unwrap_or_default() })
    }

    async fn version(server: &Server, name: &ModelName, text: &str) -> Result<Version, ErrorBody> {
        if let Ok(id) = text.parse()
            && let Ok(version) = server.models.version(id).await
            && version.model == *name
        {
            return Ok(version);
        }
        let missing = ErrorBody::new(ErrorCode::NotFound, format!("{name} has no version {text}"));
        Err(match server.models.newest_versions(name).await {
            Some(hint) => missing.hint(hint),
            None => missing,
        })
    }

    fn snippets(&self, input: &Map<String, Value>, base_url: &str) -> Vec<Snippet> {
        let Some(version) = &self.version else { return Vec::new() };
        let output = Document(&version.openapi_schema).schema("Output");
        snippets::snippets(&Call {
            base_url,
            model: &self.model.name.to_string(),
            version: &version.id.to_string(),
            streams_text: Display::of(output) == Display::Text,
            fields: &self.fields,
            input,
        })
    }

    async fn page(
        &self,
        server: &Arc<Server>,
        visitor: &Visitor,
        base_url: &str,
        state: FormState<'_>,
    ) -> Result<Response, ErrorBody> {
        let name = &self.model.name;
        let versions = server.models.versions(name, None, LISTED).await?.results;
        let mut filter = PredictionFilter::of(Kind::Prediction, LISTED);
        filter.model = Some(name.clone());
        let recent =
            if visitor.is_owner() { server.models.predictions(filter).await?.results } else { Vec::new() };
        let (input, _) = state.shown.read(&self.fields);
        let panel = match state.prediction {
            Some(prediction) => Some(panel(server, visitor, prediction).await),
            None => None,
        };
        let form = Form {
            fields: &self.fields,
            shown: state.shown,
            problems: state.problems,
            message: state.message,
        };
        let body = ModelPage {
            visitor,
            model: &self.model,
            version: self.version.as_ref(),
            versions: &versions,
            recent: &recent,
            form,
            snippets: self.snippets(&input, base_url),
            panel,
        };
        let page = Page { title: &name.to_string(), visitor, refreshes: false, body: body.markup() };
        Ok(page.answer_with(state.status))
    }
}

struct FormState<'a> {
    status: StatusCode,
    shown: &'a Submitted,
    problems: &'a Problems,
    message: Option<&'a str>,
    prediction: Option<&'a Prediction>,
}

/// `GET /models/{owner}/{name}`: with `?prediction=` the form is filled in as it was for that one.
pub async fn model(
    State(server): Shared,
    Extension(visitor): Extension<Visitor>,
    Path((owner, name)): Named,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    let made = async {
        let subject = Subject::find(&server, &visitor, (&owner, &name), query(&uri, "version")).await?;
        let asked = query(&uri, "prediction").and_then(|id| id.parse().ok()).filter(|_| visitor.is_owner());
        let found = match asked.or(subject.model.default_example) {
            Some(id) => server.models.prediction(id).await.ok(),
            None => None,
        };
        let found = found.filter(|prediction| prediction.model == subject.model.name);
        let mut input = found.as_ref().map_or(Value::Null, |prediction| prediction.input.clone());
        let base_url = base_url(&server, &headers);
        server.models.show_files(&mut input, &base_url);
        let state = FormState {
            status: StatusCode::OK,
            shown: &Submitted::of(&subject.fields, input.as_object().unwrap_or(&Map::new())),
            problems: &Problems::new(),
            message: None,
            prediction: found.as_ref(),
        };
        subject.page(&server, &visitor, &base_url, state).await
    };
    match made.await {
        // It may be there for those who sign in.
        Err(error) if error.code == ErrorCode::NotFound && !visitor.is_owner() => {
            layout::sign_in(uri.path(), false)
        }
        made => shown(made, &visitor),
    }
}

/// `POST /models/{owner}/{name}`: runs it. A script that asks for JSON gets the prediction's addresses, or what is wrong by
/// field; a browser the prediction's page, or the form again.
pub async fn run(
    State(server): Shared,
    Extension(visitor): Extension<Visitor>,
    Path((owner, name)): Named,
    headers: HeaderMap,
    form: multipart::Form,
) -> Response {
    let script = headers
        .get(header::ACCEPT)
        .is_some_and(|value| value.to_str().is_ok_and(|text| text.contains("application/json")));
    if !visitor.is_owner() && script {
        let message = "You are signed out: load the page again and sign in.";
        return (StatusCode::UNAUTHORIZED, Json(json!({"problems": {}, "message": message}))).into_response();
    }
    if !visitor.is_owner() {
        return layout::sign_in(&format!("/models/{owner}/{name}"), false);
    }
    let base_url = base_url(&server, &headers);
    let made = async {
        let sent = multipart::with_files(form, &visitor, &server.models, &base_url).await?;
        let subject = Subject::find(&server, &visitor, (&owner, &name), sent.other("version")).await?;
        match accept(&server, &subject, &sent, &base_url).await? {
            Ok(prediction) if script => {
                let page = format!("/predictions/{}", prediction.id);
                let answer = json!({"page": page, "panel": format!("{page}?part=panel")});
                Ok((StatusCode::CREATED, Json(answer)).into_response())
            }
            Ok(prediction) => Ok(see_other(&format!("/predictions/{}", prediction.id))),
            Err(refused) if script => {
                let answer = json!({"problems": refused.problems, "message": refused.message});
                Ok((refused.status, Json(answer)).into_response())
            }
            Err(Refused { status, problems, message }) => {
                let (shown, problems) = (&sent.input, &problems);
                let state =
                    FormState { status, shown, problems, message: message.as_deref(), prediction: None };
                subject.page(&server, &visitor, &base_url, state).await
            }
        }
    };
    match made.await {
        Err(error) if script => {
            let answer = json!({"problems": {}, "message": said(&error)});
            (status(error.code), Json(answer)).into_response()
        }
        made => shown(made, &visitor),
    }
}

/// Why a form was not run.
struct Refused {
    status: StatusCode,
    problems: Problems,
    message: Option<String>,
}

async fn accept(
    server: &Server,
    subject: &Subject,
    sent: &Sent,
    base_url: &str,
) -> Result<Result<Prediction, Refused>, ErrorBody> {
    let Some(version) = &subject.version else {
        return Err(ErrorBody::new(ErrorCode::NotFound, format!("{} has no version", subject.model.name)));
    };
    // One more item for a list: the form again, with what is in it.
    if sent.other("again").is_some() {
        return Ok(Err(Refused { status: StatusCode::OK, problems: Problems::new(), message: None }));
    }
    let (input, problems) = sent.input.read(&subject.fields);
    if !problems.is_empty() {
        let message = Some("Some fields need a look.".to_owned());
        return Ok(Err(Refused { status: StatusCode::UNPROCESSABLE_ENTITY, problems, message }));
    }
    let new = NewPrediction {
        target: Target::Version(version.id),
        input: input.into(),
        context: Map::new(),
        source: Source::Web,
        webhook: None,
        cancel_after: None,
        base_url: base_url.into(),
    };
    Ok(match server.models.create(new).await {
        Ok(prediction) => Ok(prediction),
        Err(Refusal::Input(found)) => Err(refused(&subject.fields, found)),
        Err(Refusal::Failed(error)) => Err(Refused {
            status: status(error.code),
            problems: Problems::new(),
            message: Some(said(&error)),
        }),
    })
}

/// Each problem at its field; what is about none stands above the form.
fn refused(fields: &[Field], found: Vec<InputProblem>) -> Refused {
    let (mut problems, mut others) = (Problems::new(), Vec::new());
    for problem in found {
        match problem.place.first().filter(|name| fields.iter().any(|field| field.name == **name)) {
            Some(name) => {
                let inner = problem.place[1..].join(".");
                let text =
                    if inner.is_empty() { problem.message } else { format!("{inner}: {}", problem.message) };
                let known: &mut String = problems.entry(name.clone()).or_default();
                *known = if known.is_empty() { text } else { format!("{known}; {text}") };
            }
            None => others.push(problem.message),
        }
    }
    let message = if others.is_empty() { "Some fields need a look.".into() } else { others.join("; ") };
    Refused { status: StatusCode::UNPROCESSABLE_ENTITY, problems, message: Some(message) }
}

fn said(error: &ErrorBody) -> String {
    match &error.hint {
        Some(hint) => format!("{}: {hint}", error.message),
        None => error.message.clone(),
    }
}

/// `POST /models/{owner}/{name}/snippets`: the same call for programs, as the form stands.
pub async fn snippets(
    State(server): Shared,
    Extension(visitor): Extension<Visitor>,
    Path((owner, name)): Named,
    headers: HeaderMap,
    form: multipart::Form,
) -> Response {
    let made = async {
        let sent = multipart::texts(form).await?;
        let subject = Subject::find(&server, &visitor, (&owner, &name), sent.other("version")).await?;
        let (input, _) = sent.input.read(&subject.fields);
        let snippets = subject.snippets(&input, &base_url(&server, &headers));
        Ok(layout::part(model_page::snippets(&snippets)))
    };
    shown(made.await, &visitor)
}
