//! What is wrong with a project, and where: as data, for a terminal or for another program.

use clunk_core::ErrorCode;
use serde::Serialize;

use super::yaml::At;

/// Problems of one project that are listed; a thousand wrong lines have one cause.
const MAX_PROBLEMS: usize = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Nothing is built.
    Error,
    /// It works, with something lost.
    Warning,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub severity: Severity,
    pub code: ErrorCode,
    pub message: String,
    /// Relative to the project's folder.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{}:{}:{}: {word}: {}", self.file, self.line, self.column, self.message)
    }
}

/// Collects the problems of a project, file by file.
#[derive(Debug, Default)]
pub struct Problems {
    list: Vec<Problem>,
    file: String,
}

impl Problems {
    /// What follows is about this file.
    pub fn about(&mut self, file: &str) {
        self.file = file.into();
    }

    pub fn file(&self) -> &str {
        &self.file
    }

    pub fn error(&mut self, at: At, message: impl Into<String>, hint: impl Into<String>) {
        self.add(Severity::Error, ErrorCode::BadCogConfig, at, message.into(), hint.into());
    }

    /// Cog has it, Clunk has not.
    pub fn unsupported(&mut self, at: At, message: impl Into<String>, hint: impl Into<String>) {
        self.add(Severity::Error, ErrorCode::CogNotSupported, at, message.into(), hint.into());
    }

    /// What is written there changes nothing.
    pub fn ignored(&mut self, at: At, message: impl Into<String>, hint: impl Into<String>) {
        self.add(Severity::Warning, ErrorCode::CogConfigIgnored, at, message.into(), hint.into());
    }

    pub fn deprecated(&mut self, at: At, message: impl Into<String>, hint: impl Into<String>) {
        self.add(Severity::Warning, ErrorCode::CogConfigDeprecated, at, message.into(), hint.into());
    }

    fn add(&mut self, severity: Severity, code: ErrorCode, at: At, message: String, hint: String) {
        let hint = (!hint.is_empty()).then_some(hint);
        let (file, line, column) = (self.file.clone(), at.line, at.column);
        let problem = Problem { severity, code, message, file, line, column, hint };
        // An anchor that is used twice is wrong twice in the same place.
        if self.list.len() < MAX_PROBLEMS && !self.list.contains(&problem) {
            self.list.push(problem);
        }
    }

    pub fn any_error(&self) -> bool {
        self.list.iter().any(|problem| problem.severity == Severity::Error)
    }

    /// As somebody reads the files from top to bottom.
    pub fn into_list(self) -> Vec<Problem> {
        let mut list = self.list;
        list.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
        list
    }
}
