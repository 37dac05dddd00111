//! Who looks at a page: the owner, by a cookie that stands for the token, or a guest.
//!
//! The cookie is not the token and does not lead to it; a new token ends every session. Cookies do not tell ports apart, so its
//! name tells servers apart. A form carries a text that only this session's pages know: no other site can send it.

use std::sync::Arc;

use axum::http::{HeaderMap, header};
use clunk_agent::replica::now_ms;

use crate::guard::given_token;
use crate::seal::same;
use crate::server::Server;
use crate::state::Token;

/// How long a browser stays signed in. Seconds.
pub const SESSION_S: u64 = 30 * 24 * 3600;
/// How long a link that signs in is good for: it stays in histories. Seconds.
pub const TICKET_S: u64 = 600;

/// Who looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Visitor {
    Owner {
        /// What this session's forms carry.
        form_token: String,
        /// Came with the token itself, as programs do: no other site can make it send that.
        by_token: bool,
    },
    Guest,
}

impl Visitor {
    pub fn of(server: &Arc<Server>, headers: &HeaderMap) -> Self {
        let token = &server.token;
        if given_token(headers, &["bearer"]).is_some_and(|given| token.matches(given)) {
            return Self::Owner { form_token: String::new(), by_token: true };
        }
        match cookie(headers, &cookie_name(token)).filter(|value| is_timed(token, "session", value)) {
            Some(value) => Self::Owner { form_token: seal(token, "form", value), by_token: false },
            None => Self::Guest,
        }
    }

    pub fn is_owner(&self) -> bool {
        matches!(self, Self::Owner { .. })
    }

    /// Whether a form of this session was sent.
    pub fn sent(&self, given: Option<&str>) -> bool {
        match self {
            Self::Owner { by_token: true, .. } => true,
            Self::Owner { form_token, .. } => given.is_some_and(|given| same(given, form_token)),
            Self::Guest => false,
        }
    }

    pub fn form_token(&self) -> &str {
        match self {
            Self::Owner { form_token, .. } => form_token,
            Self::Guest => "",
        }
    }
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

fn cookie_name(token: &Token) -> String {
    format!("clunk_{}", &seal(token, "cookie", "")[..12])
}

fn seal(token: &Token, purpose: &str, text: &str) -> String {
    hex::encode(token.sign(format!("{purpose}\n{text}").as_bytes()))
}

/// `EXPIRY.SEAL`, good until a second of the world's clock.
fn timed(token: &Token, purpose: &str, lifetime_s: u64) -> String {
    let expiry = (now_ms() / 1000 + lifetime_s).to_string();
    let seal = seal(token, purpose, &expiry);
    format!("{expiry}.{seal}")
}

fn is_timed(token: &Token, purpose: &str, text: &str) -> bool {
    let Some((expiry, given)) = text.split_once('.') else { return false };
    let alive = expiry.parse::<u64>().is_ok_and(|expiry| expiry > now_ms() / 1000);
    alive && same(given, seal(token, purpose, expiry))
}

/// What signs a browser in for some minutes, in a link.
pub fn ticket(token: &Token) -> String {
    timed(token, "ticket", TICKET_S)
}

/// Whether this is the token, or a ticket.
pub fn opens(token: &Token, given: &str) -> bool {
    let given = given.trim();
    token.matches(given) || is_timed(token, "ticket", given)
}

/// The header that signs a browser in.
pub fn sign_in(token: &Token, secure: bool) -> String {
    let (name, value) = (cookie_name(token), timed(token, "session", SESSION_S));
    let secure = if secure { "; Secure" } else { "" };
    format!("{name}={value}; Path=/; Max-Age={SESSION_S}; HttpOnly; SameSite=Lax{secure}")
}

pub fn sign_out(token: &Token) -> String {
    format!("{}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax", cookie_name(token))
}

/// A place on this server to go on to, and nowhere else.
pub fn place(given: Option<&str>) -> &str {
    let inside = |text: &&str| {
        text.starts_with('/')
            && !text.starts_with("//")
            && !text.chars().any(|letter| letter == '\\' || letter.is_control() || !letter.is_ascii())
    };
    given.filter(inside).unwrap_or("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_for_one_server_and_one_purpose() {
        let (ours, theirs) = (Token::test("a"), Token::test("b"));
        let made = ticket(&ours);
        assert!(opens(&ours, &made) && !opens(&theirs, &made));
        let cookie = sign_in(&ours, false);
        let value = cookie.split(['=', ';']).nth(1).unwrap();
        assert!(is_timed(&ours, "session", value) && !opens(&ours, value));
        assert!(!is_timed(&ours, "session", &made));
        for wrong in ["", ".", "1.", &format!("1.{}", seal(&ours, "ticket", "1")), &made[..made.len() - 1]] {
            assert!(!opens(&ours, wrong), "{wrong}");
        }
        assert!(!cookie.contains("aaaa"), "the token is in the cookie: {cookie}");
    }

    #[test]
    fn a_place_is_on_this_server() {
        for (given, wanted) in [
            (Some("/models/a/b?version=1"), "/models/a/b?version=1"),
            (Some("//evil.example"), "/"),
            (Some("/\\evil.example"), "/"),
            (Some("https://evil.example"), "/"),
            (Some("/a\r\nx: y"), "/"),
            (Some(""), "/"),
            (None, "/"),
        ] {
            assert_eq!(place(given), wanted);
        }
    }
}
