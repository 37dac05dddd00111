//! What an operator may set: the variables of Cog's own server, and bounds.

use std::time::Duration;

use reqwest::Url;

/// Predictions that may wait; one more is told to come again.
const QUEUE_MAX: usize = 1000;
/// Bytes of all inputs that may wait: ten of the largest bodies.
const QUEUE_BYTES_MAX: u64 = 1 << 30;
/// Longest setup when nobody set one: a day is as good as none.
const SETUP_TIMEOUT: Duration = Duration::from_secs(86_400);
/// Time between two webhooks about logs.
const LOGS_INTERVAL: Duration = Duration::from_millis(500);
/// Events of a prediction that a new subscriber is still told.
const HISTORY: usize = 65_536;

#[derive(Debug, Clone)]
pub struct Settings {
    /// Overrides what the model says about itself.
    pub concurrency: Option<u32>,
    pub setup_timeout: Duration,
    pub logs_interval: Duration,
    pub history: usize,
    pub queue_max: usize,
    /// Bytes of all inputs that wait.
    pub queue_bytes_max: u64,
    /// Sent with every webhook.
    pub webhook_token: Option<String>,
    pub user_agent: String,
    /// Where output files are put; without it they become data URLs.
    pub upload_url: Option<Url>,
    /// Write the file that says so when the model is ready, for a probe of Kubernetes.
    pub readiness_file: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            concurrency: None,
            setup_timeout: SETUP_TIMEOUT,
            logs_interval: LOGS_INTERVAL,
            history: HISTORY,
            queue_max: QUEUE_MAX,
            queue_bytes_max: QUEUE_BYTES_MAX,
            webhook_token: None,
            user_agent: format!("clunk/{}", env!("CARGO_PKG_VERSION")),
            upload_url: None,
            readiness_file: false,
        }
    }
}

/// A variable that cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} is {value:?}, which is not {want}")]
pub struct SettingError {
    name: &'static str,
    value: String,
    want: &'static str,
}

/// Reads the address below which output files are put.
pub fn upload_url(text: &str) -> Result<Url, SettingError> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    url.ok_or_else(|| SettingError {
        name: "--upload-url",
        value: text.into(),
        want: "an address that begins with http:// or https://",
    })
}

impl Settings {
    /// Reads them from an environment.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, SettingError> {
        let given = |name| variable(name).filter(|value| !value.trim().is_empty());
        let wrong = |name, value, want| SettingError { name, value, want };
        let count = |name: &'static str| {
            let text = given(name);
            let read = |value: String| match value.trim().parse() {
                Ok(0) | Err(_) => Err(wrong(name, value, "a whole number from 1 on")),
                Ok(number) => Ok(number),
            };
            text.map(read).transpose()
        };
        let seconds = |name: &'static str| {
            let text = given(name);
            let read = |value: String| {
                let number =
                    value.trim().parse().ok().and_then(|number| Duration::try_from_secs_f64(number).ok());
                number.ok_or_else(|| wrong(name, value, "a number of seconds"))
            };
            text.map(read).transpose()
        };
        let concurrency: Option<u32> = count("COG_MAX_CONCURRENCY")?;
        let default = Self::default();
        Ok(Self {
            concurrency,
            // Zero is none, as in Cog.
            setup_timeout: seconds("COG_SETUP_TIMEOUT")?
                .filter(|limit| !limit.is_zero())
                .map_or(SETUP_TIMEOUT, |limit| limit.min(SETUP_TIMEOUT)),
            logs_interval: seconds("COG_THROTTLE_RESPONSE_INTERVAL")?.unwrap_or(LOGS_INTERVAL),
            history: count("COG_STREAM_HISTORY_CAPACITY")?.map_or(HISTORY, |count: u32| count as usize),
            queue_max: count("CLUNK_QUEUE_MAX")?.map_or(QUEUE_MAX, |count: u32| count as usize),
            queue_bytes_max: QUEUE_BYTES_MAX,
            webhook_token: given("WEBHOOK_AUTH_TOKEN"),
            user_agent: given("COG_USER_AGENT").unwrap_or(default.user_agent),
            upload_url: None,
            readiness_file: given("KUBERNETES_SERVICE_HOST").is_some(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, value: &str) -> Result<Settings, SettingError> {
        Settings::read(|asked| (asked == name).then(|| value.to_owned()))
    }

    #[test]
    fn settings_are_read_and_mistakes_are_named() {
        assert_eq!(read("COG_MAX_CONCURRENCY", "8").unwrap().concurrency, Some(8));
        assert_eq!(read("COG_SETUP_TIMEOUT", "0").unwrap().setup_timeout, SETUP_TIMEOUT);
        assert_eq!(read("COG_SETUP_TIMEOUT", "1.5").unwrap().setup_timeout, Duration::from_millis(1500));
        assert!(read("COG_MAX_CONCURRENCY", "0").is_err());
        let error = read("COG_MAX_CONCURRENCY", "many").unwrap_err().to_string();
        assert_eq!(error, "COG_MAX_CONCURRENCY is \"many\", which is not a whole number from 1 on");
        assert!(
            read("COG_SETUP_TIMEOUT", "-1").is_err() && read("COG_THROTTLE_RESPONSE_INTERVAL", "x").is_err()
        );
        assert!(upload_url("https://a/put?key=1").is_ok());
        for wrong in ["", "a", "/put", "ftp://a/put", "http://"] {
            assert!(upload_url(wrong).is_err(), "{wrong}");
        }
    }
}
