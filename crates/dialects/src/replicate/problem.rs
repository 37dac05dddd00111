//! Errors as `application/problem+json` has them (RFC 9457), in the words and members that Replicate's clients read.

use clunk_core::error::{ErrorBody, ErrorCode};
use serde::Serialize;

/// Content type of an error's body.
pub const PROBLEM_TYPE: &str = "application/problem+json";

/// The body of an error. `title` and `detail` are what the official clients show; `code` and `hint` are this server's own,
/// as the standard lets a server add.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<&'static str>,
    pub detail: String,
    pub status: u16,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub invalid_fields: Vec<InvalidField>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<ErrorCode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// One thing that is wrong with a body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InvalidField {
    /// What kind of mistake: `required`, `additional_property_not_allowed`, `invalid_type`, `enum`, `format`, …
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Where, as `input.width`; empty for the body itself.
    pub field: String,
    pub description: String,
}

impl InvalidField {
    pub fn new(kind: &'static str, field: impl Into<String>, description: impl Into<String>) -> Self {
        Self { kind, field: field.into(), description: description.into() }
    }
}

impl Problem {
    pub fn new(status: u16, detail: impl Into<String>) -> Self {
        let (title, detail) = (title(status), detail.into());
        Self { title, detail, status, invalid_fields: vec![], code: None, hint: None }
    }

    pub fn titled(mut self, title: &'static str) -> Self {
        self.title = Some(title);
        self
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A refusal of the core, whose status the server knows.
    pub fn from_error(status: u16, error: ErrorBody) -> Self {
        Self { code: Some(error.code), hint: error.hint, ..Self::new(status, error.message) }
    }

    /// No token, or not this server's.
    pub fn unauthenticated() -> Self {
        Self::new(401, "You did not pass a valid authentication token").hint(
            "send `Authorization: Bearer TOKEN` (the clients take it from REPLICATE_API_TOKEN); \
             the token is in the server's state folder",
        )
    }

    pub fn not_found(what: impl std::fmt::Display) -> Self {
        Self::new(404, format!("The requested resource could not be found: there is no {what}"))
    }

    /// A version that no model here has: what Replicate answers where a body, not the path, names it.
    pub fn no_such_version(version: &str) -> Self {
        let detail = format!("The specified version does not exist: {version}");
        Self::new(422, detail).titled("Invalid version or not permitted")
    }

    /// Everything that is wrong with a body, one line each.
    pub fn invalid(fields: Vec<InvalidField>) -> Self {
        let line = |field: &InvalidField| match field.field.as_str() {
            "" => format!("- {}\n", field.description),
            place => format!("- {place}: {}\n", field.description),
        };
        let detail = fields.iter().map(line).collect::<String>();
        Self { invalid_fields: fields, ..Self::new(422, detail) }
    }

    pub fn throttled(resets_s: u64) -> Self {
        Self::new(429, format!("Request was throttled. Your rate limit resets in ~{resets_s}s."))
    }
}

fn title(status: u16) -> Option<&'static str> {
    Some(match status {
        400 => "Bad request",
        401 => "Unauthenticated",
        403 => "Permission denied",
        404 => "Not found",
        405 => "Method not allowed",
        406 => "Not acceptable",
        409 => "Conflict",
        410 => "Gone",
        413 => "Content too large",
        415 => "Unsupported media type",
        422 => "Input validation failed",
        429 => "Too many requests",
        500 => "Internal server error",
        503 => "Service unavailable",
        507 => "Insufficient storage",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn value(problem: &Problem) -> Value {
        serde_json::to_value(problem).unwrap()
    }

    #[test]
    fn a_missing_token_reads_as_replicate_says_it() {
        let mut body = value(&Problem::unauthenticated());
        assert!(body.as_object_mut().unwrap().remove("hint").unwrap().as_str().unwrap().contains("Bearer"));
        let detail = "You did not pass a valid authentication token";
        assert_eq!(body, json!({"title": "Unauthenticated", "detail": detail, "status": 401}));
    }

    #[test]
    fn every_invalid_field_has_a_line_and_an_entry() {
        let problem = Problem::invalid(vec![
            InvalidField::new("required", "", "input is required"),
            InvalidField::new("invalid_type", "webhook", "Invalid type. Expected: string, given: number"),
        ]);
        assert_eq!(
            value(&problem),
            json!({
                "title": "Input validation failed",
                "detail": "- input is required\n- webhook: Invalid type. Expected: string, given: number\n",
                "status": 422,
                "invalid_fields": [
                    {"type": "required", "field": "", "description": "input is required"},
                    {
                        "type": "invalid_type",
                        "field": "webhook",
                        "description": "Invalid type. Expected: string, given: number",
                    },
                ],
            })
        );
    }

    #[test]
    fn an_error_of_the_core_keeps_its_code_and_hint() {
        let error = ErrorBody::new(ErrorCode::NotFound, "there is no model a/b").hint("clunk model list");
        assert_eq!(
            value(&Problem::from_error(404, error)),
            json!({
                "title": "Not found",
                "detail": "there is no model a/b",
                "status": 404,
                "code": "not-found",
                "hint": "clunk model list",
            })
        );
    }
}
